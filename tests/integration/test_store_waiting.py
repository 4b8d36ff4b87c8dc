"""One suite for every store: whom an arrival wakes, and the end of a task with all that follows from it."""

# ruff: noqa: F811
from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from test_store import Use, commit, opened, plan_of, run, task, use  # noqa: F401

from scriptrules.model import Run, RunState, Task, TaskState
from scriptrules.store import sqlite
from scriptrules.store.protocol import Change, RunEnd, Store, TaskMove, Wake
from scriptrules.store.receiving import key_of, shape_of
from scriptrules.store.sqlite import SqliteStore

NEW, HELD, RUNNING, DONE, FAILED = (
    TaskState.NEW,
    TaskState.HELD,
    TaskState.RUNNING,
    TaskState.DONE,
    TaskState.FAILED,
)


def moved(id: str, state: TaskState = RUNNING) -> TaskMove:
    return TaskMove(id, state, 20)


def waiting(seq: int = 1, on: str = "item", run: str = "r1", **match: object) -> Wake:
    return Wake(run, seq, "receive", key_of(on, match))


async def due(store: Store) -> list[str]:
    return [f"{wake.run}/{wake.seq}" for wake in await store.due(1000, 99)]


async def begin(store: Store) -> None:
    """A run r1 of a task t1 that is waiting for nothing yet."""
    await commit(store, Change(tasks=[task("t1", "start")]))
    await commit(store, Change(moves=[moved("t1")], runs=[run("r1", state=RunState.WAITING)]))


def item(id: str, name: str = "item", data: bytes = b'{"n":1}', state: TaskState = NEW) -> Task:
    return task(id, name, state, data=data)


# ---- arrivals


def test_an_arrival_makes_those_due_whose_key_is_equal(use: Use) -> None:
    async def body(store: Store) -> None:
        await begin(store)
        wakes = [waiting(1, n=1), waiting(2, n=2), waiting(3), waiting(4, "item.*"), waiting(5, "**", n=1.0)]
        committed = await commit(store, Change(wakes=wakes))
        quiet = list(await store.due(1000, 99))  # patterns are looked after once
        await commit(store, Change(looked=quiet))
        assert await due(store) == []
        await store.ingest([item("t2"), item("t3", data=b'{"n":true}'), item("t4", "item.sub", b'{"n":3}')])
        assert await due(store) == []  # they may still be held
        committed = await commit(store, Change(moves=[moved("t2")]))
        assert committed.due
        assert sorted(await due(store)) == ["r1/1", "r1/3", "r1/5"]
        await commit(store, Change(looked=await store.due(1000, 99)))
        assert (await commit(store, Change(moves=[moved("t3", TaskState.UNMATCHED)]))).due
        assert await due(store) == ["r1/3"]
        await commit(store, Change(done=[waiting(3)]))
        assert (await commit(store, Change(moves=[moved("t4")]))).due
        assert await due(store) == ["r1/4"]

    use(body)


def test_what_arrived_since_the_task_of_the_run_makes_a_new_wait_due(use: Use) -> None:
    async def body(store: Store) -> None:
        await store.ingest([item("t0", "early")])
        await begin(store)
        await store.ingest([item("t2", "later")])
        committed = await commit(store, Change(wakes=[waiting(1, "early")]))
        assert (committed.due, await due(store)) == (False, [])
        committed = await commit(store, Change(wakes=[waiting(2, "later", n=5)]))
        assert (committed.due, await due(store)) == (True, ["r1/2"])

    use(body)


def test_who_has_looked_is_quiet_unless_something_arrived_meanwhile(use: Use) -> None:
    async def body(store: Store) -> None:
        await begin(store)
        await commit(store, Change(wakes=[waiting()]))
        await store.ingest([item("t2"), item("t3")])
        await commit(store, Change(moves=[moved("t2")]))
        (seen,) = await store.due(1000, 9)
        await commit(store, Change(moves=[moved("t3")]))
        await commit(store, Change(looked=[seen]))
        (again,) = await store.due(1000, 9)
        assert again.due != seen.due
        await commit(store, Change(looked=[again]))
        assert await due(store) == []

    use(body)


