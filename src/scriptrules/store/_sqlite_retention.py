"""Removes what has ended long ago, a bounded number of trees in one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter

from scriptrules.store._sqlite_events import EventLog
from scriptrules.store._sqlite_queries import QUERIES
from scriptrules.store.protocol import Pruned


def prune(connection: sqlite3.Connection, before: int, after: str, limit: int, events: EventLog) -> Pruned:
    """See `scriptrules.store.protocol.Store.prune`."""
    roots = [row[0] for row in connection.execute(QUERIES["old_roots"], (after, before, limit))]
    if not roots:
        return Pruned(None, 0)
    finished = connection.execute(QUERIES["finished_trees"], (json.dumps(roots), before)).fetchall()
    trees = json.dumps([row[0] for row in finished])
    tasks = [row[0] for row in connection.execute(QUERIES["tasks_of_trees"], (trees,))]
    runs = [row[0] for row in connection.execute(QUERIES["runs_of_tasks"], (json.dumps(tasks),))]
    for kind, query, ids in (("tasks", "states", tasks), ("runs", "run_states", runs)):
        states = connection.execute(QUERIES[query], (json.dumps(ids),))
        events.note([], Counter({place: -number for place, number in Counter((kind, s) for _, s in states).items()}))
    for query in ("remove_journals", "remove_logs", "remove_runs"):
        connection.execute(QUERIES[query], (json.dumps(runs),))
    connection.execute(QUERIES["remove_passes_of"], (json.dumps(tasks + runs),))
    connection.execute(QUERIES["remove_tasks"], (json.dumps(tasks),))
    return Pruned(roots[-1] if len(roots) == limit else None, len(tasks))


def prune_rest(connection: sqlite3.Connection, before: int, keep: list[str]) -> None:
    """See `scriptrules.store.protocol.Store.prune_rest`."""
    connection.execute(QUERIES["prune_sources"], (json.dumps(keep),))
    connection.execute(QUERIES["prune_audit"], (before,))
