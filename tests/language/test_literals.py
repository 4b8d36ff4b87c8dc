"""Literals and displays."""

from __future__ import annotations

from languagehelp import Row, check, each, refused, rewritten, works

NODES = (
    "Constant",
    "List",
    "Tuple",
    "Dict",
    "Set",
    "Load",
    "Store",
)
ROWS = [
    works("constants", "return [1, 1.5, 2j, 'a', b'b', None, True, ...]"),
    works("lists, tuples and dicts", "return [[1, 2], (3,), {'a': 1}]"),
    rewritten(
        "dict displays",
        """
        a = {"x": 1}
        return [
            {**a, "y": 2},
            a | {"x": 3},
            dict(a, z=1),
            dict([("p", 1)]),
            {}.get("q", 5),
            list(a.items()),
            "x" in a.keys(),
            dict.fromkeys("ab", 0),
        ]
        """,
    ),
    rewritten(
        "set literals",
        """
        s = {3, 1, 2, *[5]}
        s.add(4)
        s.discard(1)
        s |= {9}
        return [
            sorted(s),
            3 in s,
            len(s),
            s == {2, 3, 4, 5, 9},
            sorted(s & {3, 4}),
            sorted(s - {3}),
            sorted(s ^ {3, 8}),
            s > {2},
            s.issuperset([2]),
        ]
        """,
    ),
    refused("SR102", "a number of more than 4096 bits", "x = 0x" + "f" * 1100),
]


@each(ROWS)
def test_literals_is_as_the_table_says(row: Row) -> None:
    check(row)