def test_tasks_are_read_in_the_order_of_arrival_and_a_held_one_arrives_when_it_is_released(use: Use) -> None:
    async def body(store: Store) -> None:
        await store.ingest([item("t0")])
        await begin(store)
        held = item("t2", state=HELD)
        await commit(store, Change(tasks=[held, item("t9")]))
        await store.ingest([item("t3", "item.a"), item("t4")])
        await commit(store, Change(moves=[moved("t4", HELD)]))

        async def ids(patterns: list[str], after: int | None = None, limit: int = 9) -> list[str]:
            keys = [key_of(pattern, {}) for pattern in patterns]
            return [one.id for _, one in await store.arrived("t1", keys, after, limit)]

        assert await ids(["item"]) == ["t9", "t4"]
        await commit(store, Change(moves=[moved("t2", NEW), moved("t4", NEW)]))
        assert await ids(["item"]) == ["t9", "t2", "t4"]
        assert await ids(["item.**"]) == ["t9", "t3", "t2", "t4"]
        assert await ids(["item.*", "nothing"]) == ["t3"]
        first = (await store.arrived("t1", [key_of("**", {})], None, 1))[0][0]
        assert await ids(["**"], first, 2) == ["t3", "t2"]

    use(body)


def test_places_and_shapes_are_known_again_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state.db"

    async def before(store: Store) -> None:
        await begin(store)
        await store.ingest([item("t2"), item("t3", "zebra")])
        await commit(store, Change(wakes=[waiting(1, "item", n=1), waiting(2, "it.*")]))
        await commit(store, Change(looked=await store.due(1000, 99)))

    async def after(store: Store) -> None:
        await store.ingest([item("t4"), item("t5", "it.em")])
        assert [one.id for _, one in await store.arrived("t1", [key_of("**", {})], None, 9)] == ["t2", "t3", "t4", "t5"]
        await commit(store, Change(moves=[moved("t4"), moved("t5")]))
        assert sorted(await due(store)) == ["r1/1", "r1/2"]

    asyncio.run(opened(SqliteStore(path), before))
    asyncio.run(opened(SqliteStore(path), after))


def test_of_a_shape_that_is_remembered_only_those_that_fit_are_read(tmp_path: Path) -> None:
    wanted = key_of("item", {"n": 1})
    path = tmp_path / "state.db"

    async def before(store: Store) -> None:
        await begin(store)
        await store.ingest([item("t2", data=b'{"n":2}'), item("t3")])
        await commit(store, Change(remembered=[shape_of(wanted)]))
        await store.ingest([item("t4", data=b'{"n":2}'), item("t5", data=b'{"n":1.0}')])
        await commit(store, Change(tasks=[item("t6", state=HELD)]))

    async def after(store: Store) -> None:
        await store.ingest([item("t7", data=b'{"n":true}'), item("t8")])
        await commit(store, Change(moves=[moved("t5", HELD)]))
        await commit(store, Change(moves=[moved("t6", NEW), moved("t5", NEW)]))
        read = [one.id for _, one in await store.arrived("t1", [wanted], None, 9)]
        assert read == ["t2", "t3", "t8", "t6", "t5"]

    asyncio.run(opened(SqliteStore(path), before))
    asyncio.run(opened(SqliteStore(path), after))
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM tasks")
        assert connection.execute("SELECT count(*) FROM arrivals").fetchone() == (0,)


# ---- calls


def test_orphans_are_called_tasks_that_nobody_waits_for(use: Use) -> None:
    async def body(store: Store) -> None:
        called = [task(f"t{n}", state=RUNNING, parent="r0", reply=n) for n in range(1, 6)]
        ended = [run("r2", "t2", state=RunState.DONE, answers=True), run("r3", "t3", state=RunState.DONE)]
        others = [task("t6", state=DONE, parent="r0", reply=6), task("t7", state=RUNNING, parent="r0")]
        wakes = [Wake("r0", 1, "call", "t1"), Wake("r9", 1, "task", "t4")]
        await commit(store, Change(tasks=[*called, *others], runs=ended, wakes=wakes))
        assert [one.id for one in await store.orphans("", 9)] == ["t3", "t4", "t5"]
        assert [one.id for one in await store.orphans("t3", 1)] == ["t4"]

    use(body)


# ---- trees


def run_of(task: str, state: RunState = RunState.WAITING) -> Run:
    return run(f"r-{task}", task, state=state)


def child(id: str, of: str, state: TaskState = NEW) -> Task:
    return task(id, state=state, parent=f"r-{of}")


TREE = Wake("r0", 1, "tree", "a")


