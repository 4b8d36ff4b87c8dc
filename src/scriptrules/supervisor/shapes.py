"""How tasks, runs and entries look from outside: in HTTP answers and in what ``--json`` prints.

These shapes are a contract. Times are RFC 3339 UTC; payloads are JSON, not text of it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from scriptrules import clock, journal
from scriptrules.model import RUN_FINAL, TASK_FINAL, Entry, Failure, Run, SecretRef, Task
from scriptrules.store.protocol import Filter, Store
from scriptrules.supervisor.arguments import run_args
from scriptrules.supervisor.states import exit_of

TREE_MAX = 2000  # runs that one tree shows
SIBLINGS_MAX = 1000  # runs of one task, and tasks of one run, that it shows
OUTPUT_CUT = 64 * 1024 - 8  # bytes of one stream that a result carries, less what a cut character may cost

Raw = msgspec.Raw


class TaskShape(msgspec.Struct, frozen=True):
    id: str
    name: str
    data: Raw
    state: str
    since: str
    reason: str | None
    exit: str | None  # what ends a state that is not final
    parent: str | None
    root: str
    hop: int
    key: str | None
    created: str


class RunShape(msgspec.Struct, frozen=True):
    id: str
    rule: str
    task: str
    state: str
    since: str
    reason: str | None
    exit: str | None
    value: Raw
    error: Failure | None
    digest: str
    attempt: int
    created: str
    ended: str | None


class FrameShape(msgspec.Struct, frozen=True):
    """A run on the stack: it stands at `line`, at entry `seq`, or has used nothing yet."""

    run: str
    rule: str
    task: str
    name: str  # of the task
    seq: int | None
    line: int | None


class StackedRunShape(RunShape, frozen=True):
    stack: list[FrameShape]  # who has called it, outermost first; the run itself is the last


class EntryShape(msgspec.Struct, frozen=True):
    seq: int
    name: str
    args: Raw
    state: str
    since: str
    reason: str | None
    result: Raw
    error: Failure | None
    line: int
    started: str
    ended: str | None
    attempt: int
    verdict: str | None
    original: Raw | msgspec.UnsetType = msgspec.UNSET  # the rule's own arguments, where somebody has edited them


class BranchShape(msgspec.Struct):
    run: RunShape
    entries: list[EntryShape]
    tasks: list[TreeShape]


class TreeShape(msgspec.Struct):
    task: TaskShape
    runs: list[BranchShape]
    cut: bool = False  # there is more of it here, or (at the root) anywhere


class LogShape(msgspec.Struct, frozen=True):
    at: str
    seq: int
    stream: str
    text: str
    fields: Raw


class CellShape(msgspec.Struct, frozen=True):
    """Runs of `rule` for tasks that runs of `by` have generated; `by` is None where tasks came from outside."""

    by: str | None
    rule: str
    count: int
    last: str | None
    p50: float | None  # seconds that the runs took
    p90: float | None
    p99: float | None
    predicted: bool  # the analysis says that it can happen


class MatrixShape(msgspec.Struct, frozen=True):
    since: str | None  # the day that it begins with
    cells: list[CellShape]


class NextShape(msgspec.Struct, frozen=True):
    """A task that a run under way is likely to generate."""

    run: str
    rule: str
    task: str  # or a pattern
    via: str
    certainty: str
    condition: str
    probability: float
    seen: int  # tasks of this name that runs of the rule have generated so far
    generated: int  # by this run
    remaining: float | None  # seconds until it is expected; None: nothing is known, or it is late
    expected: str | None


def task_shape(task: Task) -> TaskShape:
    return TaskShape(
        task.id,
        task.name,
        Raw(task.data),
        str(task.state),
        clock.text(task.since),
        task.reason,
        None if task.state in TASK_FINAL else exit_of(task.state, task.reason),
        task.parent,
        task.root,
        task.hop,
        task.key,
        clock.text(task.created),
    )


def run_shape(run: Run) -> RunShape:
    return RunShape(
        run.id,
        run.rule,
        run.task,
        str(run.state),
        clock.text(run.since),
        run.reason,
        None if run.state in RUN_FINAL else exit_of(run.state, run.reason),
        Raw(run.value or b"null"),
        run.error,
        run.digest,
        run.attempt,
        clock.text(run.created),
        _text(run.ended),
    )


def entry_shape(entry: Entry) -> EntryShape:
    return EntryShape(
        entry.seq,
        entry.name,
        Raw(entry.effective),
        str(entry.state),
        clock.text(entry.since),
        entry.reason,
        Raw(entry.result or b"null") if entry.secret is None else _secret(entry.secret),
        entry.error,
        entry.line,
        clock.text(entry.started),
        _text(entry.ended),
        entry.attempt,
        None if entry.verdict is None else str(entry.verdict),
        msgspec.UNSET if entry.edited is None else Raw(entry.args),
    )


async def entries_of(store: Store, run: str) -> list[Entry]:
    """The entries of a run, as its journal says."""
    return journal.fold(map(journal.decode, await store.journal(run)))


async def stack_of(store: Store, run: Run) -> list[FrameShape]:
    """The calls that a run is in, outermost first, as the return addresses of the tasks say."""
    frames: list[FrameShape] = []
    seq: int | None = None  # of the run's entry that waits for the frame below it
    at: Run | None = run
    while at is not None:
        task = await store.task(at.task)
        entries = await entries_of(store, at.id)
        place = entries[min(seq or len(entries), len(entries)) - 1] if entries else None
        line = place.line if place else None
        if at is run and run.error is not None and run.error.line is not None:
            line = run.error.line
        frames.append(
            FrameShape(at.id, at.rule, at.task, task.name if task else "", place.seq if place else None, line)
        )
        called = task is not None and task.reply is not None and at.answers
        seq = task.reply if task else None
        at = await store.run(task.parent) if task is not None and task.parent is not None and called else None
    return frames[::-1]


async def tree_of(store: Store, task: Task) -> TreeShape:
    """A task with its runs, their entries, and the tasks that these have generated."""
    left, whole = TREE_MAX, True

    async def grow(task: Task) -> TreeShape:
        nonlocal left, whole
        tree = TreeShape(task_shape(task), [])
        runs = await store.runs(Filter(task=task.id, limit=SIBLINGS_MAX))
        tree.cut = len(runs) == SIBLINGS_MAX
        for run in reversed(runs):
            if left <= 0:
                tree.cut = True
                break
            left -= 1
            entries = await entries_of(store, run.id)
            children = await store.tasks(Filter(parent=run.id, limit=SIBLINGS_MAX))
            tree.cut |= len(children) == SIBLINGS_MAX
            branch = BranchShape(run_shape(run), [entry_shape(entry) for entry in entries], [])
            tree.runs.append(branch)
            branch.tasks = [await grow(child) for child in reversed(children)]
        whole &= not tree.cut
        return tree

    tree = await grow(task)
    tree.cut = not whole
    return tree


async def logs_of(store: Store, run: str, after: int, limit: int) -> tuple[list[LogShape], int]:
    """Lines of a run's log from a position on, and the position after them."""
    lines = await store.logs(run, after, limit)
    shapes = [
        LogShape(clock.text(line.at), line.seq, line.stream, line.text, Raw(line.fields or b"null"))
        for _, line in lines
    ]
    return shapes, lines[-1][0] if lines else after


