"""The log of transitions: the same in each store, written with what it tells of, and bounded."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from test_store import commit, opened, run, task

from scriptrules.errors import KeyConflict
from scriptrules.model import RunState, TaskState
from scriptrules.store import _sqlite_events
from scriptrules.store.memory import MemoryStore
from scriptrules.store.protocol import Audit, Change, RunEnd, Store, TaskMove
from scriptrules.store.sqlite import SqliteStore
from scriptrules.tokens import Token

Use = Callable[[Callable[[Store], Awaitable[None]]], None]
AUDIT = Audit(1, "ada", "token", "token x")


@pytest.fixture(params=["sqlite", "memory"])
def use(request: pytest.FixtureRequest, tmp_path: Path) -> Use:
    """Runs a coroutine function with an open store of each kind."""

    def run_with(body: Callable[[Store], Awaitable[None]]) -> None:
        store: Store = SqliteStore(tmp_path / "state.db") if request.param == "sqlite" else MemoryStore()
        asyncio.run(opened(store, body))

    return run_with


async def told(store: Store, after: int = 0, limit: int = 1000) -> list[tuple[str, str]]:
    return [(one.transition.id, one.transition.state) for one in await store.happened(after, limit)]


def test_every_change_is_told_in_the_order_of_commits(use: Use) -> None:
    async def body(store: Store) -> None:
        assert await store.happenings() == (0, 0)
        await store.ingest([task("t1"), task("t2", key="k")])
        await store.ingest([task("t3", key="k")])  # it is t2
        with pytest.raises(KeyConflict):
            await store.ingest([task("t4", name="other", key="k")])
        await commit(store, Change(runs=[run("r1")], moves=[TaskMove("t1", TaskState.RUNNING, 20, None, 1)]))
        ended = run("r1", state=RunState.DONE, since=30, ended=30)
        await commit(store, Change(runs=[ended], ends=[RunEnd("t1", 30)], finals=[(RunState.DONE, 1)]))
        await commit(store, Change(edits=[("t2", b"{}")], notices=["rules.changed"]))
        assert await told(store) == [
            ("t1", "new"), ("t2", "new"), ("r1", "running"), ("t1", "running"), ("r1", "done"), ("t1", "done"),
            ("t2", "edited"), ("", "rules.changed"),
        ]  # fmt: skip
        assert await store.happenings() == (0, 8)
        assert dict(store.seen) == {
            "task.new": 2, "run.running": 1, "task.running": 1, "run.done": 1, "task.done": 1, "task.edited": 1,
            "rules.changed": 1,
        }  # fmt: skip

    use(body)


def test_it_is_read_from_any_position_on_in_parts_of_any_size(use: Use) -> None:
    async def body(store: Store) -> None:
        await store.ingest([task(f"t{n}") for n in range(10, 17)])
        await store.ingest([task(f"t{n}") for n in range(20, 25)])
        whole = [one.position for one in await store.happened(0, 1000)]
        assert whole == list(range(1, 13))
        for size in (1, 2, 5, 7, 100):
            found: list[int] = []
            while part := await store.happened(found[-1] if found else 0, size):
                assert len(part) <= size
                found += [one.position for one in part]
            assert found == whole

    use(body)


def test_what_it_is_about_comes_with_it_and_what_is_gone_does_not(use: Use) -> None:
    async def body(store: Store) -> None:
        await store.ingest([task("t1")])
        await commit(store, Change(runs=[run("r1")]))
        await commit(store, Change(runs=[run("r9", task="t9")]))
        first, second, third = await store.happened(0, 10)
        assert (first.task and first.task.id, first.run) == ("t1", None)
        assert (second.task and second.task.id, second.run and second.run.id) == ("t1", "r1")
        assert (third.task, third.run and third.run.id) == (None, "r9")

    use(body)


def test_tokens_are_kept_and_forgotten_with_who_did_it(use: Use) -> None:
    async def body(store: Store) -> None:
        one = Token("ada", "h1", "admin", 5)
        await store.put_token(one, AUDIT)
        assert await store.tokens() == [one]
        await store.remove_token("ada", msgspec.structs.replace(AUDIT, verb="revoke"))
        assert await store.tokens() == []
        assert [each.verb for _, each in await store.audit(None, None, 10)] == ["revoke", "token"]

    use(body)


def test_it_goes_on_where_it_stood_and_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sqlite_events, "EVENTS_KEPT", 20)
    monkeypatch.setattr(_sqlite_events, "_TRIM_EVERY", 5)

    async def fill(store: Store) -> None:
        before = (await store.happenings())[1]
        for n in range(30):
            await store.ingest([task(f"t{before}{n:02}")])
        kept, last = await store.happenings()
        assert last == before + 30
        assert 20 <= last - kept <= 26
        assert len(await told(store)) == last - kept

    for _ in range(2):
        asyncio.run(opened(SqliteStore(tmp_path / "state.db"), fill))


def test_what_was_rolled_back_did_not_happen(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        await store.ingest([task("t1")])
        other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
        other.execute(
            "CREATE TRIGGER no BEFORE INSERT ON tasks WHEN NEW.id = 't2' BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
        other.close()
        results = await asyncio.gather(*(store.ingest([task(f"t{n}")]) for n in (2, 3, 4)), return_exceptions=True)
        assert sum(isinstance(result, Exception) for result in results) == 1
        assert await told(store) == [("t1", "new"), ("t3", "new"), ("t4", "new")]
        positions = [one.position for one in await store.happened(0, 10)]
        assert positions == sorted(set(positions))
        assert store.seen["task.new"] == 3

    asyncio.run(opened(SqliteStore(tmp_path / "state.db"), body))


def test_what_retention_removes_is_not_counted_any_more(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        await store.ingest([task("t1"), task("t2")])
        await commit(store, Change(moves=[TaskMove("t1", TaskState.UNMATCHED, 20)]))
        await commit(store, Change(runs=[run("r2", task="t2")], moves=[TaskMove("t2", TaskState.RUNNING, 20, None, 1)]))
        ended = run("r2", task="t2", state=RunState.FAILED, since=30, ended=30)
        await commit(store, Change(runs=[ended], ends=[RunEnd("t2", 30)], finals=[(RunState.FAILED, 1)]))
        assert await store.counts() == {"tasks": {"unmatched": 1, "failed": 1}, "runs": {"failed": 1}}
        await store.prune(100, "", 10)
        assert await store.counts() == {"tasks": {}, "runs": {}}

    asyncio.run(opened(SqliteStore(tmp_path / "state.db"), body))
