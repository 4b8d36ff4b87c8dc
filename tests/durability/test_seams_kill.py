"""Everything at once, killed at random moments: breakpoints, verbs in bulk, limits, calls, receivers, forks."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from invariants import checked_project
from serving import FINAL, Problem, Server, eventually

PROGRAM = """#!/bin/sh
# append the key of this start, then fail where told so
echo "$SCRIPTRULES_KEY" >> RECORD
sleep 0.0$1
exit $2
"""

RULES = {
    "flow": 'on = "flow"\ndef main(n):\n    if n > 0:\n        emit("flow", n=n - 1)\n',
    "job": """on = "job"
retries = {"max": 2, "backoff": 0.05}
def main(n):
    run("local", "a", PROGRAM, args=[str(n % 9), "0"])
    run("local", "b", PROGRAM, args=[str(n % 7), "1" if n % 5 == 0 else "0"])
    wait("a")
    save("seen", n)
    wait("b", check=False)
    emit("after", n=n)
    return load("seen")
""",
    "after": 'on = "after"\ndef main(n):\n    return n\n',
    "narrow": """on = "narrow"
limit = {"max": 1, "key": "key"}
timeout = 30
def main(key, n):
    sleep(0.01)
    run("local", "a", PROGRAM, args=["1", "0"])
    wait("a")
    emit("after", n=n)
""",
    "newest": """on = "newest"
limit = {"max": 2, "key": "key", "full": "cancel_oldest"}
def main(key, n):
    sleep(0.05)
    emit("after", n=n)
""",
    "caller": """on = "caller"
def main(n):
    return call("proc", n=n) + 1
""",
    "proc": 'on = "proc"\ndef main(n):\n    return n if n == 0 else call("proc", n=n - 1) + 1\n',
    "taker": """on = "taker"
def main(key):
    return [receive("item", {"key": key})["n"] for _ in range(3)]
