"""Comprehensions."""

from __future__ import annotations

from languagehelp import Row, check, each, refused, rewritten

NODES = (
    "ListComp",
    "SetComp",
    "DictComp",
    "GeneratorExp",
    "comprehension",
)
ROWS = [
    rewritten(
        "comprehensions",
        """
        return [
            [x * y for x in range(3) for y in range(x) if y],
            {k: v for k, v in zip("ab", [1, 2])},
            sorted({c for c in "hello"}),
        ]
        """,
    ),
    rewritten(
        "nested comprehensions",
        "return [[y for y in range(x)] for x in [1, 2]] + [(lambda z: z + x)(1) for x in (1, 2)]",
    ),
    rewritten(
        "generator expressions",
        """
        return [
            sum(x for x in range(5)),
            any(x > 2 for x in [1, 3]),
            ",".join(str(x) for x in [1, 2]),
            max((x, -x) for x in [1, 2]),
        ]
        """,
    ),
    rewritten(
        "generator by hand",
        """
        g = (x * 2 for x in [1, 2, 3])
        a = next(g)
        return [a, list(g), next(g, "none")]
        """,
    ),
    refused(
        "SR202",
        "an injected function in a generator expression",
        "x = sum(run('a') for a in y)",
        "they are evaluated at once; write a list",
    ),
    refused("SR202", "in its condition", "x = sum(1 for a in y if wait(a))"),
    refused(
        "SR104",
        "async",
        """
        def main():
            return [x async for x in y]
        """,
    ),
]


@each(ROWS)
def test_comprehension_is_as_the_table_says(row: Row) -> None:
    check(row)
