"""What runs have shown, as rows of an SQLite store, written in the transaction of the changes that show it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from scriptrules.errors import StoreUnavailable
from scriptrules.sightings import DAYS_KEPT, Cell, Evidence, Names, SeenEdge, tally
from scriptrules.store._sqlite_queries import QUERIES
from scriptrules.store.protocol import Change

TASKS_READ = 20_000  # newest ones, whose fields are looked at
_AGEING = ("age_cells", "forget_cells", "age_durations", "forget_durations")


class Sightings:
    """The part of a writer that adds up what it commits."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._names = Names(connection.execute(QUERIES["edge_names"]))
        self._day = 0  # the newest that was written

    def write(self, connection: sqlite3.Connection, change: Change) -> None:
        """Write what `change` has seen, within its transaction."""
        total = tally(change.generated, change.ran, self._names)
        many = connection.executemany
        cells, edges = total.cells.items(), total.edges.values()
        many(QUERIES["add_cells"], ((*place, cell.count, cell.last) for place, cell in cells))
        many(QUERIES["add_durations"], ((*place, *pair) for place, cell in cells for pair in cell.durations.items()))
        many(
            QUERIES["add_edges"],
            (
                (edge.rule, edge.task, edge.via, edge.count, edge.runs, edge.first, edge.last, edge.digest)
                for edge in edges
            ),
        )
        many(
            QUERIES["add_delays"],
            ((edge.rule, edge.task, edge.via, *pair) for edge in edges for pair in edge.delays.items()),
        )
        newest = max((day for day, _, _ in total.cells), default=0)
        if newest > self._day:
            for query in _AGEING:
                connection.execute(QUERIES[query], (newest - DAYS_KEPT,))
            self._day = newest


def evidence(path: Path) -> Evidence:
    """What a store shows, read beside whoever serves it.

    Raises:
        StoreUnavailable: there is none, or none of this version.
    """
    try:
        with contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            edges = edges_of(connection.execute(QUERIES["edges"]), connection.execute(QUERIES["edge_delays"]))
            fields: dict[str, set[str]] = {}
            for name, data in connection.execute(QUERIES["newest_data"], (TASKS_READ,)):
                fields.setdefault(name, set()).update(msgspec.json.decode(data))
    except sqlite3.Error as error:
        raise StoreUnavailable(
            f"The store {path} cannot be read: {error}. Serve it once with this version, or check without it."
        ) from None
    return Evidence(edges, {name: frozenset(found) for name, found in fields.items()})


def cells_of(rows: Iterable[tuple[Any, ...]], durations: Iterable[tuple[Any, ...]]) -> list[Cell]:
    cells = {row[:2]: Cell(*row) for row in rows}
    for by, rule, number, count in durations:
        cells.setdefault((by, rule), Cell(by, rule)).durations[number] = count
    return list(cells.values())


def edges_of(rows: Iterable[tuple[Any, ...]], delays: Iterable[tuple[Any, ...]]) -> list[SeenEdge]:
    edges = {row[:3]: SeenEdge(*row) for row in rows}
    for rule, task, via, number, count in delays:
        if (rule, task, via) in edges:  # it may have been added between the two questions
            edges[rule, task, via].delays[number] = count
    return list(edges.values())
