"""Operators."""

from __future__ import annotations

from languagehelp import Row, check, each, rewritten, works

NODES = (
    "BinOp",
    "UnaryOp",
    "BoolOp",
    "And",
    "Or",
    "Not",
    "Invert",
    "UAdd",
    "USub",
    "Add",
    "Sub",
    "Mult",
    "Div",
    "FloorDiv",
    "Mod",
    "Pow",
    "LShift",
    "RShift",
    "BitOr",
    "BitXor",
    "BitAnd",
    "MatMult",
)
ROWS = [
    works("- / // >> | ^ &", "return [7 - 2, 7 / 2, 7 // 2, 9 >> 1, 6 | 1, 6 ^ 2, 6 & 3]"),
    works("unary", "return [-1, +1, ~1, not 1]"),
    rewritten(
        "@",
        """
        try:
            1 @ 2
        except TypeError:
            return 'no matrices'
        """,
        "there are no types that have it",
    ),
    rewritten(
        "arithmetic", "return [7 // 2, 7 % 3, 2**10, 1 << 4, 7 / 2, -7 % 3, 5 * 3 - 1, 6 & 3, 6 | 1, 6 ^ 2, ~5, 9 >> 1]"
    ),
    rewritten(
        "mixed arithmetic",
        """
        a, b, s = 3, 2.5, "x"
        return [a + b, a * b, b * a, a**b, b % a, s * a, a * s, s + s, (a + b) % 2]
        """,
    ),
    works("boolean operators", 'return [0 or "a", 1 and "b", "" or None, 1 if [] else 2]'),
    rewritten("** and <<", "return [3 ** 4, 1 << 5]", "bounded before they are computed"),
    rewritten(
        "+ * %",
        """
        a, b = [1], 'x%s'
        return [a + a, a * 3, b % 2]
        """,
        "bounded",
    ),
]


@each(ROWS)
def test_operators_is_as_the_table_says(row: Row) -> None:
    check(row)
