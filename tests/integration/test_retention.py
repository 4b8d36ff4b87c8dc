"""What has ended long ago is removed, tree by tree; what has not is kept whole. In every store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from scriptrules.config import load
from scriptrules.errors import ConfigError
from scriptrules.model import LogLine, Run, RunState, Source, Task, TaskState
from scriptrules.store.memory import MemoryStore
from scriptrules.store.protocol import Audit, Change, Committed, Filter, Store, Wake
from scriptrules.store.sqlite import SqliteStore
from scriptrules.supervisor.exclusive import Shared
from scriptrules.supervisor.retention import Retention
from serving import Server, eventually, project

Use = Callable[[Callable[[Store], Awaitable[None]]], None]


@pytest.fixture(params=["sqlite", "memory"])
def use(request: pytest.FixtureRequest, tmp_path: Path) -> Use:
    async def opened(body: Callable[[Store], Awaitable[None]]) -> None:
        store: Store = SqliteStore(tmp_path / "state.db") if request.param == "sqlite" else MemoryStore()
        await store.open()
        try:
            await body(store)
        finally:
            await store.close()

    return lambda body: asyncio.run(opened(body))


async def commit(store: Store, change: Change) -> None:
    future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
    store.submit(change, future.set_result)
    await future


def task(id: str, at: int, state: TaskState = TaskState.DONE, root: str = "", parent: str | None = None) -> Task:
    return Task(id, "work", b"{}", state, at, at, root or id, parent, key=f"key-{id}")


def run(id: str, task: str, state: RunState = RunState.DONE, digest: str = "d1") -> Run:
    return Run(id, "work", task, digest, state, 10, 10)


async def filled(store: Store) -> None:
    """Four trees: old and finished, old with a child that is waiting, old with a young child, and a young one."""
    tasks = [
        task("t1", 10), task("t1a", 11, root="t1", parent="r1"),
        task("t2", 10), task("t2a", 11, TaskState.RUNNING, root="t2", parent="r2"),
        task("t3", 10), task("t3a", 99, root="t3", parent="r3"),
        task("t4", 99),
    ]  # fmt: skip
    runs = [run("r1", "t1"), run("r1a", "t1a"), run("r2", "t2", digest="d2"), run("r3", "t3", digest="d3")]
    runs.append(run("r2a", "t2a", RunState.WAITING, "d2"))
    await store.ingest(tasks[:1])
    change = Change(
        tasks=tasks[1:], runs=runs, audit=[Audit(10, "ann", "resume", "t1"), Audit(99, "ann", "edit", "t4")]
    )
    change.journal = [(one.id, b'{"type":"cut","at":1,"seq":1}') for one in runs]
    change.logs = [(one.id, LogLine(1, 0, "log", "said")) for one in runs]
    change.wakes = [Wake("r2a", 1, "timer", due=500)]
    await commit(store, change)
    for digest in ("d1", "d2", "d3", "d4", "active"):
        await store.put_source(Source("work", "rules/work.py", "", digest=digest))


async def sweep(store: Store, now: int, keep: int) -> int:
    return await Retention(store, keep, lambda: ["active"], lambda: now, _at_once, Shared()).sweep(keep)


async def _at_once() -> None:
    """Nothing is on its way to the disk."""


def test_a_finished_tree_goes_with_its_runs_journals_and_logs_and_no_other(use: Use) -> None:
    async def body(store: Store) -> None:
        await filled(store)
        assert await sweep(store, 60, 10) == 2
        assert sorted(one.id for one in await store.tasks(Filter())) == ["t2", "t2a", "t3", "t3a", "t4"]
        assert sorted(one.id for one in await store.runs(Filter())) == ["r2", "r2a", "r3"]
        for gone in ("r1", "r1a"):
            assert await store.journal(gone) == []
            assert await store.logs(gone) == []
        assert len(await store.journal("r2a")) == len(await store.logs("r2a")) == 1
        assert [audit.thing for _, audit in await store.audit(None, None, 10)] == ["t4"]
        assert await sweep(store, 60, 10) == 0

    use(body)


def test_sources_are_kept_for_runs_that_are_there_and_for_active_rules(use: Use) -> None:
    async def body(store: Store) -> None:
        await filled(store)
        await sweep(store, 60, 10)
        kept = [digest for digest in ("d1", "d2", "d3", "d4", "active") if await store.source(digest) is not None]
        assert kept == ["d2", "d3", "active"]

    use(body)


def test_a_key_is_free_again_once_its_task_is_gone(use: Use) -> None:
    async def body(store: Store) -> None:
        await filled(store)
        await sweep(store, 60, 10)
        again = Task("t9", "other", b"{}", TaskState.NEW, 60, 60, "t9", key="key-t1")
        assert (await store.ingest([again]))[0].new

    use(body)


def test_many_trees_go_in_steps(use: Use) -> None:
    async def body(store: Store) -> None:
        await commit(store, Change(tasks=[task(f"t{n:05}", 10) for n in range(1000)]))
        assert await sweep(store, 60, 10) == 1000
        assert await store.tasks(Filter()) == []

    use(body)


@pytest.mark.parametrize("text", ["", "30", "d", "-3d", "3w", "never"])
def test_a_time_that_is_none_is_refused_at_start(text: str, tmp_path: Path) -> None:
    (tmp_path / "scriptrules.toml").write_text(f'[store]\nretention = "{text}"\n')
    with pytest.raises(ConfigError, match="30d"):
        _ = load(tmp_path).retention


def test_a_server_forgets_what_has_ended_and_keeps_what_waits() -> None:
    with project() as server:
        server.config('[store]\nretention = "1s"\n[sandbox]\nworkers = 1\n')
        server.rule("short", 'on = "short"\ndef main():\n    emit("after")\n')
        server.rule("long", 'on = "long"\ndef main():\n    sleep(3600)\n')
        server.start()
        short, long = server.send("short"), server.send("long")
        eventually(lambda: not _known(server, short), "it is removed")
        assert _known(server, long)
        assert [task["id"] for task in server.all("tasks")] == [long]
        assert server.send("short") != short


def _known(server: Server, id: str) -> bool:
    return any(task["id"] == id for task in server.all("tasks"))
