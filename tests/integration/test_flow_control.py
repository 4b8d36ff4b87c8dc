"""retries, timeout and limit of rules as their authors see them, and what is left of failed tasks."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scriptrules import config
from scriptrules.plugins.manager import Plugins
from scriptrules.store.memory import MemoryStore
from scriptrules.store.protocol import Change, Filter, Wake
from scriptrules.supervisor.supervisor import Supervisor
from serving import Server, eventually, project

FLAKY = """#!/bin/sh
# fails until it was started as often as its second argument says
echo x >> "$1"
test "$(wc -l < "$1")" -ge "$2"
"""
SLOW = 'on = "{name}"\n{metadata}\ndef main(**data):\n    {body}\n'


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with project() as server:
        program = server.folder / "flaky"
        program.write_text(FLAKY)
        program.chmod(0o755)
        server.config(f'[hosts.local]\nexecutor = "process"\nprograms = ["{program}", "sleep"]\n')
        (server.folder / "plugins").mkdir()
        (server.folder / "plugins" / "slow.py").write_text(
            "import asyncio\nfrom scriptrules import function, hookimpl\n"
            "@function(timeout=0.2)\nasync def slow(): await asyncio.sleep(60)\n"
            "@hookimpl\ndef scriptrules_functions(): return [slow]\n"
        )
        server.start()
        yield server


def drop_in(server: Server, name: str, metadata: str, *body: str) -> None:
    server.drop_in(**{name: SLOW.format(name=name, metadata=metadata, body="\n    ".join(body))})


def flaky(server: Server, name: str, succeeds: int) -> str:
    record = server.folder / f"{name}.record"
    record.touch()
    record.chmod(0o666)
    return f'run("local", "job", {str(server.folder / "flaky")!r}, args=[{str(record)!r}, {succeeds}])'


def timeout_of(server: Server, rule: str) -> float | None:
    (found,) = [one for one in server.get("/api/rules")["items"] if one["rule"] == rule]
    return found["metadata"]["timeout"]  # type: ignore[no-any-return]


def verb(server: Server, kind: str, id: str, what: str) -> Any:
    return server.request("POST", f"/api/{kind}/{id}/{what}", b"{}")


def send_and_match(server: Server, name: str, **data: Any) -> str:
    """Send a task, and wait until it has a run: places in a queue are given in the order of matching."""
    task = server.send(name, **data)
    eventually(lambda: server.all("runs", task=task), f"{name} is matched")
    return task


def test_retries_of_a_rule_start_failed_executions_again_and_the_run_goes_on(server: Server) -> None:
    retries = 'retries = {"max": 3, "backoff": 0.01, "jitter": 0}'
    drop_in(server, "again", retries, flaky(server, "again", 3), 'return wait("job").status')
    task = server.send("again")
    assert server.wait_task(task)["state"] == "done"
    run = server.run_of(task)
    assert (run["value"], run["attempt"]) == ("done", 1)
    assert server.entries(run["id"])[0]["attempt"] == 3


def test_a_bug_of_the_script_is_not_retried_nor_what_no_attempt_can_mend(server: Server) -> None:
    drop_in(server, "bug", 'retries = {"max": 3, "backoff": 0.01}', "return data['missing']")
    task = server.wait_task(server.send("bug"))
    assert (task["state"], task["reason"]) == ("failed", "rule bug, line 4: KeyError: 'missing'")
    drop_in(server, "no", 'retries = {"max": 3, "backoff": 60}', 'run("local", "j", "rm")', 'wait("j")')
    task = server.wait_task(server.send("no"))
    assert task["state"] == "failed"
    assert server.entries(server.run_of(task["id"])["id"])[0]["attempt"] == 1


def test_a_failed_task_says_why_and_is_retried_from_the_failed_entry(server: Server) -> None:
    drop_in(server, "dead", "", 'emit("dead.first")', flaky(server, "dead", 2), 'return wait("job").status')
    task = server.wait_task(server.send("dead"))
    assert task["reason"] == "rule dead, line 6: ExecutionFailed: job: exit code 1"
    assert task["id"] in {one["id"] for one in server.all("tasks", state="failed")}
    verb(server, "tasks", task["id"], "retry")
    task = server.wait_task(task["id"], {"done"})
    assert task["reason"] is None
    assert task["id"] not in {one["id"] for one in server.all("tasks", state="failed")}
    assert len(server.all("tasks", name="dead.first")) == 1


def test_an_execution_that_nobody_has_waited_for_is_started_again_by_a_retry(server: Server) -> None:
    drop_in(server, "alone", "", flaky(server, "alone", 2), 'emit("alone.first")')
    task = server.wait_task(server.send("alone"))
    assert "(nobody waited for it)" in task["reason"]
    verb(server, "tasks", task["id"], "retry")
    assert server.wait_task(task["id"], {"done"})["reason"] is None
    assert len(server.all("tasks", name="alone.first")) == 1


def test_what_a_timeout_has_stopped_is_started_again_by_a_retry_though_the_script_was_elsewhere(server: Server) -> None:
    body = ('run("local", "job", "sleep", args=[data["n"]])', "sleep(1.5)", 'return wait("job").status')
    drop_in(server, "elsewhere", "timeout = 0.5", *body)
    task = server.wait_task(server.send("elsewhere", n=1))["id"]
    drop_in(server, "elsewhere", "timeout = 60", *body)
    eventually(lambda: timeout_of(server, "elsewhere") == 60.0, "the edited rule is active")
    verb(server, "tasks", task, "retry")
    server.wait_task(task, {"done"})
    assert server.run_of(task)["value"] == "done"


def test_a_timeout_of_a_rule_fails_its_run_and_stops_what_it_has_started(server: Server) -> None:
    drop_in(server, "late", "timeout = 0.4", 'run("local", "job", "sleep", args=[60])', 'wait("job")')
    began = time.monotonic()
    task = server.wait_task(server.send("late"))
    assert time.monotonic() - began < 30
    assert task["state"] == "failed"
    run = server.run_of(task["id"])
    assert (run["error"]["type"], run["error"]["code"]) == ("TimeoutError", "SR602")
    assert run["error"]["message"] == "the rule's timeout of 0.4 s has passed"
    assert server.entries(run["id"])[0]["state"] == "failed"


def test_a_run_that_is_retried_after_its_timeout_waits_anew_for_what_it_had_waited_for(server: Server) -> None:
    body = ("sleep(2)", 'return [call("slowly.called"), "slept"]')
    drop_in(server, "slowly", "timeout = 0.3", *body)
    drop_in(server, "slowly.called", "", "sleep(2)", 'return "called"')
    task = server.wait_task(server.send("slowly"))["id"]
    drop_in(server, "slowly", "timeout = 3.0", *body)
    eventually(lambda: timeout_of(server, "slowly") == 3.0, "the edited rule is active")
    verb(server, "tasks", task, "retry")
    server.wait_task(task, {"failed"})
    assert [entry["name"] for entry in server.entries(server.run_of(task)["id"])] == ["sleep", "call"]
    drop_in(server, "slowly", "timeout = 60", *body)
    eventually(lambda: timeout_of(server, "slowly") == 60.0, "the edited rule is active")
    verb(server, "tasks", task, "retry")
    server.wait_task(task, {"done"})
    assert server.run_of(task)["value"] == ["called", "slept"]


def test_timeouts_at_every_other_level_are_the_error_that_python_has(server: Server) -> None:
    drop_in(
        server,
        "levels",
        "timeout = 60",
        "found = []",
        'run("local", "job", "sleep", args=[60], timeout=0.2)',
        'found.append(wait("job", check=False).reason)',
        'for step in (slow, lambda: wait(emit("levels.never"), timeout=0.2), lambda: receive("never", timeout=0.2)):',
        "    try:",
        "        step()",
        "    except TimeoutError as error:",
        '        found.append("TimeoutError")',
        "return found",
    )
    drop_in(server, "levels.never", "", 'hold("for ever")')
    task = server.send("levels")
    server.wait_task(task)
    run = server.run_of(task)
    assert run["error"] is None, run
    assert run["value"] == ["timeout after 0.2 s", *["TimeoutError"] * 3]


def test_a_call_is_bounded_by_the_timeout_of_who_answers_and_of_who_calls(server: Server) -> None:
    drop_in(server, "callee", "timeout = 0.3", "sleep(60)")
    drop_in(server, "caller", "", 'call("callee")')
    task = server.wait_task(server.send("caller"))
    assert "CallFailed: callee: rule callee, line 4: TimeoutError: the rule's timeout of 0.3 s" in task["reason"]
    drop_in(server, "callee2", "", "sleep(60)")
    drop_in(server, "caller2", "timeout = 0.3", 'call("callee2")')
    task = server.wait_task(server.send("caller2"))
    assert "TimeoutError: the rule's timeout of 0.3 s" in task["reason"]
    (callee,) = server.all("tasks", name="callee2")
    assert server.wait_task(callee["id"])["state"] == "cancelled"


def test_a_hold_pauses_the_timeout(server: Server) -> None:
    drop_in(server, "paused", "timeout = 1.5", 'hold("look at it")', 'return "in time"')
    task = server.send("paused")
    server.wait_run(task, {"held"})
    time.sleep(2.0)
    verb(server, "tasks", task, "resume")
    assert server.wait_task(task)["state"] == "done"
    drop_in(server, "paused2", "timeout = 0.5", 'hold("look at it")', "sleep(60)")
    task = server.send("paused2")
    server.wait_run(task, {"held"})
    time.sleep(1.0)
    verb(server, "tasks", task, "resume")
    assert server.wait_task(task)["reason"].startswith("rule paused2, line 5: TimeoutError")


def test_one_too_many_is_queued_with_a_reason_and_a_way_out_and_begins_in_order(server: Server) -> None:
    drop_in(server, "one", 'limit = {"max": 1, "key": "who"}', 'hold("by hand")', 'return data["n"]')
    tasks = [send_and_match(server, "one", who="a", n=n) for n in range(4)]
    other = server.send("one", who="b", n=9)
    server.wait_run(tasks[0], {"held"})
    server.wait_run(other, {"held"})
    waiting = [server.wait_run(task, {"queued"}) for task in tasks[1:]]
    assert {run["reason"] for run in waiting} == {"limit"}
    assert waiting[0]["exit"] == "the end of another run of this rule; or `scriptrules cancel ID`"
    assert server.get("/api/counts")["flow"]["limit_waiting"] == 3
    verb(server, "runs", waiting[0]["id"], "cancel")  # one that is queued leaves the queue
    for task in (tasks[0], tasks[2], tasks[3]):
        server.wait_run(task, {"held"})
        assert sum(run["state"] == "held" for one in tasks for run in server.all("runs", task=one)) == 1
        verb(server, "tasks", task, "resume")
        assert server.wait_task(task)["state"] == "done"
    verb(server, "tasks", other, "cancel")


def test_a_full_limit_drops_or_has_the_oldest_make_way(server: Server) -> None:
    drop_in(server, "busy", 'limit = {"max": 1, "full": "drop"}', 'hold("by hand")')
    first = server.send("busy")
    server.wait_run(first, {"held"})
    dropped = server.wait_task(server.send("busy"))
    assert (dropped["state"], dropped["reason"]) == ("dropped", "limit: dropped by busy")
    assert server.all("runs", task=dropped["id"]) == []
    verb(server, "tasks", first, "resume")
    server.wait_task(first)
    assert server.wait_run(server.send("busy"), {"held"})
    drop_in(server, "newest", 'limit = {"max": 1, "full": "cancel_oldest"}', 'hold("by hand")')
    tasks = [send_and_match(server, "newest") for _ in range(5)]
    server.wait_run(tasks[-1], {"held"})
    assert [server.wait_task(task)["state"] for task in tasks[:-1]] == ["cancelled"] * 4


def test_a_retried_run_waits_for_a_slot_like_any_other(server: Server) -> None:
    drop_in(server, "slot", 'limit = {"max": 1}', flaky(server, "slot", 2), 'wait("job")', 'hold("by hand")')
    failed = server.send("slot")
    server.wait_task(failed, {"failed"})
    holding = server.send("slot")
    server.wait_run(holding, {"held"})
    verb(server, "tasks", failed, "retry")
    run = server.wait_run(failed, {"queued"})
    assert run["reason"] == "limit"
    assert (server.folder / "slot.record").read_text().count("x") == 2, "it was started before it had a slot"
    verb(server, "tasks", holding, "resume")
    server.wait_task(holding)
    server.wait_run(failed, {"held"})
    assert (server.folder / "slot.record").read_text().count("x") == 3
    verb(server, "tasks", failed, "resume")
    assert server.wait_task(failed, {"done"})


def test_a_limit_that_is_raised_lets_more_begin(server: Server) -> None:
    drop_in(server, "more", 'limit = {"max": 1}', 'hold("by hand")')
    tasks = [send_and_match(server, "more") for _ in range(3)]
    server.wait_run(tasks[0], {"held"})
    server.wait_run(tasks[2], {"queued"})
    drop_in(server, "more", 'limit = {"max": 3}', 'hold("by hand")')
    for task in tasks:
        server.wait_run(task, {"held"})


def test_timeouts_queues_and_held_slots_are_the_same_after_a_kill() -> None:
    with project() as server:
        server.config("")
        for name, metadata, body in (
            ("late", "timeout = 2.0", "sleep(600)"),
            ("held", 'limit = {"max": 1}\ntimeout = 1.0', 'hold("by hand")'),
        ):
            server.rule(name, SLOW.format(name=name, metadata=metadata, body=body))
        server.start()
        late, held, queued = server.send("late"), send_and_match(server, "held"), server.send("held")
        server.wait_run(late, {"waiting"})
        server.wait_run(held, {"held"})
        server.wait_run(queued, {"queued"})
        server.kill()
        time.sleep(1.5)  # the timeout of what is held does not pass, nor that of what is queued
        server.start()
        assert (
            server.wait_task(late)["reason"] == "rule late, line 4: TimeoutError: the rule's timeout of 2 s has passed"
        )
        assert server.run_of(held)["state"] == "held"
        assert server.run_of(queued)["state"] == "queued"
        verb(server, "tasks", held, "resume")
        assert server.wait_task(held)["state"] == "done"
        server.wait_run(queued, {"held"})
        verb(server, "tasks", queued, "resume")
        assert server.wait_task(queued)["state"] == "done"


def test_a_slot_is_given_on_only_after_the_end_that_frees_it_so_that_no_kill_can_double_it(tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "one.py").write_text('on = "one"\nlimit = {"max": 1}\ndef main(n): sleep(0.05)\n')
    store = MemoryStore()
    order: list[str] = []
    submit = store.submit

    def watched(change: Change, then: Any) -> None:
        for wake in change.wakes:
            if wake.kind == "slot":
                order.append("given")
        order.extend("freed" for wake in change.done if wake.kind == "slot")
        submit(change, then)

    store.submit = watched  # type: ignore[method-assign]

    async def story() -> None:
        supervisor = Supervisor(config.load(tmp_path, {"sandbox.workers": 1}, {}), store, Plugins(None), watch=False)
        await supervisor.start()
        try:
            await supervisor.ingest([("one", b'{"n":%d}' % n, None) for n in range(20)])
            while len(runs := await store.runs(Filter(limit=50))) < 20:
                await asyncio.sleep(0.01)
            for run in runs:
                await supervisor.live.get(run.id)  # in memory, so that nothing is in the way of a decision
            while (await store.counts())["tasks"] != {"done": 20}:
                await asyncio.sleep(0.01)
        finally:
            await supervisor.close()

    asyncio.run(asyncio.wait_for(story(), 60))
    assert order == ["given", "freed"] * 20


def test_slots_are_known_before_anything_that_holds_one_can_end(tmp_path: Path) -> None:
    """Otherwise a run that ends while the supervisor starts would hold its slot for ever."""
    store = MemoryStore()
    asked: list[tuple[str, ...]] = []
    wakes = store.wakes

    async def watched(kinds: tuple[str, ...], after: tuple[str, int], limit: int) -> list[Wake]:
        asked.append(kinds)
        return await wakes(kinds, after, limit)

    store.wakes = watched  # type: ignore[method-assign]

    async def story() -> None:
        supervisor = Supervisor(config.load(tmp_path, {"sandbox.workers": 1}, {}), store, Plugins(None), watch=False)
        await supervisor.start()
        await supervisor.close()

    asyncio.run(story())
    assert asked[0] == ("slot", "limit")


def test_a_stop_that_a_kill_has_come_before_is_made_up_for() -> None:
    with project() as server:
        server.config('[hosts.local]\nexecutor = "process"\nprograms = ["sleep"]\n')
        body = 'run("local", "job", "sleep", args=[600])\n    wait("job")'
        server.rule("long", SLOW.format(name="long", metadata="", body=body))
        server.start()
        task = server.send("long")
        run = server.wait_run(task, {"waiting"})
        eventually(lambda: server.entries(run["id"])[0]["state"] == "started", "it runs")
        server.kill()
        with contextlib.closing(sqlite3.connect(server.folder / ".scriptrules" / "state.db")) as store, store:
            store.execute(  # as it is between the decision to cancel and the stop
                "UPDATE runs SET reason = 'cancelling', error = ? WHERE id = ?",
                (b'{"type":"Cancelled","message":"cancelled"}', run["id"]),
            )
        server.start()
        assert server.wait_task(task)["state"] == "cancelled"
