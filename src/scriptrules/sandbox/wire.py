"""What supervisor and worker say to one another: length-prefixed msgpack arrays over one stream socket.

The supervisor numbers its requests; a worker answers each with exactly one reply, in order, and announces before it
executes anything what it is about to execute (`Ack`), so that the culprit of a kill is known. A batch is nothing but
several frames in one write. The supervisor decodes strictly and bounded: a worker is not trusted (FINDINGS §G).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import msgspec

from scriptrules.diagnostics import Diagnostic
from scriptrules.flow.shapes import Facts
from scriptrules.function import FunctionSpec
from scriptrules.jobs import JobType
from scriptrules.journal import Intent
from scriptrules.model import Failure, SecretRef, Source
from scriptrules.rulebook.metadata import Metadata

HEADER = struct.Struct("<I")
_NO_HEADER = bytes(HEADER.size)
FRAME_MAX = 64 * 1024 * 1024  # bytes of a frame that a worker accepts: the supervisor is trusted
REPLY_MAX = 8 * 1024 * 1024  # bytes of a frame that a supervisor accepts from a worker
SUSPENDED = frozenset({"blocked", "load"})  # ends of slices after which a worker holds the script
PROBLEMS = frozenset({"match_error", "match_limit"})  # why a task cannot be matched


class Budget(msgspec.Struct, frozen=True, array_like=True):
    cpu_seconds: float = 1.0
    steps: int = 20_000_000  # of one slice or filter
    entries_per_slice: int = 10_000
    entries_per_run: int = 100_000
    payload_max: int = 256 * 1024
    depth_max: int = 64
    log_max: int = 64 * 1024


# ---- both ways


class Outcome(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a function returns (`value`, JSON, or a secret of which only the reference comes here) or raises."""

    value: bytes = b"null"
    error: Failure | None = None
    secret: SecretRef | None = None


