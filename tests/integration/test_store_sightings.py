"""What runs have shown, in every kind of store: added up with the commits, bounded, and cheap to read."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from scriptrules.model import Task, TaskState
from scriptrules.sightings import (
    DAY,
    DAYS_KEPT,
    FURTHER,
    NAMES_MAX,
    OUTSIDE,
    Cell,
    Generated,
    Ran,
    SeenEdge,
    class_of,
    micros_of,
    quantile,
)
from scriptrules.store._sqlite_queries import QUERIES
from scriptrules.store.memory import MemoryStore
from scriptrules.store.protocol import Change, Committed, Store
from scriptrules.store.sqlite import SqliteStore

PATIENCE = 30.0  # seconds
SECOND = 1_000_000  # microseconds
NOW = 20_000 * DAY + 7 * SECOND
Use = Callable[[Callable[[Store], Awaitable[None]]], None]


async def commit(store: Store, change: Change) -> None:
    future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
    store.submit(change, future.set_result)
    await asyncio.wait_for(future, PATIENCE)


def run_with(store: Store, body: Callable[[Store], Awaitable[None]]) -> None:
    async def main() -> None:
        await store.open()
        try:
            await body(store)
        finally:
            await store.close()

    asyncio.run(main())


@pytest.fixture(params=["sqlite", "memory"])
def use(request: pytest.FixtureRequest, tmp_path: Path) -> Use:
    store: Store = SqliteStore(tmp_path / "state.db") if request.param == "sqlite" else MemoryStore()
    return lambda body: run_with(store, body)


def emitted(task: str, rule: str = "a", at: int = NOW, **more: object) -> Generated:
    fields = {"via": "emit", "digest": "d1", **more}
    return Generated(rule, task, at=at, **fields)  # type: ignore[arg-type]


def test_cells_count_runs_that_have_begun_and_how_long_they_took(use: Use) -> None:
    async def body(store: Store) -> None:
        assert await store.matrix() == []
        await commit(store, Change(ran=[Ran("a", "b", NOW), Ran("a", "b", NOW + 1), Ran(OUTSIDE, "a", NOW)]))
        await commit(store, Change(ran=[Ran("a", "b", NOW + 5, 2 * SECOND), Ran("a", "b", NOW - 9)]))
        cells = {(cell.by, cell.rule): cell for cell in await store.matrix()}
        assert cells["a", "b"] == Cell("a", "b", 3, NOW + 1, {class_of(2 * SECOND): 1})
        assert cells[OUTSIDE, "a"] == Cell(OUTSIDE, "a", 1, NOW)
        assert len(cells) == 2

    use(body)


def test_edges_count_tasks_and_the_runs_that_generated_them(use: Use) -> None:
    async def body(store: Store) -> None:
        await commit(
            store,
            Change(generated=[emitted("x", delay=SECOND), emitted("x", at=NOW + 3, first=False), emitted("y", "b")]),
        )
        await commit(store, Change(generated=[emitted("x", at=NOW + 9, digest="d2", delay=SECOND)]))
        await commit(store, Change(generated=[emitted("x", via="call", at=NOW + 1)]))
        edges = {(edge.rule, edge.task, edge.via): edge for edge in await store.edges()}
        assert edges["a", "x", "emit"] == SeenEdge("a", "x", "emit", 3, 2, NOW, NOW + 9, "d2", {class_of(SECOND): 2})
        assert edges["a", "x", "call"].count == 1
        assert edges["b", "y", "emit"].runs == 1
        assert len(edges) == 3

    use(body)


def test_many_changes_committed_together_add_up(use: Use) -> None:
    async def body(store: Store) -> None:
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(300)]
        for number, future in enumerate(futures):
            change = Change(generated=[emitted("x", at=NOW + number)], ran=[Ran("a", "b", NOW + number, number)])
            store.submit(change, future.set_result)
        await asyncio.wait_for(asyncio.gather(*futures), PATIENCE)
        (edge,) = await store.edges()
        assert (edge.count, edge.runs, edge.first, edge.last) == (300, 300, NOW, NOW + 299)
        (cell,) = await store.matrix()
        assert cell.durations == {0: 300}

    use(body)


def test_the_matrix_since_a_day_counts_that_day_and_later_ones(use: Use) -> None:
    async def body(store: Store) -> None:
        for ago in range(4):
            await commit(store, Change(ran=[Ran("a", "b", NOW - ago * DAY), Ran("a", "b", NOW - ago * DAY, SECOND)]))
        assert [(cell.count, sum(cell.durations.values())) for cell in await store.matrix(NOW - 2 * DAY)] == [(3, 3)]
        assert [cell.count for cell in await store.matrix(NOW)] == [1]
        assert await store.matrix(NOW + DAY) == []
        assert [cell.count for cell in await store.matrix()] == [4]

    use(body)


def test_days_that_are_too_old_are_counted_together(use: Use) -> None:
    async def body(store: Store) -> None:
        for day in range(DAYS_KEPT + 10):
            await commit(store, Change(ran=[Ran("a", "b", NOW + day * DAY), Ran("a", "b", NOW + day * DAY, SECOND)]))
        last = NOW + (DAYS_KEPT + 9) * DAY
        (cell,) = await store.matrix()
        assert (cell.count, cell.last, cell.durations) == (DAYS_KEPT + 10, last, {class_of(SECOND): DAYS_KEPT + 10})
        (since,) = await store.matrix(NOW)
        assert since.count == DAYS_KEPT + 1

    use(body)


def test_names_made_of_data_are_counted_together_once_there_are_too_many(use: Use) -> None:
    async def body(store: Store) -> None:
        for begin in range(0, NAMES_MAX + 100, 50):
            await commit(store, Change(generated=[emitted(f"n.{n}") for n in range(begin, begin + 50)]))
        await commit(store, Change(generated=[emitted("n.1"), emitted("n.1000000"), emitted("n.1", "other")]))
        edges = {(edge.rule, edge.task): edge.count for edge in await store.edges()}
        assert len(edges) == NAMES_MAX + 2
        assert edges["a", "n.1"] == 2
        assert edges["a", FURTHER] == 101
        assert edges["other", "n.1"] == 1

    use(body)


def test_names_stay_known_in_the_next_life_of_a_store(tmp_path: Path) -> None:
    async def fill(store: Store) -> None:
        await commit(store, Change(generated=[emitted(f"n.{n}") for n in range(NAMES_MAX)]))

    async def look(store: Store) -> None:
        await commit(store, Change(generated=[emitted("n.7"), emitted("n.new")]))
        edges = {edge.task: edge.count for edge in await store.edges()}
        assert (edges["n.7"], edges[FURTHER], "n.new" in edges) == (2, 1, False)

    run_with(SqliteStore(tmp_path / "state.db"), fill)
    run_with(SqliteStore(tmp_path / "state.db"), look)


def test_what_is_read_does_not_grow_with_the_number_of_tasks(tmp_path: Path) -> None:
    """The rows and the steps of SQLite are counted, not the time: they are as many after 100,000 tasks as after 100."""
    path = tmp_path / "state.db"

    def cost() -> tuple[int, int]:
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1

        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.set_progress_handler(step, 1)
            rows = [
                row
                for name, parameters in (("matrix", [0]), ("matrix_durations", [0]), ("edges", []), ("edge_delays", []))
                for row in connection.execute(QUERIES[name], parameters)
            ]
        return len(rows), steps

    async def fill(store: Store) -> None:
        costs = []
        done = 0
        for upto in (100, 100_000):
            while done < upto:
                many = range(done, done + 100)
                change = Change(
                    tasks=[Task(f"t{n:06}", f"n.{n % 20}", b"{}", TaskState.DONE, NOW, NOW, f"t{n:06}") for n in many],
                    generated=[emitted(f"n.{n % 20}", delay=n % 100 * SECOND) for n in many],
                    ran=[
                        run for n in many for run in (Ran("a", f"b{n % 10}", NOW), Ran("a", "c", NOW, n % 100 * SECOND))
                    ],
                )
                store.submit(change, lambda _: None)
                done += 100
            await commit(store, Change())
            costs.append(cost())
        assert costs[0] == costs[1]
        assert sum(edge.count for edge in await store.edges()) == 100_000
        assert sum(cell.count for cell in await store.matrix()) == 100_000
        assert await store.task("t099999") is not None

    run_with(SqliteStore(path), fill)


def test_a_quantile_is_right_to_about_a_tenth() -> None:
    classes: dict[int, int] = {}
    for millis in range(1, 10_001):
        number = class_of(millis * 1000)
        classes[number] = classes.get(number, 0) + 1
    for share in (0.1, 0.5, 0.9, 0.99):
        found = quantile(classes, share)
        assert found is not None
        assert found == pytest.approx(share * 10_000_000, rel=0.12)
    assert quantile({}, 0.5) is None
    late = quantile(classes, 0.5, over=8_000_000)
    assert late is not None
    assert late == pytest.approx(9_000_000, rel=0.12)


def test_every_duration_has_a_class_that_is_near_it() -> None:
    for micros in (0, 1, 1_000, 1_001, 1_500, 10**6, 3_600 * 10**6, 40 * DAY):
        assert micros < 1_001 or micros_of(class_of(micros)) == pytest.approx(micros, rel=0.1)
    assert class_of(10**18) == class_of(10**17)


def test_what_is_left_of_durations_is_what_a_sorted_list_says() -> None:
    rng = random.Random(6)
    for _ in range(200):
        every = sorted(int(rng.choice([2e6, 9e7]) * rng.uniform(0.9, 1.1)) for _ in range(400))
        classes = Counter(map(class_of, every))
        over = rng.choice(every[:-40])
        left = [one for one in every if one >= over]
        found = quantile(classes, 0.5, over)
        assert found is not None
        assert max(over, left[int(0.3 * len(left))] * 0.9) <= found <= left[int(0.7 * len(left))] * 1.1
