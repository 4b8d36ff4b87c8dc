"""The wire is not trusted: a worker that lies is killed and replaced, and costs nobody else more than a replay."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lying_worker import ABOUT_RULES, LIES

from scriptrules import config, journal
from scriptrules.errors import SandboxUnavailable
from scriptrules.journal import Intent
from scriptrules.model import TASK_FINAL, Entry, Failure, Run, RunState, Task, TaskState
from scriptrules.plugins.manager import Plugins
from scriptrules.sandbox import pool as pools
from scriptrules.sandbox import wire
from scriptrules.sandbox.confine import Limits
from scriptrules.sandbox.pool import Pool
from scriptrules.store.make import make_store
from scriptrules.store.protocol import Filter
from scriptrules.supervisor import supervisor as supervisors
from scriptrules.supervisor.arguments import WorkerLied
from scriptrules.supervisor.decision import Setting
from scriptrules.supervisor.matching import on_taken
from scriptrules.supervisor.supervisor import Supervisor
from scriptrules.supervisor.transitions import on_slice

PATIENCE = 15.0  # seconds
GROWTH_MAX = 96 * 1024 * 1024  # bytes that a lie may cost the supervisor
HARMLESS_SO_FAR = {
    "answers_twice",
    "answers_what_nobody_asked",
    "announces_what_nobody_asked",
    "burns_after_its_answer",
}

HONEST = 'on = "honest"\nwhen = lambda task: task["n"] >= 0\n\n\ndef main(n):\n    sleep(0.05)\n    return n * 2\n'
LIAR = 'on = ["lie.take.*", "lie.ran.*"]\nwhen = lambda task: True\n\n\ndef main(**kwargs):\n    sleep(0.01)\n'


async def eventually(condition: Callable[[], Any], what: str) -> None:
    async def look() -> None:
        while not condition():
            await asyncio.sleep(0.01)

    try:
        await asyncio.wait_for(look(), PATIENCE)
    except TimeoutError:
        raise AssertionError(f"did not happen within {PATIENCE:.0f} s: {what}") from None


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool whose workers lie, and that waits for the silent ones as long as a test may take."""
    monkeypatch.setattr(pools, "SILENCE_MAX", 0.5)
    monkeypatch.setattr(pools, "START_TIMEOUT", 20.0)
    monkeypatch.setattr(supervisors, "Pool", partial(Pool, entry="lying_worker:main"))


@asynccontextmanager
async def supervising(folder: Path) -> AsyncIterator[Supervisor]:
    (folder / "rules").mkdir()
    (folder / "rules" / "honest.py").write_text(HONEST)
    (folder / "rules" / "liar.py").write_text(LIAR)
    (folder / "scriptrules.toml").write_text(
        '[store]\nurl = "memory:"\n[sandbox]\nworkers = 2\ncpu_seconds = 0.3\nhard_seconds = 0.5\n'
    )
    settings = config.load(folder, environ={})
    supervisor = Supervisor(settings, make_store(settings), Plugins(None), watch=False)
    await supervisor.start()
    try:
        yield supervisor
    finally:
        await supervisor.close()


MATCHED = {"take.a_load_of_nothing", "take.a_load_after_an_emit", "take.a_load_of_an_impossible_name"}
LYING = [f"take.{lie}" for lie in LIES] + [f"ran.{lie}" for lie in LIES if lie not in ABOUT_RULES]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("lie", LYING)
def test_a_worker_that_lies_is_replaced_and_nobody_else_notices(tmp_path: Path, lie: str) -> None:
    asyncio.run(_among_honest(tmp_path, lie))