def test_a_tree_has_ended_with_the_last_of_its_tasks_whenever_they_come(use: Use) -> None:
    async def body(store: Store) -> None:
        await commit(store, Change(tasks=[task("a"), task("other")], wakes=[TREE, Wake("r0", 2, "tree", "other")]))
        await commit(store, Change(moves=[TaskMove("a", RUNNING, 1, open=1)], runs=[run_of("a")]))
        await commit(store, Change(tasks=[child("b", "a"), child("c", "a")]))
        committed = await commit(store, Change(moves=[moved("c", DONE)], runs=[run_of("c", RunState.DONE)]))
        assert committed.awake == []
        ended = Change(runs=[run_of("a", RunState.DONE)], ends=[RunEnd("a", 5)])
        assert (await commit(store, ended)).awake == []
        assert await store.awake() == []
        last = Change(tasks=[child("d", "b")], runs=[run_of("b", RunState.DONE)], moves=[moved("b", DONE)])
        assert (await commit(store, last)).awake == []
        assert [one.id for one in await store.unwell("a", 9)] == ["d"]
        assert (await commit(store, Change(moves=[moved("d", FAILED)]))).awake == [TREE]
        assert await store.awake() == [TREE]
        assert [one.id for one in await store.unwell("a", 9)] == ["d"]
        assert await store.unwell("c", 9) == []
        await commit(store, Change(done=[TREE]))
        assert await store.awake() == []

    use(body)


def test_a_tree_that_has_ended_before_is_found_when_somebody_comes_to_wait(use: Use) -> None:
    async def body(store: Store) -> None:
        runs = [run_of("a", RunState.DONE), run_of("b", RunState.DONE)]
        tasks = [task("a", state=DONE), child("b", "a", DONE), child("c", "b", TaskState.UNMATCHED)]
        await commit(store, Change(tasks=tasks, runs=runs))
        assert (await commit(store, Change(wakes=[TREE]))).awake == [TREE]

    use(body)


def test_one_that_waits_no_more_leaves_no_branch_behind(use: Use) -> None:
    async def body(store: Store) -> None:
        tasks = [task("a", state=DONE), child("b", "a"), child("c", "a")]
        await commit(store, Change(tasks=tasks, runs=[run_of("a", RunState.DONE)], wakes=[TREE]))
        assert sorted(wake.kind for wake in await store.wakes_of("r0")) == ["branch", "branch", "tree"]
        await commit(store, Change(done=[TREE]))
        assert await store.wakes_of("r0") == []
        assert (await commit(store, Change(moves=[moved("b", DONE), moved("c", DONE)]))).awake == []

    use(body)


# ---- cost


@pytest.mark.parametrize(
    "query",
    [
        *("release_tasks", "arrived_before", "make_due", "make_keys_due", "quiet_wakes", "names_and_data"),
        *("note_arrivals", "arrived_by_key", "place_of", "remembered"),
        *("wakes_on_trees", "children", "whole_tree", "remove_branches"),
    ],
)
def test_what_every_commit_may_ask_reads_no_whole_table(query: str) -> None:
    for step in plan_of(query):
        assert not step.startswith("SCAN") or "VIRTUAL TABLE" in step, step


def test_no_place_is_given_twice_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    seen: list[Wake] = []

    async def before(store: Store) -> None:
        await begin(store)
        await commit(store, Change(wakes=[waiting()]))
        await store.ingest([item("t2")])
        await commit(store, Change(moves=[moved("t2")]))
        seen.extend(await store.due(1000, 9))

    async def after(store: Store) -> None:
        await store.ingest([item("t3")])
        await commit(store, Change(moves=[moved("t3")]))
        (again,) = await store.due(1000, 9)
        assert again.due is not None
        assert seen[0].due is not None
        assert again.due > seen[0].due
        await commit(store, Change(looked=seen))
        assert await due(store) == ["r1/1"]

    asyncio.run(opened(SqliteStore(path), before))
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM tasks WHERE id = 't2'")
    asyncio.run(opened(SqliteStore(path), after))


def test_names_are_read_one_by_one_from_the_index(tmp_path: Path) -> None:
    path = tmp_path / "state.db"

    async def body(store: Store) -> None:
        await store.ingest([item(f"t{n:06}", f"name.{n % 3}") for n in range(3000)])

    asyncio.run(opened(SqliteStore(path), body))
    with sqlite3.connect(path) as connection:
        steps = 0

        def count() -> None:
            nonlocal steps
            steps += 1

        connection.set_progress_handler(count, 100)
        assert len(connection.execute(sqlite.QUERIES["names_between"], ("name", "name~")).fetchall()) == 3
    assert steps < 10
