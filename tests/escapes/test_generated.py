"""Attacks that nobody has written down: every way to a part, applied to every object that a rule can hold.

A rule may be refused, may fail, or may get an ordinary value. What it never gets is a part of Python's own machinery:
a class, a frame, a code object, a module, a bound method of the host, or text that shows one.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from rulehelp import as_rule
from scriptrules.diagnostics import Rejected
from scriptrules.sandbox import signals
from scriptrules.sandbox.facades import MODULES

OBJECTS = [
    "1", "2.5", "True", "None", "'text'", "b'raw'", "[1]", "(1, 2)", "{'k': 1}", "{1, 2}", "frozenset({1})", "range(3)",
    "(lambda: 1)", "len", "print", "str", "list", "dict", "int", "type(1)", "isinstance", "sorted", "map(str, [1])",
    "zip([1], [2])", "enumerate([1])", "iter([1])", "reversed([1])", "[x for x in [1]]", "(x for x in [1])",
    "ValueError('a')", "KeyError", "main", "slice(1)", "...", "NotImplemented", "json", "re", "math", "datetime",
    "re.match('a', 'a')", "re.compile('a')", "datetime.datetime(2026, 1, 1)", "datetime.timezone.utc",
    "decimal.Decimal(1)", "fractions.Fraction(1, 2)", "collections.Counter('ab')", "collections.deque([1])",
    "collections.defaultdict(list)", "functools.partial(len, [1])", "itertools.count()", "hashlib.sha256(b'')",
    "operator.add", "statistics.mean", "json.loads", "caught(lambda: 1 // 0)", "caught(lambda: {}['k'])",
    "caught(lambda: [][1])", "caught(lambda: ''.nothing)", "caught(lambda: int('x'))",
    "caught(lambda: b'\\xff'.decode())",
]  # fmt: skip
PARTS = [
    "__class__", "__dict__", "__globals__", "__builtins__", "__code__", "__closure__", "__self__", "__func__",
    "__mro__", "__bases__", "__subclasses__", "__init__", "__new__", "__reduce__", "__reduce_ex__", "__getattribute__",
    "__wrapped__", "__module__", "__doc__", "__name__", "__qualname__", "__traceback__", "__context__", "__cause__",
    "__annotations__", "__defaults__", "__kwdefaults__", "__call__", "__get__", "__import__", "__loader__", "__spec__",
    "tb_frame", "tb_next", "f_globals", "f_locals", "f_back", "f_builtins", "gi_frame", "gi_code", "cr_frame",
    "co_code", "co_consts", "func", "args", "keywords", "obj", "name", "path", "object", "mro", "with_traceback",
    "add_note", "pattern", "re", "string", "tzinfo", "default_factory", "default", "members", "real", "make", "statics",
    "visible", "hints", "hint", "fuel", "dead", "charge", "library", "format", "format_map", "send", "throw", "close",
]  # fmt: skip
WAYS = [
    "({o}).{p}",
    "({o}).{p}()",
    "({o}).{p}(1)",
    "getattr({o}, '{p}')",
    "getattr({o}, '{p}', None)",
    "'{{0.{p}}}'.format({o})",
    "'{{x.{p}}}'.format(x={o})",
    "'{{x.{p}}}'.format_map({{'x': {o}}})",
    "('%({p})s' % {{'{p}': {o}}})",
    "operator.attrgetter('{p}')({o})",
    "operator.methodcaller('{p}')({o})",
    "vars({o})['{p}']",
    "({o})['{p}']",
    "[v for k, v in [({o}, 1)] if hasattr(k, '{p}')]",
    "type('X', ({o},), {{}}).{p}",
    "functools.reduce(getattr, ['{p}'], {o})",
    "list(map(getattr, [{o}], ['{p}']))",
    "sorted([{o}], key=lambda v: v.{p})",
    "f'{{({o}).{p}}}'",
    "matched({o}, '{p}')",
]
FORBIDDEN = (
    type,
    types.ModuleType,
    types.CodeType,
    types.FrameType,
    types.TracebackType,
    types.GeneratorType,
    types.MethodWrapperType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.MappingProxyType,
    types.BuiltinMethodType,
    types.MethodType,
    types.WrapperDescriptorType,
)
SHOWS = (" at 0x", "<frame ", "<code ", "<traceback ", "<slot wrapper", "<method-wrapper")
OWN = ("<class 'int'>", "<class 'str'>", "<class 'list'>", "<class 'dict'>")  # texts that a rule may see anyway

IMPORTS = "".join(f"import {name}\n" for name in sorted(MODULES) if "." not in name)
RULE = """{imports}
def caught(f):
    try:
        f()
    except Exception as error:
        return error

def matched(o, p):
    match o:
        case {{"k": found}} | [found, *_]:
            return found
    return None

def attempt(f):
    try:
        return f()
    except Exception as error:
        return [str(argument) for argument in error.args]

def main():
    return [{attacks}]
"""


def attack(of: tuple[str, str, str]) -> str:
    way, part, thing = of
    return way.format(o=thing, p=part)


def held(value: Any, depth: int = 4) -> Iterator[Any]:
    """A value and what ordinary containers of it hold."""
    yield value
    if depth and type(value) in (list, tuple, set, frozenset, dict):
        for item in [*value.keys(), *value.values()] if type(value) is dict else list(value):
            yield from held(item, depth - 1)


def reached(attacks: list[str]) -> list[Any]:
    """What of the machinery rules with these expressions get; what is refused at once gets nothing."""
    source = RULE.format(imports=IMPORTS, attacks=", ".join(f"attempt(lambda: {one})" for one in attacks))
    try:
        values = as_rule(source, steps=1_000_000)
    except Rejected:
        return [found for one in attacks for found in reached([one])] if len(attacks) > 1 else []
    except signals.ControlSignal:
        return []
    return [
        (attacks[at], found)
        for at, value in enumerate(values)
        for found in held(value)
        if isinstance(found, FORBIDDEN) or (type(found) is str and _shows(found))
    ]


def _shows(text: str) -> bool:
    for own in OWN:
        text = text.replace(own, "")
    return any(part in text for part in SHOWS)


@pytest.mark.parametrize("way", WAYS)
def test_no_part_of_any_object_leads_to_the_machinery(way: str) -> None:
    found = []
    for thing in OBJECTS:
        # Those that are refused at once do not hide the others.
        open_parts = [part for part in PARTS if not part.startswith("_")]
        shut_parts = [part for part in PARTS if part.startswith("_")]
        for parts in (open_parts, shut_parts if ".{p}" not in way or "{{" in way else shut_parts[:1]):
            found += reached([attack((way, part, thing)) for part in parts])
    assert found == []


SINGLE = st.tuples(st.sampled_from(WAYS), st.sampled_from(PARTS), st.sampled_from(OBJECTS)).map(attack)
CHAINS = st.tuples(
    st.sampled_from(WAYS),
    st.sampled_from(PARTS),
    st.recursive(SINGLE, lambda inner: st.tuples(st.sampled_from(WAYS), st.sampled_from(PARTS), inner).map(attack)),
).map(attack)


@settings(max_examples=500, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(CHAINS, min_size=1, max_size=8))
def test_no_chain_of_parts_does_either(attacks: list[str]) -> None:
    assert [found for one in attacks for found in reached([one])] == []
