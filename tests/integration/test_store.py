"""One suite for every store: SQLite in a file and the twin in memory give the same answers.

Below it, what only a store on a disk can promise: it survives, it is refused where it cannot be used, and a full or
locked disk loses nothing and changes no order.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fakeclock import FakeClock
from scriptrules.errors import KeyConflict, StoreInUse, StoreUnavailable
from scriptrules.model import (
    Control,
    Failure,
    Ids,
    Limit,
    LogLine,
    Retries,
    Run,
    RunState,
    Source,
    Task,
    TaskState,
    why_failed,
)
from scriptrules.store import sqlite
from scriptrules.store.memory import MemoryStore
from scriptrules.store.protocol import (
    Change,
    Committed,
    Filter,
    Ingested,
    Mark,
    RunEnd,
    SecretUse,
    SecretVersion,
    Store,
    TaskMove,
    Variable,
    Wake,
    merge,
)
from scriptrules.store.sqlite import SqliteStore

PATIENCE = 30.0  # seconds that a test waits for what must happen at some time
replace = msgspec.structs.replace
Use = Callable[[Callable[[Store], Awaitable[None]]], None]


def task(
    id: str, name: str = "upload.finished", state: TaskState = TaskState.NEW, at: int = 10, **more: object
) -> Task:
    fields = {"data": b'{"size":3}', "root": id, **more}
    return Task(id=id, name=name, state=state, since=at, created=at, **fields)  # type: ignore[arg-type]


def run(id: str, task: str = "t1", rule: str = "audit", state: RunState = RunState.RUNNING, **more: object) -> Run:
    fields = {"digest": "d", "since": 10, "created": 10, **more}
    return Run(id=id, rule=rule, task=task, state=state, **fields)  # type: ignore[arg-type]


async def commit(store: Store, change: Change) -> Committed:
    future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
    store.submit(change, future.set_result)
    return await asyncio.wait_for(future, PATIENCE)


async def opened(store: Store, body: Callable[[Store], Awaitable[None]]) -> None:
    await store.open()
    try:
        await body(store)
    finally:
        await store.close()


@pytest.fixture(params=["sqlite", "memory"])
def use(request: pytest.FixtureRequest, tmp_path: Path) -> Use:
    """Runs a coroutine function with an open store of each kind."""

    def run_with(body: Callable[[Store], Awaitable[None]]) -> None:
        store: Store = SqliteStore(tmp_path / "state.db") if request.param == "sqlite" else MemoryStore()
        asyncio.run(opened(store, body))

    return run_with


# ---- tasks, runs and what belongs to them


def test_everything_of_a_task_and_of_a_run_comes_back_as_it_was_written(use: Use) -> None:
    whole = task("t1", parent="r0", by="billing/refund", hop=3, depth=2, key="k", reply=7, reason="loop")
    ended = run(
        "r1", state=RunState.FAILED, reason="x", ended=20, value=b"[1]", attempt=3, answers=True, python="3.13",
        policy=4, reasons=b'{"a":"b"}', error=Failure("ValueError", "no", 3, "trace", "SR1"),
    )  # fmt: skip

    async def body(store: Store) -> None:
        await commit(store, Change(tasks=[whole], runs=[ended, run("r2")]))
        assert await store.task("t1") == whole
        assert await store.run("r1") == ended
        assert await store.run("r2") == run("r2")
        assert (await store.task("t2"), await store.run("r3")) == (None, None)

    use(body)


def test_a_run_that_is_written_again_replaces_itself(use: Use) -> None:
    async def body(store: Store) -> None:
        await commit(store, Change(tasks=[task("t1")], runs=[run("r1")]))
        await commit(store, Change(runs=[run("r1", state=RunState.DONE, value=b"1")]))
        assert await store.runs(Filter(task="t1")) == [run("r1", state=RunState.DONE, value=b"1")]

    use(body)


def test_a_journal_keeps_its_records_in_order_and_apart_from_those_of_other_runs(use: Use) -> None:
    async def body(store: Store) -> None:
        await commit(store, Change(journal=[("r1", b"1"), ("r2", b"x"), ("r1", b"2")]))
        await commit(store, Change(journal=[("r1", b"3")]))
        assert await store.journal("r1") == [b"1", b"2", b"3"]
        assert await store.journal("r2") == [b"x"]
        assert await store.journal("r3") == []

    use(body)


def test_log_lines_are_read_on_from_a_position(use: Use) -> None:
    lines = [LogLine(at, 0, "log", f"line {at}", b'{"a":1}' if at == 2 else None) for at in range(5)]

    async def body(store: Store) -> None:
        await commit(store, Change(logs=[("r1", lines[0]), ("r2", lines[0]), ("r1", lines[1])]))
        await commit(store, Change(logs=[("r1", line) for line in lines[2:]]))
        first = await store.logs("r1", limit=2)
        rest = await store.logs("r1", after=first[-1][0])
        assert [line for _, line in first + rest] == lines
        positions = [position for position, _ in first + rest]
        assert positions == sorted(set(positions))
        assert await store.logs("r1", after=positions[-1]) == []

    use(body)


def test_variables_of_trees_and_of_the_store_are_apart(use: Use) -> None:
    async def body(store: Store) -> None:
        one, two = Variable("t1", "x", b"1", 10, "r1"), Variable("", "x", b"2", 10)
        await commit(store, Change(variables=[replace(one, value=b"0"), one, two, Variable("", "y", b"3", 10)]))
        assert await store.variables_named("t1", "x") == [one, two]
        assert await store.variables_named("t2", "x") == [two]
        assert [found.name for found in await store.variables("", "", 10)] == ["x", "y"]
        assert [found.name for found in await store.variables("", "x", 10)] == ["y"]
        assert len(await store.variables("", "", 1)) == 1
        await commit(store, Change(variables=[replace(one, value=None), two]))
        await store.put_variables([replace(two, value=None)], [])
        assert await store.variables_named("t1", "x") == []

    use(body)


def test_a_removal_and_a_save_in_one_group_keep_their_order(use: Use) -> None:
    async def body(store: Store) -> None:
        kept = Variable("", "x", b"1", 10)
        gone = replace(kept, value=None)
        await asyncio.gather(*(commit(store, Change(variables=[one])) for one in (kept, gone, kept, gone, kept)))
        assert await store.variables_named("", "x") == [kept]

    use(body)


def sealed(version: int, since: int, source: str = "") -> SecretVersion:
    return SecretVersion("token", version, source, "key", b"\0\xff", since)


def test_a_sealed_value_is_given_to_runs_that_have_loaded_it_only(use: Use) -> None:
    async def body(store: Store) -> None:
        await store.put_variables([Variable("", "token", None, 10, version=2)], [sealed(1, 10), sealed(2, 20)])
        await commit(store, Change(runs=[run("r1")], tasks=[task("t1")], uses=[SecretUse("token", 1, "r1")] * 2))
        assert await store.secret_for(SecretUse("token", 1, "r1")) == sealed(1, 10)
        assert await store.secret_for(SecretUse("token", 1, "r2")) is None
        assert await store.secret_for(SecretUse("token", 2, "r1")) is None
        assert (
            await store.secret_versions("token") == await store.secret_versions(None) == [sealed(2, 20), sealed(1, 10)]
        )
        assert await store.secret_versions("other") == []

    use(body)


def test_values_are_kept_while_they_are_used_current_or_lately_replaced(use: Use) -> None:
    async def body(store: Store) -> None:
        versions = [sealed(1, 10), sealed(2, 20), sealed(3, 30), sealed(4, 90), sealed(5, 95)]
        await store.put_variables(
            [Variable("", "token", None, 95, version=5), Variable("gone", "x", b"1", 5)], versions
        )
        await commit(store, Change(runs=[run("r1")], tasks=[task("t1")], uses=[SecretUse("token", 1, "r1")]))
        await commit(store, Change(uses=[SecretUse("token", 2, "removed")]))
        await store.prune_variables(50)
        assert [secret.version for secret in await store.secret_versions(None)] == [5, 4, 3, 1]
        assert await store.variables_named("gone", "x") == []

    use(body)


def test_removing_a_secret_leaves_what_runs_have_loaded(use: Use) -> None:
    async def body(store: Store) -> None:
        await store.put_variables([Variable("", "token", None, 10, version=2)], [sealed(1, 10), sealed(2, 20)])
        await commit(store, Change(runs=[run("r1")], tasks=[task("t1")], uses=[SecretUse("token", 1, "r1")]))
        await store.put_variables([Variable("", "token", None, 30)], [])
        assert [secret.version for secret in await store.secret_versions(None)] == [1]
        assert await store.variables("", "", 10) == []

    use(body)


def test_the_first_source_of_a_digest_stays(use: Use) -> None:
    source = Source("audit", "rules/audit.py", "on = 'x'", {"money": "VAT = 19"}, "d1")

    async def body(store: Store) -> None:
        await store.put_source(source)
        await store.put_source(replace(source, file="elsewhere.py"))
        assert await store.source("d1") == source
        assert await store.source("d2") is None

    use(body)


# ---- lists


FILTERS: list[tuple[Filter, list[str]]] = [
    (Filter(), ["t5", "t4", "t3", "t2", "t1"]),
    (Filter(limit=2), ["t5", "t4"]),
    (Filter(cursor="t4", limit=2), ["t3", "t2"]),
    (Filter(cursor="t1"), []),
    (Filter(state="new"), ["t2", "t1"]),
    (Filter(name="b"), ["t3"]),
    (Filter(parent="r1"), ["t3", "t2"]),
    (Filter(root="t1"), ["t3", "t2", "t1"]),
    (Filter(state="held", reason="loop"), ["t4"]),
    (Filter(since=20, until=40), ["t3", "t2"]),
    (Filter(since=20, until=40, name="b", state="done", parent="r1"), ["t3"]),
    (Filter(state="new", name="b"), []),
]


@pytest.mark.parametrize(("filter", "expected"), FILTERS, ids=[str(number) for number in range(len(FILTERS))])
def test_tasks_are_listed_by_every_filter_newest_first(use: Use, filter: Filter, expected: list[str]) -> None:
    rows = [
        task("t1", "a", at=10),
        task("t2", "a", at=20, parent="r1", root="t1"),
        task("t3", "b", TaskState.DONE, at=30, parent="r1", root="t1"),
        task("t4", "a", TaskState.HELD, at=40, reason="loop"),
        task("t5", "a", TaskState.HELD, at=50, reason="match_error: x"),
    ]

    async def body(store: Store) -> None:
        await store.ingest(rows[:1])
        await commit(store, Change(tasks=rows[1:]))
        assert [row.id for row in await store.tasks(filter)] == expected

    use(body)


RUN_FILTERS: list[tuple[Filter, list[str]]] = [
    (Filter(), ["r4", "r3", "r2", "r1"]),
    (Filter(limit=1), ["r4"]),
    (Filter(cursor="r3"), ["r2", "r1"]),
    (Filter(state="failed"), ["r3"]),
    (Filter(rule="audit"), ["r4", "r1"]),
    (Filter(task="t1"), ["r2", "r1"]),
    (Filter(name="b"), ["r4", "r3"]),
    (Filter(reason="sleep"), ["r2"]),
    (Filter(since=20, until=40), ["r3", "r2"]),
    (Filter(name="b", rule="audit", task="t2"), ["r4"]),
    (Filter(task="t1", name="b"), []),
]


@pytest.mark.parametrize(("filter", "expected"), RUN_FILTERS, ids=[str(number) for number in range(len(RUN_FILTERS))])
def test_runs_are_listed_by_every_filter_newest_first(use: Use, filter: Filter, expected: list[str]) -> None:
    runs = [
        run("r1", created=10),
        run("r2", rule="mail", state=RunState.WAITING, reason="sleep", created=20),
        run("r3", "t2", "mail", RunState.FAILED, created=30),
        run("r4", "t2", created=40),
    ]

    async def body(store: Store) -> None:
        await commit(store, Change(tasks=[task("t1", "a"), task("t2", "b")], runs=runs))
        assert [one.id for one in await store.runs(filter)] == expected

    use(body)


def test_states_are_counted(use: Use) -> None:
    async def body(store: Store) -> None:
        assert await store.counts() == {"tasks": {}, "runs": {}}
        await commit(store, Change(tasks=[task("t1"), task("t2"), task("t3", state=TaskState.DONE)], runs=[run("r1")]))
        assert await store.counts() == {"tasks": {"new": 2, "done": 1}, "runs": {"running": 1}}

    use(body)


def test_new_tasks_are_paged_oldest_first(use: Use) -> None:
    rows = [task(f"t{number}") for number in range(5)] + [task("t7", state=TaskState.HELD)]

    async def body(store: Store) -> None:
        await commit(store, Change(tasks=rows))
        assert [one.id for one in await store.new_tasks("", 2)] == ["t0", "t1"]
        assert [one.id for one in await store.new_tasks("t1", 9)] == ["t2", "t3", "t4"]

    use(body)


def test_unfinished_runs_are_those_that_a_worker_should_have(use: Use) -> None:
    runs = [run(f"r{number}", state=state) for number, state in enumerate(RunState)]

    async def body(store: Store) -> None:
        await commit(store, Change(tasks=[task("t1")], runs=runs))
        assert [str(one.state) for one in await store.unfinished_runs("", 9)] == ["queued", "running"]
        assert [str(one.state) for one in await store.unfinished_runs("r0", 9)] == ["running"]
        assert len(await store.unfinished_runs("", 1)) == 1

    use(body)


# ---- keys


def test_a_key_with_the_same_content_gives_the_same_task(use: Use) -> None:
    async def body(store: Store) -> None:
        first = await store.ingest([task("t1", key="k", data=b'{"a":1,"b":2}')])
        again = await store.ingest([task("t2", key="k", data=b'{"b": 2, "a": 1}'), task("t3")])
        assert first == [Ingested("t1", True)]
        assert again == [Ingested("t1", False), Ingested("t3", True)]
        assert [one.id for one in await store.tasks(Filter())] == ["t3", "t1"]

    use(body)


@pytest.mark.parametrize(
    "other",
    [{"data": b'{"a":2}'}, {"data": b'{"a":true}'}, {"data": b'{"a":1,"b":null}'}, {"name": "other"}],
    ids=["value", "true is not 1", "field", "name"],
)
def test_a_key_with_other_content_stores_nothing_at_all(use: Use, other: dict[str, object]) -> None:
    async def body(store: Store) -> None:
        await store.ingest([task("t1", key="k", data=b'{"a":1}')])
        with pytest.raises(KeyConflict, match="'k' was used for task t1"):
            await store.ingest([task("t2"), task("t3", **{"key": "k", "data": b'{"a":1}', **other})])  # type: ignore[arg-type]
        assert [one.id for one in await store.tasks(Filter())] == ["t1"]

    use(body)


def test_a_key_may_stand_twice_in_a_batch_with_the_same_content_only(use: Use) -> None:
    async def body(store: Store) -> None:
        twice = await store.ingest([task("t1", key="k"), task("t2", key="k")])
        assert twice == [Ingested("t1", True), Ingested("t1", False)]
        with pytest.raises(KeyConflict):
            await store.ingest([task("t3", key="l"), task("t4", key="l", name="other")])
        assert [one.id for one in await store.tasks(Filter())] == ["t1"]

    use(body)


def test_a_conflict_harms_nobody_who_is_committed_together_with_it(use: Use) -> None:
    async def body(store: Store) -> None:
        results = await asyncio.gather(
            store.ingest([task("t1", key="k")]),
            store.ingest([task("t2", key="k", name="other")]),
            store.ingest([task("t3", key="k")]),
            commit(store, Change(journal=[("r1", b"1")])),
            return_exceptions=True,
        )
        assert results[0] == [Ingested("t1", True)]
        assert isinstance(results[1], KeyConflict)
        assert results[2] == [Ingested("t1", False)]
        assert await store.journal("r1") == [b"1"]

    use(body)


# ---- the end of tasks


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([RunState.DONE, RunState.DONE], TaskState.DONE),
        ([RunState.DONE, RunState.FAILED], TaskState.FAILED),
        ([RunState.CANCELLED, RunState.FAILED], TaskState.FAILED),
        ([RunState.DONE, RunState.CANCELLED], TaskState.CANCELLED),
    ],
)
def test_a_task_ends_with_the_last_of_its_runs(use: Use, states: list[RunState], expected: TaskState) -> None:
    async def body(store: Store) -> None:
        await commit(
            store,
            Change(
                tasks=[task("t1")],
                runs=[run("r1"), run("r2")],
                moves=[TaskMove("t1", TaskState.RUNNING, 20, "x", open=2)],
            ),
        )
        assert (await commit(store, Change(runs=[run("r1", state=states[0])], ends=[RunEnd("t1", 30)]))).ended == []
        assert (await store.task("t1")).state is TaskState.RUNNING  # type: ignore[union-attr]
        last = await commit(store, Change(runs=[run("r2", state=states[1])], ends=[RunEnd("t1", 40)]))
        assert last.ended == [("t1", expected)]
        reason = "rule audit was failed" if expected is TaskState.FAILED else None
        assert await store.task("t1") == replace(task("t1"), state=expected, since=40, reason=reason)

    use(body)


@pytest.mark.parametrize(
    "error", [Failure("ValueError", "no"), Failure("KeyError", "'ä\"'", line=7), Failure("ValueError", "x" * 2000)]
)
def test_a_failed_task_says_why_its_first_failed_run_did(use: Use, error: Failure) -> None:
    async def body(store: Store) -> None:
        failed = run("r2", state=RunState.FAILED, error=error)
        later = run("r3", state=RunState.FAILED, error=Failure("OSError", "later"))
        await commit(
            store,
            Change(
                tasks=[task("t1")],
                runs=[run("r1"), run("r2"), run("r3")],
                moves=[TaskMove("t1", TaskState.RUNNING, 20, open=2)],
            ),
        )
        await commit(store, Change(runs=[later], ends=[RunEnd("t1", 30)]))
        await commit(store, Change(runs=[failed], ends=[RunEnd("t1", 40)]))
        found = await store.task("t1")
        assert found is not None
        assert (found.state, found.reason) == (TaskState.FAILED, why_failed(failed))

    use(body)


def test_what_a_run_keeps_to_and_how_far_schedules_have_come_are_kept(use: Use) -> None:
    async def body(store: Store) -> None:
        kept = run("r1", control=Control(Retries(3, 2.0), 60.0, Limit(1, "customer")), deadline=77, slot="work n=1")
        marks = [Mark("schedule/a", "0 2 * * * UTC", 5), Mark("schedule/b", "0 3 * * * UTC", 6)]
        await commit(store, Change(tasks=[task("t1")], runs=[kept], marks=marks))
        await commit(store, Change(marks=[replace(marks[0], at=9)]))
        assert await store.run("r1") == kept
        assert sorted(await store.marks(), key=lambda mark: mark.name) == [replace(marks[0], at=9), marks[1]]

    use(body)


def test_two_runs_that_end_in_one_change_end_their_task_once(use: Use) -> None:
    async def body(store: Store) -> None:
        await commit(store, Change(tasks=[task("t1")], moves=[TaskMove("t1", TaskState.RUNNING, 20, open=2)]))
        runs = [run("r1", state=RunState.DONE), run("r2", state=RunState.DONE)]
        both = await commit(store, Change(runs=runs, ends=[RunEnd("t1", 30), RunEnd("t1", 31)]))
        assert both.ended == [("t1", TaskState.DONE)]

    use(body)


def test_a_task_that_is_reopened_ends_again_with_the_last_of_the_runs_that_go_on(use: Use) -> None:
    async def body(store: Store) -> None:
        await commit(store, Change(tasks=[task("t1")], moves=[TaskMove("t1", TaskState.RUNNING, 20, open=2)]))
        for id in ("r1", "r2"):
            await commit(store, Change(runs=[run(id, state=RunState.FAILED)], ends=[RunEnd("t1", 30)]))
        await commit(store, Change(runs=[run("r1", state=RunState.QUEUED)], reopened=[("t1", 40)]))
        await commit(store, Change(runs=[run("r2", state=RunState.QUEUED)], reopened=[("t1", 41)]))
        assert await store.task("t1") == replace(task("t1"), state=TaskState.RUNNING, since=41, reason=None)
        assert (await commit(store, Change(runs=[run("r1", state=RunState.DONE)], ends=[RunEnd("t1", 50)]))).ended == []
        last = await commit(store, Change(runs=[run("r2", state=RunState.DONE)], ends=[RunEnd("t1", 51)]))
        assert last.ended == [("t1", TaskState.DONE)]

    use(body)


def test_a_task_that_is_not_running_is_not_ended_by_its_runs(use: Use) -> None:
    async def body(store: Store) -> None:
        await commit(store, Change(tasks=[task("t1")], moves=[TaskMove("t1", TaskState.CANCELLED, 20, open=1)]))
        assert (await commit(store, Change(ends=[RunEnd("t1", 30)]))).ended == []
        assert (await store.task("t1")).state is TaskState.CANCELLED  # type: ignore[union-attr]

    use(body)


# ---- wakes


@pytest.mark.parametrize("kind", ["task", "call"])
@pytest.mark.parametrize("how", ["moved", "last run"])
def test_the_end_of_a_task_wakes_who_waits_for_it(use: Use, kind: str, how: str) -> None:
    wake = Wake("r9", 2, kind, "t1")
    end = Change(moves=[TaskMove("t1", TaskState.UNMATCHED, 30)])
    if how == "last run":
        end = Change(runs=[run("r1", state=RunState.DONE)], ends=[RunEnd("t1", 30)])

    async def body(store: Store) -> None:
        await commit(
            store, Change(tasks=[task("t1"), task("t2")], moves=[TaskMove("t1", TaskState.RUNNING, 20, open=1)])
        )
        assert (await commit(store, Change(wakes=[wake, Wake("r9", 3, kind, "t2")]))).awake == []
        assert await store.awake() == []
        assert (await commit(store, end)).awake == [wake]
        assert await store.awake() == [wake]
        await commit(store, Change(done=[wake]))
        assert await store.awake() == []

    use(body)


@pytest.mark.parametrize("kind", ["task", "call"])
def test_who_begins_to_wait_for_what_has_ended_is_woken_at_once(use: Use, kind: str) -> None:
    async def body(store: Store) -> None:
        await commit(store, Change(tasks=[task("t1", state=TaskState.DONE)]))
        wake = Wake("r9", 2, kind, "t1")
        assert (await commit(store, Change(wakes=[wake]))).awake == [wake]

    use(body)


def test_an_answer_wakes_the_caller_while_other_runs_of_the_task_go_on(use: Use) -> None:
    call, wait = Wake("r9", 2, "call", "t1"), Wake("r8", 2, "task", "t1")

    async def body(store: Store) -> None:
        await commit(
            store,
            Change(
                tasks=[task("t1")], runs=[run("r1", answers=True), run("r2")], wakes=[call, wait],
                moves=[TaskMove("t1", TaskState.RUNNING, 20, open=2)],
            ),
        )  # fmt: skip
        answer = Change(runs=[run("r1", answers=True, state=RunState.DONE)], ends=[RunEnd("t1", 30)], answered=["t1"])
        assert (await commit(store, answer)).awake == [call]
        assert await store.awake() == [call]

    use(body)


def test_one_end_wakes_everybody_once(use: Use) -> None:
    wakes = [Wake("r8", 2, "task", "t1"), Wake("r9", 4, "call", "t1"), Wake("r9", 2, "task", "t1")]

    async def body(store: Store) -> None:
        await commit(store, Change(tasks=[task("t1")], wakes=wakes))
        ended = Change(moves=[TaskMove("t1", TaskState.DONE, 30)], answered=["t1"])
        awake = (await commit(store, ended)).awake
        assert sorted(awake, key=str) == sorted(wakes, key=str)

    use(body)


def test_executions_and_timers_do_not_wake_by_the_end_of_tasks(use: Use) -> None:
    async def body(store: Store) -> None:
        await commit(
            store, Change(tasks=[task("t1")], wakes=[Wake("r9", 1, "execution", "t1"), Wake("r9", 2, "timer")])
        )
        assert (await commit(store, Change(moves=[TaskMove("t1", TaskState.DONE, 30)]))).awake == []
        assert await store.awake() == []

    use(body)


def test_wakes_are_due_earliest_first_and_go_when_they_are_done(use: Use) -> None:
    wakes = [Wake("r1", 1, "timer", "", 30), Wake("r2", 1, "timer", "", 10), Wake("r2", 2, "again", "", 20)]

    async def body(store: Store) -> None:
        assert (await store.next_due(), await store.due(99, 9)) == (None, [])
        await commit(store, Change(wakes=[*wakes, Wake("r3", 1, "call", "t")]))
        assert await store.next_due() == 10
        assert await store.due(9, 9) == []
        assert await store.due(20, 9) == [wakes[1], wakes[2]]
        assert await store.due(99, 1) == [wakes[1]]
        await commit(store, Change(done=[replace(wakes[1], due=None)]))
        assert await store.next_due() == 20
        assert await store.due(99, 9) == [wakes[2], wakes[0]]

    use(body)


def test_a_wake_that_is_put_again_counts_once_with_its_newest_moment(use: Use) -> None:
    async def body(store: Store) -> None:
        for due in (10, 30, 30):
            await commit(store, Change(wakes=[Wake("r1", 1, "timer", "", due)]))
        assert await store.next_due() == 30
        assert await store.due(20, 9) == []
        assert await store.due(99, 9) == [Wake("r1", 1, "timer", "", 30)]

    use(body)


def test_wakes_of_some_kinds_are_paged_by_run_and_entry(use: Use) -> None:
    wakes = [Wake(f"r{number}", seq, "execution", f"k{number}{seq}") for number in (1, 2) for seq in (1, 2, 10)]
    others = [Wake("r1", 3, "timer", "", 5), Wake("r1", 4, "function", "f")]

    async def body(store: Store) -> None:
        await commit(store, Change(wakes=[*reversed(wakes), *others]))
        assert await store.wakes(("execution",), ("", 0), 99) == wakes
        assert await store.wakes(("execution",), ("r1", 2), 2) == wakes[2:4]
        assert await store.wakes(("function", "timer"), ("", 0), 99) == others
        assert await store.wakes_of("r1") == [*wakes[:2], *others, wakes[2]]
        assert await store.wakes_of("r3") == []

    use(body)


def test_a_wake_that_comes_and_goes_in_one_change_is_gone(use: Use) -> None:
    async def body(store: Store) -> None:
        await commit(store, Change(wakes=[Wake("r1", 1, "timer", "", 5)], done=[Wake("r1", 1, "timer")]))
        assert await store.wakes_of("r1") == []

    use(body)


# ---- order


def test_changes_are_committed_in_the_order_in_which_they_were_submitted(use: Use) -> None:
    async def body(store: Store) -> None:
        told: list[int] = []
        last = asyncio.Event()
        for number in range(5000):  # more than one group holds
            change = Change(runs=[run("r1", since=number)], journal=[("r1", b"%d" % number)])
            store.submit(change, lambda _, number=number: told.append(number))  # type: ignore[misc]
        store.submit(Change(), lambda _: last.set())
        await asyncio.wait_for(last.wait(), PATIENCE)
        assert told == list(range(5000))
        assert await store.journal("r1") == [b"%d" % number for number in range(5000)]
        assert (await store.run("r1")).since == 4999  # type: ignore[union-attr]

    use(body)


def test_what_one_change_ends_and_the_next_begins_again_stays_begun(use: Use) -> None:
    wake = Wake("r1", 1, "timer", "", 5)

    async def body(store: Store) -> None:
        await commit(store, Change(tasks=[task("t1")], moves=[TaskMove("t1", TaskState.RUNNING, 1, open=1)]))
        failed = Change(runs=[run("r1", state=RunState.FAILED)], ends=[RunEnd("t1", 2)], done=[wake])
        again = Change(
            runs=[run("r1", state=RunState.QUEUED)], moves=[TaskMove("t1", TaskState.RUNNING, 3, open=1)], wakes=[wake]
        )
        store.submit(failed, lambda _: None)
        await commit(store, again)
        assert (await store.task("t1")).state is TaskState.RUNNING  # type: ignore[union-attr]
        assert await store.wakes_of("r1") == [wake]

    use(body)


def test_changes_are_merged_until_one_counts_on_the_order_of_another() -> None:
    wake = Wake("r1", 1, "timer", "", 5)
    plain = [Change(journal=[("r1", b"1")]), Change(journal=[("r1", b"2")])]
    assert [part.journal for part in merge(plain)] == [[("r1", b"1"), ("r1", b"2")]]
    assert len(merge([Change(wakes=[wake]), Change(done=[wake])])) == 1
    assert len(merge([Change(done=[wake]), Change(wakes=[wake])])) == 2
    assert len(merge([Change(ends=[RunEnd("t1", 1)]), Change(moves=[TaskMove("t1", TaskState.RUNNING, 1)])])) == 2


# ---- SQLite only: it survives


def test_everything_is_there_after_the_store_was_opened_again(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "deep" / "state.db")

    async def write(store: Store) -> None:
        await store.ingest([task("t1", key="k")])
        await store.put_source(Source("a", "a.py", "", {}, "d"))
        change = Change(
            runs=[run("r1")], journal=[("r1", b"1")], logs=[("r1", LogLine(1, 0, "log", "x"))],
            wakes=[Wake("r1", 1, "timer", "", 5)], moves=[TaskMove("t1", TaskState.RUNNING, 2, open=1)],
        )  # fmt: skip
        store.submit(change, lambda _: None)  # close() commits it

    asyncio.run(opened(store, write))
    identity = store.id

    async def read(store: Store) -> None:
        assert store.id == identity
        assert (await store.task("t1")).state is TaskState.RUNNING  # type: ignore[union-attr]
        assert (await store.run("r1"), await store.journal("r1")) == (run("r1"), [b"1"])
        assert [line.text for _, line in await store.logs("r1")] == ["x"]
        assert (await store.next_due(), (await store.source("d")).rule) == (5, "a")  # type: ignore[union-attr]
        assert await store.ingest([task("t9", key="k")]) == [Ingested("t1", False)]
        ended = await commit(store, Change(runs=[run("r1", state=RunState.DONE)], ends=[RunEnd("t1", 9)]))
        assert ended.ended == [("t1", TaskState.DONE)]

    asyncio.run(opened(SqliteStore(tmp_path / "deep" / "state.db"), read))


def test_a_second_opener_is_refused_until_the_first_has_gone(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        with pytest.raises(StoreInUse, match="Stop that one first"):
            await SqliteStore(tmp_path / "state.db").open()
        await commit(store, Change(journal=[("r1", b"1")]))  # the refused one has taken nothing away

    asyncio.run(opened(SqliteStore(tmp_path / "state.db"), body))
    asyncio.run(opened(SqliteStore(tmp_path / "state.db"), body))


def test_an_acknowledged_change_is_on_the_disk_before_anybody_hears_of_it(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        assert isinstance(store, SqliteStore)
        settings: dict[str, object] = {}

        def look(connection: sqlite3.Connection) -> None:
            for pragma in ("journal_mode", "synchronous"):
                settings[pragma] = connection.execute(f"PRAGMA {pragma}").fetchone()[0]

        await store._write(look)
        assert settings == {"journal_mode": "wal", "synchronous": 2}

    asyncio.run(opened(SqliteStore(tmp_path / "state.db"), body))


def test_a_process_that_is_killed_loses_nothing_that_it_was_told_of(tmp_path: Path) -> None:
    program = (
        "import asyncio, os, pathlib, sys\n"
        "from scriptrules.store.protocol import Change\n"
        "from scriptrules.store.sqlite import SqliteStore\n"
        "async def main():\n"
        "    store = SqliteStore(pathlib.Path(sys.argv[1]))\n"
        "    await store.open()\n"
        "    def told(number):\n"
        "        if number == 500: os.kill(os.getpid(), 9)\n"
        "    for number in range(501):\n"
        "        store.submit(Change(journal=[('r1', b'%d' % number)]), lambda _, n=number: told(n))\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    path = tmp_path / "state.db"
    ended = subprocess.run([sys.executable, "-c", program, str(path)], check=False, timeout=60)
    assert ended.returncode == -9

    async def body(store: Store) -> None:
        assert await store.journal("r1") == [b"%d" % number for number in range(501)]

    asyncio.run(opened(SqliteStore(path), body))


# ---- SQLite only: where it cannot be used


def test_a_store_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 999")
    with pytest.raises(StoreUnavailable, match=r"newer scriptrules \(schema 999.*Upgrade"):
        asyncio.run(SqliteStore(path).open())
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"this is a text about cats, and longer than a page header would be " * 10)
    with pytest.raises(StoreUnavailable, match="not a database"):
        asyncio.run(SqliteStore(path).open())


def test_a_folder_that_cannot_be_written_is_refused_with_what_to_do(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("")
    with pytest.raises(StoreUnavailable, match="Check the folder's permissions"):
        asyncio.run(SqliteStore(occupied / "state.db").open())


def test_a_read_only_folder_is_refused_with_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "read-only"
    folder.mkdir()
    with read_only(folder), pytest.raises(StoreUnavailable, match="Check the folder's permissions"):
        asyncio.run(SqliteStore(folder / "state.db").open())


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """`folder` cannot be written, not even by root."""
    if os.geteuid() != 0:
        folder.chmod(0o500)
        yield
        folder.chmod(0o700)
        return
    with mounted(folder, "ro"):
        yield


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A file system of its own in `folder`."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root. Run the tests as root, or in a container that is.")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=False, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}. Allow it (CAP_SYS_ADMIN).")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_the_schema_is_what_all_migrations_make_of_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "state.db"

    async def nothing(_: Store) -> None:
        return

    asyncio.run(opened(SqliteStore(path), nothing))
    schema = "SELECT type, name, sql FROM sqlite_master ORDER BY type, name"
    with (
        contextlib.closing(sqlite3.connect(path)) as found,
        contextlib.closing(sqlite3.connect(":memory:")) as expected,
    ):
        for _, sql in sqlite.migrations():
            expected.executescript(sql)
        assert found.execute(schema).fetchall() == expected.execute(schema).fetchall()
        numbers = [number for number, _ in sqlite.migrations()]
        assert numbers == list(range(1, len(numbers) + 1))
        assert numbers[0] == 1
        assert found.execute("PRAGMA user_version").fetchone() == (numbers[-1],)


# ---- SQLite only: trouble while it is in use


def test_a_full_disk_loses_nothing_and_keeps_the_order(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    ballast = folder / "ballast"

    async def body(store: Store) -> None:
        assert isinstance(store, SqliteStore)
        await commit(store, Change(journal=[("r1", b"first")]))
        with ballast.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
            while stream.write(bytes(4096)):
                pass
        told: list[int] = []
        last = asyncio.Event()
        big = bytes(20_000)
        for number in range(4):
            change = Change(journal=[("r1", b"%d" % number), ("r2", big)])
            store.submit(change, lambda _, number=number: told.append(number))  # type: ignore[misc]
        with pytest.raises(StoreUnavailable, match="Nothing was accepted"):
            await store.ingest([task("t1", data=big)])
        assert told == []
        assert store.failing is not None
        assert await store.task("t1") is None
        ballast.unlink()
        store.submit(Change(journal=[("r1", b"last")]), lambda _: last.set())
        await asyncio.wait_for(last.wait(), PATIENCE)
        assert told == [0, 1, 2, 3]
        assert await store.journal("r1") == [b"first", b"0", b"1", b"2", b"3", b"last"]
        assert await store.ingest([task("t1")]) == [Ingested("t1", True)]
        assert store.failing is None

    with mounted(folder, "size=1m"):
        asyncio.run(opened(SqliteStore(folder / "state.db"), body))


LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""


def test_a_lock_of_another_process_loses_nothing_and_keeps_the_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.05)
    path = tmp_path / "state.db"

    async def body(store: Store) -> None:
        with subprocess.Popen(
            [sys.executable, "-c", LOCKER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as locker:
            assert locker.stdout is not None
            assert locker.stdin is not None
            assert await asyncio.to_thread(locker.stdout.readline) == b"locked\n"
            told: list[int] = []
            last = asyncio.Event()
            for number in range(3):
                change = Change(journal=[("r1", b"%d" % number)])
                store.submit(change, lambda _, number=number: told.append(number))  # type: ignore[misc]
            with pytest.raises(StoreUnavailable, match="locked"):
                await store.ingest([task("t1")])
            assert told == []
            assert await store.tasks(Filter()) == []  # reading goes on
            locker.stdin.close()
        store.submit(Change(journal=[("r1", b"last")]), lambda _: last.set())
        await asyncio.wait_for(last.wait(), PATIENCE)
        assert told == [0, 1, 2]
        assert await store.journal("r1") == [b"0", b"1", b"2", b"last"]

    asyncio.run(opened(SqliteStore(path), body))


@pytest.mark.parametrize(
    "poison",
    [task("t1"), task("t9", hop=2**70), task("t9", name="\udc80")],
    ids=["a second task of one id", "a number that no column holds", "text that is no Unicode"],
)
def test_rubbish_is_refused_and_harms_nobody_who_is_committed_together_with_it(tmp_path: Path, poison: Task) -> None:
    async def body(store: Store) -> None:
        await store.ingest([task("t1")])
        everybody = asyncio.gather(
            store.ingest([task("t2")]),
            store.ingest([task("t4"), poison]),
            commit(store, Change(journal=[("r1", b"1")])),
            store.ingest([task("t3")]),
            return_exceptions=True,
        )
        results = await asyncio.wait_for(everybody, PATIENCE)
        assert isinstance(results[1], StoreUnavailable)
        assert (results[0], results[3]) == ([Ingested("t2", True)], [Ingested("t3", True)])
        assert [one.id for one in await store.tasks(Filter())] == ["t3", "t2", "t1"]
        assert await store.journal("r1") == [b"1"]

    asyncio.run(opened(SqliteStore(tmp_path / "state.db"), body))


def test_who_comes_while_the_store_closes_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        store = SqliteStore(tmp_path / "state.db")
        await store.open()
        closing = asyncio.create_task(store.close())
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match="shutting down"):
            await store.ingest([task("t1")])
        await closing

    asyncio.run(main())


# ---- SQLite only: cost


def explained(query: str, *, where: str = "", how: str = "") -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        for _, sql in sqlite.migrations():
            connection.executescript(sql)
        text = f"{sqlite.QUERIES[query]} {where}"
        count = max((int(number) for number in re.findall(r"\?(\d)", text)), default=text.count("?"))
        return connection.execute(f"EXPLAIN {how} {text}", [None] * count).fetchall()


def plan_of(query: str, *, where: str = "") -> list[str]:
    return [row[3] for row in explained(query, where=where, how="QUERY PLAN")]


FREQUENT = [
    *("task", "run", "journal", "logs", "source", "known_keys", "move_tasks", "count_end", "end_tasks"),
    *("remove_wakes", "wakes", "wakes_of", "due", "next_due", "new_tasks", "unfinished_runs", "ended_among"),
    *("wakes_on_ended_tasks", "wakes_on_answers"),
]


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("tasks", "parent = ? ORDER BY id DESC LIMIT ?"),
        ("runs", "r.task = ? ORDER BY r.id DESC LIMIT ?"),
        *((query, "") for query in FREQUENT),
    ],
)
def test_no_frequent_query_reads_a_whole_table(query: str, where: str) -> None:
    for step in plan_of(query, where=where):
        assert not step.startswith("SCAN") or "VIRTUAL TABLE" in step, step  # the virtual one is the given list


@pytest.mark.parametrize(
    ("query", "index"),
    [
        *(("new_tasks", "tasks_state"), ("unfinished_runs", "runs_state"), ("due", "wakes_due")),
        *(("journal", "journal_run"), ("orphans", "tasks_state"), ("counts", "tasks_state"), ("counts", "runs_state")),
        *(("make_keys_due", "wakes_waiting"), ("wakes_on_trees", "wakes_waiting")),
    ],
)
def test_what_is_outstanding_is_found_without_looking_at_what_is_over(query: str, index: str) -> None:
    assert any(f"INDEX {index} " in step for step in plan_of(query)), plan_of(query)


@pytest.mark.parametrize("query", ["insert_tasks", "move_tasks", "put_runs", "put_wakes", "remove_wakes"])
def test_a_row_is_written_without_a_table_being_built_for_it(query: str) -> None:
    assert "OpenEphemeral" not in [row[1] for row in explained(query)]


def test_json_lists_are_bound_as_one_parameter_however_long_they_are(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        new_id = Ids(FakeClock())
        many = [task(new_id("t"), key=f"key {number}") for number in range(40_000)]  # SQLite binds 32,766 at most
        assert sum(one.new for one in await store.ingest(many)) == 40_000
        assert sum(one.new for one in await store.ingest(many)) == 0

    asyncio.run(opened(SqliteStore(tmp_path / "state.db"), body))


def test_a_journal_can_be_read_with_the_shell_of_the_database(tmp_path: Path) -> None:
    path = tmp_path / "state.db"

    async def body(store: Store) -> None:
        await commit(store, Change(journal=[("r1", b'{"type":"start","at":1,"seq":1}')]))

    asyncio.run(opened(SqliteStore(path), body))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (text,) = connection.execute("SELECT CAST(body AS TEXT) FROM journal WHERE run = 'r1'").fetchone()
    assert json.loads(text)["type"] == "start"
