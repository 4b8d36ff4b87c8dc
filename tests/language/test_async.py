"""async and await."""

from __future__ import annotations

from languagehelp import Row, check, each, refused

NODES = (
    "AsyncFunctionDef",
    "AsyncFor",
    "AsyncWith",
    "Await",
)
ROWS = [
    refused(
        "SR104",
        "async def",
        """
        async def f():
            pass
        """,
    ),
    refused(
        "SR104",
        "async for",
        """
        async def f():
            async for x in y:
                pass
        """,
    ),
    refused(
        "SR104",
        "async with",
        """
        async def f():
            async with x:
                pass
        """,
    ),
    refused(
        "SR104",
        "await",
        """
        async def f():
            await x
        """,
    ),
]


@each(ROWS)
def test_async_is_as_the_table_says(row: Row) -> None:
    check(row)
