"""One run inside a worker: a greenlet that executes `main`, replays its journal, and stands still where it waits.

`Script.use` is the heart of durability: each use of an injected function has the next number. Up to the end of the
journal it is compared with the entry of that number and answered from it; from there on it becomes a new entry. A
blocking one switches to the worker's loop and comes back with its outcome, microseconds or a restart later.

Tried and rejected: snapshots of the frame (no portable way in CPython; pydantic-monty has them, with another language
subset), generators (injected functions could not block inside helper functions), threads (a stack of 8 MB each).
"""

from __future__ import annotations

import random as _random
import sys
from collections.abc import Callable
from types import CodeType, FrameType, FunctionType, TracebackType
from typing import Any

import greenlet
import msgspec

from scriptrules.journal import Intent
from scriptrules.model import Failure
from scriptrules.sandbox import meter, payload, signals
from scriptrules.sandbox.formatting import scrub, to_text
from scriptrules.sandbox.guards import Namespace
from scriptrules.sandbox.handles import CallFailed, ExecutionHandle, NewTask, TaskHandle
from scriptrules.sandbox.wire import Budget, LogEntry, Outcome, Past, Slice, TaskView

TRACE_LINES = 20  # of the author's own frames in a failure
SHOWN_MAX = 200  # characters of the arguments in a divergence
REMOTE_TRACE_MAX = 8192  # characters of the trace of a procedure, in that of its caller


# What a suspended script has in place of lists that it does not need; nothing is ever added to these.
_NO_INTENTS: list[Intent] = []
_NO_LOGS: list[LogEntry] = []
_NO_PAST: list[Past] = []
_NOTHING_SAVED: dict[str, dict[str, int]] = {}


_by_name = msgspec.json.Decoder(dict[str, msgspec.Raw])  # arguments


class Diverged(signals.ControlSignal):
    """A replayed use of a function differs from its entry."""

    def __init__(self, expected: str, got: str, line: int) -> None:
        super().__init__(f"expected {expected}, got {got}")
        self.line = line


class FailSignal(signals.ControlSignal):
    """The script called fail(reason)."""


class Program:
    """A compiled rule as scripts are made from it: what to execute, and what to call then."""

    __slots__ = ("code", "enter", "file", "libraries", "rule", "texts")

    def __init__(
        self,
        rule: str,
        file: str,
        text: str,
        code: CodeType,
        libraries: dict[str, CodeType],
        texts: dict[str, str],
        enter: Callable[[dict[str, Any], TaskView], Any],
    ) -> None:
        self.rule = rule
        self.file = file
        self.code = code
        self.libraries = libraries
        self.enter = enter
        self.texts = {file: text, **texts}


class RuleScope(signals.Scope):
    """Module level of a rule, and of the libraries it imports: fresh for each script and for each filter."""

    __slots__ = ("_builtins", "_codes", "_modules")

    def __init__(self, builtins: dict[str, Any], libraries: dict[str, CodeType], steps: int) -> None:
        super().__init__(steps)
        self._builtins = builtins
        self._codes = libraries
        self._modules: dict[str, Namespace] = {}

    def execute(self, code: CodeType, name: str = "rule") -> dict[str, Any]:
        """The globals after executing `code` at module level."""
        names: dict[str, Any] = {"__builtins__": self._builtins, "__name__": name}
        exec(code, names)  # the code was compiled by the policy, and this process is confined
        return names

    def library(self, name: str) -> Namespace:
        if name not in self._modules:
            code = self._codes.get(name)
            if code is None:
                raise ImportError(
                    f"there is no rules/lib/{name}.py, or it is not written as `from lib.{name} import …`"
                )
            # A circle of imports sees what is there so far, as in Python.
            module = self._modules[name] = Namespace(f"lib.{name}", {})
            names = self.execute(code, f"lib.{name}")
            module.members.update((name, value) for name, value in names.items() if not name.startswith("_"))
        return self._modules[name]


