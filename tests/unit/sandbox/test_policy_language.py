"""What the built-in functions and methods do, compared with Python itself; and how the policy says no.

The grammar, construct by construct, is in tests/language.
"""

from __future__ import annotations

import textwrap

import pytest

from rulehelp import as_python, as_rule
from scriptrules.diagnostics import CODES, Rejected
from scriptrules.sandbox import signals
from scriptrules.sandbox.policy import compile_source

WORKS = {
    "percent": """
        return [
            "%s-%r-%5d|%-5s|%05.1f" % ("a", "b", 3, "c", 2.55),
            "%(k)s %(n)03d%%" % {"k": [1], "n": 7},
            "%x %o %e %g %c" % (255, 8, 1e5, 0.5, "z"),
            "%*d|%-*d|%.*f" % (5, 1, 4, 2, 1, 2.25),
            "%s" % [1, "x"],
            "%s" % None,
        ]
        """,
    "str.format": """
        return [
            "{} {}".format(1, "a"),
            "{0[k]} {n:>5} {1!r}".format({"k": 1}, "q", n=2),
            "{:{w}.{p}f}".format(2.5, w=8, p=2),
            "{a}".format_map({"a": 1}),
            "{{{0}}}".format(3),
            "{0.real}".format(5),
        ]
        """,
    "frozensets": """
        f = frozenset([1, 2])
        return [
            f == {1, 2},
            {f: 1}[frozenset([2, 1])],
            sorted(f | {3}),
            f < {1, 2, 3},
            isinstance(f, frozenset),
        ]
        """,
    "dict views": """
        a = {"x": 1, "y": 2}
        k = a.keys()
        a["z"] = 3
        return [
            sorted(k),
            len(k),
            sorted(k & {"x", "q"}),
            sorted(k - ["x"]),
            list(reversed(a)),
            ("x", 1) in a.items(),
            k == {"x", "y", "z"},
        ]
        """,
    "built-in functions": """
        return [
            sum([1, 2.5]),
            min(3, 1),
            max([1, 5]),
            sorted("cab", reverse=True),
            list(map(str, [1])),
            list(filter(None, [0, 1])),
            list(zip("ab", [1, 2])),
            list(reversed([1, 2])),
            list(enumerate("a", 1)),
            all([]),
            any([0, 1]),
            abs(-2),
            round(2.567, 2),
            divmod(7, 2),
            pow(2, 3),
            pow(2, 3, 5),
            bin(5),
            hex(255),
            ord("a"),
            chr(98),
            len("abc"),
            isinstance(True, int),
            isinstance("a", (int, str)),
            callable(len),
            repr("a"),
            format(3, "03d"),
        ]
        """,
    "types": r"""
        return [
            int("12"),
            int("ff", 16),
            float("1.5"),
            str(1.0),
            bool([]),
            list("ab"),
            tuple([1]),
            dict(a=1),
            bytes([65]),
            str(b"a", "utf-8"),
            int.from_bytes(b"\x01\x00", "big"),
            str.upper("x"),
            list(map(str.strip, [" a "])),
            isinstance(1, int | str),
        ]
        """,
    "text methods": r"""
        s = "Hello World"
        return [
            s.lower(),
            s.split(),
            "-".join(["a", "b"]),
            s.replace("l", "L"),
            s.center(15, "*"),
            s.zfill(13),
            s.find("o"),
            s.encode(),
            s.partition(" "),
            "a\tb".expandtabs(4),
            s.startswith(("H", "x")),
            "x".ljust(3) + "|",
            s.title(),
            s.translate({72: "J"}),
        ]
        """,
    "list methods": """
        a = [3, 1]
        a.append(2)
        a.extend((5, 4))
        a.sort()
        a.insert(0, 9)
        a.remove(5)
        b = a.copy()
        b.reverse()
        return [a, b, a.pop(), a.index(3), a.count(1)]
        """,
    "iter and next": """
        it = iter([1, 2, 3])
        r = [next(it)]
        for x in it:
            r.append(x)
        return [r, next(iter([]), "d")]
        """,
    "bytes": """
        return [b"a%d" % 5, b"ab".hex(), b"-".join([b"a", b"b"]), b"abc".decode(), b"a" + b"b", b"abc"[1]]
        """,
    "deep copy": """
        import copy
        a = {"x": [1, {"y": 2}]}
        b = copy.deepcopy(a)
        b["x"][1]["y"] = 3
        return [a, b]
        """,
}


