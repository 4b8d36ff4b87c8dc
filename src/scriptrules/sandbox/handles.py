"""What `run()`, `emit()` and `wait()` give to a script, and the errors that `wait()` and `call()` raise there.

All of them are opaque: a script reads the attributes that `visible` lists and nothing else.
"""

from __future__ import annotations

from typing import Any

import msgspec

from scriptrules.clock import moment
from scriptrules.model import Failure
from scriptrules.sandbox.guards import Opaque


class Handle(Opaque):
    """Something that can be waited for, by the entry that began it."""

    __slots__ = ("name", "seq")
    visible = frozenset({"name"})
    what = "handle"

    def __init__(self, seq: int, name: str) -> None:
        self.seq = seq
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.what} {self.name!r}>"


class ExecutionHandle(Handle):
    """A started execution. Give it to `wait()`."""

    __slots__ = ()
    what = "execution"


class TaskHandle(Handle):
    """A generated task. Give it to `wait()`."""

    __slots__ = ()
    what = "task"


class NewTask(Opaque):
    """A task that a rule returns: ``return Task("report.ready", url=…)``."""

    __slots__ = ("data", "name")
    visible = frozenset({"name"})

    def __init__(self, name: str, data: dict[str, Any]) -> None:
        self.name = name
        self.data = data

    def __repr__(self) -> str:
        return f"Task({self.name!r})"


NewTask.__name__ = NewTask.__qualname__ = "Task"  # errors name the type of a value


class Result(Opaque):
    """What became of something that was waited for."""

    visible = frozenset(
        {"name", "status", "reason", "host", "verdict", "started", "ended"}  # of anything
        | {"exit_code", "output", "stdout", "stderr"}  # of an execution
        | {"value", "values"}  # of a task
    )
    __slots__ = (*visible, "seq")
    name: str
    status: str
    reason: str | None
    output: Any

    def __init__(self, fields: dict[str, Any]) -> None:
        self.seq = fields["seq"]
        for name in self.visible:
            value = fields.get(name)
            if name in ("started", "ended") and type(value) is int:
                value = moment(value)
            setattr(self, name, value)

    @property
    def ok(self) -> bool:
        return bool(self.status == "done")

    def __repr__(self) -> str:
        return f"<result {self.name!r} {self.status}>"


class WaitFailed(Exception):
    """What was waited for failed. `results` has what all of it gave, `result` the first that failed."""

    visible = frozenset({"results", "result"})

    def __init__(self, message: str = "", results: list[Result] | None = None) -> None:
        super().__init__(message)
        self.results = results or []
        self.result = next((result for result in self.results if not result.ok), None)


class ExecutionFailed(WaitFailed):
    """An execution that was waited for failed."""


class CallFailed(WaitFailed):
    """A procedure that was called, or a task that was waited for, failed. `trace` is the procedure's own, as text."""

    visible = WaitFailed.visible | {"trace"}

    def __init__(self, message: str = "", results: list[Result] | None = None, trace: str | None = None) -> None:
        super().__init__(message, results)
        self.trace = trace


_RAISED: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (TimeoutError, ValueError, TypeError, KeyError, LookupError, ConnectionError, OSError, RuntimeError)
} | {"ExecutionFailed": ExecutionFailed, "CallFailed": CallFailed}


def raised(failure: Failure) -> Exception:
    """The exception that a recorded failure stands for; one that scripts have no name for becomes a RuntimeError."""
    kind = _RAISED.get(failure.type)
    if kind is None:
        return RuntimeError(f"{failure.type}: {failure.message}")
    if kind is CallFailed:
        return CallFailed(failure.message, trace=failure.trace)
    return kind(failure.message)


def results_of(value: bytes) -> list[Result]:
    """The results that a `wait()` was answered with, decoded afresh so that no run shares an object with another."""
    return [Result(fields) for fields in msgspec.json.decode(value)]
