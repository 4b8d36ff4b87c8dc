"""Comparisons."""

from __future__ import annotations

from languagehelp import Row, check, each, refused, works

NODES = (
    "Compare",
    "Eq",
    "NotEq",
    "Lt",
    "LtE",
    "Gt",
    "GtE",
    "Is",
    "IsNot",
    "In",
    "NotIn",
)
ROWS = [
    works(
        "order and equality",
        """
        x = 3
        return [1 < x <= 3, x == 3.0, x != 4, x > 2, x >= 4]
        """,
    ),
    works("in", "return [1 in [1], 'a' not in 'bc']"),
    works(
        "is None, True, False",
        """
        x = 3
        return [x is None, x is not None, (x > 1) is True]
        """,
    ),
    works(
        "comparisons",
        """
        x = 3
        return [
            1 < x <= 3,
            x is None,
            x is not None,
            x in [3],
            "a" not in "bc",
            not x,
            x == 3.0,
            (x is True) is False,
        ]
        """,
    ),
    refused("SR201", "is between values", "x = y is z"),
    refused("SR201", "is with a number", "x = y is 1"),
]


@each(ROWS)
def test_compare_is_as_the_table_says(row: Row) -> None:
    check(row)
