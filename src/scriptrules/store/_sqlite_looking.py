"""Reads the tasks that may have a key, in the order in which they arrived.

By name, from the index of names; from the moment on at which a shape was remembered, by key, so that of a name with a
million tasks only those are read that fit.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from scriptrules.model import Task
from scriptrules.rulebook.index import is_literal, matches
from scriptrules.store._sqlite_queries import QUERIES
from scriptrules.store._sqlite_rows import task_of
from scriptrules.store.receiving import pattern_of, shape_of

_LAST = 2**62  # no place is as late


def arrived(
    reading: sqlite3.Connection, task: str, keys: Sequence[str], after: int | None, limit: int
) -> list[tuple[int, Task]]:
    """See `scriptrules.store.protocol.Store.arrived`; all of it is read from one state of the store."""
    found: dict[str, int] = {}
    reading.execute("BEGIN")
    try:
        if after is None:
            row = reading.execute(QUERIES["place_of"], (task,)).fetchone()
            after = row[0] if row else 0
        for key in keys:
            row = reading.execute(QUERIES["remembered"], (shape_of(key),)).fetchone()
            since = _LAST if row is None else row[0]
            if since > after:
                names = json.dumps(_names(reading, pattern_of(key)))
                rows = reading.execute(QUERIES["arrived_by_name"], (names, after, since, limit))
                found.update((id, place) for place, id in rows)
            if row is not None:
                rows = reading.execute(QUERIES["arrived_by_key"], (key, max(after, since), limit))
                found.update((id, place) for place, id in rows)
        first = dict(sorted(found.items(), key=lambda item: item[1])[:limit])
        tasks = [task_of(row) for row in reading.execute(QUERIES["tasks_by_id"], (json.dumps(list(first)),))]
    finally:
        reading.execute("COMMIT")
    return sorted((first[task.id], task) for task in tasks)


def _names(reading: sqlite3.Connection, pattern: str) -> list[str]:
    """The names of tasks that fit a pattern."""
    if is_literal(pattern):
        return [pattern]
    prefix = pattern.partition("*")[0].rstrip(".")  # `a.**` fits `a` too
    rows = reading.execute(QUERIES["names_between"], (prefix, prefix + "\x7f"))
    return [name for (name,) in rows if matches(pattern, name)]