def _main(body: str) -> str:
    return "def main():\n" + textwrap.indent(textwrap.dedent(body).strip("\n"), "    ")


@pytest.mark.parametrize("name", WORKS)
def test_what_works_gives_what_python_gives(name: str) -> None:
    source = _main(WORKS[name])
    assert as_rule(source) == as_python(source)


@pytest.mark.parametrize("source", ["x = " + "-" * 50_000 + "1", "#" * 100_001], ids=["deep", "long"])
def test_a_source_that_would_break_the_compiler_is_refused(source: str) -> None:
    with pytest.raises(Rejected) as caught:
        compile_source(source, "rule.py")
    assert caught.value.diagnostics[0].code == "SR102"


def test_all_violations_of_a_file_are_reported_at_once() -> None:
    with pytest.raises(Rejected) as caught:
        compile_source("import os\nclass A:\n    pass\n_x = 1\nwith y:\n    pass\n", "rule.py")
    found = [(found.code, found.line) for found in caught.value.diagnostics]
    assert found == [("SR112", 1), ("SR105", 2), ("SR111", 4), ("SR107", 5)]


def test_the_column_of_a_diagnostic_is_that_of_the_syntax_tree() -> None:
    with pytest.raises(Rejected) as caught:
        compile_source("x = 1 + _y", "rule.py")
    assert (caught.value.diagnostics[0].column, caught.value.diagnostics[0].end_column) == (8, 10)


def test_a_module_that_rules_lack_is_explained() -> None:
    with pytest.raises(Rejected, match=r"now\(\)"):
        compile_source("import time", "rule.py")
    with pytest.raises(Rejected, match="statistics"):
        compile_source("import statistic", "rule.py")


def test_every_code_has_a_title_a_reason_and_an_alternative() -> None:
    for code, info in CODES.items():
        assert code.startswith("SR")
        assert info.title
        assert info.why
        assert info.instead


def test_the_tree_is_the_one_that_the_author_wrote() -> None:
    tree = compile_source("on = 'a'\ndef main():\n    while True:\n        pass\n", "rule.py").tree
    assert [type(node).__name__ for node in tree.body] == ["Assign", "FunctionDef"]
    assert type(tree.body[1].body[0]).__name__ == "While"


@pytest.mark.parametrize(
    "body",
    [
        "while True:\n    pass",
        "for i in range(10 ** 9):\n    pass",
        "[0 for i in range(10 ** 9)]",
        "f = lambda: [f(), f()]\nf()",
    ],
)
def test_running_out_of_steps_ends_the_script_and_cannot_be_caught(body: str) -> None:
    source = f"def main():\n    try:\n{textwrap.indent(body, ' ' * 8)}\n    except Exception:\n        return 1"
    with pytest.raises((signals.LimitExceeded, RecursionError)) as caught:
        as_rule(source, steps=5000)
    assert getattr(caught.value, "kind", "recursion") in ("steps", "recursion")


def test_steps_are_counted_the_same_every_time() -> None:
    left = []
    for _ in range(3):
        scope = signals.Scope()
        as_rule("def f(x):\n    return x\ndef main():\n    for i in range(700):\n        f(i)", scope=scope, steps=5000)
        left.append(scope.steps)
    assert left == [5000 - 1 - 700 - 700] * 3


def test_a_refill_gives_a_suspended_loop_new_steps() -> None:
    class Refilling(signals.Scope):
        def write(self, text: str) -> None:
            self.steps = 100

    source = "def main():\n    for i in range(1000):\n        if i % 50 == 0:\n            print(i)\n    return i"
    assert as_rule(source, scope=Refilling(), steps=100) == 999
