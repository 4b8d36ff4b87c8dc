"""What is true of a store at every commit, whatever has happened to those who wrote it.

`check_store` reads the tables of an SQLite store, `check_memory` those of its twin; both look at the same rows. With
`settled` they ask besides that nothing is on its way any more: each task has ended, or is held by somebody.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from scriptrules import journal
from scriptrules.model import (
    ENTRY_FINAL,
    RUN_FINAL,
    TASK_FINAL,
    Entry,
    Run,
    RunState,
    Source,
    Task,
    TaskState,
    execution_key,
)
from scriptrules.plugins.manager import Plugins
from scriptrules.sandbox import wire
from scriptrules.sandbox.worker import Worker
from scriptrules.store._sqlite_queries import QUERIES
from scriptrules.store._sqlite_rows import run_of, task_of
from scriptrules.store.memory import MemoryStore
from scriptrules.store.protocol import Wake
from scriptrules.supervisor.arguments import wait_args
from scriptrules.supervisor.ending import is_over
from scriptrules.supervisor.entries import (
    child_of,
    is_begun,
    is_final,
    is_generated,
    is_outstanding,
    outstanding,
    past_of,
    receive_wakes,
    task_wakes,
)
from scriptrules.supervisor.matching import view_of
from serving import Server, project

OPTIONAL = frozenset({"again", "branch"})  # wakes that are there at times


@contextmanager
def checked_project() -> Iterator[Server]:
    """A server's folder, as `serving.project`; in the end its store is checked, and every journal replayed."""
    with project() as server:
        yield server
        server.kill()
        tables = check_store(server.folder / ".scriptrules/state.db")
        Replayer(Plugins(server.folder / "plugins")).check(tables)


class Tables(msgspec.Struct):
    """The rows of a store that the others are checked against."""

    tasks: dict[str, Task]
    open: dict[str, int]
    runs: dict[str, Run]
    records: dict[str, list[journal.Record]]
    wakes: list[Wake]
    sources: dict[str, Source]
    answered: set[str]  # runs of which somebody has given a result
    counts: dict[tuple[str, str], int] | None = None


def check_store(path: Path, settled: bool = False) -> Tables:
    """Check the tables of an SQLite store; nobody may be writing it.

    Args:
        settled: whether nothing is under way any more.
    """
    with closing(sqlite3.connect(path)) as store:
        columns = QUERIES["task"].partition(" FROM ")[0]
        tasks = {row[0]: task_of(row) for row in store.execute(f"{columns} FROM tasks")}
        records: defaultdict[str, list[journal.Record]] = defaultdict(list)
        for run, body in store.execute("SELECT run, body FROM journal ORDER BY id"):
            records[run].append(journal.decode(body))
        columns = QUERIES["run"].partition("FROM")[0]
        answered = (
            "SELECT thing FROM audit WHERE verb = 'answer' UNION SELECT CAST(detail AS TEXT) ->> 'fork' FROM audit"
        )
        counts = {(kind, state): number for kind, state, number in store.execute("SELECT * FROM counts") if number}
        for table in ("logs", "wakes"):
            assert not store.execute(f"SELECT * FROM {table} WHERE run NOT IN (SELECT id FROM runs)").fetchall(), table
        things = "SELECT thing FROM passes UNION SELECT thing FROM stepping EXCEPT"
        left = store.execute(f"{things} SELECT id FROM tasks EXCEPT SELECT id FROM runs").fetchall()
        assert not left, f"of what is not there: {left}"
        tables = Tables(
            tasks,
            dict(store.execute("SELECT id, open FROM tasks").fetchall()),
            {row[0]: run_of(row) for row in store.execute(f"{columns} FROM runs")},
            records,
            [Wake(*row) for row in store.execute("SELECT run, seq, kind, key, due FROM wakes")],
            {row[0]: msgspec.json.decode(row[1], type=Source) for row in store.execute("SELECT * FROM sources")},
            {row[0] for row in store.execute(answered)},
            counts,
        )
        assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check(tables, settled)
    return tables


def check_memory(store: MemoryStore, settled: bool = False) -> Tables:
    """Check the rows of a store in memory."""
    tables = Tables(
        dict(store._tasks),
        {id: store._open.get(id, 0) for id in store._tasks},
        dict(store._runs),
        {run: list(map(journal.decode, bodies)) for run, bodies in store._journal.items()},
        list(store._wakes.values()),
        dict(store._sources),
        {one.thing for one in store._audit if one.verb == "answer"}
        | {msgspec.json.decode(one.detail)["fork"] for one in store._audit if one.verb == "fork" and one.detail},
    )
    check(tables, settled)
    return tables


