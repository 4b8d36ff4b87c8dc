"""lambda and conditional expressions."""

from __future__ import annotations

from languagehelp import Row, check, each, rewritten, works

NODES = (
    "Lambda",
    "IfExp",
)
ROWS = [
    rewritten(
        "lambda",
        """
        f = lambda x, *a, y=2, **k: [x, a, y, k]
        return [f(1), f(1, 2, y=3, z=4), sorted([3, 1, 2], key=lambda v: -v)]
        """,
    ),
    works(
        "if else",
        """
        x = 1
        return 'a' if x else 'b'
        """,
    ),
]


@each(ROWS)
def test_lambda_is_as_the_table_says(row: Row) -> None:
    check(row)
