"""Tasks as rules see them: the one that a run is for, and those that it receives; entries as breakpoints see them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from scriptrules.clock import moment
from scriptrules.sandbox.guards import Opaque
from scriptrules.sandbox.wire import EntrySubject, ReceivedTask, TaskView

decode = msgspec.json.decode


class MissingField(KeyError):
    """The task has no such field."""


class Fields(Opaque):
    """A JSON object as filters see it: a read-only mapping in which a missing field means that they do not hold."""

    visible = frozenset({"get", "keys", "values", "items"})
    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data: dict[str, Any] = decode(data)

    def __getitem__(self, key: Any) -> Any:
        try:
            return self._data[key]
        except KeyError:
            raise MissingField(key) from None

    def __contains__(self, key: Any) -> bool:
        return key in self._data

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._data))

    def __len__(self) -> int:
        return len(self._data)

    def get(self, key: Any, default: Any = None) -> Any:
        return self._data.get(key, default)

    def keys(self) -> list[str]:
        return list(self._data)

    def values(self) -> list[Any]:
        return list(self._data.values())

    def items(self) -> list[tuple[str, Any]]:
        return list(self._data.items())

    def __repr__(self) -> str:
        return "<fields>"


class TaskMapping(Fields):
    """A task as rules see it: its data, with attributes for what the engine knows of it."""

    visible = Fields.visible | {"name", "id", "parent", "root", "hop", "created", "reasons"}
    __slots__ = ("_view",)

    def __init__(self, view: TaskView) -> None:
        super().__init__(view.data)
        self._view = view

    @property
    def name(self) -> str:
        return self._view.name

    @property
    def id(self) -> str:
        return self._view.id

    @property
    def parent(self) -> str | None:
        return self._view.parent

    @property
    def root(self) -> str:
        return self._view.root

    @property
    def hop(self) -> int:
        return self._view.hop

    @property
    def created(self) -> Any:
        return moment(self._view.created)

    @property
    def reasons(self) -> dict[str, str]:
        """Why the other rules did not match, by rule; for fallbacks."""
        return decode(self._view.reasons) if self._view.reasons else {}

    def __repr__(self) -> str:
        return f"<task {self.name}>"


class EntryView(Opaque):
    """An entry of a run as the filter of a breakpoint sees it."""

    visible = frozenset({"name", "args", "task", "result", "rule", "run", "seq", "line"})
    __slots__ = ("_entry", "_task", "args", "task")

    def __init__(self, task: TaskView, entry: EntrySubject) -> None:
        self._entry = entry
        self._task = task
        self.args = Fields(entry.args)
        self.task = TaskMapping(task)

    @property
    def name(self) -> str:
        return self._entry.name

    @property
    def result(self) -> Any:
        """What the script is about to get; None before the entry."""
        return decode(self._entry.result) if self._entry.result else None

    @property
    def rule(self) -> str:
        return self._entry.rule

    @property
    def run(self) -> str:
        return self._entry.run

    @property
    def seq(self) -> int:
        return self._entry.seq

    @property
    def line(self) -> int:
        return self._entry.line

    def __repr__(self) -> str:
        return f"<entry {self.name}>"


def received(raw: bytes) -> TaskMapping:
    """The task that `receive()` was answered with.

    Raises:
        ValueError: somebody has answered with something else.
    """
    try:
        task = decode(raw, type=ReceivedTask)
        data = msgspec.json.encode(decode(task.data, type=dict))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f'receive() was answered with no task: {error}; answer {{"name": …, "data": {{…}}}}') from None
    return TaskMapping(TaskView(task.id, task.name, data, task.root, task.hop, task.created, task.parent))
