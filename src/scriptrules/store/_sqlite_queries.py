"""The queries of `sql/queries.sql`, by name."""

from __future__ import annotations

from importlib import resources


def _read_queries() -> dict[str, str]:
    text = resources.files("scriptrules.store").joinpath("sql/queries.sql").read_text("utf-8")
    queries = {}
    for block in text.split("-- name: ")[1:]:
        name, _, body = block.partition("\n")
        queries[name.strip()] = body.strip().removesuffix(";")
    return queries


QUERIES = _read_queries()
