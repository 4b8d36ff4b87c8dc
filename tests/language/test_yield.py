"""yield."""

from __future__ import annotations

from languagehelp import Row, check, each, refused

NODES = (
    "Yield",
    "YieldFrom",
)
ROWS = [
    refused(
        "SR106",
        "yield",
        """
        def f():
            yield 1
        """,
    ),
    refused(
        "SR106",
        "yield from",
        """
        def f():
            yield from x
        """,
    ),
]


@each(ROWS)
def test_yield_is_as_the_table_says(row: Row) -> None:
    check(row)
