"""Who waits for a task, or for it and all that follows from it, within a transaction.

The wake of kind "tree" stays on the task itself. Once that has ended, each task of its tree that has not has a wake of
kind "branch"; when one ends, the tasks that it has generated take its place. So the end of a task costs as many writes
as it has children, and that of a task that nobody waits for costs one look-up.
"""

from __future__ import annotations

import json
import sqlite3

from scriptrules.model import TASK_FINAL
from scriptrules.store._sqlite_queries import QUERIES
from scriptrules.store.protocol import ON_TASKS, Change, Wake


class Awaited:
    """Kept by the writer: whether anybody waits for a task; where nobody does, no end of one is looked at."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._any = bool(connection.execute(QUERIES["anybody_waits"]).fetchone()[0])

    def by(self, change: Change) -> bool:
        """Whether somebody waits for a task when `change` is written, or has since the start."""
        self._any = self._any or any(wake.kind in ON_TASKS for wake in change.wakes)
        return self._any


def grow(connection: sqlite3.Connection, ended: list[str]) -> list[Wake]:
    """Let branches take the place of tasks that have ended; returns the wakes whose whole tree has."""
    touched: dict[tuple[str, int], None] = {}
    while ended:
        wakes = [Wake(*row) for row in connection.execute(QUERIES["wakes_on_trees"], (json.dumps(ended),))]
        touched.update(((wake.run, wake.seq), None) for wake in wakes)
        over = ((wake.run, wake.seq, wake.kind, wake.key) for wake in wakes if wake.kind == "branch")
        connection.executemany(QUERIES["remove_wakes"], over)
        parents = json.dumps(list({wake.key for wake in wakes}))
        children = connection.execute(QUERIES["children"], (parents,)).fetchall() if wakes else []
        watchers: dict[str, list[Wake]] = {}
        for wake in wakes:
            watchers.setdefault(wake.key, []).append(wake)
        branches = ((by.run, by.seq, "branch", child, None) for parent, child, _ in children for by in watchers[parent])
        connection.executemany(QUERIES["put_wakes"], branches)
        ended = [child for _, child, state in children if state in TASK_FINAL]
    whole: list[Wake] = []
    for place in touched:
        whole += [Wake(*row) for row in connection.execute(QUERIES["whole_tree"], place)]
    return whole