class Script(RuleScope):
    """A run: its position in the journal, what its current slice has done, and the greenlet it lives in."""

    __slots__ = (
        "_greenlet",
        "_random",
        "attempt",
        "budget",
        "executions",
        "in_main",
        "intents",
        "logs",
        "now",
        "past",
        "printed",
        "program",
        "reading",
        "returned_at",
        "saved",
        "seq",
        "slice",
        "slot",
        "spent",
        "task",
        "unwaited",
    )

    def __init__(
        self,
        program: Program,
        task: TaskView,
        builtins: dict[str, Any],
        budget: Budget,
        slot: int,
        now: int,
        attempt: int,
    ) -> None:
        super().__init__(builtins, program.libraries, budget.steps)
        self.program = program
        self.task = task
        self.budget = budget
        self.slot = slot
        self.now = now
        self.attempt = attempt
        self.seq = 0
        self.past: list[Past] = []
        self.intents: list[Intent] = []
        self.logs: list[LogEntry] = []
        self.printed = 0
        self.saved: dict[str, dict[str, int]] = {}  # by variable and scope, where among the intents
        self.in_main = False
        self.returned_at = 0  # line of what main has returned, once it is being carried out
        self.reading = False  # the script stands still amid a slice, for a variable
        self.spent = 0  # ticks of CPU time that the slice had used when it stood still
        self.executions: dict[str, ExecutionHandle] = {}
        self.unwaited: dict[int, ExecutionHandle] = {}
        self.slice: Slice | None = None
        self._random: _random.Random | None = None
        self._greenlet = greenlet.greenlet(self._body)

    # ---- the worker's side

    def start(self, past: list[Past]) -> Slice:
        """Execute from the top until the script waits or ends."""
        self.past = past
        return self._switch()

    def resume(self, outcome: Outcome, now: int) -> Slice:
        """Go on where the script waits, or in the same slice where it reads a variable."""
        if self.reading:
            self.reading = False
            meter.Meter.ticks = self.spent
            return self._switch(outcome)
        self.now = now
        self.steps = self.budget.steps
        self.printed = 0
        self.intents = []
        self.logs = []
        self.saved = {}
        return self._switch(outcome)

    def evict(self) -> None:
        """End the greenlet without letting the script act: every handler and every injected function is shut."""
        self.dead = True
        if self._greenlet:
            signals.current = self
            self._greenlet.throw(signals.Ended())

    @property
    def suspended(self) -> bool:
        return bool(self._greenlet)

    def _switch(self, *args: Any) -> Slice:
        signals.current = self
        self._greenlet.switch(*args)
        piece = self.slice
        assert piece is not None
        self.slice = None  # what is suspended keeps as little as possible: there are thousands
        if self.reading:
            self.spent = meter.Meter.ticks
            return piece
        self.intents, self.logs, self.saved = _NO_INTENTS, _NO_LOGS, _NOTHING_SAVED
        if self.seq >= len(self.past):
            self.past = _NO_PAST
        return piece

    # ---- the script's side

    def use(self, name: str, args: bytes, blocks: bool) -> Outcome | None:
        """Use an injected function: the next entry of the journal.

        Returns:
            The outcome of a blocking function; None for the others.
        """
        recorded = self._enter(name, args)
        if not blocks:
            return None
        if recorded is not None and recorded.outcome is not None:
            self.now = recorded.at
            self.steps = self.budget.steps
            meter.lap()
            return recorded.outcome
        return self._suspend(Slice(self.slot, "blocked", self.intents, self.logs))

    def read(self, name: str, args: bytes) -> Outcome:
        """Load a variable: an entry that the supervisor answers while the slice stands still.

        Args:
            name: the variable's.
            args: of the entry.
        """
        recorded = self._enter("load", args)
        if recorded is not None:
            return recorded.outcome or Outcome()
        own = [self.intents[at] for at in self.saved.get(name, {}).values()]
        self.reading = True
        return self._suspend(Slice(self.slot, "load", [*own, self.intents[-1]]))

    def save(self, name: str, scope: str, args: bytes) -> None:
        """Save a variable: an entry, which this slice's own reads see at once."""
        if self._enter("save", args) is None:
            self.saved.setdefault(name, {})[scope] = len(self.intents) - 1

    def _enter(self, name: str, args: bytes) -> Past | None:
        """The next entry: as the journal has it, or a new one of this slice."""
        self.check_alive(name)
        self.seq += 1
        if self.seq <= len(self.past):
            recorded = self.past[self.seq - 1]
            if recorded.name != name or recorded.args != args:
                raise Diverged(*_compared(recorded, name, args), self.line())
            return recorded
        if len(self.intents) >= self.budget.entries_per_slice:
            raise signals.LimitExceeded("entries", f"more than {self.budget.entries_per_slice} entries in a slice")
        if self.seq > self.budget.entries_per_run:
            raise signals.LimitExceeded("entries", f"more than {self.budget.entries_per_run} entries in a run")
        self.intents.append(Intent(name, args, self.line()))
        return None

    def check_alive(self, name: str) -> None:
        if self.dead:
            raise signals.Ended()
        if not self.in_main:
            raise RuntimeError(f"{name}() can be used inside main only, not while the file is loaded")
        if greenlet.getcurrent() is not self._greenlet:
            raise RuntimeError(f"{name}() belongs to another run")

    def encode(self, value: Any, what: str) -> bytes:
        return payload.encode(value, what, self.budget.payload_max, self.budget.depth_max)

    def log(self, text: str, fields: bytes | None = None) -> None:
        """Add to the run's log; silent where the journal already has what this slice did."""
        self.printed += len(text) + len(fields or b"") + 16
        if self.printed > self.budget.log_max:
            raise signals.LimitExceeded("log", f"more than {self.budget.log_max} bytes printed in a slice")
        if self.seq >= len(self.past):
            self.logs.append(LogEntry(self.seq, text, fields))

    def write(self, text: str) -> None:
        self.log(text.removesuffix("\n"))

    def random(self) -> _random.Random:
        """The run's own generator, seeded by run and attempt, so that a replay draws the same numbers."""
        if self._random is None:
            self._random = _random.Random(f"{self.task.id}/{self.program.rule}/{self.attempt}")
        return self._random

    def line(self) -> int:
        """The line of the rule's file that is being executed."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if frame.f_code.co_filename == self.program.file:
                return frame.f_lineno
            frame = frame.f_back
        return self.returned_at

    def _suspend(self, piece: Slice) -> Outcome:
        self.slice = piece
        outcome = self._greenlet.parent.switch()
        if self.dead:
            raise signals.Ended()
        return outcome  # type: ignore[no-any-return]

    def _body(self) -> None:
        try:
            self.slice = self._execute()
        except signals.Ended:
            self.slice = None
        finally:
            self.dead = True

    def _execute(self) -> Slice:
        names: dict[str, Any] = {}
        try:
            names = self.execute(self.program.code, self.program.rule)
            self.in_main = True
            value = self.program.enter(names, self.task)
            tasks = _tasks(value)
            encoded = self.encode(value, "the return value") if tasks is None else b"null"
            for task in tasks or ():
                self.generate("return", task.name, task.data)
            if self.seq < len(self.past):
                recorded = self.past[self.seq]
                raise Diverged(_shown(recorded.name, recorded.args), "the end of main", self.line())
            return Slice(self.slot, "returned", self.intents, self.logs, value=encoded)
        except Diverged as signal:
            return self._diverged(str(signal), signal.line or self._line_of(signal.__traceback__))
        except (FailSignal, signals.LimitExceeded, MemoryError, RecursionError, Exception) as error:
            if self.seq < len(self.past):
                recorded = self.past[self.seq]
                got = f"{type(error).__name__}: {scrub(_message(error))[:200]}"
                return self._diverged(
                    f"expected {_shown(recorded.name, recorded.args)}, got {got}", self._line_of(error.__traceback__)
                )
            return self._ended_by(error, names.get("main"))

    def _ended_by(self, error: BaseException, main: Any) -> Slice:
        """The slice in which main ended by an error of its own, a limit, or fail()."""
        line = self._line_of(error.__traceback__)
        if line is None and isinstance(main, FunctionType):
            line = main.__code__.co_firstlineno  # it had returned already: what it returned cannot be taken
        match error:
            case FailSignal():
                return Slice(
                    self.slot, "failed", self.intents, self.logs, error=Failure("Failed", str(error), line=line)
                )
            case signals.LimitExceeded():
                return self._limit(error.kind, error.message, line)
            case MemoryError():
                return self._limit("memory", "more memory than a worker has", line)
            case RecursionError():
                return self._limit("recursion", "nested too deep", line)
        return Slice(self.slot, "raised", [], self.logs, error=self.failure(error))

    def generate(self, how: str, name: str, data: dict[str, Any]) -> TaskHandle:
        """An entry that generates a task."""
        if type(name) is not str:
            raise TypeError(f"{how}() wants the task's name as text, not {type(name).__name__}")
        encoded = self.encode({"name": name, "data": data}, f"{how}({name!r})")
        self.use(how, encoded, blocks=False)
        return TaskHandle(self.seq, name)

    # ---- failures, as the author sees them

    def _diverged(self, message: str, line: int | None) -> Slice:
        failure = Failure("Divergence", message, line=line)
        return Slice(self.slot, "diverged", [], self.logs, error=failure, line=line or 0)

    def _limit(self, kind: str, message: str, line: int | None) -> Slice:
        failure = Failure("LimitExceeded", f"{kind}: {message}", line=line, code="SR600")
        return Slice(self.slot, "limit", [], self.logs, error=failure, line=line or 0, fatal=kind == "memory")

    def failure(self, error: BaseException) -> Failure:
        """An exception of the script with the author's own lines and nothing of ours."""
        return Failure(
            type=type(error).__name__,
            message=scrub(_message(error))[:4096],
            line=self._line_of(error.__traceback__) or self.returned_at or None,
            trace=format_trace(error, self.program.texts),
        )

    def _line_of(self, trace: TracebackType | None) -> int | None:
        return line_of(trace, self.program.file)


