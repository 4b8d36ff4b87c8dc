"""In which order tasks arrive, and which `receive` an arrival concerns: decided within the writer's transaction.

A `receive` begins to wait, and a task arrives: whichever is committed second finds the first. It makes the wake due,
durably; who looks then and finds nothing says so, and the wake is quiet until it is made due again.
"""

from __future__ import annotations

import json
import sqlite3

from scriptrules.model import Task, TaskState
from scriptrules.rulebook.index import is_literal
from scriptrules.store._sqlite_queries import QUERIES
from scriptrules.store.protocol import Change, Wake
from scriptrules.store.receiving import Shapes, pattern_of, shape_of


class Arrivals:
    """Kept by the writer: the last place in the order, and the shapes that somebody waits with."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        row = connection.execute(QUERIES["last_place"]).fetchone()
        self._place = self._saved = int(row[0]) if row else 0  # no place is given twice, also after a crash
        self._shapes = Shapes(shape_of(row[0]) for row in connection.execute(QUERIES["receive_keys"]))
        self._remembered = Shapes((row[0] for row in connection.execute(QUERIES["shapes"])), exact=True)

    def place(self, connection: sqlite3.Connection, task: Task) -> int:
        """The place of a task that is being stored; 0 while it is held."""
        if task.state is not TaskState.NEW:
            return 0
        self._next()
        if self._remembered:
            self._note(connection, self._place, task.id, task.name, task.data)
        return self._place

    def save(self, connection: sqlite3.Connection) -> None:
        """Keep the last place, in the transaction that has given it."""
        if self._place != self._saved:
            connection.execute(QUERIES["put_place"], (str(self._place),))
            self._saved = self._place

    def apply(self, connection: sqlite3.Connection, change: Change) -> bool:
        """What a change, written otherwise, means for who receives; returns whether wakes have become due."""
        for shape in change.remembered:
            self._remembered.add(shape)
            connection.execute(QUERIES["remember"], (shape, self._place))
        self._release(connection, [move.id for move in change.moves if move.state is TaskState.NEW])
        if change.looked:
            looked = ((wake.run, wake.seq, wake.key, wake.due) for wake in change.looked)
            connection.executemany(QUERIES["quiet_wakes"], looked)
        due = False
        for wake in change.wakes:
            if wake.kind == "receive":
                self._shapes.add(shape_of(wake.key))
                due |= self._look_back(connection, wake)
        if self._shapes:
            # Who was kept waiting by a task that may still be held is woken by its being held as well.
            left = [move.id for move in change.moves if move.state is not TaskState.NEW]
            due |= self._wake(connection, left)
        self.save(connection)
        return due

    def _release(self, connection: sqlite3.Connection, tasks: list[str]) -> None:
        for task in tasks:
            connection.execute(QUERIES["release_tasks"], (self._next(), task))
            if self._remembered:
                ((name, data),) = connection.execute(QUERIES["names_and_data"], (json.dumps([task]),)).fetchall()
                self._note(connection, self._place, task, name, data)

    def _note(self, connection: sqlite3.Connection, place: int, task: str, name: str, data: bytes) -> None:
        rows = ((key, place, task) for key in self._remembered.keys_of(name, data))
        connection.executemany(QUERIES["note_arrivals"], rows)

    def _look_back(self, connection: sqlite3.Connection, wake: Wake) -> bool:
        pattern, before = pattern_of(wake.key), QUERIES["arrived_before"]
        if is_literal(pattern) and not connection.execute(before, (pattern, wake.run)).fetchone():
            return False  # other patterns are left to who looks, outside this transaction
        connection.execute(QUERIES["make_due"], (self._next(), wake.run, wake.seq, wake.key))
        return True

    def _wake(self, connection: sqlite3.Connection, tasks: list[str]) -> bool:
        rows = connection.execute(QUERIES["names_and_data"], (json.dumps(tasks),)) if tasks else ()
        keys = {key for name, data in rows for key in self._shapes.keys_of(name, data)}
        if not keys:
            return False
        query, given = QUERIES["make_keys_due"], (self._next(), json.dumps(list(keys)))
        return connection.execute(query, given).rowcount > 0

    def _next(self) -> int:
        self._place += 1
        return self._place
