"""Template strings of 3.14."""

from __future__ import annotations

from languagehelp import Row, check, each, refused

NODES = (
    "TemplateStr",
    "Interpolation",
)
ROWS = [
    refused("SR103", "a template string", "x = t'a{y}'", "write an f-string", since=(3, 14)),
    refused("SR103", "a format in it", "x = t'{y!r:>5}'", since=(3, 14)),
]


@each(ROWS)
def test_template_is_as_the_table_says(row: Row) -> None:
    check(row)