async def _among_honest(folder: Path, lie: str) -> None:
    async with supervising(folder) as supervisor:
        pool = supervisor.pool
        workers = {worker.pid for worker in pool.workers}
        before = _resident()
        tasks = [("honest", b'{"n":%d}' % n, None) for n in range(60)]
        tasks[30:30] = [(f"lie.{lie}", b"{}", None)]
        ids = [ingested.id for ingested in await supervisor.ingest(tasks)]
        liar = ids.pop(30)
        for n, id in enumerate(ids):
            await _until(supervisor, id, TASK_FINAL)
            (run,) = await supervisor.store.runs(Filter(task=id, limit=2))
            assert (run.state, run.value) == ("done", b"%d" % (2 * n)), run
        state = await _until(supervisor, liar, {*TASK_FINAL, TaskState.HELD})
        if lie.partition(".")[2] in HARMLESS_SO_FAR:
            assert state is TaskState.DONE  # the lie came after an honest answer
        elif lie in MATCHED:
            assert state is TaskState.DONE  # what was matched counts; the run is executed by an honest worker
        else:
            assert state in (TaskState.HELD, TaskState.FAILED)
        await eventually(lambda: pool.restarts, "the lying worker is killed")
        await eventually(lambda: len(pool.workers) == 2, "there is another worker")
        assert {worker.pid for worker in pool.workers} != workers
        gone = workers - {worker.pid for worker in pool.workers}
        await eventually(lambda: not any(_exists(pid) for pid in gone), "the process of the liar is gone")
        assert _resident() < before + GROWTH_MAX
        assert not [info.rule for info in supervisor.rules.infos() if info.rule == "honest" and info.quarantined]
        (after,) = await supervisor.ingest([("honest", b'{"n":1}', None)])
        assert await _until(supervisor, after.id, TASK_FINAL) is TaskState.DONE
        assert len(pool.workers) <= 2


async def _until(supervisor: Supervisor, id: str, states: set[TaskState] | frozenset[TaskState]) -> TaskState:
    found = TaskState.NEW

    async def look() -> TaskState:
        nonlocal found
        while True:
            task = await supervisor.store.task(id)
            assert task
            found = task.state
            if found in states:
                return found
            await asyncio.sleep(0.01)

    try:
        return await asyncio.wait_for(look(), PATIENCE)
    except TimeoutError:
        raise AssertionError(f"task {id} is still {found}") from None


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# ---- workers that do not come up, and many that go down


def _pool(size: int, entry: str) -> Pool:
    functions = [function.spec for function in Plugins(None).functions.values()]
    return Pool(size, Limits(), wire.Budget(), functions, 1.0, entry)


def test_workers_that_never_get_ready_are_killed_and_the_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "START_TIMEOUT", 0.5)

    async def start() -> None:
        pool = _pool(2, "lying_worker:never_ready")
        try:
            with pytest.raises(SandboxUnavailable, match="did not get ready in time"):
                await pool.start()
        finally:
            await pool.close()

    asyncio.run(start())


def test_as_many_workers_come_as_go_however_many_go_at_once() -> None:
    async def kill() -> None:
        pool = _pool(4, "lying_worker:main")
        await pool.start()
        try:
            for _ in range(3):
                for worker in list(pool.workers):
                    os.kill(worker.pid, signal.SIGKILL)
                    await asyncio.sleep(0.002)
                before = pool.restarts
                await eventually(lambda before=before: pool.restarts >= before, "they are gone")
                await eventually(lambda: len(pool.workers) == 4 and pool._unready == 0, "there are four again")
                await asyncio.sleep(0.3)
                assert len(pool.workers) == 4
        finally:
            await pool.close()

    asyncio.run(kill())


# ---- what is decoded


def _values() -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary()
    return st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=30)


@given(st.binary() | st.lists(st.sampled_from([1, 2, 3, 4, 5]) | _values()).map(wire._encoder.encode))
@settings(max_examples=1000, deadline=None)
def test_any_bytes_are_a_message_or_an_error_that_is_expected(body: bytes) -> None:
    try:
        message = wire.decode_from_worker(body)
    except pools.REFUSED:
        return
    assert isinstance(message, wire.FromWorker)


