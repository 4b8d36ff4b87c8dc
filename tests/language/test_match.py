"""match."""

from __future__ import annotations

from languagehelp import Row, check, each, refused, rewritten, works

NODES = (
    "Match",
    "match_case",
    "MatchValue",
    "MatchSingleton",
    "MatchSequence",
    "MatchMapping",
    "MatchClass",
    "MatchStar",
    "MatchAs",
    "MatchOr",
)
ROWS = [
    works(
        "values and captures",
        """
        x = [1, 2, 3]
        match x:
            case [1, *rest]:
                return rest
            case None | 'a':
                return 'small'
            case {'k': v, **others}:
                return [v, others]
            case _:
                return 'other'
        """,
    ),
    rewritten(
        "match",
        """
        def f(x):
            match x:
                case 0 | 1:
                    return "small"
                case int(n) if n > 100:
                    return ["big", n]
                case bool() | int() | float():
                    return "number"
                case "a" | "b" as letter:
                    return letter
                case str():
                    return "text"
                case []:
                    return "empty"
                case [x, y]:
                    return [x, y]
                case [first, *rest]:
                    return [first, rest]
                case {"kind": "k", "v": {"w": w}, **others}:
                    return [w, others]
                case {"kind": _}:
                    return "kind"
                case None:
                    return "none"
                case True:
                    return "yes"
                case (1 | 2, -1.5):
                    return "never"
                case _:
                    return "other"
        return [
            f(x)
            for x in [
                0,
                500,
                7,
                2.5,
                "b",
                "zz",
                [],
                [1, 2],
                [1, 2, 3],
                {"kind": "k", "v": {"w": 4}, "o": 5},
                {"kind": 1},
                None,
                {},
                (8, 9),
            ]
        ]
        """,
    ),
    rewritten(
        "match on a module's value",
        """
        import math
        match 3.141592653589793:
            case math.tau:
                return 1
            case math.pi:
                return 2
        """,
    ),
    refused(
        "SR116",
        "a class of another name",
        """
        match x:
            case Point(x=0):
                pass
        """,
    ),
    refused(
        "SR116",
        "attributes in a class pattern",
        """
        match x:
            case int(real=0):
                pass
        """,
    ),
    refused(
        "SR111",
        "a private capture",
        """
        match x:
            case _y:
                pass
        """,
    ),
]


@each(ROWS)
def test_match_is_as_the_table_says(row: Row) -> None:
    check(row)
