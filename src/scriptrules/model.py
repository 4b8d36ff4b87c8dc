"""The nouns of scriptrules as plain frozen data: task, run, entry, and what executors are asked and answer.

Payloads travel as raw JSON (`bytes`): they are checked once where they enter, and decoded only by who looks inside.
What exists by the thousand holds text, bytes and numbers only, and is left out of garbage collection (`gc=False`).
Moments are microseconds since 1970 UTC (see `scriptrules.clock`).
"""

from __future__ import annotations

import random
import re
from enum import StrEnum
from typing import Any

import msgspec

from scriptrules import clock as _clock

Json = Any  # None, bool, int, float, str, list or dict of the same

NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\Z")
NAME_MAX = 200  # characters of a task name


class TaskState(StrEnum):
    NEW = "new"
    HELD = "held"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    UNMATCHED = "unmatched"
    DROPPED = "dropped"
    CANCELLED = "cancelled"


class RunState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    HELD = "held"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class EntryState(StrEnum):
    HELD = "held"
    PENDING = "pending"
    STARTED = "started"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


TASK_FINAL = frozenset({TaskState.DONE, TaskState.FAILED, TaskState.UNMATCHED, TaskState.DROPPED, TaskState.CANCELLED})
RUN_FINAL = frozenset({RunState.DONE, RunState.FAILED, RunState.CANCELLED})
ENTRY_FINAL = frozenset({EntryState.DONE, EntryState.FAILED, EntryState.CANCELLED})


class Verdict(StrEnum):
    """How often an execution was started, as far as it can be proven (DESIGN: guarantees are data)."""

    ONCE = "once"
    ADOPTED = "adopted"
    POSSIBLY_TWICE = "possibly-twice"
    UNKNOWN = "unknown"