class TaskView(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A task as rules see it."""

    id: str
    name: str
    data: bytes
    root: str
    hop: int
    created: int
    parent: str | None = None
    by: str | None = None  # the rule that generated it
    reasons: bytes | None = None


class ReceivedTask(msgspec.Struct, frozen=True):
    """The result of a `receive` entry: a task that was taken. Who answers in its place may leave out all but two."""

    name: str
    data: msgspec.Raw  # a JSON object
    id: str = ""
    root: str = ""
    hop: int = 0
    created: int = 0
    parent: str | None = None
    place: int = 0  # in the order in which tasks arrive


# ---- to the worker


class Setup(msgspec.Struct, frozen=True, array_like=True, tag=1):
    functions: list[FunctionSpec]
    budget: Budget
    jobs: list[JobType] = []


class Load(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Compile a source and say what it is. It becomes active by a `Book` only."""

    number: int
    digest: str
    rule: str
    file: str
    text: str
    libraries: dict[str, str]


class Book(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """From now on these rules are active, and replies carry this epoch. No reply."""

    epoch: int
    put: dict[str, str]  # digest by rule
    drop: list[str]


class Take(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Match a task and execute the first slice of every matching run. Run n is suspended under ``slot + n``."""

    number: int
    slot: int
    task: TaskView
    now: int
    skip: list[str] = []  # rules whose run is known to end by a limit: matched, not executed


class Past(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An entry of the journal as a replay needs it. `outcome` None: still outstanding, or nobody asks for it."""

    name: str
    args: bytes
    outcome: Outcome | None
    at: int  # when the outcome came: `now()` from there on


class Replay(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Execute a run from the top with results from its journal, and go on where that ends."""

    number: int
    slot: int
    rule: str
    digest: str
    task: TaskView
    attempt: int
    now: int  # when the run began
    past: list[Past]


class Resume(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Let a script go on where it stands: with a new slice, or, where it read a variable, in the same one."""

    number: int
    slot: int
    outcome: Outcome
    now: int


class EntrySubject(msgspec.Struct, frozen=True, array_like=True):
    """An entry that a breakpoint may hold."""

    rule: str
    run: str
    seq: int
    name: str
    args: bytes
    line: int
    result: bytes | None = None


class Judge(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """Evaluate the filter of a breakpoint for a task or (`entry`) an entry of its run."""

    number: int
    name: str
    digest: str
    task: TaskView
    entry: EntrySubject | None = None


class Explain(msgspec.Struct, frozen=True, array_like=True, tag=21):
    """Say whether the filter of a rule holds for a task, and what each of its parts gives."""

    number: int
    rule: str  # of the plan
    digest: str
    task: TaskView


class Evict(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Forget suspended runs. No reply."""

    slots: list[int]


class Forget(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Forget compiled sources. No reply."""

    digests: list[str]


class Analyse(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """Find out what the rules of a file can generate. Nothing of it is executed."""

    number: int
    source: Source


# ---- from the worker


class Ready(msgspec.Struct, frozen=True, array_like=True, tag=1):
    walls: dict[str, str]
    python: str
    policy: int


class Ack(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The worker is about to execute this rule: its filter, or (`main`) a slice of its run."""

    number: int
    rule: str
    main: bool


class Loaded(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Without metadata the source cannot be a rule, and `problems` say why; with them they are warnings only."""

    number: int
    metadata: Metadata | None
    problems: list[Diagnostic]


class LogEntry(msgspec.Struct, frozen=True, gc=False, array_like=True):
    seq: int
    text: str
    fields: bytes | None = None


class Slice(msgspec.Struct, frozen=True, array_like=True):
    """What one slice did and how it ended.

    `end` is "blocked" (the last entry waits), "returned", "raised", "failed" (by `fail()`), "limit" or "diverged".
    A slice that raised or met a limit has no entries: none of them takes effect. One that ends by "load" has not ended:
    it wants the variable that its last entry reads, before which there is what it has itself saved under that name.
    """

    slot: int
    end: str
    entries: list[Intent] = []
    logs: list[LogEntry] = []
    value: bytes = b"null"
    error: Failure | None = None  # raised, failed, limit, diverged
    line: int = 0
    fatal: bool = False  # the worker had better be replaced


class Started(msgspec.Struct, frozen=True, array_like=True):
    rule: str
    digest: str
    answers: bool  # its `on` names the task literally, and it is no fallback
    priority: int
    slice: Slice | None  # None: it was to be skipped, or has to get a slot of its limit first


class Problem(msgspec.Struct, frozen=True, array_like=True):
    """A filter could not be evaluated: the task cannot be matched."""

    rule: str
    kind: str  # of PROBLEMS
    error: Failure
    fatal: bool = False


class Taken(msgspec.Struct, frozen=True, array_like=True, tag=4):
    number: int
    epoch: int
    runs: list[Started]
    problem: Problem | None = None
    reasons: dict[str, str] = {}  # why rules whose pattern fits did not match, by rule


class FilterPart(msgspec.Struct, frozen=True, array_like=True):
    """A part of a filter, evaluated by itself."""

    text: str
    depth: int
    value: str | None  # as Python would write it
    error: str | None = None  # why there is none


class Explained(msgspec.Struct, frozen=True, array_like=True, tag=21):
    """`reason` None: the filter holds, or there is none."""

    number: int
    reason: str | None
    parts: list[FilterPart] = []
    problem: str | None = None  # "match_error" or "match_limit": it cannot be said


class Judged(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """Whether the breakpoint holds, or why its filter could not be evaluated."""

    number: int
    holds: bool
    problem: Problem | None = None


class Ran(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The reply to `Replay` and `Resume`. None: the worker does not know the source or the slot."""

    number: int
    slice: Slice | None


class Analysed(msgspec.Struct, frozen=True, array_like=True, tag=6):
    number: int
    facts: Facts


ToWorker = Setup | Load | Book | Take | Replay | Resume | Judge | Explain | Evict | Forget | Analyse
FromWorker = Ready | Ack | Loaded | Taken | Ran | Judged | Explained | Analysed


def keeps_to(budget: Budget, piece: Slice) -> bool:
    """Whether a slice is as small as an honest worker would have seen to."""
    return (
        len(piece.entries) <= budget.entries_per_slice
        and all(len(entry.args) <= budget.payload_max for entry in piece.entries)
        and len(piece.value) <= budget.payload_max
        and (
            not piece.logs or sum(len(entry.text) + len(entry.fields or b"") for entry in piece.logs) <= budget.log_max
        )
    )


def with_reasons(view: TaskView, reasons: dict[str, str]) -> TaskView:
    """`view` as a fallback sees it: with why the other rules did not match."""
    return msgspec.structs.replace(view, reasons=msgspec.json.encode(reasons))


_encoder = msgspec.msgpack.Encoder()
decode_to_worker = msgspec.msgpack.Decoder(ToWorker).decode
decode_from_worker = msgspec.msgpack.Decoder(FromWorker).decode


def add_frame(out: bytearray, message: Any) -> None:
    """Add `message`, as it goes over the wire, to what is to be sent."""
    at = len(out)
    out += _NO_HEADER
    try:
        _encoder.encode_into(message, out, at + HEADER.size)
    except BaseException:
        del out[at:]
        raise
    HEADER.pack_into(out, at, len(out) - at - HEADER.size)


def frame(message: Any) -> bytes:
    """`message` as it goes over the wire."""
    out = bytearray()
    add_frame(out, message)
    return bytes(out)


class FrameError(Exception):
    """The other side sent something that is not a frame."""


class Frames:
    """Cuts a stream of bytes into frames. Input is never copied more than once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The frames that are complete with `data`, one by one: those before a lie still count.

        Raises:
            FrameError: the next frame is larger than the limit.
        """
        rest = self._buffer
        source: bytes | bytearray = data
        if rest:
            rest += data
            source = rest
        at, end = 0, len(source)
        try:
            while end - at >= HEADER.size:
                (length,) = HEADER.unpack_from(source, at)
                if length > self._limit:
                    raise FrameError(f"a frame of {length} bytes is over the limit of {self._limit}")
                start = at + HEADER.size
                if end - start < length:
                    break
                at = start + length
                yield bytes(source[start:at])
        finally:
            if source is data:
                rest += data[at:]
            elif at:
                del rest[:at]
