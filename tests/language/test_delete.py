"""del."""

from __future__ import annotations

from languagehelp import Row, check, each, refused, rewritten, works

NODES = (
    "Delete",
    "Del",
)
ROWS = [
    works(
        "delete items",
        """
        d = {"a": 1, "b": 2}
        del d["a"]
        x = 1
        del x
        return d
        """,
    ),
    refused("SR114", "an attribute", "del x.y"),
    rewritten(
        "a slice",
        """
        a = [1, 2, 3]
        del a[0:2]
        return a
        """,
        "the parts are written out",
    ),
]


@each(ROWS)
def test_delete_is_as_the_table_says(row: Row) -> None:
    check(row)