class Failure(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An error as data: it survives the journal and comes back in a script as the exception it was."""

    type: str  # the class name, e.g. "ValueError" or "ExecutionFailed"
    message: str
    line: int | None = None  # in the rule's file
    trace: str | None = None  # the author's own lines, as Python prints a traceback
    code: str | None = None


class SecretRef(msgspec.Struct, frozen=True, gc=False):
    """Which secret, and which of its values: all that a worker and a journal know of it."""

    name: str
    version: int


class Task(msgspec.Struct, frozen=True, gc=False):
    id: str
    name: str
    data: bytes  # a JSON object
    state: TaskState
    since: int
    created: int
    root: str
    parent: str | None = None  # the run that generated it
    by: str | None = None  # the rule of that run
    hop: int = 0  # generations since something outside was waited for
    depth: int = 0  # calls that wait for this one, one on top of the other
    key: str | None = None
    reply: int | None = None  # the entry of `parent` that waits for its value: its return address
    reason: str | None = None


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One use of an injected function. Blocking ones and executions get their result later."""

    seq: int
    name: str
    args: bytes  # JSON object, by parameter name
    state: EntryState
    since: int
    line: int
    started: int
    ended: int | None = None
    result: bytes | None = None  # JSON
    error: Failure | None = None
    reason: str | None = None
    attempt: int = 1
    verdict: Verdict | None = None
    secret: SecretRef | None = None  # what `load` gave, where that is one
    edited: bytes | None = None  # what somebody has put in place of the arguments, JSON

    @property
    def effective(self) -> bytes:
        """The arguments that it is carried out with; a replay compares the original ones."""
        return self.args if self.edited is None else self.edited


class Retries(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """How often what has failed is started again, and after how long."""

    max: int = 0  # further attempts
    backoff: float = 1.0  # seconds before the second attempt; doubled for each further one
    backoff_max: float = 300.0  # seconds
    jitter: float = 0.5  # up to this part of a pause is left out, so that many do not come back at once


class Limit(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """How many runs of a rule there may be at once, and what becomes of one too many."""

    max: int
    key: str | None = None  # for each value of this field of the task; None: of the rule
    full: str = "queue"  # or "drop", "cancel_oldest"


class Control(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What a rule asks of the engine for each of its runs; a run keeps what its rule asked when it was matched."""

    retries: Retries | None = None  # of each of its entries
    timeout: float | None = None  # seconds of the run, without those in which it is queued or held
    limit: Limit | None = None


class Run(msgspec.Struct, frozen=True, gc=False):
    id: str
    rule: str
    task: str
    digest: str  # of the source that it is pinned to
    state: RunState
    since: int
    created: int
    reason: str | None = None
    ended: int | None = None
    value: bytes | None = None  # JSON
    error: Failure | None = None
    attempt: int = 1
    answers: bool = False  # its value goes to who called its task
    python: str = ""  # minor version that it began under
    policy: int = 0  # version of the sandbox policy that it began under
    reasons: bytes | None = None  # for a fallback: why the other rules did not match, JSON
    control: Control | None = None
    deadline: int | None = None  # when its timeout passes; while it is held, as it was when that began
    slot: str | None = None  # which runs it shares its limit with


class Source(msgspec.Struct, frozen=True):
    """The text of a rule and of the shared code that it may import, under one digest."""

    rule: str
    file: str  # as people see it, for messages: rules/billing/refund.py
    text: str
    libraries: dict[str, str] = {}  # by name
    digest: str = ""


class Breakpoint(msgspec.Struct, frozen=True):
    """Holds what it matches: a task before rules are asked, or a run before or after an entry of it."""

    name: str
    on: list[str]  # patterns of task names
    at: str  # "task", "before:FUNCTION" or "after:FUNCTION"
    source: Source  # has the filter
    when: str | None = None  # the filter's text, for people
    created: int = 0
    by: str = ""  # who set it; its file
    file: bool = False  # it lives in breakpoints/; the store has its last version that was in order


class ExecutionRequest(msgspec.Struct, frozen=True):
    """What `run()` asks of an executor. `key` names this start for ever: no second one must happen."""

    key: str  # [a-z0-9-]+, at most 63 characters: fit for file, container and DNS names
    host: str
    name: str
    image: str  # the program, for the process executor
    args: list[str] = []
    env: dict[str, str] = {}
    secret_files: dict[str, str] = {}  # absolute path in the execution -> content; written there, never in its spec
    timeout: float | None = None  # seconds
    options: dict[str, Json] = {}
    input: bytes = b"{}"  # the task's data, JSON
    attempt: int = 1
    run: str = ""
    seq: int = 0
    fresh: bool = True  # nobody can have asked for it before; after a restart that is not certain


class ExecutionResult(msgspec.Struct, frozen=True):
    """What became of an execution. `status` is "done" exactly when the exit code is 0."""

    status: str  # "done" | "failed"
    exit_code: int | None = None
    reason: str | None = None  # why it failed, for people: "exit code 3", "timeout after 5 s", "killed by signal 9"
    output: Json = None  # parsed last line of stdout, or the file that $SCRIPTRULES_OUTPUT names
    stdout: str = ""  # the last 64 KB
    stderr: str = ""
    started: int | None = None
    ended: int | None = None
    host: str = ""
    verdict: Verdict = Verdict.UNKNOWN


class LogLine(msgspec.Struct, frozen=True, gc=False):
    """A line of a run's log: what the rule printed, or what its execution `source` wrote."""

    at: int
    seq: int  # the entry it belongs to; 0 for the script itself
    stream: str  # "log" | "stdout" | "stderr"
    text: str
    fields: bytes | None = None  # JSON object given to log()


REASON_MAX = 1000  # characters of why a task has failed


def why_failed(run: Run) -> str:
    """Why a run failed, in one line: the reason of its task, and what a caller is told (`end_tasks` in SQL too)."""
    if run.error is None:
        return f"rule {run.rule} was {run.state}"
    where = f", line {run.error.line}" if run.error.line else ""
    return f"rule {run.rule}{where}: {run.error.type}: {run.error.message}"[:REASON_MAX]


# ---- ids

_ALPHABET = "0123456789abcdefghijklmnopqrstuv"  # base 32 in the order of its digits, so text sorts as numbers do
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_SEQUENCE_BITS = 20


class Ids:
    """Makes ids that sort by time: a letter, nine characters of milliseconds, four of sequence.

    The sequence starts at random so that two processes that share a store hardly ever meet; it never repeats within a
    millisecond, and where it would, the next millisecond is used.
    """

    def __init__(self, clock: _clock.Clock = _clock.now) -> None:
        self._clock = clock
        self._millis = 0
        self._high, self._head = -1, ""  # what changes once a second, and its text
        self._prefix = ""
        self._sequence = 0
        self._left = 0

    def __call__(self, letter: str) -> str:
        millis = self._clock() // 1000
        if millis > self._millis or not self._left:
            self._begin(max(millis, self._millis + 1))
        self._left -= 1
        sequence = self._sequence
        self._sequence += 1
        return f"{letter}{self._prefix}{_PAIRS[sequence >> 10]}{_PAIRS[sequence & 1023]}"

    def _begin(self, millis: int) -> None:
        self._millis = millis
        high, low = divmod(millis, len(_PAIRS))
        if high != self._high:
            self._high, self._head = high, _base32(high, 7)
        self._prefix = self._head + _PAIRS[low]
        self._sequence = random.getrandbits(16) << 3
        self._left = (1 << _SEQUENCE_BITS) - self._sequence


def _base32(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 32)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def execution_key(run: Run, seq: int, attempt: int) -> str:
    """The name of one start: unique for ever, fit for files, containers and DNS."""
    return f"{run.id}-{run.attempt}-{seq}-{attempt}"


def parse_key(key: str) -> tuple[str, int, int, int]:
    """Run, its attempt, seq and the entry's attempt of an execution's key."""
    run, run_attempt, seq, attempt = key.split("-")
    return run, int(run_attempt), int(seq), int(attempt)
