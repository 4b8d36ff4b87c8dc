"""Assignment."""

from __future__ import annotations

from languagehelp import Row, check, each, refused, rewritten, works

NODES = (
    "Assign",
    "AnnAssign",
    "NamedExpr",
    "Starred",
)
ROWS = [
    works(
        "a name",
        """
        x = 1
        return x
        """,
    ),
    rewritten(
        "annotated, plain value",
        """
        x: int = 1
        return x
        """,
        "the annotation is dropped, unevaluated",
    ),
    rewritten(
        "annotated",
        """
        x: int = 1
        y: list
        z: dict = {"a": x}
        return [x, z]
        """,
    ),
    rewritten(
        "chained assignment",
        """
        calls = []
        def f():
            calls.append(1)
            return (1, 2)
        x = (a, b) = [c, d] = f()
        return [x, a, b, c, d, calls]
        """,
    ),
    works(
        "swap",
        """
        a, b = 1, 2
        a, b = b, a
        return [a, b]
        """,
    ),
    rewritten(
        "star assignment",
        """
        a, *b, c = range(6)
        *d, e = "xyz"
        return [a, b, c, d, e]
        """,
    ),
    rewritten(
        "star in loops",
        """
        r = []
        for a, *b in [(1, 2, 3), "xy"]:
            r.append([a, b])
        return r
        """,
    ),
    rewritten(
        "nested unpacking",
        """
        (a, (b, [c, d])) = 1, (2, [3, 4])
        for i, (k, v) in enumerate({"x": 1}.items()):
            r = [i, k, v]
        return [a, b, c, d, r]
        """,
    ),
    works(
        "an item",
        """
        d = {}
        d['k'] = 1
        return d
        """,
    ),
    rewritten(
        "slice in chain",
        """
        a = [1, 2, 3]
        b = a[0:1] = [8, 9]
        return [a, b]
        """,
    ),
    rewritten(
        "walrus",
        """
        if (n := len([1, 2])) > 1:
            r = n
        while (n := n - 1) > -3:
            pass
        return [r, n, [y := 1, y**2], [last := x for x in range(3)], last]
        """,
    ),
    rewritten(
        "stars in displays and calls",
        'return [max(*[1, 2, 3]), [*"ab", *range(2)], (*[1], 2), print and len([*{1: 2}])]',
    ),
    rewritten(
        "underscore",
        """
        _ = 1
        for _ in range(3):
            pass
        a, _ = 7, 8
        return [a, _]
        """,
    ),
    refused("SR114", "an attribute", "x.y = 1"),
    refused(
        "SR114",
        "an attribute in a loop",
        """
        for x.y in z:
            pass
        """,
    ),
    refused("SR117", "a star in a nested target", "(a, (b, *c)) = x"),
    refused("SR111", "a name that begins with an underscore", "_x = 1"),
    refused("SR103", "a slice among several targets", "a[0:1], b = 1, 2"),
]


@each(ROWS)
def test_assign_is_as_the_table_says(row: Row) -> None:
    check(row)
