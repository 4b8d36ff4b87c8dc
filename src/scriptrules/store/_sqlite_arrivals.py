"""In which order tasks arrive, and which `receive` an arrival concerns: decided within the writer's transaction.

A `receive` begins to wait, and a task arrives: whichever is committed second finds the first. It makes the wake due,
durably; who looks then and finds nothing says so, and the wake is quiet until it is made due again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping

from scriptrules.model import Task, TaskState
from scriptrules.rulebook.index import is_literal
from scriptrules.store.protocol import Change, Wake
from scriptrules.store.receiving import Shapes, pattern_of


class Arrivals:
    """Kept by the writer: the last place in the order, and the shapes that somebody waits with."""

    def __init__(self, connection: sqlite3.Connection, queries: Mapping[str, str]) -> None:
        self._queries = queries
        self._place = int(connection.execute(queries["last_arrived"]).fetchone()[0] or 0)
        self._shapes = Shapes(row[0] for row in connection.execute(queries["receive_keys"]))

    def place_of(self, task: Task) -> int:
        """The place of a task that is being stored; 0 while it is held."""
        return self._next() if task.state is TaskState.NEW else 0

    def apply(self, connection: sqlite3.Connection, change: Change) -> bool:
        """What a change, written otherwise, means for who receives; returns whether wakes have become due."""
        released = [(self._next(), move.id) for move in change.moves if move.state is TaskState.NEW]
        if released:
            connection.executemany(self._queries["release_tasks"], released)
        if change.looked:
            looked = ((wake.run, wake.seq, wake.key, wake.due) for wake in change.looked)
            connection.executemany(self._queries["quiet_wakes"], looked)
        due = False
        for wake in change.wakes:
            if wake.kind == "receive":
                self._shapes.add(wake.key)
                due |= self._look_back(connection, wake)
        if self._shapes:
            # Who was kept waiting by a task that may still be held is woken by its being held as well.
            left = [move.id for move in change.moves if move.state is not TaskState.NEW]
            due |= self._wake(connection, left)
        return due

    def _look_back(self, connection: sqlite3.Connection, wake: Wake) -> bool:
        pattern, before = pattern_of(wake.key), self._queries["arrived_before"]
        if is_literal(pattern) and not connection.execute(before, (pattern, wake.run)).fetchone():
            return False  # other patterns are left to who looks, outside this transaction
        connection.execute(self._queries["make_due"], (self._next(), wake.run, wake.seq, wake.key))
        return True

    def _wake(self, connection: sqlite3.Connection, tasks: list[str]) -> bool:
        rows = connection.execute(self._queries["names_and_data"], (json.dumps(tasks),)) if tasks else ()
        keys = {key for name, data in rows for key in self._shapes.keys_of(name, data)}
        if not keys:
            return False
        query, given = self._queries["make_keys_due"], (self._next(), json.dumps(list(keys)))
        return connection.execute(query, given).rowcount > 0

    def _next(self) -> int:
        self._place += 1
        return self._place