def check(tables: Tables, settled: bool) -> None:
    """Raises AssertionError with what is wrong."""
    runs_of: defaultdict[str, list[Run]] = defaultdict(list)
    for run in tables.runs.values():
        runs_of[run.task].append(run)
    wakes_of: defaultdict[str, list[Wake]] = defaultdict(list)
    for wake in tables.wakes:
        wakes_of[wake.run].append(wake)
    assert tables.records.keys() <= tables.runs.keys(), "a journal of no run"
    for task in tables.tasks.values():
        _check_task(task, tables, runs_of[task.id])
    for run in tables.runs.values():
        entries = _fold(run, tables.records.get(run.id, []), tables.answered)
        assert run.task in tables.tasks, f"{run.id} is of no task"
        _check_run(run, entries, settled)
        _check_wakes(run, entries, wakes_of[run.id])
    _check_generated(tables)
    if tables.counts is not None:
        finals = [("tasks", one.state) for one in tables.tasks.values() if one.state in TASK_FINAL]
        finals += [("runs", one.state) for one in tables.runs.values() if one.state in RUN_FINAL]
        assert Counter((kind, str(state)) for kind, state in finals) == tables.counts
    if settled:
        for task in tables.tasks.values():
            assert task.state is not TaskState.NEW, f"{task.id} ({task.name}) is left new"


def _check_task(task: Task, tables: Tables, runs: list[Run]) -> None:
    states = {run.state for run in runs}
    going = sum(run.state not in RUN_FINAL for run in runs)
    said = f"task {task.id} ({task.name}, {task.state}) has runs {sorted(states)} and says that {tables.open[task.id]}"
    assert tables.open[task.id] == going, f"{said} are open"
    assert (task.state is TaskState.RUNNING) == (going > 0), said
    assert task.root in tables.tasks, f"the root of {task.id} is gone"
    assert task.parent is None or task.parent in tables.runs, f"the parent of {task.id} is gone"
    if task.state is TaskState.DONE:
        assert states == {RunState.DONE}, said
    if task.state is TaskState.FAILED:
        assert RunState.FAILED in states, said
    if task.state in (TaskState.NEW, TaskState.HELD, TaskState.UNMATCHED, TaskState.DROPPED):
        assert not states, said
    if task.state is TaskState.CANCELLED and states:
        assert RunState.CANCELLED in states, said


def _fold(run: Run, records: Sequence[journal.Record], answered: set[str]) -> list[Entry]:
    """The entries of a run; each has got its result once, unless it was begun anew or somebody has answered."""
    entries: list[Entry] = []
    for record in records:
        if isinstance(record, journal.EndRecord):
            before = entries[record.seq - 1]
            twice = before.state in ENTRY_FINAL and not is_generated(before) and before.name != "wait"
            assert not twice or run.id in answered, f"{run.id} entry {record.seq} ({before.name}) was decided twice"
        journal.apply(entries, record)
    return entries


def _check_run(run: Run, entries: list[Entry], settled: bool) -> None:
    where = f"run {run.id} ({run.rule}, {run.state}, {run.reason})"
    last = entries[-1] if entries else None
    if run.state in RUN_FINAL:
        assert run.ended is not None, where
        for entry in entries:
            assert entry.state in ENTRY_FINAL or (not is_begun(entry) and run.state is RunState.CANCELLED), (
                where,
                entry,
            )
    if run.state is RunState.WAITING and is_over(run):
        assert any(is_outstanding(entry) for entry in entries), f"{where} waits for no execution"
    elif run.state is RunState.WAITING:
        assert last is not None, where
        assert is_begun(last), f"{where} waits at {last}"
    if run.state is RunState.HELD:
        assert run.reason, where
        assert run.reason != "divergence", f"{where}: {run.error}"
    if settled:
        assert run.state not in (RunState.QUEUED, RunState.RUNNING), where


def _check_wakes(run: Run, entries: list[Entry], wakes: list[Wake]) -> None:
    """A run has the wakes of what it waits for, and no others."""
    there = {(wake.seq, wake.kind, wake.key) for wake in wakes if wake.kind not in OPTIONAL}
    wanted: set[tuple[int, str, str]] = set()
    if run.state not in RUN_FINAL:
        wanted = {(wake.seq, wake.kind, wake.key) for wake in _wanted(run, entries)}
        if run.slot is not None:
            wanted.add((0, "limit" if run.reason == "limit" else "slot", run.slot))
        if run.deadline is not None and run.state is not RunState.HELD and run.reason != "cancelling":
            wanted.add((0, "timeout", ""))
    where = f"run {run.id} ({run.rule}, {run.state}, {run.reason}, {run.error})"
    extra = there - wanted
    if run.reason == "cancelling" or is_over(run):
        extra = {one for one in extra if one[1] != "timeout"}
    assert not extra, f"{where} has wakes that nothing waits for: {extra}"
    assert not wanted - there, f"{where} lacks wakes: {wanted - there}"
    for wake in wakes:
        if wake.kind == "again":
            assert is_outstanding(entries[wake.seq - 1]), f"{where} has {wake}"
        if wake.kind == "branch":
            assert any((seq, kind) == (wake.seq, "tree") for seq, kind, _ in there), f"{where} has {wake}"


