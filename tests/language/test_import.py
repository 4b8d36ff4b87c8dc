"""Imports."""

from __future__ import annotations

from languagehelp import Row, check, each, refused, rewritten

NODES = (
    "Import",
    "ImportFrom",
    "alias",
)
ROWS = [
    rewritten(
        "imports",
        """
        import math, json as j
        import urllib.parse
        from itertools import islice, count as c
        from collections import Counter
        return [
            math.floor(2.5),
            j.loads("[1]"),
            urllib.parse.quote("a b"),
            list(islice(c(5), 2)),
            Counter("aab")["a"],
        ]
        """,
    ),
    refused("SR112", "a module that rules have not", "import os"),
    refused("SR112", "a library as a module", "import lib.x", "write from lib.x import NAME"),
    refused("SR112", "a relative import", "from . import x"),
    refused("SR112", "a star", "from math import *"),
    refused("SR112", "a name that a module has not", "from math import sine"),
    rewritten(
        "from __future__",
        """
        from __future__ import annotations
        def main():
            return 1
        """,
        "does nothing",
    ),
]


@each(ROWS)
def test_import_is_as_the_table_says(row: Row) -> None:
    check(row)