""",
    "tree": 'on = "tree"\ndef main(n):\n    wait(emit("flow", n=n), tree=True, check=False)\n    emit("after", n=n)\n',
}
PLACES = [
    "task", "before:run", "after:run", "before:wait", "after:wait", "before:emit", "before:call", "after:call",
    "before:receive", "after:receive", "before:sleep", "before:load", "before:save",
]  # fmt: skip
NAMES = ["flow", "job", "after", "narrow", "newest", "caller", "proc", "taker", "item", "tree", "**"]
GIVEN: list[Any] = [1, None, {"name": "item", "data": {"n": 1}}, [2], {"status": "failed", "reason": "made up"}]


@pytest.fixture
def server() -> Iterator[Server]:
    with checked_project() as server:
        record = server.folder / "record"
        record.touch()
        record.chmod(0o666)
        program = server.folder / "append"
        program.write_text(PROGRAM.replace("RECORD", str(record)))
        program.chmod(0o755)
        server.config(f'[sandbox]\nworkers = 2\n[hosts.local]\nexecutor = "process"\nprograms = ["{program}"]\n')
        for name, text in RULES.items():
            server.rule(name, text.replace("PROGRAM", repr(str(program))))
        server.record = record  # type: ignore[attr-defined]
        yield server


def test_what_many_are_resumed_for_happens_to_each_once_though_the_server_is_killed_meanwhile(server: Server) -> None:
    server.rule("twice", 'on = "twice"\ndef main(n):\n    sleep(0.01)\n    emit("after", n=n)\n')
    server.start()
    for at in ("task", "after:sleep"):
        server.post("/api/breakpoints", on=["twice"], at=at)
    server.send_many([{"name": "twice", "data": {"n": n}} for n in range(300)])
    eventually(lambda: server.get("/api/counts")["tasks"].get("held") == 300, "all held")
    for pause in (0.1, 0.2):
        with suppress(http.client.HTTPException, OSError), ThreadPoolExecutor(1) as pool:
            asked = pool.submit(server.post, "/api/bulk/resume", name="twice", request_id="all")
            time.sleep(pause)
            server.kill()
            asked.result()
        server.start()
    done = {"matched": 300, "changed": 300, "failed": []}
    assert server.post("/api/bulk/resume", name="twice", request_id="all") == done
    eventually(lambda: sum(run["state"] == "held" for run in server.all("runs")) == 300, "all held at the second one")
    assert server.post("/api/bulk/resume", name="twice", request_id="all") == done
    assert sum(run["state"] == "held" for run in server.all("runs")) == 300
    server.post("/api/bulk/resume", name="twice")
    eventually(lambda: server.get("/api/counts")["tasks"] == {"done": 600}, "all done")
    assert len(server.all("runs", rule="twice")) == 300


class Chaos:
    """Sends, sets, resumes and kills at random; each step may be cut off by a kill."""

    def __init__(self, server: Server, seed: int) -> None:
        self.server = server
        self.random = random.Random(seed)
        self.sent: dict[str, dict[str, Any]] = {}  # by key
        self.count = 0

    def step(self) -> None:
        acts: list[tuple[int, Callable[[], Any]]] = [
            (10, self.send), (3, self.stop_at), (2, self.unset), (6, self.go_on), (3, self.one), (1, self.retry),
            (2, self.fork), (1, self.edit), (1, self.cancel), (1, self.hold), (1, self.kill_worker),
        ]  # fmt: skip
        (act,) = self.random.choices([act for _, act in acts], [weight for weight, _ in acts])
        try:
            act()
        except Problem as problem:
            if problem.status not in (400, 404, 409):
                raise

    def send(self) -> None:
        tasks = []
        for _ in range(self.random.randint(1, 8)):
            self.count += 1
            name = self.random.choice(
                ["flow", "job", "narrow", "newest", "caller", "tree", "taker", "item", "item", "item"]
            )
            data = {"n": self.random.randint(0, 5)}
            if name in ("narrow", "newest", "item", "taker"):
                data["key"] = self.random.randint(0, 2)
            if name == "taker":
                del data["n"]
            tasks.append({"name": name, "data": data, "key": f"k{self.count}"})
            self.sent[f"k{self.count}"] = tasks[-1]
        self.server.send_many(tasks)

    def stop_at(self) -> None:
        self.server.post("/api/breakpoints", on=[self.random.choice(NAMES)], at=self.random.choice(PLACES))

    def unset(self) -> None:
        names = [one["name"] for one in self.server.get("/api/breakpoints")["items"]]
        if len(names) > 3:
            self.server.request("DELETE", f"/api/breakpoints/{self.random.choice(names)}")

    def go_on(self) -> None:
        verb = self.random.choice(["resume", "resume", "resume", "step"])
        request = f"q{self.random.random()}"
        for _ in range(2):
            self.server.post(f"/api/bulk/{verb}", all=True, request_id=request)

    def held(self) -> list[str]:
        return [one["id"] for one in self.server.get("/api/held")["items"]]

    def one(self) -> None:
        if held := self.held():
            id = self.random.choice(held)
            verb = self.random.choice(["resume", "drop", "step", "answer", "cancel", "retry"])
            more = (
                {"result": self.random.choice([1, None, {"name": "item", "data": {"n": 1}}])}
                if verb == "answer"
                else {}
            )
            self.server.post(f"/api/{'runs' if id.startswith('r') else 'tasks'}/{id}/{verb}", **more)

    def retry(self) -> None:
        self.server.post("/api/bulk/retry", all=True, from_start=self.random.random() < 0.3)

    def fork(self) -> None:
        runs = self.server.get("/api/runs?limit=50")["items"]
        if runs:
            run = self.random.choice(runs)["id"]
            self.server.post(f"/api/runs/{run}/fork", seq=self.random.randint(1, 5), result=self.random.choice(GIVEN))

    def edit(self) -> None:
        if held := self.held():
            id = self.random.choice(held)
            more = self.random.choice([{"n": 2}, {"seconds": 0.01}, {"args": ["1", "0"]}, {"data": {"n": 1, "key": 1}}])
            self.server.post(f"/api/{'runs' if id.startswith('r') else 'tasks'}/{id}/edit", set=more)

    def hold(self) -> None:
        if runs := self.server.get("/api/runs?limit=20")["items"]:
            self.server.post(f"/api/runs/{self.random.choice(runs)['id']}/hold")

    def kill_worker(self) -> None:
        if pids := self.server.worker_pids():
            with suppress(ProcessLookupError):
                os.kill(self.random.choice(pids), signal.SIGKILL)

    def cancel(self) -> None:
        runs = self.server.get("/api/runs?limit=20")["items"]
        if runs:
            run = self.random.choice(runs)
            self.server.post(f"/api/tasks/{run['task']}/cancel")


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_lost_doubled_or_stuck_whatever_people_do_while_the_server_is_killed(
    server: Server, seed: int
) -> None:
    chaos = Chaos(server, seed)
    server.start()
    kills = 0
    end = time.monotonic() + 40
    while time.monotonic() < end:
        try:
            for _ in range(chaos.random.randint(1, 12)):
                chaos.step()
        except (OSError, http.client.HTTPException, ValueError):
            pass
        if chaos.random.random() < 0.35:
            server.kill()
            kills += 1
            server.start()
    # everybody goes home: what is held goes on, and whoever waits for what nobody sends is given it
    for one in server.get("/api/breakpoints")["items"]:
        server.request("DELETE", f"/api/breakpoints/{one['name']}")

    def quiet() -> bool:
        server.post("/api/bulk/resume", all=True)
        assert not server.all("runs", state="held", reason="divergence")
        left = [run for run in server.all("runs") if run["state"] not in FINAL]
        waiting = [run for run in left if run["reason"] == "receive"]
        if waiting and len(waiting) == len(left):
            server.send_many([{"name": "item", "data": {"n": 1, "key": key}} for key in (0, 1, 2)])
        return not left and all(task["state"] in FINAL for task in server.all("tasks"))

    try:
        eventually(quiet, "everything ends", 120)
    except AssertionError:
        left = [
            run | {"entries": server.entries(run["id"])[-2:]} for run in server.all("runs") if run["state"] not in FINAL
        ]
        left.sort(key=lambda run: run["reason"] == "receive")
        left += [task for task in server.all("tasks") if task["state"] not in FINAL]
        raise AssertionError(json.dumps(left[:6], indent=1)) from None
    check(server, chaos)


def check(server: Server, chaos: Chaos) -> None:
    assert not [event for event in server.events() if event.get("event") in ("supervisor.bug", "load.bug")]
    tasks, runs = server.all("tasks"), server.all("runs")
    known = Counter(task["key"] for task in tasks if task["key"])
    assert set(known.values()) == {1}
    forks = {json.loads(detail)["fork"] for detail in audited(server, "fork")}
    own = Counter((run["task"], run["rule"]) for run in runs if run["id"] not in forks)
    assert set(own.values()) == {1}, [pair for pair, count in own.items() if count > 1]
    emitted = Counter(task["parent"] for task in tasks if task["name"] == "after")
    assert not [run for run in runs if emitted[run["id"]] > run["attempt"]], "none emits twice what it emits once"
    ran = {run["task"] for run in runs}
    for task in tasks:
        if task["state"] in ("done", "failed"):
            assert task["id"] in ran, task
        if task["state"] in ("dropped", "unmatched"):
            assert task["id"] not in ran, task
    with sqlite3.connect(server.folder / ".scriptrules/state.db") as store:
        wakes = store.execute("SELECT kind, count(*) FROM wakes GROUP BY kind").fetchall()
        assert not [row for row in wakes if row[0] in ("slot", "limit")], wakes
        assert not store.execute("SELECT * FROM tasks WHERE open <> 0").fetchall()
    started = Counter(server.record.read_text().split())  # type: ignore[attr-defined]
    assert {key.split("-")[0] for key in started} <= {run["id"] for run in runs}
    assert set(started.values()) <= {1}, [key for key, count in started.items() if count > 1]


def audited(server: Server, verb: str) -> list[str]:
    with sqlite3.connect(server.folder / ".scriptrules/state.db") as store:
        return [row[0] for row in store.execute("SELECT detail FROM audit WHERE verb = ?", (verb,)) if row[0]]
