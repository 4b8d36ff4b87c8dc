"""The server is killed with kill -9 at each step of an execution, by a proxy that sees the step's request.

Intent, create, input, start, acknowledgement, end, result, removal: the next server finds what the last one has left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

import faults
from engine import IMAGE, PrivateEngine
from faults import Fault, Proxy
from serving import Server, eventually, project

pytestmark = pytest.mark.docker

RULE = """
on = "job"

def main(record, seconds):
    moved = "busybox mv /scriptrules /tmp/s; busybox ln -s /tmp/s /scriptrules"  # so that the engine is asked for it
    script = "echo start >> /record; " + moved + "; sleep " + str(seconds) + "; echo 7"
    run("locust", "job", "{image}", args=["sh", "-c", script], mounts=[record + ":/record:rw"])
    emit("job.done", output=wait("job").output)
"""

CREATE, START, ARCHIVE = "POST /containers/create", "POST /containers/[^/]+/start", "PUT /containers/[^/]+/archive"
INSPECT, LOGS, OUTPUT = "GET /containers/[^/]+/json", "GET /containers/[^/]+/logs", "GET /containers/[^/]+/archive"
REMOVE = "DELETE /containers/[^/]+"

STEPS = {
    "intent committed, nothing asked": (CREATE, "before", "possibly-twice"),
    "created, not told": (CREATE, "after", "possibly-twice"),
    "created, without input": (ARCHIVE, "before", "possibly-twice"),
    "input there, not started": (START, "before", "possibly-twice"),
    "started, not told": (START, "after", "adopted"),
    "started, not acknowledged": (INSPECT, "before", "adopted"),
    "ended, log not read": (LOGS, "before", "adopted"),
    "ended, output not read": (OUTPUT, "after", "adopted"),
    "result committed, not removed": (REMOVE, "before", "once"),
    "removed, not told": (REMOVE, "after", "once"),
}


class Place:
    """A server on an engine behind a proxy; it goes from one test to the next, killed and started again."""

    def __init__(self, server: Server, proxy: Proxy, engine: PrivateEngine) -> None:
        self.server = server
        self.proxy = proxy
        self.engine = engine
        self.jobs = 0

    def send(self, seconds: float) -> str:
        """A task whose program records its starts in a file of its own; returns the task's id."""
        self.jobs += 1
        record = self.server.folder / f"record{self.jobs}"
        record.touch()
        record.chmod(0o666)
        with contextlib.suppress(OSError, ValueError):  # the server may die before it answers
            return self.server.send("job", record=str(record), seconds=seconds)
        return ""

    @property
    def starts(self) -> int:
        return len((self.server.folder / f"record{self.jobs}").read_text().splitlines())

    def containers(self) -> list[dict[str, object]]:
        with self.engine.client() as client:
            return list(client.containers(all=True, filters={"label": "scriptrules.key"}))


@pytest.fixture(scope="module")
def place(engine: PrivateEngine) -> Iterator[Place]:
    proxy = Proxy(engine.url.removeprefix("unix://"))
    with project() as server:
        server.config(
            f'[hosts.locust]\nexecutor = "docker"\nurl = "{proxy.url}"\nimages = ["{IMAGE}"]\n'
            f'mounts = ["{server.folder}"]\npull = "never"\n'
        )
        server.rule("job", RULE.format(image=IMAGE))
        server.start()
        yield Place(server, proxy, engine)
    proxy.close()
    engine.clear()


def revive(place: Place) -> None:
    """Wait for the kill and start the next server."""
    place.server.kill()
    place.proxy.clear()
    place.server.start()


@pytest.mark.parametrize("step", STEPS)
def test_a_server_killed_at_any_step_starts_its_program_once(place: Place, step: str) -> None:
    server = place.server
    request, when, verdict = STEPS[step]
    fault = Fault(request, when, lambda: server.process.kill() if server.process else None)
    place.proxy.add(fault)
    task = place.send(0.5)
    assert fault.done.wait(30), place.proxy.seen[-10:]
    revive(place)
    task = task or server.all("tasks", name="job")[0]["id"]
    assert server.wait_task(task)["state"] == "done"
    run = server.run_of(task)
    entry = server.entries(run["id"])[0]
    faults.CASES["server killed"] += 1
    assert (place.starts, entry["verdict"], entry["attempt"]) == (1, verdict, 1)
    following = [each["data"] for each in server.all("tasks", name="job.done") if each["parent"] == run["id"]]
    assert following == [{"output": 7}]
    eventually(lambda: place.containers() == [], "what is done with is removed")


def test_a_server_killed_while_it_runs_whose_container_is_removed_meanwhile_says_so(place: Place) -> None:
    server = place.server
    task = place.send(60)
    run = server.wait_run(task, {"waiting"})
    eventually(lambda: server.entries(run["id"])[0]["state"] == "started" and place.starts, "the container runs")
    server.kill()
    place.engine.clear()
    server.start()
    assert server.wait_task(task)["state"] == "failed"
    entry = server.entries(run["id"])[0]
    faults.CASES["server killed"] += 1
    assert (entry["verdict"], entry["result"]["reason"], place.starts) == ("unknown", "container was removed", 1)


def test_a_start_that_nobody_acknowledged_and_somebody_removed_is_made_again_and_never_once(place: Place) -> None:
    server = place.server
    fault = place.proxy.add(Fault(START, "after", lambda: server.process.kill() if server.process else None))
    task = place.send(0.2)
    assert fault.done.wait(30)
    server.kill()
    eventually(lambda: place.starts, "the container runs")
    place.engine.clear()
    revive(place)
    assert server.wait_task(task)["state"] == "done"
    faults.CASES["server killed"] += 1
    assert (server.entries(server.run_of(task)["id"])[0]["verdict"], place.starts) == ("possibly-twice", 2)
