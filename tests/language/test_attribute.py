"""Attributes."""

from __future__ import annotations

from languagehelp import Row, check, each, refused, rewritten, works

NODES = ("Attribute",)
ROWS = [
    rewritten("a method", "return 'abc'.upper()", "read through a list of what each type may show"),
    works(
        "getattr",
        'return [getattr("abc", "upper")(), hasattr([], "append"), hasattr([], "nope"), getattr(1, "nope", 5)]',
    ),
    refused("SR111", "a private one", "x = y.__class__"),
    refused("SR115", "one that leads to frames", "x = y.gi_frame"),
]


@each(ROWS)
def test_attribute_is_as_the_table_says(row: Row) -> None:
    check(row)
