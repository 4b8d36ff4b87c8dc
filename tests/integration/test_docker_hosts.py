"""Hosts as people configure and look at them: slots, drain, what `scriptrules hosts` says; on real engines."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import IMAGE, PrivateEngine
from serving import Problem, Server, eventually, project

pytestmark = pytest.mark.docker

HUNDREDS = 200
MANY = f"""
on = "many"
def main(count, seconds, **rest):
    for n in range(count):
        run("locust", f"job-{{n}}", "{IMAGE}", args=["sleep", str(seconds)])
    wait()
"""


@pytest.fixture(autouse=True)
def _nothing_is_left(engine: PrivateEngine) -> Iterator[None]:
    yield
    engine.clear()


def table(engine: PrivateEngine, name: str = "locust", more: str = "") -> str:
    return f'[hosts.{name}]\nexecutor = "docker"\nurl = "{engine.url}"\nimages = ["{IMAGE}"]\npull = "never"\n{more}\n'


def hosts(server: Server) -> dict[str, dict[str, Any]]:
    return {host["name"]: host for host in server.get("/api/hosts")["items"]}


def most_at_once(entries: list[dict[str, Any]]) -> int:
    moments = [(entry["result"]["started"], 1) for entry in entries]
    moments += [(entry["result"]["ended"], -1) for entry in entries]
    running = most = 0
    for _, change in sorted(moments):
        running += change
        most = max(most, running)
    return most


def test_no_more_run_at_once_than_configured_and_the_others_keep_their_order_over_a_kill(engine: PrivateEngine) -> None:
    with project() as server:
        server.config(table(engine, more="max_running = 2"))
        server.rule("many", MANY)
        server.start()
        task = server.send("many", count=5, seconds=2)
        run = server.wait_run(task, {"waiting"})
        eventually(lambda: [e["state"] for e in server.entries(run["id"])[:2]] == ["started"] * 2, "two run")
        waiting = server.entries(run["id"])[2:5]
        assert [entry["state"] for entry in waiting] == ["pending"] * 3
        assert waiting[0]["reason"] == "waits for a slot on locust: 2 of 2 are taken"
        assert "waits for a slot on" in server.command("show", run["id"]).stdout
        host = hosts(server)["locust"]
        assert (host["running"], host["waiting"], host["free"]) == (2, 3, 0)
        server.kill()
        server.start()
        assert server.wait_task(task)["state"] == "done"
        entries = [entry for entry in server.entries(run["id"]) if entry["name"] == "run"]
        assert most_at_once(entries) <= 2
        started = [entry["result"]["started"] for entry in entries]
        assert max(started[:2]) < min(started[2:4]) <= max(started[2:4]) < started[4]
        assert [entry["verdict"] for entry in entries] == ["adopted"] * 2 + ["once"] * 3


def test_what_waits_for_a_slot_can_be_cancelled_and_never_starts(engine: PrivateEngine) -> None:
    with project() as server:
        server.config(table(engine, more="max_running = 1"))
        server.rule("many", MANY)
        server.start()
        first, second = server.send("many", count=1, seconds=60), server.send("many", count=1, seconds=60)
        eventually(lambda: hosts(server)["locust"]["waiting"] == 1, "one waits")
        runs = [server.run_of(task)["id"] for task in (first, second)]
        late = next(run for run in runs if "slot" in str(server.entries(run)[0]["reason"]))
        for run in (late, *(run for run in runs if run != late)):
            server.request("POST", f"/api/runs/{run}/cancel")
        for task in (first, second):
            assert server.wait_task(task)["state"] == "cancelled"
        assert server.entries(late)[0]["error"]["message"] == "cancelled before it was started"
        assert server.entries(late)[0]["result"] is None


def test_a_refusal_does_not_wait_for_a_slot(engine: PrivateEngine) -> None:
    with project() as server:
        server.config(table(engine, more="max_running = 1"))
        server.rule("many", MANY)
        server.rule("refused", 'on = "refused"\ndef main():\n    run("locust", "x", "other:1")\n    wait()\n')
        server.start()
        busy = server.send("many", count=1, seconds=60)
        eventually(lambda: hosts(server)["locust"]["running"] == 1, "the slot is taken")
        refused = server.send("refused")
        assert server.wait_task(refused)["state"] == "failed"
        assert "does not allow the image 'other:1'" in server.run_of(refused)["error"]["message"]
        server.request("POST", f"/api/tasks/{busy}/cancel")
        server.wait_task(busy)


def test_drain_waits_for_what_runs_and_leaves_the_rest_to_the_next_server(engine: PrivateEngine) -> None:
    with project() as server:
        server.config(table(engine))
        server.rule("many", MANY)
        late = f'run("locust", "late", "{IMAGE}", args=["true"])\n    wait()'
        server.rule("late", f'on = "late"\ndef main():\n    sleep(1)\n    {late}\n')
        server.start()
        early, later = server.send("many", count=1, seconds=2), server.send("late")
        eventually(lambda: hosts(server)["locust"]["running"] == 1, "it runs")
        ended: list[subprocess.CompletedProcess[str]] = []
        draining = threading.Thread(target=lambda: ended.append(server.command("drain")))
        draining.start()
        eventually(lambda: server.get("/api/drain")["draining"], "it drains")
        with pytest.raises(Problem, match="SR832"):
            server.send("many", count=1, seconds=0)
        with pytest.raises(Problem, match="Draining"):
            server.get("/readyz")
        draining.join()
        assert (ended[0].returncode, ended[0].stdout) == (0, "drained: 0 running\n")
        assert server.wait_task(early)["state"] == "done"
        run = server.wait_run(later, {"waiting"})
        eventually(lambda: len(server.entries(run["id"])) == 3, "the late start is asked for")
        assert server.entries(run["id"])[1]["reason"] == "draining: the next server starts it"
        assert server.stop() == 0
        server.start()
        assert server.wait_task(later)["state"] == "done"


def test_draining_can_be_taken_back(engine: PrivateEngine) -> None:
    with project() as server:
        server.config(table(engine))
        server.rule("many", MANY)
        server.start()
        assert json.loads(server.command("drain", "--json").stdout) == {"draining": True, "running": 0, "waiting": 0}
        assert server.command("drain", "--undo").stdout == "serving\n"
        assert server.wait_task(server.send("many", count=1, seconds=0))["state"] == "done"


def test_hosts_says_what_is_there_and_what_is_wrong(engine: PrivateEngine) -> None:
    with project() as server:
        gone = '[hosts.gone]\nexecutor = "docker"\nurl = "unix:///nowhere/docker.sock"\n'
        server.config(table(engine, more="max_running = 3") + gone)
        server.start()
        found = hosts(server)
        assert found["locust"]["reachable"]
        assert (found["locust"]["free"], found["locust"]["max_running"], found["locust"]["strays"]) == (3, 3, [])
        with engine.client() as client:
            assert found["locust"]["version"] == client.version()["Version"]
        assert not found["gone"]["reachable"]
        assert "No such file or directory" in found["gone"]["detail"]
        shown = server.command("hosts")
        assert shown.returncode == 1
        assert "cannot be reached" in shown.stdout
        assert found["locust"]["version"] in shown.stdout


def test_what_an_earlier_server_left_is_removed_and_strays_are_only_listed(engine: PrivateEngine) -> None:
    with project() as server, engine.client() as client:
        server.config(table(engine))
        server.rule("many", MANY)
        server.start()
        task = server.send("many", count=1, seconds=1)
        (mine,) = eventually(lambda: client.containers(all=True), "its container is there")
        assert server.wait_task(task)["state"] == "done"
        eventually(lambda: not client.containers(all=True), "its container is removed")
        server.stop()

        def make(name: str, **labels: str) -> str:
            marked = {f"scriptrules.{label}": value for label, value in labels.items()}
            body = {"Image": IMAGE, "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}}
            client.create_container_from_config({**body, "Labels": {**mine["Labels"], **marked}}, name)
            return name

        name = str(mine["Names"][0]).lstrip("/")
        make(name)  # as if the server had been killed before it could remove it
        stray = make("stray", key="r0000000000000-1-1-1")
        make("foreign", store="another")
        server.start()
        names = lambda: sorted(one["Names"][0].lstrip("/") for one in client.containers(all=True))  # noqa: E731
        eventually(lambda: name not in names(), "what was left is removed")
        assert hosts(server)["locust"]["strays"] == [stray]
        said = server.command("doctor").stdout
        assert "nothing accounts for stray;" in " ".join(said.split())
        assert "strays, which nothing here accounts for: stray" in server.command("hosts").stdout
        assert names() == ["foreign", "stray"]
        server.stop()
        assert "2 executions are there" in server.command("doctor").stdout


@pytest.mark.soak
def test_two_hundred_containers_hold_no_thread_and_no_connection_each(engine: PrivateEngine) -> None:
    with project() as server:
        server.config(table(engine))
        server.rule("many", MANY)
        server.start()
        assert server.process is not None
        threads = Path(f"/proc/{server.process.pid}/task")
        before = len(list(threads.iterdir()))
        task = server.send("many", count=HUNDREDS, seconds=600)
        run = server.wait_run(task, {"waiting"})

        def started() -> bool:
            return all(entry["state"] == "started" for entry in server.entries(run["id"])[:HUNDREDS])

        eventually(started, "all of them run", patience=300)
        assert len(list(threads.iterdir())) <= before + 5
        server.kill()
        server.start()
        eventually(lambda: _connections(engine) <= 3, "connections that nobody uses are closed")
        assert hosts(server)["locust"]["running"] == HUNDREDS


def _connections(engine: PrivateEngine) -> int:
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return sum(line[-1] == f"{engine.folder}/s" and line[3] != "00010000" for line in lines)