def output_of(entries: list[Entry]) -> list[LogShape]:
    """What the ended executions of a run have written, as their results keep it (the last 64 KB of each stream)."""
    shapes = []
    for entry in entries:
        if entry.name != "run" or entry.result is None:
            continue
        result: dict[str, Any] = msgspec.json.decode(entry.result)
        for stream in ("stdout", "stderr"):
            for line in str(result.get(stream) or "").splitlines():
                shapes.append(LogShape(clock.text(entry.ended or 0), entry.seq, stream, line, Raw(b"null")))
    return shapes


def is_output_cut(entry: Entry) -> bool:
    """Whether an execution may have written more than its result carries."""
    if entry.result is None:
        return False
    result: dict[str, Any] = msgspec.json.decode(entry.result)
    return any(len(str(result.get(stream) or "").encode()) >= OUTPUT_CUT for stream in ("stdout", "stderr"))


def name_of(entry: Entry) -> str:
    """The name that the rule gave to an execution."""
    return run_args(entry.args).name


def _secret(ref: SecretRef) -> Raw:
    """What `load` gave: which secret, and which of its values."""
    return Raw(msgspec.json.encode({"secret": ref.name, "version": ref.version}))


def _text(at: int | None) -> str | None:
    return None if at is None else clock.text(at)
