"""The log of transitions as rows of an SQLite store: one for each commit, in its transaction.

Tried and rejected: a row for each transition (a third of the throughput), and one that holds what tasks and runs look
like (as many bytes as all the rest of the commit).
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable

import msgspec

from scriptrules.model import Run, Task
from scriptrules.store._sqlite_queries import QUERIES
from scriptrules.store._sqlite_rows import run_of, task_of
from scriptrules.store.events import EVENTS_KEPT, Written, count
from scriptrules.store.protocol import Happened, Transition

_TRIM_EVERY = EVENTS_KEPT // 50
_decode = msgspec.msgpack.Decoder(list[Transition]).decode
_encode = msgspec.msgpack.Encoder().encode


class EventLog:
    """The part of a writer that says what its transaction has changed."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.seen: Counter[str] = Counter()  # transitions since the start: "task.done", …
        self._position = bounds(connection)[1]
        self._trimmed = self._position
        self._transitions: list[Written] = []
        self._finals: Counter[tuple[str, str]] = Counter()

    def begin(self) -> None:
        """A transaction begins; what another one has noted, which was rolled back, did not happen."""
        self._transitions = []
        self._finals = Counter()

    def note(self, transitions: list[Written], finals: Counter[tuple[str, str]] | None = None) -> None:
        self._transitions += transitions
        for place, number in (finals or {}).items():
            self._finals[place] += number

    def write(self, connection: sqlite3.Connection) -> None:
        """Write what was noted, at the end of the transaction."""
        if self._transitions:
            self._position += len(self._transitions)
            connection.execute(QUERIES["append_events"], (self._position, _encode(self._transitions)))
        counts = ((kind, str(state), number) for (kind, state), number in self._finals.items() if number)
        connection.executemany(QUERIES["add_counts"], counts)
        if self._position - self._trimmed > _TRIM_EVERY:
            connection.execute(QUERIES["trim_events"], (self._position - EVENTS_KEPT,))
            self._trimmed = self._position

    def committed(self) -> None:
        self.seen.update(count(self._transitions))


def bounds(connection: sqlite3.Connection) -> tuple[int, int]:
    """After which position everything is there, and the last position."""
    first = connection.execute(QUERIES["first_event"]).fetchone()
    if first is None:
        return 0, 0
    position, body = first
    last = connection.execute(QUERIES["last_event"]).fetchone()[0]
    return position - len(_decode(body)), last


def happened(reading: sqlite3.Connection, after: int, limit: int) -> list[Happened]:
    """See `scriptrules.store.protocol.Store.happened`; all of it is read from one state of the store."""
    found: list[tuple[int, Transition]] = []
    reading.execute("BEGIN")
    try:
        for position, body in reading.execute(QUERIES["events"], (after,)):
            transitions = _decode(body)
            first = position - len(transitions) + 1
            begin = max(after + 1 - first, 0)
            found += enumerate(transitions[begin : begin + limit - len(found)], first + begin)
            if len(found) >= limit:
                break
        runs = {run.id: run for run in _runs(reading, {one.id for _, one in found if one.id.startswith("r")})}
        wanted = {one.id for _, one in found if one.id.startswith("t")} | {run.task for run in runs.values()}
        tasks = {task.id: task for task in _tasks(reading, wanted)}
    finally:
        reading.execute("COMMIT")
    return [_join(position, one, tasks, runs) for position, one in found]


def _join(position: int, one: Transition, tasks: dict[str, Task], runs: dict[str, Run]) -> Happened:
    run = runs.get(one.id)
    return Happened(position, one, tasks.get(run.task if run else one.id), run)


def _runs(reading: sqlite3.Connection, ids: Iterable[str]) -> list[Run]:
    return [run_of(row) for row in reading.execute(QUERIES["runs_by_id"], (json.dumps(list(ids)),))]


def _tasks(reading: sqlite3.Connection, ids: Iterable[str]) -> list[Task]:
    return [task_of(row) for row in reading.execute(QUERIES["tasks_by_id"], (json.dumps(list(ids)),))]
