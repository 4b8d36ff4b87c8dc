"""One bad rule costs the others nothing: its run fails with reason and line, or its filter has it quarantined."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import Server, eventually, project

SANDBOX = "[sandbox]\ncpu_seconds = 0.3\nhard_seconds = 1.5\nmemory_mb = 192\nworkers = 2\n"

HOSTILE = {  # what stands in line 4 of the rule, and what the reason names
    "loops": ("    while True: pass", "cpu|steps"),
    "allocates": ('    x = ["a" * 1000 for _ in range(10**9)]', "memory|steps|cpu"),
    "hoards": ("    x = []\n    while True: x.append([1] * 1000)", "memory"),
    "recurses": ("    main(**kwargs)", "recursion"),
    "prints": ("    while True: print('a' * 100)", "log"),
    "emits": ("    while True: emit('bad.more')", "entries"),
    "hangs in C": ("    return re.match('(a+)+$', 'a' * 64 + 'b')", "killed|cpu"),
}

HONEST = """
on = "honest"
def main(n):
    sleep(0.5)
    emit("honest.done", n=n)
    return n
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with project() as server:
        server.config(SANDBOX)
        for at, (what, _) in HOSTILE.items():
            server.rule(
                at.replace(" ", "_"), f'import re\non = "bad.{at.replace(" ", "_")}"\ndef main(**kwargs):\n{what}\n'
            )
        server.rule("honest", HONEST)
        server.start()
        yield server


@pytest.mark.parametrize("which", HOSTILE)
def test_a_hostile_run_fails_with_reason_and_line_and_honest_ones_go_on(server: Server, which: str) -> None:
    honest = server.send_many([{"name": "honest", "data": {"n": n}} for n in range(30)])
    task = server.send(f"bad.{which.replace(' ', '_')}")
    assert server.wait_task(task)["state"] == "failed"
    error = server.run_of(task)["error"]
    assert any(word in error["message"] for word in HOSTILE[which][1].split("|")), error
    assert error["line"] in (3, 4, 5)
    for n, id in enumerate(honest):
        assert server.wait_task(id)["state"] == "done"
        assert server.run_of(id)["value"] == n


FILTERS = {
    "loops": "while True: pass",
    "hoards": "x = []\n    while True: x.append([1] * 1000)",
    "recurses": "return when(task)",
    "hangs": "return re.match('(a+)+$', 'a' * 64 + 'b')",
}


@pytest.mark.parametrize("which", FILTERS)
def test_a_runaway_filter_holds_its_task_and_has_its_rule_quarantined(which: str) -> None:
    with project() as server:
        server.config(SANDBOX)
        server.rule("other", 'on = "thing"\ndef main(**kwargs): return 1\n')
        server.rule("honest", HONEST)
        text = f'import re\non = "thing"\ndef when(task):\n    {FILTERS[which]}\ndef main(**kwargs): pass\n'
        server.rule("bad", text)
        server.start()
        honest = server.send_many([{"name": "honest", "data": {"n": n}} for n in range(20)])
        task = server.send("thing")
        held = server.wait_task(task, {"held", "done", "failed", "unmatched"})
        assert held["state"] == "held"
        assert held["reason"].startswith("match_limit: rule bad")
        assert "resume" in held["exit"]
        rules = {rule["rule"]: rule for rule in server.get("/api/rules")["items"]}
        assert rules["bad"]["quarantined"]
        for id in honest:
            assert server.wait_task(id)["state"] == "done"
        assert server.wait_task(server.send("thing"))["state"] == "done", "other rules go on without it"

        server.rule("bad", 'on = "thing"\ndef main(**kwargs): return 2\n')
        eventually(lambda: "bad" in _active(server), "the corrected rule is active")
        server.request("POST", f"/api/tasks/{task}/resume")
        assert server.wait_task(task)["state"] == "done"
        assert {run["rule"] for run in server.all("runs", task=task)} == {"bad", "other"}


def _active(server: Server) -> set[str]:
    return {rule["rule"] for rule in server.get("/api/rules")["items"] if rule["digest"] and not rule["quarantined"]}


def test_a_filter_that_raises_holds_the_task_and_says_where() -> None:
    with project() as server:
        server.config("")
        server.rule("bad", 'on = "thing"\nwhen = lambda task: 1 // task["n"] > 0\ndef main(**kwargs): pass\n')
        server.start()
        held = server.wait_task(server.send("thing", n=0), {"held"})
        assert "match_error: rule bad, line 2: ZeroDivisionError" in held["reason"]
        assert server.wait_task(server.send("thing", n=1))["state"] == "done"
        missing = server.wait_task(server.send("thing"))
        assert missing["state"] == "unmatched"
        assert missing["reason"] == "bad: the task has no field 'n'"


def test_the_supervisor_memory_stays_flat_under_hostile_runs() -> None:
    with project() as server:
        server.config(SANDBOX)
        server.rule("prints", 'on = "bad"\ndef main(**kwargs):\n    while True: print("a" * 100)\n')
        server.rule("hoards", 'on = "bad"\ndef main(**kwargs):\n    x = []\n    while True: x.append([1] * 1000)\n')
        server.start()
        for id in [server.send("bad") for _ in range(5)]:
            server.wait_task(id)
        before = _resident(server)
        for id in [server.send("bad") for _ in range(30)]:
            assert server.wait_task(id)["state"] == "failed"
        assert _resident(server) < before + 30 * 1024 * 1024


def test_a_killed_worker_costs_its_other_runs_a_replay_and_nothing_else() -> None:
    with project() as server:
        server.config("")
        server.rule(
            "patient",
            'on = "go"\ndef main(n):\n    a = random()\n    sleep(4)\n    b = random()\n    return [n, a, b]\n',
        )
        server.start()
        ids = server.send_many([{"name": "go", "data": {"n": n}} for n in range(200)])
        eventually(lambda: len(server.all("runs", state="waiting")) == 200, "all wait")
        pids = server.worker_pids()
        assert pids
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # it has ended with one of the others
                os.kill(pid, 9)
        for n, id in enumerate(ids):
            assert server.wait_task(id)["state"] == "done"
            assert server.run_of(id)["value"][0] == n
        assert server.get("/readyz")["worker_restarts"] >= 2


def _resident(server: Server) -> int:
    assert server.process is not None
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
