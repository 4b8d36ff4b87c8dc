"""Small programs drawn from the language mean the same with and without the guards."""

from __future__ import annotations

import warnings
from typing import Any

import hypothesis.strategies as st
from hypothesis import assume, given, settings

from rulehelp import as_python, as_rule
from scriptrules.sandbox import signals

NAMES = ["a", "b", "c"]
ATOMS = st.one_of(
    st.sampled_from(NAMES),
    st.integers(-3, 9).map(str),
    st.sampled_from(["'x'", "'ab%s'", "[1, 2]", "(3,)", "{'k': 1}", "{1, 2}", "2.5", "None", "True", "[]", "''"]),
)
# Without ** and <<: Python itself would explode.
OPERATORS = ["+", "-", "*", "%", "//", "/", "&", "|", "^", "<", "==", "!=", ">=", "in", "and", "or"]


def _compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    two = st.tuples(inner, inner)
    return st.one_of(
        st.tuples(inner, st.sampled_from(OPERATORS), inner).map(lambda e: f"({e[0]} {e[1]} {e[2]})"),
        two.map(lambda e: f"[{e[0]}, *[{e[1]}]]"),
        two.map(lambda e: f"({e[0]} if {e[1]} else 0)"),
        two.map(lambda e: f"[i for i in {e[0]} if i != {e[1]}]"),
        two.map(lambda e: f"list(({e[1]}, i) for i in {e[0]})"),
        two.map(lambda e: f"{e[0]}[{e[1]}]"),
        two.map(lambda e: f"(lambda p, q=2: [p, q])({e[0]}, {e[1]})"),
        # A dict refuses a slice as unhashable up to 3.11 and as unknown from 3.12 on; rules see the same everywhere.
        inner.map(lambda e: f"(lambda v: (list(v) if isinstance(v, dict) else v)[0:2])({e})"),
        inner.map(lambda e: f"len({e})"),
        inner.map(lambda e: f"str({e})"),
        inner.map(lambda e: f'f"{{{e}!r:>4}}"'),
        inner.map(lambda e: f"('%s' % ({e},))"),
        inner.map(lambda e: f"sorted({e})"),
        inner.map(lambda e: f"(not {e})"),
    )


EXPRESSIONS = st.recursive(ATOMS, _compound, max_leaves=4)


FINALLY = ["finally:", "    n += 1"]


def _cases(expression: str) -> list[str]:
    return ["    case [x, *y] if y:", f"        b = [x, y, {expression}]"]


def _indent(lines: list[str]) -> list[str]:
    return ["    " + line for line in lines]


def _nested(body: st.SearchStrategy[list[str]]) -> st.SearchStrategy[list[str]]:
    name, some = st.sampled_from(NAMES), EXPRESSIONS
    return st.one_of(
        st.tuples(body, body).map(lambda p: p[0] + p[1]),
        st.tuples(some, body, body).map(lambda p: [f"if {p[0]}:", *_indent(p[1]), "else:", *_indent(p[2])]),
        st.tuples(name, some, body).map(lambda p: [f"for {p[0]} in {p[1]}:", *_indent(p[2])]),
        st.tuples(body, body).map(
            lambda p: [
                "try:",
                *_indent(p[0]),
                "except (TypeError, KeyError):",
                *_indent(p[1]),
                "finally:",
                "    n += 1",
            ]
        ),
        body.map(lambda p: ["while n < 5:", "    n += 1", *_indent(p), "else:", "    n = -9"]),
        st.tuples(some, some, body).map(
            lambda p: [f"match {p[0]}:", *_cases(p[1]), "    case _:", *_indent(_indent(p[2]))]
        ),
    )


SIMPLE = st.one_of(
    st.tuples(st.sampled_from(NAMES), EXPRESSIONS).map(lambda p: [f"{p[0]} = {p[1]}"]),
    st.tuples(st.sampled_from(NAMES), st.sampled_from(["+=", "-=", "*=", "|=", "%="]), EXPRESSIONS).map(
        lambda p: [f"{p[0]} {p[1]} {p[2]}"]
    ),
    st.tuples(EXPRESSIONS, st.sampled_from(["=", "+=", "*="]), EXPRESSIONS).map(lambda p: [f"d[{p[0]}] {p[1]} {p[2]}"]),
    EXPRESSIONS.map(lambda e: [f"a, *b = {e}"]),
    EXPRESSIONS.map(lambda e: [f"l[0:1] = {e}"]),
    EXPRESSIONS.map(lambda e: [f"c = (a, b) = {e}"]),
)
PROGRAMS = st.recursive(SIMPLE, _nested, max_leaves=6)


def _outcome(execute: Any, source: str) -> Any:
    try:
        return repr(execute(source))
    except Exception as error:
        return type(error)


@settings(max_examples=150, deadline=None)
@given(PROGRAMS)
def test_a_program_means_the_same_with_and_without_guards(lines: list[str]) -> None:
    start = ["n, a, b, c, d, l = 0, 1, 'b', [1, 2], {0: 1, 'b': [1]}, [7, 8]"]
    end = ["return [n, a, b, c, d, l]"]
    source = "def main():\n" + "\n".join(_indent([*start, *lines, *end]))
    try:
        outcome = _outcome(lambda text: as_rule(text, steps=2000), source)
    except signals.LimitExceeded:
        return  # Python would never end
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        expected = _outcome(as_python, source)
    assume(not (isinstance(expected, type) and issubclass(expected, SyntaxError)))
    assert outcome == expected
