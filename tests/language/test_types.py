"""Type parameters and aliases of 3.12 and 3.13."""

from __future__ import annotations

from languagehelp import Row, check, each, refused

NODES = (
    "TypeAlias",
    "TypeVar",
    "ParamSpec",
    "TypeVarTuple",
)
ROWS = [
    refused("SR103", "type alias", "type X = int", "leave it out: annotations are not evaluated", since=(3, 12)),
    refused(
        "SR103",
        "type parameter",
        """
        def f[T](x: T) -> T:
            return x
        """,
        since=(3, 12),
    ),
    refused(
        "SR103",
        "ParamSpec",
        """
        def f[**P](x):
            return x
        """,
        since=(3, 12),
    ),
    refused(
        "SR103",
        "TypeVarTuple",
        """
        def f[*T](x):
            return x
        """,
        since=(3, 12),
    ),
    refused(
        "SR103",
        "a default (3.13)",
        """
        def f[T = int](x):
            return x
        """,
        since=(3, 13),
    ),
]


@each(ROWS)
def test_types_is_as_the_table_says(row: Row) -> None:
    check(row)
