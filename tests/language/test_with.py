"""with."""

from __future__ import annotations

from languagehelp import Row, check, each, refused

NODES = (
    "With",
    "withitem",
)
ROWS = [
    refused(
        "SR107",
        "with",
        """
        with f() as x:
            pass
        """,
    ),
    refused(
        "SR107",
        "several",
        """
        with f() as x, g():
            pass
        """,
    ),
]


@each(ROWS)
def test_with_is_as_the_table_says(row: Row) -> None:
    check(row)
