"""if, pass, assert and bare expressions."""

from __future__ import annotations

from languagehelp import Row, check, each, rewritten, works

NODES = (
    "If",
    "Pass",
    "Assert",
    "Expr",
)
ROWS = [
    works(
        "if",
        """
        x = 3
        if x > 2:
            r = 1
        elif x:
            r = 2
        else:
            r = 3
        return r
        """,
    ),
    works(
        "pass",
        """
        pass
        return 1
        """,
    ),
    works(
        "an expression",
        """
        1
        return 2
        """,
    ),
    works(
        "assert that holds",
        """
        x = 1
        assert x == 1, 'no'
        return x
        """,
    ),
    rewritten(
        "assert that fails",
        """
        try:
            assert 1 == 2, "no"
        except AssertionError as e:
            return str(e)
        """,
    ),
]


@each(ROWS)
def test_if_is_as_the_table_says(row: Row) -> None:
    check(row)
