"""What is no construct: size and text."""

from __future__ import annotations

from languagehelp import Row, check, each, refused

NODES = ()
ROWS = [
    refused("SR101", "no Python", "x = ("),
    refused("SR101", "half a character", "x = '\ud800'"),
    refused("SR102", "nested too deep", "x = " + "[" * 150 + "]" * 150),
]


@each(ROWS)
def test_source_is_as_the_table_says(row: Row) -> None:
    check(row)
