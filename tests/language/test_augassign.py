"""Augmented assignment."""

from __future__ import annotations

from languagehelp import Row, check, each, refused, rewritten, works

NODES = ("AugAssign",)
ROWS = [
    rewritten(
        "augmented names",
        """
        a = 5
        a += 2
        a -= 1
        a *= 3
        a %= 7
        a **= 2
        a <<= 2
        a |= 1
        a //= 2
        return a
        """,
    ),
    rewritten(
        "augmented with names",
        """
        a, b = 5, 3
        a += b
        a *= b
        a -= b
        a %= b
        return a
        """,
    ),
    rewritten(
        "augmented text",
        """
        s = "a"
        t = "b"
        s += t
        s += "c"
        s *= 2
        return s
        """,
    ),
    rewritten(
        "augmented list keeps identity",
        """
        a = [1]
        b = a
        c = [2]
        a += c
        a *= 2
        a += (3,)
        return b
        """,
    ),
    rewritten(
        "augmented tuple",
        """
        a = (1,)
        b = a
        c = (2,)
        a += c
        return [a, b]
        """,
    ),
    rewritten(
        "augmented item",
        """
        d = {"n": 1, "l": [1]}
        l = d["l"]
        d["n"] += 2
        d["n"] *= 5
        x = [9]
        d["l"] += x
        return [d, l]
        """,
    ),
    rewritten(
        "augmented item evaluates once",
        """
        calls = []
        def f(x):
            calls.append(x)
            return x
        d = {"k": 1}
        def get():
            calls.append("d")
            return d
        get()[f("k")] += f(5)
        get()[f("k")] -= f(1)
        return [d, calls]
        """,
    ),
    rewritten(
        "augmented nested item",
        """
        d = {"a": {"b": [1, 2]}}
        d["a"]["b"][0] += d["a"]["b"][1]
        return d
        """,
    ),
    rewritten(
        "augmented slice",
        """
        a = [1, 2, 3]
        a[1:] += [9]
        a[:1] *= 3
        return a
        """,
    ),
    rewritten(
        "augmented nonlocal",
        """
        n = 1
        k = 2
        def f():
            nonlocal n
            n += k
            n *= 2
            return n
        return [f(), f(), n]
        """,
    ),
    works(
        "a calm operator on a name",
        """
        x = 5
        x -= 1
        return x
        """,
    ),
    refused("SR114", "an attribute", "x.y += 1"),
    refused("SR103", "a slice, another operator", "x[1:2] -= y"),
]


@each(ROWS)
def test_augassign_is_as_the_table_says(row: Row) -> None:
    check(row)
