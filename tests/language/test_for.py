"""Loops."""

from __future__ import annotations

from languagehelp import Row, check, each, rewritten, works

NODES = (
    "For",
    "While",
    "Break",
    "Continue",
)
ROWS = [
    rewritten(
        "for with else",
        """
        for i in range(3):
            if i == 5:
                break
        else:
            i = 9
        return i
        """,
    ),
    rewritten(
        "list changed while it is iterated",
        """
        xs = [1, 2, 3]
        r = []
        for x in xs:
            r.append(x)
            if x < 3 and len(xs) < 6:
                xs.append(x + 5)
        return r
        """,
    ),
    rewritten(
        "while with else",
        """
        r = []
        n = 0
        while n < 3:
            n += 1
            if n == 2:
                continue
            r.append(n)
        else:
            r.append("end")
        return r
        """,
    ),
    works(
        "while with break",
        """
        n = 0
        while True:
            n += 1
            if n > 4:
                break
        else:
            n = 100
        return n
        """,
    ),
    rewritten(
        "while nested",
        """
        r = []
        i = 0
        while i < 3:
            j = 0
            while j < 2:
                j += 1
                if j == i:
                    break
            r.append([i, j])
            i += 1
        return r
        """,
    ),
]


@each(ROWS)
def test_for_is_as_the_table_says(row: Row) -> None:
    check(row)
