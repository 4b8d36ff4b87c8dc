"""What the language has, compared with Python itself; and what it refuses, with code and position."""

from __future__ import annotations

import textwrap

import pytest
from rulehelp import as_python, as_rule

from scriptrules.diagnostics import CODES, Rejected
from scriptrules.sandbox import signals
from scriptrules.sandbox.policy import compile_expression, compile_source

WORKS = {
    "arithmetic": """
        return [7 // 2, 7 % 3, 2**10, 1 << 4, 7 / 2, -7 % 3, 5 * 3 - 1, 6 & 3, 6 | 1, 6 ^ 2, ~5, 9 >> 1]
        """,
    "mixed arithmetic": """
        a, b, s = 3, 2.5, "x"
        return [a + b, a * b, b * a, a**b, b % a, s * a, a * s, s + s, (a + b) % 2]
        """,
    "augmented names": """
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
    "augmented with names": """
        a, b = 5, 3
        a += b
        a *= b
        a -= b
        a %= b
        return a
        """,
    "augmented text": """
        s = "a"
        t = "b"
        s += t
        s += "c"
        s *= 2
        return s
        """,
    "augmented list keeps identity": """
        a = [1]
        b = a
        c = [2]
        a += c
        a *= 2
        a += (3,)
        return b
        """,
    "augmented tuple": """
        a = (1,)
        b = a
        c = (2,)
        a += c
        return [a, b]
        """,
    "augmented item": """
        d = {"n": 1, "l": [1]}
        l = d["l"]
        d["n"] += 2
        d["n"] *= 5
        x = [9]
        d["l"] += x
        return [d, l]
        """,
    "augmented item evaluates once": """
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
    "augmented nested item": """
        d = {"a": {"b": [1, 2]}}
        d["a"]["b"][0] += d["a"]["b"][1]
        return d
        """,
    "augmented slice": """
        a = [1, 2, 3]
        a[1:] += [9]
        a[:1] *= 3
        return a
        """,
    "augmented nonlocal": """
        n = 1
        k = 2
        def f():
            nonlocal n
            n += k
            n *= 2
            return n
        return [f(), f(), n]
        """,
    "annotated": """
        x: int = 1
        y: list
        z: dict = {"a": x}
        return [x, z]
        """,
    "chained assignment": """
        calls = []
        def f():
            calls.append(1)
            return (1, 2)
        x = (a, b) = [c, d] = f()
        return [x, a, b, c, d, calls]
        """,
    "star assignment": """
        a, *b, c = range(6)
        *d, e = "xyz"
        return [a, b, c, d, e]
        """,
    "star in loops": """
        r = []
        for a, *b in [(1, 2, 3), "xy"]:
            r.append([a, b])
        return r
        """,
    "nested unpacking": """
        (a, (b, [c, d])) = 1, (2, [3, 4])
        for i, (k, v) in enumerate({"x": 1}.items()):
            r = [i, k, v]
        return [a, b, c, d, r]
        """,
    "swap": """
        a, b = 1, 2
        a, b = b, a
        return [a, b]
        """,
    "slices": """
        a = list(range(10))
        a[2:4] = [7, 7, 7]
        del a[0]
        del a[1:3]
        return [a, a[1:3], a[::-1], "abc"[1:]]
        """,
    "slice in chain": """
        a = [1, 2, 3]
        b = a[0:1] = [8, 9]
        return [a, b]
        """,
    "delete items": """
        d = {"a": 1, "b": 2}
        del d["a"]
        x = 1
        del x
        return d
        """,
    "while with else": """
        r = []
        n = 0
        while n < 3:
            n += 1
            if n == 2:
                continue
            r.append(n)
        else:
            r.append("end")
        return r
        """,
    "while with break": """
        n = 0
        while True:
            n += 1
            if n > 4:
                break
        else:
            n = 100
        return n
        """,
    "while nested": """
        r = []
        i = 0
        while i < 3:
            j = 0
            while j < 2:
                j += 1
                if j == i:
                    break
            r.append([i, j])
            i += 1
        return r
        """,
    "for with else": """
        for i in range(3):
            if i == 5:
                break
        else:
            i = 9
        return i
        """,
    "list changed while it is iterated": """
        xs = [1, 2, 3]
        r = []
        for x in xs:
            r.append(x)
            if x < 3 and len(xs) < 6:
                xs.append(x + 5)
        return r
        """,
    "comprehensions": """
        return [
            [x * y for x in range(3) for y in range(x) if y],
            {k: v for k, v in zip("ab", [1, 2])},
            sorted({c for c in "hello"}),
        ]
        """,
    "nested comprehensions": """
        return [[y for y in range(x)] for x in [1, 2]] + [(lambda z: z + x)(1) for x in (1, 2)]
        """,
    "generator expressions": """
        return [
            sum(x for x in range(5)),
            any(x > 2 for x in [1, 3]),
            ",".join(str(x) for x in [1, 2]),
            max((x, -x) for x in [1, 2]),
        ]
        """,
    "generator by hand": """
        g = (x * 2 for x in [1, 2, 3])
        a = next(g)
        return [a, list(g), next(g, "none")]
        """,
    "closures": """
        def counter():
            n = 0
            def step(by=1):
                nonlocal n
                n += by
                return n
            return step
        c = counter()
        return [c(), c(5), counter()()]
        """,
    "lambda": """
        f = lambda x, *a, y=2, **k: [x, a, y, k]
        return [f(1), f(1, 2, y=3, z=4), sorted([3, 1, 2], key=lambda v: -v)]
        """,
    "signatures": """
        def f(a, /, b, *c, d=4, **e):
            return [a, b, c, d, e]
        return [f(1, 2), f(1, *[2, 3], **{"d": 5, "x": 6}), f(*"ab", *[1], **{}, **{"y": 1})]
        """,
    "annotations": """
        def f(a: int, *b: str, c: "list[int]" = None) -> dict:
            return a
        return f(1)
        """,
    "decorators": """
        def twice(f):
            def g(x):
                return f(f(x))
            return g
        def add(n):
            return lambda f: lambda x: f(x) + n
        @twice
        @add(3)
        def h(x):
            return x * 2
        return h(1)
        """,
    "recursion": """
        def fib(n):
            return n if n < 2 else fib(n - 1) + fib(n - 2)
        return fib(12)
        """,
    "walrus": """
        if (n := len([1, 2])) > 1:
            r = n
        while (n := n - 1) > -3:
            pass
        return [r, n, [y := 1, y**2], [last := x for x in range(3)], last]
        """,
    "f-strings": """
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
    "set literals": """
        s = {3, 1, 2, *[5]}
        s.add(4)
        s.discard(1)
        s |= {9}
        return [
            sorted(s),
            3 in s,
            len(s),
            s == {2, 3, 4, 5, 9},
            sorted(s & {3, 4}),
            sorted(s - {3}),
            sorted(s ^ {3, 8}),
            s > {2},
            s.issuperset([2]),
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
    "dict displays": """
        a = {"x": 1}
        return [
            {**a, "y": 2},
            a | {"x": 3},
            dict(a, z=1),
            dict([("p", 1)]),
            {}.get("q", 5),
            list(a.items()),
            "x" in a.keys(),
            dict.fromkeys("ab", 0),
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
    "unpack calls": """
        return [max(*[1, 2, 3]), [*"ab", *range(2)], (*[1], 2), print and len([*{1: 2}])]
        """,
    "comparisons": """
        x = 3
        return [
            1 < x <= 3,
            x is None,
            x is not None,
            x in [3],
            "a" not in "bc",
            not x,
            x == 3.0,
            (x is True) is False,
        ]
        """,
    "boolean operators": """
        return [0 or "a", 1 and "b", "" or None, 1 if [] else 2]
        """,
    "try": """
        r = []
        for f in [lambda: 1 / 0, lambda: {}["k"], lambda: int("x"), lambda: [][1], lambda: None.x, lambda: 1]:
            try:
                v = f()
            except ZeroDivisionError:
                r.append("zero")
            except (KeyError, IndexError) as e:
                r.append([type(e) == KeyError, e.args])
            except Exception as e:
                r.append(str(e))
            else:
                r.append(v)
            finally:
                r.append("f")
        return r
        """,
    "raise": """
        try:
            try:
                raise ValueError("a", 1)
            except ValueError as e:
                raise KeyError("b") from e
        except KeyError as e:
            return [str(e), e.args]
        """,
    "reraise": """
        r = []
        try:
            try:
                1 / 0
            except ZeroDivisionError:
                r.append(1)
                raise
        except ArithmeticError:
            r.append(2)
        return r
        """,
    "return through finally": """
        r = []
        def f():
            try:
                return 1
            finally:
                r.append(2)
        return [f(), r]
        """,
    "loop in finally": """
        r = []
        try:
            pass
        finally:
            for i in range(5):
                if i == 1:
                    continue
                if i == 3:
                    break
                r.append(i)
        return r
        """,
    "assert": """
        try:
            assert 1 == 2, "no"
        except AssertionError as e:
            return str(e)
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
    "match": """
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
    "match on a module's value": """
        import math
        match 3.141592653589793:
            case math.tau:
                return 1
            case math.pi:
                return 2
        """,
    "imports": """
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
    "underscore": """
        _ = 1
        for _ in range(3):
            pass
        a, _ = 7, 8
        return [a, _]
        """,
    "parameters named like refused functions": """
        def f(id, hash=1, open=2):
            return [id, hash, open]
        input = 5
        return f(1) + [input]
        """,
    "global names": "return len([1]) + abs(-1)",
    "iter and next": """
        it = iter([1, 2, 3])
        r = [next(it)]
        for x in it:
            r.append(x)
        return [r, next(iter([]), "d")]
        """,
    "conditional chains": """
        n = 5
        if n > 10:
            return 1
        elif n > 4:
            return 2
        else:
            return 3
        """,
    "docstring": """
        def f():
            "text"
            return 1
        return f()
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
    "getattr": """
        return [getattr("abc", "upper")(), hasattr([], "append"), hasattr([], "nope"), getattr(1, "nope", 5)]
        """,
}

MODULE = '''
"""A rule."""
from __future__ import annotations
from functools import reduce
on = "a.b"
LIMIT: int = 3
when = lambda task: task["size"] > 0
def helper(x):
    return x + LIMIT
def main():
    return [helper(1), when({"size": 1}), reduce(lambda a, b: a + b, [1, 2, 3]), on]
'''

REFUSED = {
    "async def f():\n    pass": ("SR104", 1),
    "def main():\n    return [x async for x in y]": ("SR104", 2),
    "x = 1\nclass A:\n    pass": ("SR105", 2),
    "def f():\n    yield 1": ("SR106", 2),
    "def f():\n    yield from x": ("SR106", 2),
    "with f() as x:\n    pass": ("SR107", 1),
    "def f():\n    global x\n    x = 1": ("SR108", 2),
    "try:\n    pass\nexcept:\n    pass": ("SR109", 3),
    "try:\n    pass\nexcept BaseException:\n    pass": ("SR115", 3),
    "try:\n    pass\nexcept (KeyError, SystemExit):\n    pass": ("SR115", 3),
    "def f():\n    try:\n        pass\n    finally:\n        return 1": ("SR110", 5),
    "for x in y:\n    try:\n        pass\n    finally:\n        break": ("SR110", 5),
    "for x in y:\n    try:\n        pass\n    finally:\n        if x:\n            continue": ("SR110", 6),
    "for x in y:\n  try:\n    pass\n  finally:\n    for z in y:\n      pass\n    else:\n      break": (
        "SR110",
        8,
    ),
    "_x = 1": ("SR111", 1),
    "x = y.__class__": ("SR111", 1),
    "def _f():\n    pass": ("SR111", 1),
    "def f(_x):\n    pass": ("SR111", 1),
    "f(_x=1)": ("SR111", 1),
    "import os": ("SR112", 1),
    "import lib.x": ("SR112", 1),
    "from . import x": ("SR112", 1),
    "from math import *": ("SR112", 1),
    "from math import sine": ("SR112", 1),
    "try:\n    pass\nexcept f():\n    pass": ("SR113", 3),
    "try:\n    pass\nexcept a.b:\n    pass": ("SR113", 3),
    "x.y = 1": ("SR114", 1),
    "x.y += 1": ("SR114", 1),
    "del x.y": ("SR114", 1),
    "for x.y in z:\n    pass": ("SR114", 1),
    "x = eval('1')": ("SR115", 1),
    "x = open('f')": ("SR115", 1),
    "x = id(1)": ("SR115", 1),
    "x = y.gi_frame": ("SR115", 1),
    "match x:\n    case Point(x=0):\n        pass": ("SR116", 2),
    "match x:\n    case int(real=0):\n        pass": ("SR116", 2),
    "(a, (b, *c)) = x": ("SR117", 1),
    "x = y is z": ("SR201", 1),
    "x = y is 1": ("SR201", 1),
    "x = sum(run('a') for a in y)": ("SR202", 1),
    "x = sum(1 for a in y if wait(a))": ("SR202", 1),
    "try:\n    pass\nexcept* ValueError:\n    pass": ("SR103", 1),
    "x = (": ("SR101", 1),
    "x = '\ud800'": ("SR101", 1),
    "x = " + "[" * 150 + "]" * 150: ("SR102", 1),
    "x = " + "-" * 50_000 + "1": ("SR102", 1),
    "#" * 100_001: ("SR102", 1),
}


def _main(body: str) -> str:
    return "def main():\n" + textwrap.indent(textwrap.dedent(body).strip("\n"), "    ")


@pytest.mark.parametrize("name", WORKS)
def test_what_works_gives_what_python_gives(name: str) -> None:
    source = _main(WORKS[name])
    assert as_rule(source) == as_python(source)


def test_a_module_is_executed_as_python_executes_it() -> None:
    assert as_rule(MODULE) == as_python(MODULE)


@pytest.mark.parametrize(("source", "expected"), REFUSED.items())
def test_what_is_refused_has_a_code_a_line_and_a_hint(source: str, expected: tuple[str, int]) -> None:
    with pytest.raises(Rejected) as caught:
        compile_source(source, "rule.py")
    first = caught.value.diagnostics[0]
    assert (first.code, first.line) == expected
    assert first.hint


def test_all_violations_of_a_file_are_reported_at_once() -> None:
    with pytest.raises(Rejected) as caught:
        compile_source("import os\nclass A:\n    pass\n_x = 1\nwith y:\n    pass\n", "rule.py")
    assert [found.code for found in caught.value.diagnostics] == ["SR112", "SR105", "SR111", "SR107"]


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


@pytest.mark.parametrize("text", ["task['n'] > 1 and any(x > 2 for x in task['l'])", "(lambda t: t['n'])(task) == 2"])
def test_an_expression_is_a_filter_over_the_task(text: str) -> None:
    from rulehelp import BUILTINS

    signals.current = signals.Scope()
    code = compile_expression(text, "filter")
    assert eval(code, {"__builtins__": BUILTINS, "task": {"n": 2, "l": [3]}}) is True


@pytest.mark.parametrize("text", ["task.__class__", "x = 1", "import os", "", "(yield)", "task is entry"])
def test_an_expression_obeys_the_same_policy(text: str) -> None:
    with pytest.raises(Rejected):
        compile_expression(text, "filter")


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
