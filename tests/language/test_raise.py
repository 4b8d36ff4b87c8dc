"""raise."""

from __future__ import annotations

from languagehelp import Row, check, each, rewritten

NODES = ("Raise",)
ROWS = [
    rewritten(
        "raise from",
        """
        try:
            try:
                raise ValueError("a", 1)
            except ValueError as e:
                raise KeyError("b") from e
        except KeyError as e:
            return [str(e), e.args]
        """,
    ),
    rewritten(
        "raise alone",
        """
        r = []
        try:
            try:
                1 / 0
            except ZeroDivisionError:
                r.append(1)
                raise
        except ArithmeticError:
            r.append(2)
        return r
        """,
    ),
]


@each(ROWS)
def test_raise_is_as_the_table_says(row: Row) -> None:
    check(row)
