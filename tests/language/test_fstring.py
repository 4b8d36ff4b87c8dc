"""f-strings."""

from __future__ import annotations

from languagehelp import Row, check, each, refused, rewritten

NODES = (
    "JoinedStr",
    "FormattedValue",
)
ROWS = [
    rewritten(
        "f-strings",
        """
        x, w, d = 3.14159, 8, {"a": [1]}
        return [
            f"{x:.2f}",
            f"{x:>{w}.1f}|",
            f"{d!r:>12}",
            f"{x=}",
            f"{{}}",
            f"{d['a'][0]}",
            f"{x!s}y",
            f"",
            f"{None}{True}",
        ]
        """,
    ),
    rewritten(
        "nested quotes",
        """
        d = {'a': 1}
        return f'{d['a']}'
        """,
        since=(3, 12),
    ),
    refused("SR111", "an attribute behind the guards", "x = f'{y.__class__}'"),
]


@each(ROWS)
def test_fstring_is_as_the_table_says(row: Row) -> None:
    check(row)
