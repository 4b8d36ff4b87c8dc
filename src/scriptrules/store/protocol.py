"""What a store can do: one atomic kind of write, and one method for each question.

A `Change` is what one transition of the supervisor writes; stores may commit many of them together, in the order in
which they were submitted. Nothing outside happens before its change is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Protocol

import msgspec

from scriptrules.errors import KeyConflict
from scriptrules.latency import Latency
from scriptrules.model import Breakpoint, LogLine, Run, RunState, Source, Task, TaskState
from scriptrules.sightings import Cell, Generated, Ran, SeenEdge
from scriptrules.tokens import Token

ON_TASKS = frozenset({"task", "call", "tree"})  # kinds of wakes whose key is a task


class Wake(msgspec.Struct, frozen=True, gc=False):
    """Something outstanding that concerns an entry of a run; evicted runs cost this row and nothing else.

    Kinds: "timer" (due), "execution" and "function" (key: the attempt's key), "task" (key: a task that is to end),
    "call" (key: a task whose answer is to come), "tree" (key: a task that is to end with all that follows from it),
    "receive" (key: `receiving.key_of` what is to arrive).
    Of the run itself (seq 0): "timeout" (due), "slot" and "limit" (key: the slot of its limit that it holds, or is
    queued for).

    The store itself makes a "receive" wake due, as soon as a task that may fit has arrived, whichever came first; and
    it keeps wakes of kind "branch" beside one of kind "tree": one for each task that has not ended yet.
    """

    run: str
    seq: int
    kind: str
    key: str = ""
    due: int | None = None


class TaskMove(msgspec.Struct, frozen=True, gc=False):
    """A task's next state; `open` is the number of its runs that have not ended."""

    id: str
    state: TaskState
    since: int
    reason: str | None = None
    open: int = 0


class RunEnd(msgspec.Struct, frozen=True, gc=False):
    """One of a task's runs has ended: the task ends with the last of them."""

    task: str
    since: int


class Mark(msgspec.Struct, frozen=True, gc=False):
    """How far something that goes on for ever has come, such as a schedule."""

    name: str
    spec: str  # what it was then: a changed one begins anew
    at: int


class Variable(msgspec.Struct, frozen=True, gc=False):
    """A variable of the store, or of a tree of tasks. With neither value nor version it is to be removed."""

    root: str  # the task at the root of its tree; "" for the store's own
    name: str
    value: bytes | None  # JSON
    since: int
    by: str | None = None  # the run that saved it
    version: int | None = None  # of a secret, whose values are `SecretVersion`s


class SecretVersion(msgspec.Struct, frozen=True, gc=False):
    """One value of a secret, sealed. Versions count from 1 for each name, wherever the values come from."""

    name: str
    version: int
    source: str  # the source of variables that it came from; "" for what people have set
    key: str  # id of the key that seals it
    sealed: bytes
    since: int


class SecretUse(msgspec.Struct, frozen=True, gc=False):
    """A run has loaded this version, and may need it for as long as the run is there."""

    name: str
    version: int
    run: str


class Pass(msgspec.Struct, frozen=True, gc=False):
    """Something went on after a breakpoint had held it: it does not stop there again."""

    thing: str  # a task, or a run
    seq: int  # the entry of the run; 0: the task itself
    breakpoint: str


class Audit(msgspec.Struct, frozen=True):
    """Somebody did something to a task, a run or a breakpoint."""

    at: int
    who: str
    verb: str
    thing: str
    request: str | None = None
    detail: bytes | None = None  # what changed, JSON


class Change(msgspec.Struct):
    tasks: list[Task] = []
    moves: list[TaskMove] = []
    reopened: list[tuple[str, int]] = []  # tasks of which a run that had ended goes on, and since when
    runs: list[Run] = []  # inserted, or replaced
    ends: list[RunEnd] = []
    journal: list[tuple[str, bytes]] = []  # run, record
    logs: list[tuple[str, LogLine]] = []
    wakes: list[Wake] = []
    done: list[Wake] = []  # wakes that are over; `due` does not matter
    answered: list[str] = []  # tasks whose answer is there
    remembered: list[str] = []  # shapes of what is received (`receiving.shape_of`) that are worth an index from now on
    looked: list[Wake] = []  # of kind receive: nothing was there; not due any more, unless made due again since
    marks: list[Mark] = []  # inserted, or replaced
    generated: list[Generated] = []
    ran: list[Ran] = []
    variables: list[Variable] = []  # set or removed, in this order
    uses: list[SecretUse] = []
    edits: list[tuple[str, bytes]] = []  # new data of tasks that are held
    breakpoints: list[tuple[str, Breakpoint | None]] = []  # by name; None: it is gone, and what has passed it too
    passes: list[Pass] = []
    stepping: list[tuple[str, bool]] = []  # tasks and runs that are to stop at their next entry, or not any more
    audit: list[Audit] = []
    finals: list[tuple[RunState, int]] = []  # by how much the number of runs in a final state changes
    notices: list[str] = []  # what else has happened, for the log of transitions: "rules.changed"


class Transition(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Something is in this state from now on, or was written again in it."""

    id: str  # of a task or a run; "": of the installation
    state: str  # or "edited"; of the installation "rules.changed" or "breakpoints.changed"
    since: int
    reason: str | None


class Happened(msgspec.Struct, frozen=True):
    """A transition, and what it is about as that is now; None where it is gone."""

    position: int
    transition: Transition
    task: Task | None  # of a run: the one that it is for
    run: Run | None


def merge(changes: Sequence[Change]) -> list[Change]:
    """As few changes as do together what `changes` do one after the other.

    Within one change everything is added before anything is removed, and tasks move before runs end; a change that
    counts on the other order begins a new one.

    Args:
        changes: at least one.
    """
    merged: list[Change] = []
    begin = 0
    ended: set[str] = set()
    removed: set[tuple[str, int]] = set()
    for at, change in enumerate(changes):
        conflict = (ended and any(move.id in ended for move in change.moves)) or (
            removed and any((wake.run, wake.seq) in removed for wake in change.wakes)
        )
        if conflict:
            merged.append(_join(changes[begin:at]))
            begin, ended, removed = at, set(), set()
        if change.ends:
            ended.update(end.task for end in change.ends)
        if change.done:
            removed.update((wake.run, wake.seq) for wake in change.done)
    return [*merged, _join(changes[begin:])]


def _join(changes: Sequence[Change]) -> Change:
    if len(changes) == 1:
        return changes[0]
    columns = zip(*map(msgspec.structs.astuple, changes), strict=True)
    return Change(*(list(chain.from_iterable(column)) if any(column) else [] for column in columns))


class Committed(msgspec.Struct, frozen=True):
    """What a commit has brought about besides what it was asked for."""

    ended: list[tuple[str, TaskState]] = []  # tasks whose last run has ended
    awake: list[Wake] = []  # of kinds task, call and tree: what they wait for is there
    due: bool = False  # wakes have become due that were not written so


TOLD_BY_ANOTHER = Committed()  # what all but one of those get whose changes were committed together


class Ingested(msgspec.Struct, frozen=True, gc=False):
    id: str
    new: bool  # False: the key was known, with the same content


def decide_keys(tasks: list[Task], known: dict[str, tuple[str, str, bytes]]) -> tuple[list[Ingested], list[Task]]:
    """Which of `tasks` are new, given the id, name and data of each known key.

    Raises:
        KeyConflict: a key stands for other content, in the store or in `tasks` themselves.
    """
    ingested: list[Ingested] = []
    fresh: list[Task] = []
    for task in tasks:
        before = known.get(task.key) if task.key is not None else None
        if before is None:
            fresh.append(task)
            ingested.append(Ingested(task.id, True))
            if task.key is not None:
                known[task.key] = (task.id, task.name, task.data)
        elif before[1] == task.name and _same_json(before[2], task.data):
            ingested.append(Ingested(before[0], False))
        else:
            raise KeyConflict(
                f"The key {task.key!r} was used for task {before[0]}, with other content. Use a new key, or send the "
                f"same name and data again."
            )
    return ingested, fresh


def _same_json(one: bytes, other: bytes) -> bool:
    return one == other or _canonical(one) == _canonical(other)


def _canonical(text: bytes) -> bytes:
    """As text, because to Python ``True``, ``1`` and ``1.0`` are equal."""
    return msgspec.json.encode(msgspec.json.decode(text), order="sorted")


class Pruned(msgspec.Struct, frozen=True):
    """What one step of removing old things has done."""

    after: str | None  # where the next step begins; None: there is no older task from outside
    tasks: int  # that were removed


class Filter(msgspec.Struct, frozen=True):
    """Which tasks or runs to list, newest first."""

    state: str | None = None
    name: str | None = None  # exact task name
    rule: str | None = None  # exact rule name, runs only
    task: str | None = None  # runs only
    by: str | None = None  # runs only: the rule whose run has generated the task; "": it came from outside
    parent: str | None = None  # tasks only
    root: str | None = None  # tasks only
    reason: str | None = None
    since: int | None = None  # created at or after
    until: int | None = None  # created before
    cursor: str | None = None  # ids before this one
    limit: int = 50


class Store(Protocol):
    id: str  # stable identity, part of the names of executions

    async def open(self) -> None:
        """Make ready, migrating where needed.

        Raises:
            StoreUnavailable: it cannot be opened or written.
            StoreInUse: another supervisor has it.
        """

    async def close(self) -> None:
        """Commit what was submitted and let go."""

    # ---- writing

    def submit(self, change: Change, then: Callable[[Committed], None]) -> None:
        """Commit `change`, then call `then` in the event loop. Retried until it succeeds; the order is kept."""

    async def ingest(self, tasks: list[Task]) -> list[Ingested]:
        """Store tasks from outside: all of them or none. Returns once they are durable.

        Raises:
            KeyConflict: a key stands for other content.
            StoreUnavailable: nothing was stored.
        """

    async def put_token(self, token: Token, audit: Audit) -> None:
        """Keep a token, and who has added it. Returns once that is durable."""

    async def remove_token(self, name: str, audit: Audit) -> None:
        """Forget a token, and keep who has revoked it. Returns once that is durable."""

    async def put_source(self, source: Source) -> None:
        """Keep a source for as long as runs are pinned to it."""

    async def put_variables(self, variables: list[Variable], secrets: list[SecretVersion]) -> None:
        """Set or remove variables, and keep sealed values, all at once. Returns once that is durable.

        Where a variable of the store is removed, values of that name that no run has loaded go with it.

        Raises:
            StoreUnavailable: nothing was changed.
        """

    async def prune_variables(self, before: int) -> None:
        """Remove variables of trees that are gone, and values of secrets that no run refers to any more.

        Args:
            before: values are kept that others have taken the place of since then: a run may be about to refer to them.
        """

    async def prune(self, before: int, after: str, limit: int) -> Pruned:
        """Remove trees of tasks in which everything has ended before a moment, with their runs, journals and logs.

        Args:
            before: microseconds since 1970 UTC.
            after: look at tasks from outside with ids after this one.
            limit: how many of them are looked at.
        """

    async def prune_rest(self, before: int, keep: list[str]) -> None:
        """Remove the audit before a moment, and sources that no run refers to but for those with the digests `keep`."""

    # ---- reading

    async def task(self, id: str) -> Task | None: ...

    async def run(self, id: str) -> Run | None: ...

    async def tasks(self, filter: Filter) -> list[Task]: ...

    async def runs(self, filter: Filter) -> list[Run]: ...

    async def journal(self, run: str) -> list[bytes]:
        """The records of a run, oldest first."""

    async def logs(self, run: str, after: int = 0, limit: int = 1000) -> list[tuple[int, LogLine]]:
        """Lines of a run's log with their positions, from position `after` on."""

    async def source(self, digest: str) -> Source | None: ...

    async def marks(self) -> list[Mark]: ...

    async def variables_named(self, root: str, name: str) -> list[Variable]:
        """The variable of this tree, if there is one, and the store's own, if there is one."""

    async def variables(self, root: str, after: str, limit: int) -> list[Variable]:
        """The variables of a tree, or (root "") of the store, by name, after the given one."""

    async def secret_versions(self, name: str | None) -> list[SecretVersion]:
        """The values of a secret, or of all, newest first."""

    async def secret_for(self, use: SecretUse) -> SecretVersion | None:
        """The value that a run has loaded; None where it has not, or it is gone."""

    async def counts(self) -> dict[str, dict[str, int]]:
        """How many tasks and runs are in each state: ``{"tasks": {"done": 3}, "runs": {…}}``."""

    async def outstanding(self) -> dict[str, int]:
        """How many wakes of each kind there are, of those that have an index: "call", "task", "timer", …"""

    # ---- what has happened

    commit_seconds: Latency

    @property
    def seen(self) -> Mapping[str, int]:
        """How many transitions there were since the store was opened: ``{"task.done": 3}``."""

    async def happened(self, after: int, limit: int) -> list[Happened]:
        """The transitions after a position, in the order of their commits, as far as they are kept."""

    async def happenings(self) -> tuple[int, int]:
        """The position after which every transition is kept, and that of the last one."""

    # ---- what runs have shown; the cost of asking does not depend on how many there were

    async def matrix(self, since: int = 0) -> list[Cell]:
        """Which rules have run which, since the day (UTC) of `since`; days older than `DAYS_KEPT` count for 0 only."""

    async def edges(self) -> list[SeenEdge]:
        """Which tasks each rule has generated."""

    async def breakpoints(self) -> list[Breakpoint]:
        """Those set while running."""

    async def passed(self, thing: str, seq: int) -> set[str]:
        """The breakpoints that have let this go on."""

    async def tokens(self) -> list[Token]: ...

    async def stepping(self) -> list[str]:
        """Tasks and runs that are to stop at their next entry."""

    async def audit(self, thing: str | None, before: int | None, limit: int) -> list[tuple[int, Audit]]:
        """What people did, newest first, with positions; of one thing, and before a position, where given."""

    async def requested(self, request: str) -> list[Audit]:
        """What was done for a request, oldest first."""

    # ---- what is outstanding

    async def new_tasks(self, after: str, limit: int) -> list[Task]:
        """Tasks in state new with ids after `after`, oldest first."""

    async def unfinished_runs(self, after: str, limit: int) -> list[Run]:
        """Runs in state queued or running with ids after `after`, oldest first."""

    async def wakes(self, kinds: tuple[str, ...], after: tuple[str, int], limit: int) -> list[Wake]:
        """Wakes of these kinds by (run, seq), after the given one."""

    async def wakes_of(self, run: str) -> list[Wake]: ...

    async def due(self, now: int, limit: int) -> list[Wake]:
        """Wakes whose time has come, earliest first."""

    async def next_due(self) -> int | None:
        """When the earliest wake is due."""

    async def arrived(self, task: str, keys: Sequence[str], after: int | None, limit: int) -> list[tuple[int, Task]]:
        """Tasks that may have one of `keys`, in the order in which they arrived, with their places in it.

        A task arrives when it is committed as new; one that was held, when it is released. A store may give others
        whose names fit, and is told by `Change.remembered` where that were too many.

        Args:
            task: those that arrived after this one.
            after: a place in the order, instead.
        """

    async def orphans(self, after: str, limit: int) -> list[Task]:
        """Called tasks that have not ended, whose answer nobody waits for any more, with ids after `after`."""

    async def awake(self) -> list[Wake]:
        """Wakes of kinds task, call and tree whose task or tree has ended or was answered; asked once, at start."""

    async def unwell(self, task: str, limit: int) -> list[Task]:
        """A task, and those that follow from it, as far as they have not ended well; the unfinished ones first."""
