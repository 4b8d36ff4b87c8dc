"""Calls."""

from __future__ import annotations

from languagehelp import Row, check, each, refused, rewritten, works

NODES = (
    "Call",
    "keyword",
)
ROWS = [
    works(
        "arguments",
        """
        f = len
        return max(f('ab'), 1)
        """,
    ),
    rewritten("stars", "return max(*[1, 2], *(3,))"),
    works("keywords", "return dict(a=1, **{'b': 2})"),
    rewritten(
        "recursion",
        """
        def fib(n):
            return n if n < 2 else fib(n - 1) + fib(n - 2)
        return fib(12)
        """,
    ),
    refused("SR111", "a private keyword", "f(_x=1)"),
]


@each(ROWS)
def test_call_is_as_the_table_says(row: Row) -> None:
    check(row)
