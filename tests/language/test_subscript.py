"""Items and slices."""

from __future__ import annotations

from languagehelp import Row, check, each, rewritten, works

NODES = (
    "Subscript",
    "Slice",
)
ROWS = [
    works(
        "an item",
        """
        a = [1, [2, 3]]
        return a[1][0]
        """,
    ),
    rewritten(
        "slices",
        """
        a = list(range(10))
        a[2:4] = [7, 7, 7]
        del a[0]
        del a[1:3]
        return [a, a[1:3], a[::-1], "abc"[1:]]
        """,
    ),
    works(
        "a tuple as key",
        """
        d = {(1, 2): 3}
        return d[1, 2]
        """,
    ),
    rewritten(
        "a star in a key",
        """
        d = {(1, 2): 3}
        k = [1, 2]
        return d[*k]
        """,
    ),
]


@each(ROWS)
def test_subscript_is_as_the_table_says(row: Row) -> None:
    check(row)