@given(st.binary(max_size=300), st.integers(0, 64), st.integers(1, 50))
@settings(max_examples=500, deadline=None)
def test_any_stream_is_cut_into_frames_within_the_limit_however_it_arrives(data: bytes, limit: int, piece: int) -> None:
    frames = wire.Frames(limit)
    cut: list[bytes] = []
    try:
        for at in range(0, len(data), piece):
            cut += frames.feed(data[at : at + piece])
            assert len(frames._buffer) < limit + wire.HEADER.size + piece
    except wire.FrameError:
        pass
    assert all(len(frame) <= limit for frame in cut)
    assert data.startswith(b"".join(wire.HEADER.pack(len(frame)) + frame for frame in cut))


# ---- what is decided


def _setting() -> Setting:
    numbers = itertools.count(1)
    blocking = frozenset({"wait", "call", "sleep", "hold", "fetch"})
    return Setting(lambda letter: f"{letter}{next(numbers)}", blocking, {"fetch": 1, "post": 0}, 100, 64)


ARGUMENTS = st.sampled_from(
    [
        b'{"name":"a.b","data":{}}', b'{"name":"","data":{}}', b'{"name":"a","data":[1]}', b'{"name":"a","data":{}',
        b'{"what":[1],"timeout":1.5,"any":false,"check":true}', b'{"what":[],"timeout":null,"any":true,"check":true}',
        b'{"what":[-1],"timeout":1e308,"any":true,"check":true}', b'{"seconds":0.0}', b'{"seconds":1e18}',
        b'{"reason":"x"}',
        b'{"host":"h","name":"n","image":"i","args":[],"env":{},"timeout":null,"retries":0,"options":{}}',
        b"{}", b"[]", b"", b"null", b"\xff", b"[" * 5000,
    ]
) | st.binary(max_size=20)  # fmt: skip
NAMES = st.sampled_from(["emit", "return", "call", "run", "sleep", "wait", "hold", "fetch", "post", "system", ""])
INTENTS = st.builds(Intent, NAMES, ARGUMENTS, st.integers(-(2**63), 2**63 - 1))
ENDS = st.sampled_from(["blocked", "returned", "raised", "failed", "limit", "diverged", "", "well"])
FAILURES = st.none() | st.builds(Failure, st.text(), st.text(), st.none() | st.integers(-(2**63), 2**63 - 1))
LINES = st.builds(wire.LogEntry, st.integers(-(2**63), 2**64 - 1), st.text(), st.none() | ARGUMENTS)
SLICES = st.builds(
    wire.Slice, st.integers(0, 9), ENDS, st.lists(INTENTS, max_size=4), st.lists(LINES, max_size=2), ARGUMENTS, FAILURES
)
STARTED = st.builds(wire.Started, st.text(), st.text(), st.booleans(), st.integers(-9, 9), st.none() | SLICES)
TASK = Task("t1", "go", b"{}", TaskState.NEW, 0, 0, root="t1")


@given(SLICES, st.lists(SLICES, max_size=2))
@settings(max_examples=1000, deadline=None)
def test_any_slices_are_decisions_or_lies(piece: wire.Slice, before: list[wire.Slice]) -> None:
    run = Run("r1", "rule", "t1", "d", RunState.RUNNING, 0, 0)
    entries: list[Entry] = []
    for one in [*before, piece]:
        try:
            decision = on_slice(run, entries, TASK, one, 9, _setting())
        except WorkerLied:
            continue
        for record in decision.records:
            journal.apply(entries, journal.decode(journal.encode(record)))
        if decision.run.state not in (RunState.WAITING, RunState.RUNNING):
            break
        run = msgspec.structs.replace(decision.run, state=RunState.RUNNING)


@given(st.lists(STARTED, max_size=3), st.booleans())
@settings(max_examples=500, deadline=None)
def test_any_answers_about_a_task_are_decisions_or_lies(runs: list[wire.Started], called: bool) -> None:
    task = msgspec.structs.replace(TASK, reply=1 if called else None)
    condemned = {"": Failure("LimitExceeded", "before")}
    with contextlib.suppress(WorkerLied):
        on_taken(task, wire.Taken(1, 1, runs), condemned, 9, "3.11", 1, _setting())
