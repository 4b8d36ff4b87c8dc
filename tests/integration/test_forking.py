"""A run is forked at an entry: another result there, what was before it is reused, and the original stays as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from serving import Problem, Server, appending_program, eventually, project

RULE = """
on = "fork.start"

def main(n):
    begun = [now().isoformat(), random(), uuid()]
    emit("fork.note", n=n)
    run("local", "append", {program!r}, args=[{record!r}, n])
    result = wait("append")
    double = call("fork.double", n=result.output["n"])
    handle = emit("fork.child", n=double)
    child = wait(handle)
    return [begun, result.output["n"], double, child.value]
"""
DOUBLE = 'on = "fork.double"\ndef main(n):\n    if n > 100: raise ValueError("too much")\n    return 2 * n\n'
CHILD = 'on = "fork.child"\ndef main(n): return -n\n'


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with project() as server:
        program, record = appending_program(server)
        server.config(f'[hosts.local]\nexecutor = "process"\nprograms = ["{program}"]\n')
        server.rule("main", RULE.format(program=program, record=str(record)))
        server.rule("double", DOUBLE)
        server.rule("child", CHILD)
        server.start()
        yield server


def fork(server: Server, run: str, seq: int, result: Any, **more: Any) -> dict[str, Any]:
    body = json.dumps({"seq": seq, "result": result, **more}).encode()
    return dict(server.request("POST", f"/api/runs/{run}/fork", body))


def digests(server: Server) -> list[str]:
    return [rule["digest"] for rule in server.get("/api/rules")["items"]]


def ended(server: Server, run: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        shown = server.get(f"/api/runs/{run}")
        return shown if shown["state"] in ("done", "failed", "held") else None

    return dict(eventually(look, f"run {run} ends"))


def test_a_fork_reuses_what_was_before_and_goes_on_with_the_other_result(server: Server) -> None:
    task = server.send("fork.start", n=3)
    assert server.wait_task(task)["state"] == "done"
    original = server.run_of(task)
    journal = server.entries(original["id"])
    begun, *values = original["value"]
    assert values == [3, 6, -6]
    cases = [
        (2, {"n": 10}, [10, 20, -20]),  # the execution's output
        (2, {"status": "done", "output": {"n": 11}, "exit_code": 0}, [11, 22, -22]),
        (3, {"n": 12}, [12, 24, -24]),  # the wait for it
        (3, [{"n": 13}], [13, 26, -26]),
        (4, 7, [3, 7, -7]),  # the call
        (5, 8, [3, 6, 8]),  # the emitted task
        (6, 9, [3, 6, 9]),
    ]
    for seq, result, expected in cases:
        made = fork(server, original["id"], seq, result)
        assert made["id"] != original["id"]
        done = ended(server, made["id"])
        assert (done["state"], done["value"]) == ("done", [begun, *expected]), done
        entries = server.entries(made["id"])
        assert entries[: seq - 1] == journal[: seq - 1]
    assert server.get(f"/api/runs/{original['id']}")["value"] == original["value"]
    assert server.entries(original["id"]) == journal
    assert (server.folder / "record").read_text().split() == ["3"]
    assert len(server.all("tasks", name="fork.note", root=task)) == 1
    assert len(server.all("tasks", name="fork.child", root=task)) == 6  # no further one from the last two forks
    assert server.task(task)["state"] == "done"


def test_a_failed_call_is_forked_and_its_task_is_open_meanwhile(server: Server) -> None:
    task = server.send("fork.start", n=101)
    assert server.wait_task(task)["state"] == "failed"
    original = server.run_of(task)
    assert "rule double, line 3: ValueError: too much" in original["error"]["message"]
    trace = original["error"]["trace"]
    assert 'File "rules/double.py", line 3, in main' in trace
    assert (
        trace.index("rules/double.py")
        < trace.index("That failed in what was called here")
        < trace.index("rules/main.py")
    )
    made = fork(server, original["id"], 4, 5, request_id="once")
    again = fork(server, original["id"], 4, 5, request_id="once")
    assert again["id"] == made["id"]
    assert ended(server, made["id"])["value"][1:] == [101, 5, -5]
    assert server.wait_task(task)["state"] == "failed"  # the original has
    assert len(server.all("runs", task=task)) == 2


def test_a_fork_survives_a_kill_and_uses_the_newest_source_unless_it_is_pinned() -> None:
    with project() as server:
        server.config("")
        text = 'on = "go"\ndef main(**k):\n    emit("one")\n    n = receive("n")["n"]\n'
        text += '    hold("here")\n    return {value}\n'
        server.rule("rule", text.format(value="n"))
        server.start()
        task = server.send("go")
        server.wait_run(task, {"waiting"})
        server.send("n", n=1)
        original = server.wait_run(task, {"held"})
        server.rule("rule", text.format(value="n * 100"))
        eventually(lambda: original["digest"] not in digests(server), "edited")
        made = {
            pinned: fork(server, original["id"], 2, {"name": "n", "data": {"n": 5}}, pinned=pinned)["id"]
            for pinned in (True, False)
        }
        server.kill()
        server.start()
        for id, expected in ((made[True], 5), (made[False], 500)):
            assert ended(server, id)["reason"] == "hold: here"
            server.request("POST", f"/api/runs/{id}/resume")
            eventually(lambda id=id: ended(server, id)["state"] == "done", "resumed")
            assert ended(server, id)["value"] == expected
        assert server.get(f"/api/runs/{original['id']}")["state"] == "held"
        before = digests(server)
        server.rule("rule", text.replace('emit("one")', 'emit("other")').format(value="n"))
        eventually(lambda: digests(server) != before, "edited")
        diverged = ended(server, fork(server, original["id"], 3, None)["id"])
        assert (diverged["state"], diverged["reason"]) == ("held", "divergence")
        assert len(server.all("tasks", name="one")) == 1
        assert server.all("tasks", name="other") == []


def test_a_forked_emit_answers_a_wait_for_its_tree_too() -> None:
    with project() as server:
        server.config("")
        server.rule("go", 'on = "go"\ndef main(**k):\n    return wait(emit("slow"), tree=True).value\n')
        server.rule("slow", 'on = "slow"\ndef main(**k): sleep(600)\n')
        server.start()
        task = server.send("go")
        run = server.wait_run(task, {"waiting"})
        assert ended(server, fork(server, run["id"], 1, "at once")["id"])["value"] == "at once"
        assert ended(server, fork(server, run["id"], 2, "too")["id"])["value"] == "too"
        failed = ended(server, fork(server, run["id"], 1, {"status": "failed", "reason": "so be it"})["id"])
        assert failed["error"]["message"] == "slow: so be it"
        assert server.get(f"/api/runs/{run['id']}")["state"] == "waiting"


def test_what_cannot_be_forked_is_refused_with_what_to_do(server: Server) -> None:
    task = server.send("fork.start", n=1)
    server.wait_task(task)
    run = server.run_of(task)["id"]
    for seq, result, status, hint in (
        (99, 1, 404, "has no entry 99; it has 6"),
        (0, 1, 400, "seq"),
        (3, [1, 2], 400, "This wait gives 1 results"),
        (2, {"status": "ok", "n": 1}, 400, 'write {"status": "done", "output": {"status": …}}'),
        (2, {"status": "done", "n": 1}, 400, "unknown field `n`"),
        (5, {"status": "unmatched"}, 400, 'write {"status": "done", "value": {"status": …}}'),
    ):
        with pytest.raises(Problem) as caught:
            fork(server, run, seq, result)
        assert caught.value.status == status
        assert hint in caught.value.body["detail"]
    assert len(server.all("runs", task=task)) == 1
