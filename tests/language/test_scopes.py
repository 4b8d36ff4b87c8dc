"""Names and scopes."""

from __future__ import annotations

from languagehelp import Row, check, each, refused, rewritten, works

NODES = (
    "Name",
    "Global",
    "Nonlocal",
    "Module",
)
ROWS = [
    works(
        "a name",
        """
        x = 1
        return x
        """,
    ),
    rewritten("global names", "return len([1]) + abs(-1)"),
    rewritten(
        "parameters named like refused functions",
        """
        def f(id, hash=1, open=2):
            return [id, hash, open]
        input = 5
        return f(1) + [input]
        """,
    ),
    rewritten(
        "nonlocal",
        """
        def counter():
            n = 0
            def step(by=1):
                nonlocal n
                n += by
                return n
            return step
        c = counter()
        return [c(), c(5), counter()()]
        """,
    ),
    rewritten(
        "a file",
        '''
        """A rule."""
        from __future__ import annotations
        from functools import reduce
        on = "a.b"
        LIMIT: int = 3
        when = lambda task: task["size"] > 0
        def helper(x):
            return x + LIMIT
        def main():
            return [helper(1), when({"size": 1}), reduce(lambda a, b: a + b, [1, 2, 3]), on]
        ''',
    ),
    refused(
        "SR108",
        "global",
        """
        def f():
            global x
            x = 1
        """,
    ),
    refused("SR115", "functions that rules have not: eval", "x = eval('1')"),
    refused("SR115", "open", "x = open('f')"),
    refused("SR115", "id", "x = id(1)"),
    refused("SR111", "a private name", "x = _y"),
    refused(
        "SR111",
        "nonlocal of a private name",
        """
        def f():
            nonlocal _x
        """,
    ),
]


@each(ROWS)
def test_scopes_is_as_the_table_says(row: Row) -> None:
    check(row)
