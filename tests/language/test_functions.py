"""Functions."""

from __future__ import annotations

from languagehelp import Row, check, each, refused, rewritten, works

NODES = (
    "FunctionDef",
    "arguments",
    "arg",
    "Return",
)
ROWS = [
    works("return", "return 1"),
    works(
        "a function",
        """
        def f(x):
            return x
        return f(1)
        """,
        "a call takes a step",
    ),
    rewritten(
        "signatures",
        """
        def f(a, /, b, *c, d=4, **e):
            return [a, b, c, d, e]
        return [f(1, 2), f(1, *[2, 3], **{"d": 5, "x": 6}), f(*"ab", *[1], **{}, **{"y": 1})]
        """,
    ),
    rewritten(
        "annotations",
        """
        def f(a: int, *b: str, c: "list[int]" = None) -> dict:
            return a
        return f(1)
        """,
    ),
    rewritten(
        "decorators",
        """
        def twice(f):
            def g(x):
                return f(f(x))
            return g
        def add(n):
            return lambda f: lambda x: f(x) + n
        @twice
        @add(3)
        def h(x):
            return x * 2
        return h(1)
        """,
    ),
    rewritten(
        "docstring",
        """
        def f():
            "text"
            return 1
        return f()
        """,
    ),
    works(
        "several returns",
        """
        n = 5
        if n > 10:
            return 1
        elif n > 4:
            return 2
        else:
            return 3
        """,
    ),
    refused(
        "SR111",
        "a private function",
        """
        def _f():
            pass
        """,
    ),
    refused(
        "SR111",
        "a private parameter",
        """
        def f(_x):
            pass
        """,
    ),
]


@each(ROWS)
def test_functions_is_as_the_table_says(row: Row) -> None:
    check(row)
