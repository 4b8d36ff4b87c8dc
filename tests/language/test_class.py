"""class."""

from __future__ import annotations

from languagehelp import Row, check, each, refused

NODES = ("ClassDef",)
ROWS = [
    refused(
        "SR105",
        "a class",
        """
        class A:
            pass
        """,
        "use dicts and functions",
    ),
    refused(
        "SR105",
        "with bases",
        """
        class A(dict, metaclass=type):
            x = 1
        """,
    ),
]


@each(ROWS)
def test_class_is_as_the_table_says(row: Row) -> None:
    check(row)
