"""The queries of `sql/queries.sql`, by name."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from importlib import resources
from itertools import chain
from typing import Any

AT_ONCE = (16, 4, 1)  # rows that one statement inserts


def _read_queries() -> dict[str, str]:
    text = resources.files("scriptrules.store").joinpath("sql/queries.sql").read_text("utf-8")
    queries = {}
    for block in text.split("-- name: ")[1:]:
        name, _, body = block.partition("\n")
        queries[name.strip()] = body.strip().removesuffix(";")
    return queries


QUERIES = _read_queries()


def insert(connection: sqlite3.Connection, name: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows by the query of this name, many by one statement: each opens every tree of the table anew."""
    at = 0
    for number in AT_ONCE:
        while len(rows) - at >= number:
            connection.execute(_inserting(name, number), tuple(chain.from_iterable(rows[at : at + number])))
            at += number


@cache
def _inserting(name: str, number: int) -> str:
    head, values, row = QUERIES[name].partition("VALUES ")
    return head + values + ", ".join([row] * number)
