"""What scripts try on a secret: each attempt ends in an error that says what to do, and none learns anything."""

from __future__ import annotations

import copy
import functools
import json
import pickle

import pytest

from rulehelp import as_rule
from scriptrules.diagnostics import Rejected
from scriptrules.model import SecretRef
from scriptrules.sandbox import payload
from scriptrules.sandbox.script import _message
from scriptrules.sandbox.secret import PARTS_MAX, Secret, mark
from scriptrules.sandbox.signals import LimitExceeded

ATTEMPTS = [
    # made text
    "str(s)", "repr(s)", "ascii(s)", "format(s)", "format(s, '>10')", "f'{s}'", "f'{s!r}'", "f'{s:x}'", "'%s' % s",
    "'%r' % (s,)", "'{}'.format(s)", "'{0!a}'.format(s)", "'{s}'.format_map({'s': s})", "'{0.parts}'.format(s)",
    "print(s)", "str([s])", "repr({'a': (s,)})", "','.join([s])", "','.join(['a', s])", "bytes(s)", "int(s)",
    "float(s)",
    "str(ValueError(s))", "str(KeyError('a', [s]))", "repr(Exception(s))",
    # compared, sorted, searched
    "s == 'x'", "'x' == s", "s != s", "s == t", "s < t", "t >= 'a'", "[s] == ['x']", "(s, 1) < (t, 2)", "s in ['a']",
    "'a' in [s]", "['a', 'b'].index(s)", "[s].index('a')", "['a'].count(s)", "['a'].remove(s)", "sorted([s, t])",
    "min(s, t)", "max([s, t])", "[s, t].sort()", "{'a': 1}.get(s)", "'abc'.startswith(s)", "'abc'.find(s)",
    "'abc'.replace('a', s)", "'abc'.split(s)", "'abc'.strip(s)", "s in 'abc'",
    # a key, or hashed
    "{s: 1}", "{s}", "set([s])", "frozenset([s])", "dict([(s, 1)])", "{'a': 1}[s]", "{}.setdefault(s, 1)", "d[s]",
    # taken apart
    "len(s)", "s[0]", "s[1:3]", "list(s)", "tuple(s)", "[c for c in s]", "[*s]", "(lambda *a: a)(*s)", "a, b = s",
    "for c in s: pass", "'a' in s", "reversed(s)", "enumerate(s)", "zip(s, s)", "map(str, s)", "iter(s)", "any(s)",
    "sum([s])", "s * 2", "2 * s", "s % 'x'", "-s", "s + 1", "1 + s", "s + None", "b'a' + s", "s + b'a'", "s & s",
    "{**s}", "dict(s)", "s.parts", "s.upper()", "s.encode()", "s.marked()", "s.name", "s.hint", "s.visible",
    "s.parts = 1", "s[0] = 1", "del s[0]", "s()", "s.__class__", "s.__dict__", "s._no_text", "getattr(s, 'parts')",
    "vars(s)", "dir(s)", "type(s)('x')", "type(s).__add__", "isinstance(s, s)",
    # through modules
    "__import__('json')", "j.dumps(s)", "j.dumps({'a': [s]})", "j.dumps({s: 1})", "j.dumps([s], default=str)",
    "j.dumps([s], default=lambda o: o.parts)", "r.search(s, 'a')", "r.search('a', s)", "r.sub('a', s, 'aa')",
    "h.sha256(s)", "b.b64encode(s)", "u.quote(s)", "t2.dedent(s)", "c.Counter([s])", "c.Counter(s)",
    "dt.strptime(s, '%Y')", "dt.now().strftime(s)", "list(i.groupby([s, t]))", "list(i.chain(s))", "m.sqrt(s)",
    "dec.Decimal(s)", "fn.reduce(lambda a, b: a == b, [s, t])",
]  # fmt: skip

PREAMBLE = """
import json as j, re as r, hashlib as h, base64 as b, textwrap as t2, collections as c, itertools as i, math as m
import decimal as dec, functools as fn
from datetime import datetime as dt
from urllib import parse as u
def main(s, t):
    d = {}
"""


def attempt(line: str) -> str:
    """What a script's try gives: an error's name and text, or the value."""
    statement = line if line.startswith(("for ", "del ", "a, b =")) or " = " in line else f"return {line}"
    try:
        source = PREAMBLE.replace("from urllib import parse as u", "import urllib.parse as u") + f"    {statement}\n"
        value = as_rule(source, Secret((SecretRef("qq-one", 1),)), Secret(("a", SecretRef("qq-two", 2))))
    except (Rejected, Exception) as error:
        return f"{type(error).__name__}: {_message(error)}"
    return f"value: {'a secret' if type(value) is Secret else value!r}"


@pytest.mark.parametrize("line", ATTEMPTS)
def test_an_attempt_on_a_secret_learns_nothing(line: str) -> None:
    outcome = attempt(line)
    assert "qq-" not in outcome
    assert not outcome.startswith("value:"), outcome


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("str(s)", "made text"),
        ("f'{s}'", "made text"),
        ("print(s)", "printed"),
        ("s == 'x'", "compared"),
        ("sorted([s, t])", "sorted"),
        ("{s: 1}", "hashed"),
        ("len(s)", "taken apart"),
        ("s.upper()", "looked into"),
        ("s + 1", "write str("),
        ("raise ValueError(s)", "made text"),
    ],
)
def test_the_error_says_what_cannot_be_done_and_what_can(line: str, word: str) -> None:
    outcome = attempt(line) if not line.startswith("raise") else _message(ValueError(Secret(("a",))))
    assert word in outcome


def test_text_goes_before_and_after_and_secrets_to_secrets() -> None:
    one, two = SecretRef("a", 1), SecretRef("b", 2)
    assert ("x" + Secret((one,)) + "y" + "z").parts == ("x", one, "yz")
    assert ("" + Secret((one,)) + ":" + Secret((two,)) + "").parts == (one, ":", two)
    assert as_rule("def main(s):\n    s += '!'\n    return 'is set' if s else 0", Secret((one,))) == "is set"


def test_a_secret_cannot_grow_without_end() -> None:
    secret = Secret((SecretRef("a", 1),))
    with pytest.raises(LimitExceeded):
        functools.reduce(lambda left, _: left + left, range(PARTS_MAX), secret)
    with pytest.raises(LimitExceeded):
        "x" * 1_000_000 + secret


def test_nothing_that_encodes_or_copies_takes_a_secret() -> None:
    secret = Secret((SecretRef("token", 1),))
    for encode in (copy.copy, copy.deepcopy, pickle.dumps, json.dumps):
        with pytest.raises(TypeError):
            encode(secret)
    with pytest.raises(TypeError, match="must not leave the run"):
        payload.encode({"a": [secret]}, "x", 1000, 10)
    assert mark({"a": {"b": {"c": secret}}}, 1)["a"]["b"]["c"] is secret  # too deep: then the encoder refuses it