def _wanted(run: Run, entries: list[Entry]) -> list[Wake]:
    last = entries[-1] if entries else None
    wanted = []
    for entry in entries:
        if is_outstanding(entry):
            kind = "execution" if entry.name == "run" else "function"
            wanted.append(Wake(run.id, entry.seq, kind, execution_key(run, entry.seq, entry.attempt)))
    if last is None or not is_begun(last) or is_over(run):
        return wanted
    if run.state is not RunState.WAITING:
        return [*wanted, *(wake for wake in outstanding(run, [last], entries) if _is_on_the_way(wake, run, last))]
    if last.name == "wait":
        targets = {entries[seq - 1].seq for seq in wait_args(last.args).what}
        final = {child_of(one) for one in entries if one.seq in targets and is_final(one, wait_args(last.args).tree)}
        wanted += [wake for wake in task_wakes(run.id, last, entries) if wake.key not in final]
        if wait_args(last.args).timeout is not None:
            wanted.append(Wake(run.id, last.seq, "timer"))
    elif last.name == "receive":
        wanted += receive_wakes(run.id, last)
        if msgspec.json.decode(last.effective)["timeout"] is not None:
            wanted.append(Wake(run.id, last.seq, "timer"))
    elif last.name in ("sleep", "sleep_until"):
        wanted.append(Wake(run.id, last.seq, "timer"))
    elif last.name == "call":
        wanted.append(Wake(run.id, last.seq, "call", child_of(last)))
    return wanted


def _is_on_the_way(wake: Wake, run: Run, last: Entry) -> bool:
    """Whether a run that is being executed up to where it waits has this wake already: what is timed or called."""
    if wake.kind == "timer":
        timeout = msgspec.json.decode(last.effective).get("timeout")
        return last.name in ("sleep", "sleep_until") or timeout is not None
    return wake.kind == "call"


def _check_generated(tables: Tables) -> None:
    """Each generated task is the result of one entry of its run, and each such entry has generated one."""
    generated: Counter[str] = Counter()
    for run, records in tables.records.items():
        entries: list[Entry] = []
        made: dict[str, int] = {}
        for record in records:
            known = len(entries)
            journal.apply(entries, record)
            if isinstance(record, journal.SliceRecord):
                fresh = entries[known:]
            elif isinstance(record, journal.HoldRecord):
                fresh = [entries[record.seq - 1]]
            else:
                continue
            for entry in fresh:
                child = child_of(entry) if is_generated(entry) or entry.name == "call" else ""
                if child:
                    assert child not in made, f"{run}: entries {made[child]} and {entry.seq} have generated {child}"
                    made[child] = entry.seq
        for child, seq in made.items():
            assert child in tables.tasks, f"{run} entry {seq}: task {child} is lost"
            if tables.tasks[child].parent == run:  # else it belongs to the run that this one was forked from
                generated[child] += 1
    for task in tables.tasks.values():
        if task.parent is not None:
            assert generated[task.id] == 1, f"{task.id} ({task.name}) is generated {generated[task.id]} times"


class Replayer:
    """Replays journals as a worker would, in this process.

    Args:
        plugins: that rules may call functions of.
    """

    def __init__(self, plugins: Plugins) -> None:
        specs = [function.spec for function in plugins.functions.values()]
        self._blocking = frozenset(spec.name for spec in specs if spec.blocks)
        self._worker = _Here()
        self._worker._serve(wire.Setup(specs, wire.Budget(cpu_seconds=60.0), list(plugins.job_types.values())))
        self._loaded: set[str] = set()

    def check(self, tables: Tables) -> int:
        """Replay every journal; returns how many. One that its script does not agree with was not written by it."""
        replayed = 0
        for run in tables.runs.values():
            source = tables.sources.get(run.digest)
            entries = journal.fold(tables.records.get(run.id, []))
            if source is None or run.reason in ("policy", "limit"):
                continue
            if run.digest not in self._loaded:
                self._loaded.add(run.digest)
                load = wire.Load(1, source.digest, source.rule, source.file, source.text, source.libraries)
                assert self._worker._load(load).metadata is not None
            view = view_of(tables.tasks[run.task])
            if run.reasons:
                view = msgspec.structs.replace(view, reasons=run.reasons)
            past = past_of(entries, self._blocking, run.created)
            request = wire.Replay(1, 1, run.rule, run.digest, view, run.attempt, run.created, past)
            piece = self._worker._replay(request)
            assert piece is not None
            where = f"run {run.id} ({run.rule}, {run.state}, {run.reason}, attempt {run.attempt})"
            told = "\n".join(f"{one.seq} {one.name} {one.args!r} {one.state} {one.result!r}" for one in entries)
            assert piece.end != "diverged", f"{where}: {piece.error}\n{told}"
            if run.state is RunState.DONE:
                ended = (piece.end, piece.value, piece.entries)
                assert ended == ("returned", run.value, []), f"{where}: {piece}\n{told}"
            if piece.end in wire.SUSPENDED:
                self._worker._serve(wire.Evict([1]))
            replayed += 1
        return replayed


class _Here(Worker):
    """A worker in this process, which says nothing."""

    def _flush(self) -> None:
        self._out.clear()