def _tasks(value: Any) -> list[NewTask] | None:
    """The tasks that `main` returned; None where it returned a value."""
    if isinstance(value, NewTask):
        return [value]
    if type(value) not in (list, tuple) or not any(isinstance(item, NewTask) for item in value):
        return None
    if not all(isinstance(item, NewTask) for item in value):
        raise TypeError("main returned a list of tasks and other things; return tasks only, or values only")
    return list(value)


def line_of(trace: TracebackType | None, file: str) -> int | None:
    """The innermost line of `file` in a traceback."""
    line = None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def format_trace(error: BaseException, texts: dict[str, str]) -> str:
    """The frames of `error` that lie in the author's files, as Python prints them."""
    lines = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        text = texts.get(code.co_filename)
        if text is not None:
            source = text.splitlines()
            shown = source[trace.tb_lineno - 1].strip() if 0 < trace.tb_lineno <= len(source) else ""
            lines.append(f'  File "{code.co_filename}", line {trace.tb_lineno}, in {code.co_name}\n    {shown}')
        trace = trace.tb_next
    if len(lines) > TRACE_LINES:
        lines[TRACE_LINES // 2 : -TRACE_LINES // 2] = [f"  … {len(lines) - TRACE_LINES} more …"]
    if isinstance(error, CallFailed) and error.trace:
        lines[:0] = [error.trace[:REMOTE_TRACE_MAX], "", "That failed in what was called here:"]
    return "\n".join([*lines, f"{type(error).__name__}: {scrub(_message(error))[:1024]}"])


def _message(error: BaseException) -> str:
    try:
        return to_text(error)
    except TypeError as why:  # such as that of a secret
        return f"(its text cannot be shown: {why})"
    except Exception:
        return "(its text cannot be shown)"


def _compared(recorded: Past, name: str, args: bytes) -> tuple[str, str]:
    """Both uses of a function as people read them: only the arguments that differ, and long ones around the place."""
    if recorded.name != name:
        return _shown(recorded.name, recorded.args), _shown(name, args)
    before, now = ({key: bytes(value) for key, value in _by_name.decode(one).items()} for one in (recorded.args, args))
    changed = [key for key in before | now if before.get(key) != now.get(key)]
    texts = [b", ".join(key.encode() + b"=" + one[key] for key in changed if key in one) for one in (before, now)]
    same = next((at for at, pair in enumerate(zip(*texts, strict=False)) if pair[0] != pair[1]), 0)
    start = max(same - SHOWN_MAX // 2, 0) if max(map(len, texts)) > SHOWN_MAX else 0
    expected, got = (_shown(name, text[start:], "…" if start else "") for text in texts)
    return expected, got


def _shown(name: str, args: bytes, before: str = "") -> str:
    text = args.decode("utf-8", "replace")
    return f"{name}({before}{text if len(text) <= SHOWN_MAX else text[:SHOWN_MAX] + '…'})"
