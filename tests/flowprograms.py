"""Random rules: programs that generate tasks in all the ways that people write them, and random tasks for them."""

from __future__ import annotations

import random
import textwrap
from collections.abc import Callable
from typing import Any

LIBRARY = """\
from functools import partial

RELAYED = []
PREFIX = "lib"
WAYS = {"plain": lambda name: name, "dotted": lambda name: f"{PREFIX}.{name}"}


def relay(function, name, way="dotted"):
    RELAYED.append(name)
    return function(WAYS[way](name))


def through(*functions):
    def inner(value):
        for function in functions:
            value = function(value)
        return value

    return inner


def twice_over(function, *args, **named):
    return [function(*args, **named), partial(function, *args)(**named)]
"""
KINDS = ["a", "b", "c.d", ""]
ITEMS = [[], ["p"], ["q", "r.s"], ["p", "p", "q"]]
WORDS = ["red", "green", "blue.dark", "x1", "y-2"]

PRELUDE = """\
import heapq
import json
from collections import defaultdict, deque
from functools import partial, reduce
from itertools import chain, product, starmap
from lib.tools import RELAYED, relay, through, twice_over

on = {on}
PREFIX = "pre"
READY = f"{{PREFIX}}.ready"
DEBUG = False
LIMIT = {limit}
WORDS = [{words}]
NAMES = {{{names}}}


def label(part, prefix="label"):
    if part == "a":
        return prefix + ".first"
    return f"{{prefix}}.{{part}}x"


def send(name):
    return emit(name)


def send_some(name, *more, **named):
    emit(name)
    for one in more:
        emit(f"more.{{one}}")
    if "key" in named:
        emit(named["key"])


def apply(function, *args):
    return function(*args)


def each(names, function):
    for name in names:
        function(name)


def maybe(flag, function, name, otherwise=None):
    if flag:
        return function(name)
    return otherwise(name) if otherwise is not None else None


def prefixed(prefix):
    def inner(name):
        emit(f"{{prefix}}.{{name}}")

    return inner


def compose(outer, inner):
    return lambda value: outer(inner(value))


def counted(function):
    count = 0

    def inner(name):
        nonlocal count
        count += 1
        function(f"{{name}}.{{count}}")

    return inner


def logged(function):
    def inner(*args, **kwargs):
        emit("logged.before")
        return function(*args, **kwargs)

    return inner


@logged
def announced(name):
    emit(f"announced.{{name}}")


def down(depth, function, name):
    function(f"{{name}}.down")
    if depth > 0:
        down(depth - 1, function, name)


def ping(depth, one, other):
    one("ping.pong")
    if depth > 0:
        ping(depth - 1, other, one)


def first_of(names, default="first.none"):
    for name in names:
        if name != "p":
            return name
    return default


def safely(function, name, otherwise=send):
    try:
        function(name)
        if name == "x1" or name.endswith("t1"):
            raise KeyError(name)
    except KeyError as error:
        otherwise(f"caught.{{name}}")
        return False
    finally:
        emit("safely.over")
    return True


def gathered(name, into=[]):
    into.append(name)
    return into


def decorated(prefix, *, times=1):
    def decorate(function):
        def inner(name, *args):
            for _ in range(times):
                function(f"{{prefix}}.{{name}}", *args)

        return inner

    return decorate


@decorated("deco", times=2)
def twice(name):
    emit(name)


def pair(name):
    return name + ".left", name + ".right"


def box(name):
    state = {{"name": name, "count": 0}}

    def put(other):
        nonlocal name
        name = other
        state["count"] += 1
        state["name"] = other + ".put"

    return {{"put": put, "get": lambda: name, "state": state, "send": lambda: emit(state["name"])}}


SEEN = []
HANDLERS = {{"a": send, "b": lambda name: emit("b." + name), "c.d": announced}}
"""


def program(rng: random.Random, size: int = 12) -> str:
    """A rule.

    Args:
        size: about how many statements it has.
    """
    return _Writer(rng, size).write()


def task(rng: random.Random) -> tuple[str, dict[str, Any]]:
    """The name and data of a task for one."""
    name = rng.choice(["go", "go.on"])
    return name, {
        "n": rng.randint(-1, 4),
        "flag": rng.random() < 0.5,
        "kind": rng.choice(KINDS),
        "items": rng.choice(ITEMS),
    }


class _Writer:
    def __init__(self, rng: random.Random, size: int) -> None:
        self.rng = rng
        self.left = size
        self.numbers = 0
        self.texts: list[str] = []  # variables that hold text
        self.may_leave = True
        self.functions: list[str] = []  # variables that hold a function of one text

    def write(self) -> str:
        rng = self.rng
        words = ", ".join(f'"{word}"' for word in rng.sample(WORDS, 3))
        names = ", ".join(f'"{kind}": "{rng.choice(WORDS)}.{at}"' for at, kind in enumerate(KINDS[:3]))
        on = rng.choice(['"go"', '["go", "go.on"]', '"go.**"', '"**"'])
        head = PRELUDE.format(on=on, limit=rng.randint(0, 3), words=words, names=names)
        when = rng.choice(["", "", 'when = lambda task: task["n"] > 0\n', 'when = lambda task: task["kind"] == "a"\n'])
        body = self.block(0)
        body.append(rng.choice(["return {'n': n}", "", f"return Task({self.text(1)})", self.tasks()]) or "pass")
        return (
            f"{head}{when}\n\ndef main(task, n, flag, kind, items):\n" + textwrap.indent("\n".join(body), "    ") + "\n"
        )

    def tasks(self) -> str:
        return self.rng.choice(
            [
                f"return [Task({self.text(1)}), Task({self.text(1)})]",
                "return [Task(f'listed.{one}') for one in items]",
                "return [Task(word) for word in WORDS if word != 'x1'] if flag else []",
            ]
        )

    def fresh(self, prefix: str) -> str:
        self.numbers += 1
        return f"{prefix}{self.numbers}"

    # ---- expressions

    def text(self, depth: int) -> str:
        rng = self.rng
        simple: list[Callable[[], str]] = [
            lambda: f'"{rng.choice(WORDS)}"',
            lambda: f'"t{rng.randint(0, 9)}"',
            lambda: "READY",
            lambda: f"WORDS[{rng.choice(['0', '1', '-1', 'n % 3'])}]",
            lambda: 'f"kind.{kind}x"',
            lambda: 'f"n{n}"',
            lambda: "task.name",
            lambda: rng.choice(self.texts) if self.texts else '"plain"',
            lambda: rng.choice(self.texts) if self.texts else "PREFIX",
        ]
        if depth <= 0:
            return rng.choice(simple)()
        deep: list[Callable[[], str]] = [
            lambda: f'"plus." + {self.text(depth - 1)}',
            lambda: f"({self.text(depth - 1)} if {self.condition()} else {self.text(depth - 1)})",
            lambda: f'".".join(["j", {self.text(depth - 1)}])',
            lambda: f'"%s.percent" % {self.text(depth - 1)}',
            lambda: f"NAMES.get(kind, {self.text(depth - 1)})",
            lambda: 'NAMES["a"]',
            lambda: f"label({self.text(0)})",
            lambda: f"label(kind, prefix={self.text(0)})",
            lambda: '(kind or "nothing")',
            lambda: f"{self.text(0)}.replace('r', 'R')",
            lambda: f"compose(label, label)({self.text(0)})",
            lambda: f"apply(label, {self.text(depth - 1)})",
            lambda: f"[{self.text(0)}, 'second'][0]",
            lambda: f"first_of({self.names()})",
            lambda: f"first_of(items, {self.text(0)})",
            lambda: f"pair({self.text(0)})[{rng.choice(['0', '1', '-1', 'n % 2'])}]",
            lambda: f"(flag and {self.text(0)} or {self.text(0)})",
            lambda: f"partial(label, prefix={self.text(0)})('a')",
            lambda: f"reduce(lambda a, b: a + '.' + b, WORDS, {self.text(0)})",
            lambda: "json.loads('{\"a\": \"from.json\"}')['a']",
            lambda: f"{self.text(0)}.upper().lower()",
            lambda: f"('x' + {self.text(0)})[:3].strip('.')",
            lambda: f"{self.text(0)}.split('.')[{rng.choice(['0', '-1'])}]",
            lambda: f"box({self.text(0)})['get']()",
            lambda: "{one: one + '.v' for one in WORDS}.get('x1', 'no.x1')",
            lambda: f"(lambda *args, **named: named.get('key', args[0]))({self.text(0)}, **{{'key': {self.text(0)}}})",
            lambda: "max(WORDS)",
            lambda: f"max(*{self.names()}, 'm1')",
            lambda: f"max({self.names()}, key=lambda one: (emit('key.' + one), len(one))[1], default='none')",
            lambda: f"through(label, str.lower)({self.text(0)})",
            lambda: f"'{{}}.{{b}}.{{}}'.format({self.text(0)}, n, b={self.text(0)})",
            lambda: f"'%s.%d' % ({self.text(0)}, n)",
            lambda: f"'%s-%s' % tuple([{self.text(0)}, {self.text(0)}])",
            lambda: f"({self.text(0)} if {self.text(0)}.startswith(('r', 't')) else {self.text(0)})",
            lambda: f"{self.text(0)}.partition('.')[0]",
            lambda: f"{self.text(0)}.title().removesuffix('x')",
            lambda: f"dict(zip(['a', 'b'], [{self.text(0)}, {self.text(0)}])).get(kind, 'zipped')",
            lambda: f"{{**NAMES, 'a': {self.text(0)}}}['a']",
            lambda: f"next(iter({self.names()}), 'nobody')",
            lambda: f"next(filter(lambda one: '.' in one, {self.names()}), 'undotted')",
            lambda: f"[*{self.names()}, 'end'][-1]",
            lambda: "task.get('kind', 'unkind') + '.k'",
            lambda: "str(len(items)) + '.long'",
            lambda: f"(RELAYED or [{self.text(0)}])[-1]",
            lambda: f"(lambda first, *more, last='l': f'{{first}}.{{len(more)}}.{{last}}')({self.text(0)}, *items)",
        ]
        return rng.choice(simple + deep)()

    def condition(self) -> str:
        return self.rng.choice(
            [
                "flag",
                "not flag",
                f"n > {self.rng.randint(0, 3)}",
                f"n == {self.rng.randint(0, 3)}",
                'kind == "a"',
                'kind in ("b", "c.d")',
                "len(items) > 1",
                "items",
                "'p' in items",
                "0 < n <= 2",
                "not (flag and n > 1)",
                "any(one == 'p' for one in items)",
                "kind in NAMES",
                "kind in NAMES.keys()",
                "len(SEEN) > 1",
                "all(map(lambda word: emit('all.' + word) and word != 'x1', WORDS))",
                "kind.startswith('c')",
                "RELAYED",
                "n > LIMIT and flag",
                "flag or n < 2",
                "DEBUG",
                'task.name == "go"',
                "LIMIT > 1",
            ]
        )

    def function(self, depth: int) -> str:
        rng = self.rng
        simple: list[Callable[[], str]] = [
            lambda: "emit",
            lambda: "call",
            lambda: "send",
            lambda: "announced",
            lambda: "send_some",
            lambda: f'prefixed("{rng.choice(WORDS)}")',
            lambda: "twice",
            lambda: "SEEN.append",
            lambda: "lambda name: emit('lam.' + name)",
            lambda: rng.choice(self.functions) if self.functions else "emit",
        ]
        if depth <= 0:
            return rng.choice(simple)()
        deep: list[Callable[[], str]] = [
            lambda: f"prefixed({self.text(0)})",
            lambda: f"partial(apply, {self.function(depth - 1)})",
            lambda: f"partial(send_some, {self.text(0)})",
            lambda: f"counted({self.function(depth - 1)})",
            lambda: f"logged({self.function(depth - 1)})",
            lambda: f"compose({self.function(depth - 1)}, label)",
            lambda: "HANDLERS.get(kind, send)",
            lambda: f"HANDLERS[{rng.choice(['kind', chr(34) + 'a' + chr(34)])}]",
            lambda: f"({self.function(0)} if {self.condition()} else {self.function(0)})",
            lambda: f"[{self.function(0)}, {self.function(0)}][n % 2]",
            lambda: f"(lambda name: apply({self.function(0)}, name))",
            lambda: f"decorated({self.text(0)})({self.function(depth - 1)})",
            lambda: f"partial(safely, {self.function(depth - 1)})",
            lambda: f"(lambda name, function={self.function(0)}: function(name))",
            lambda: f"{{'k': {self.function(0)}}}['k']",
            lambda: "(SEEN.append if flag else twice)",
            lambda: f"partial(relay, {self.function(depth - 1)})",
            lambda: f"partial(relay, {self.function(0)}, way={rng.choice(['kind', chr(34) + 'plain' + chr(34)])})",
            lambda: f"through(label, {self.function(depth - 1)})",
            lambda: f"partial(twice_over, {self.function(depth - 1)})",
            lambda: f"(lambda name: [*map({self.function(0)}, [name, name + '.m'])])",
            lambda: f"(lambda name: {{'a': {self.function(0)}, 'b': {self.function(0)}}}.get(kind, print)(name))",
            lambda: f"defaultdict(lambda: {self.function(0)}, a={self.function(0)})[kind]",
            lambda: f"next(iter([{self.function(0)}]))",
            lambda: f"(lambda name: [{self.function(0)} for _ in range(2)][0](name))",
        ]
        return f"({rng.choice(simple + deep)()})"

    def names(self) -> str:
        """An iterable of texts."""
        return self.rng.choice(
            [
                "WORDS",
                f"[{self.text(1)}, {self.text(0)}]",
                f"({self.text(0)},)",
                "NAMES.values()",
                "[f'i.{one}' for one in items]",
                "[word for word in WORDS if 'e' in word]",
                "sorted(WORDS)",
                "reversed(WORDS)",
                "{'set.one', 'set.two'}",
                "[f'r{at}' for at in range(2)]",
                "[f'u{at}' for at in range(n)]",
                "[f'{at}.{one}' for at, one in enumerate(WORDS)]",
                "[a + b for a, b in zip(['z1', 'z2'], ['.q', '.w'])]",
                "'s1,s2.t'.split(',')",
                "list(map(label, items))",
                "WORDS[1:]",
                "WORDS + items",
                "gathered('gathered.one')",
                f"gathered({self.text(0)}, [])",
                "list(chain(WORDS, ['chained']))",
                "[f'{a}.{b}' for a, b in product(['pa', 'pb'], ['x', 'y'])]",
                "filter(lambda word: 'e' in word, WORDS)",
                "{word: None for word in WORDS}",
                "[*WORDS, *items]",
                "list(SEEN)",
                "pair('names')",
                "[one for one in HANDLERS]",
                "'xy'",
                "[name for names in [WORDS, ['in']] for name in names if name != 'red']",
                "[one for one in WORDS if emit('cond.' + one) or flag]",
                "[first for first, *_ in ['ab', 'cd']]",
                "map(label, WORDS)",
                "map('{}.f'.format, WORDS)",
                "filter(None, [kind, 'ok'])",
                "(one for one in [*items, 'gen'])",
                "starmap('{}-{}'.format, zip(WORDS, ['s1', 's2']))",
                "dict.fromkeys(WORDS, 1)",
                "dict.fromkeys(['k1', 'k2']).keys()",
                "{one + '.sc' for one in WORDS if one in ('red', 'x1')}",
                "set(WORDS).union(items, ['un'])",
                "deque(['dq', *items], maxlen=2)",
                "list(enumerate(WORDS))[0][1:]",
                "RELAYED",
                "list(dict(zip(WORDS, items)).values())",
            ]
        )

    # ---- statements

    def block(self, depth: int, loop: bool = False) -> list[str]:
        known = len(self.texts), len(self.functions)
        lines: list[str] = []
        for _ in range(self.rng.randint(1, 4 if depth else 6)):
            lines += self.statement(depth, loop)
        if depth:
            del self.texts[known[0] :], self.functions[known[1] :]
        return lines or ["pass"]

    def statement(self, depth: int, loop: bool) -> list[str]:
        self.left -= 1
        rng = self.rng
        simple: list[Callable[[], list[str]]] = [
            lambda: [f"emit({self.text(2)})"],
            lambda: [f"{self.function(1)}({self.text(1)})"],
            lambda: [f"each({self.names()}, {self.function(1)})"],
            lambda: [f"maybe({self.condition()}, {self.function(0)}, {self.text(0)}, {self.function(0)})"],
            lambda: [f"maybe({self.condition()}, {self.function(1)}, {self.text(1)})"],
            lambda: [f"down({rng.choice(['n', '2'])}, {self.function(1)}, {self.text(0)})"],
            lambda: [f"ping({rng.choice(['n', '1'])}, {self.function(0)}, {self.function(0)})"],
            lambda: [f"[({self.function(0)})(one) for one in {self.names()}]"],
            lambda: [f"list(map({self.function(1)}, {self.names()}))"],
            lambda: [f"send_some({self.text(0)}, {self.text(0)}, *items, key={self.text(0)})"],
            lambda: [f"send_some(*{self.names()}, **{{'key': {self.text(0)}}})"],
            lambda: [f"{self.condition()} and emit({self.text(1)})"],
            lambda: [f"answer = call({self.text(0)})", "emit(f'got.{answer}')"],
            lambda: ["reduce(lambda before, word: emit(f'{before}.{word}') and word, WORDS)"],
            lambda: [f"safely({self.function(1)}, {self.text(0)}, {self.function(0)})"],
            lambda: [f"for function in ({self.function(0)}, {self.function(0)}):", f"    function({self.text(0)})"],
            lambda: [f"for name, do in {{'i1': send, 'i2': {self.function(0)}}}.items():", "    do(name)"],
            lambda: [f"sorted({self.names()}, key=lambda one: (({self.function(0)})(one), one)[1])"],
            lambda: ["if (found := NAMES.get(kind)):", "    emit(found)"],
            lambda: ["for one in list(SEEN):", "    emit(f'seen.{one}')"],
            lambda: [f"partial(emit, {self.text(0)}, n=n)()"],
            lambda: [
                "try:",
                f"    raise KeyError({self.text(0)})",
                "except KeyError as error:",
                "    emit('raised.' + error.args[0])",
            ],
            self.boxed,
            self.work,
            self.lazy,
            self.aliased,
            self.shared,
            self.late,
            self.endless,
            self.assignment,
            self.assignment,
            self.definition,
        ]
        if depth >= 3 or self.left <= 0:
            return rng.choice(simple)()
        nested: list[Callable[[], list[str]]] = [
            lambda: self.choice(depth, loop),
            lambda: self.choice(depth, loop),
            lambda: self.loop(depth),
            lambda: self.loop(depth),
            lambda: self.trial(depth, loop),
            lambda: self.matching(depth, loop),
            lambda: self.gathering(depth),
            lambda: self.leaving(loop),
        ]
        return rng.choice(simple + nested)()

    def boxed(self) -> list[str]:
        name = self.fresh("b")
        lines = [f"{name} = box({self.text(0)})"]
        uses = [
            f"{name}['put']({self.text(0)})",
            f"emit({name}['get']())",
            f"{name}['send']()",
            f"emit(f\"c{{{name}['state']['count']}}\")",
            f"each({self.names()}, {name}['put'])",
            f"if {self.condition()}:\n    {name}['put']('boxed')",
        ]
        for use in self.rng.sample(uses, 3):
            lines += use.split("\n")
        return lines

    def work(self) -> list[str]:
        """What is left to do, in a list that grows meanwhile."""
        rng = self.rng
        name, one = self.fresh("w"), self.fresh("t")
        kind = rng.randint(0, 3)
        more = f"{name}.append({one} + '.w')" if kind != 1 else f"heapq.heappush({name}, {one} + '.h')"
        grow = [f"    if len({one}) < {rng.randint(4, 7)} and len({name}) < 5:", f"        {more}"]
        use = f"    ({self.function(0)})({one})"
        begin = f"[{self.text(0)}, 'wk']"
        if kind == 0:
            return [f"{name} = {begin}", f"for {one} in {name}:", use, *grow]
        take = {1: f"heapq.heappop({name})", 2: f"{name}.pop()", 3: f"{name}.popleft()"}[kind]
        begin = f"deque({begin})" if kind == 3 else begin
        return [f"{name} = {begin}", f"while {name}:", f"    {one} = {take}", use, *grow]

    def lazy(self) -> list[str]:
        """What is asked for later, or in part, while something changes."""
        rng = self.rng
        name, one, mark = self.fresh("z"), self.fresh("t"), self.fresh("m")
        source, table = self.fresh("s"), self.fresh("d")
        lines = [
            f"{mark} = {self.text(0)}",
            f"{source} = [{self.text(0)}, 'src']",
            f"{table} = {{'a': 'ta', 'b': 'tb'}}",
        ]
        stream = rng.choice(
            [
                f"map(lambda one: f'{{{mark}}}.{{one}}', {source})",
                f"filter(lambda one: one != {mark}, {source})",
                f"map(lambda one: emit('drawn.' + one) or one, filter(lambda one: len(one) < 5, {source}))",
                f"iter({source})",
                f"{table}.values()",
                f"zip({source}, map(lambda one: emit('z.' + one), ['z1', 'z2', 'z3']))",
                f"enumerate({source})",
                f"{table}.items()",
                f"reversed({source})",
                f"chain({source}, {table})",
            ]
        )
        lines.append(f"{name} = {stream}")
        change = [
            f"{mark} = {self.text(0)}",
            f"{source}.append('late')",
            f"{source}[0] = 'first'",
            f"{table}['b'] = 'changed'",
        ]
        lines += rng.sample(change, rng.randint(0, 2))
        if rng.random() < 0.3 and ".values" not in stream and ".items" not in stream:
            lines.append(f"next({name}, None)")
        body = [f"emit(f'lz.{{{one}}}'.replace(' ', '').strip(\"()\").replace(\"'\", '').replace(',', '-'))"]
        body += rng.sample([one for one in change if "append" not in one], rng.randint(0, 1))
        body += [f"if {self.condition()}:", "    break"] if rng.random() < 0.3 else []
        if rng.random() < 0.3:
            return [*lines, f"[emit(f'lc.{{len(str({one}))}}') for {one} in {name}]"]
        return [*lines, f"for {one} in {name}:", *_indented(body)]

    def aliased(self) -> list[str]:
        """Data in data, changed by another name."""
        rng = self.rng
        name, other = self.fresh("n"), self.fresh("a")
        lines = [
            f"{name} = {{'in': {{'list': [{self.text(0)}], 'name': {self.text(0)}}}, 'n': n}}",
            f"{name}['set'] = {{{self.text(0)}}}",
            f"{other} = {rng.choice([f'{name}', f'dict({name})', f'{name}.copy()', f'{{**{name}}}'])}",
        ]
        changes = [
            f"{other}['in']['list'].append({self.text(0)})",
            f"{other}['in']['list'] += [{self.text(0)}, 'al']",
            f"{other}['in']['name'] += '.al'",
            f"{other}['in'].update(name={self.text(0)})",
            f"{other}['set'] |= {{'as'}}",
            f"{other}['set'].update(['u1'], items)",
            f"{other}['set'].difference_update({self.names()})",
            f"{other}['n'] += 1",
            f"{other}.setdefault('more', []).append({self.text(0)})",
            f"{other}['in']['list'].insert(0, 'ins')",
            f"{other}['in']['list'].clear()",
            f"{other}['in']['list'].extend(map(label, ['ex']))",
            f"for row in [{name}['in'], {{'list': []}}]:\n    row['list'].append('row')",
            f"if {self.condition()}:\n    {other} = {{'in': {{'list': [], 'name': 'new'}}, 'set': set(), 'n': 9}}",
            f"{name}['in']['list'].pop()",
            f"del {other}['in']['list'][:1]",
            f"{other}.pop('set')",
        ]
        for change in rng.sample(changes, 4):
            lines += change.split("\n")
        uses = [
            f"each({name}['in']['list'], {self.function(0)})",
            f"emit({name}['in']['name'])",
            f"each(sorted({name}.get('set', [])), {self.function(0)})",
            f"emit(f\"n{{{name}['n']}}\")",
            f"each({name}.get('more', ['less']), {self.function(0)})",
            f"if {name}.get('set'):\n    emit('set.full')\nelse:\n    emit('set.empty')",
        ]
        for use in rng.sample(uses, 3):
            lines += use.split("\n")
        return lines

    def shared(self) -> list[str]:
        """Several lists made in one place, of which one is changed."""
        rng = self.rng
        name, one = self.fresh("r"), self.fresh("t")
        made = rng.choice(
            [
                f"[['r1', {self.text(0)}] for _ in range({rng.choice(['n', '2', 'len(items)'])})]",
                f"[{{{one}}} for {one} in {self.names()}]",
                f"[[{one}] * 2 for {one} in items]",
            ]
        )
        change = rng.choice(
            [
                "({0}.pop() if {0} else None)",
                "{0}.clear()",
                "{0}.remove({1})",
                "{0}.append({1})",
                "{0}.extend(['x'])",
                "{0}.add({1})",
            ]
        ).format(one, self.text(0))
        lines = [f"{name} = {made}", f"for {one} in {name}:"]
        lines += ["    try:", f"        {change}", "    except Exception:", f"        emit('odd.' + {self.text(0)})"]
        lines += ["    break"] if rng.random() < 0.5 else []
        if rng.random() < 0.4:
            lines += [f"if {name}:", f"    {name}[-1].clear()"]
        return [
            *lines,
            f"for {one} in {name}:",
            f"    each(sorted({one}), emit)",
            f"    if not {one}:",
            "        emit('gone')",
        ]

    def late(self) -> list[str]:
        """Functions made in a loop, called when it is over."""
        name, one = self.fresh("l"), self.fresh("t")
        if self.rng.random() < 0.5:
            lines = [f"{name} = [lambda: emit('late.' + {one}) for {one} in {self.names()}]"]
        else:
            default = self.rng.choice(["", f"{one}={one}"])
            lines = [f"{name} = []", f"for {one} in {self.names()}:"]
            lines += [f"    {name}.append(lambda {default}: emit('later.' + {one}))"]
        return [*lines, f"for function in {name}:", "    function()"]

    def endless(self) -> list[str]:
        name = self.fresh("t")
        return [
            f"{name} = 0",
            "while True:",
            f"    {name} += 1",
            f"    emit({self.text(0)})",
            f"    if {self.condition()} or {name} > 3:",
            "        break",
            f"    emit(f'again.{{{name}}}')",
        ]

    def assignment(self) -> list[str]:
        rng = self.rng
        name = self.fresh("t")
        lines = rng.choice(
            [
                lambda: [f"{name} = {self.text(2)}"],
                lambda: [f"{name} = {self.text(1)}", f"if {self.condition()}:", f"    {name} = {self.text(1)}"],
                lambda: [f"{name} = {self.text(0)}", f'{name} += ".plus"'],
                lambda: [f"{name}, other = {self.text(0)}, {self.text(0)}"],
                lambda: [f"{name} = {self.text(0)}", f"for one in {self.names()}:", f"    {name} = one"],
                lambda: [f"{name}, *others = {self.text(0)}, 'o1', 'o2'", "each(others, emit)"],
            ]
        )()
        self.texts.append(name)
        return lines

    def definition(self) -> list[str]:
        name = self.fresh("f")
        way = self.rng.randint(0, 2)
        if way == 0:
            lines = [f"{name} = {self.function(1)}"]
        elif way == 1:
            lines = [f"def {name}(name, default={self.text(0)}):", "    emit(name)", "    emit(f'd.{default}')"]
        else:
            lines = [f"def {name}(name):", f"    if {self.condition()}:", f"        ({self.function(0)})(name)"]
        self.functions.append(name)
        return lines

    def choice(self, depth: int, loop: bool) -> list[str]:
        lines = [f"if {self.condition()}:", *_indented(self.block(depth + 1, loop))]
        if self.rng.random() < 0.3:
            lines += [f"elif {self.condition()}:", *_indented(self.block(depth + 1, loop))]
        if self.rng.random() < 0.5:
            lines += ["else:", *_indented(self.block(depth + 1, loop))]
        return lines

    def loop(self, depth: int) -> list[str]:
        name = self.fresh("t")
        if self.rng.random() < 0.3:
            body = self.block(depth + 1, loop=True)
            return [
                f"{name} = 0",
                f"while {name} < {self.rng.choice(['n', '2'])}:",
                f"    {name} += 1",
                *_indented(body),
            ]
        known = len(self.texts)
        self.texts.append(name)
        body = self.block(depth + 1, loop=True)
        lines = [f"for {name} in {self.names()}:", *_indented(body)]
        del self.texts[known:]
        if self.rng.random() < 0.2:
            lines += ["else:", *_indented(self.block(depth + 1))]
        return lines

    def trial(self, depth: int, loop: bool) -> list[str]:
        body = self.block(depth + 1, loop)
        at = self.rng.randint(0, 1)
        risk = self.rng.choice(
            [
                [f"if {self.condition()}:", "    raise ValueError('no')"],
                ["int(kind)"],
                ["NAMES[kind]"],
                ["items[1]"],
                ["pass"],
            ]
        )
        body = [*risk, *body] if at else [*body, *risk]
        kind = self.rng.choice(["ValueError", "(KeyError, IndexError)", "Exception"])
        if self.rng.random() < 0.2:
            self.may_leave = False
            last = self.block(depth + 1)
            self.may_leave = True
            return ["try:", *_indented(body), "finally:", *_indented(last)]
        lines = ["try:", *_indented(body), f"except {kind}:", *_indented(self.block(depth + 1, loop))]
        if self.rng.random() < 0.3:
            lines += ["else:", *_indented(self.block(depth + 1, loop))]
        if self.rng.random() < 0.3:
            self.may_leave = False  # the sandbox refuses it there
            lines += ["finally:", *_indented(self.block(depth + 1))]
            self.may_leave = True
        return lines

    def matching(self, depth: int, loop: bool) -> list[str]:
        subject, patterns = self.rng.choice(
            [
                ("kind", ["'a'", "'b' | 'c.d'", "str(found) if flag", "_"]),
                ("n", ["0", "1 | 2", "int(found) if found > 2", "_"]),
                ("items", ["[]", "[found]", "[first, *rest]", "_"]),
                ("(kind, flag)", ["('a', True)", "('a' | 'b', _)", "(found, _) if found", "_"]),
                ("{'k': kind, 'n': n}", ["{'k': 'a'}", "{'k': str(found), 'n': 1 | 2}", "{'n': int(found), **rest}"]),
            ]
        )
        lines = [f"match {subject}:"]
        for pattern in patterns[: self.rng.randint(1, 4)]:
            lines += [f"    case {pattern}:", *_indented(_indented(self.block(depth + 1, loop)))]
        return lines

    def gathering(self, depth: int) -> list[str]:
        name = self.fresh("g")
        one = self.fresh("t")
        if self.rng.random() < 0.5:
            lines = [f"{name} = [{self.text(0)}]"]
            lines += [f"if {self.condition()}:", f"    {name}.append({self.text(1)})"]
            lines += self.rng.choice([[f"{name}.extend({self.names()})"], [f"{name} += ['last']"], []])
            return [*lines, f"for {one} in {name}:", f"    {self.function(1)}({one})"]
        lines = [f"{name} = {{'first': {self.text(0)}}}", f"{name}['second'] = {self.text(1)}"]
        lines += [f"if {self.condition()}:", f"    {name}['first'] = {self.text(0)}"]
        lines += self.rng.choice(
            [[f"{name}.update(third={self.text(0)})"], [f"{name} = {{**{name}, 'fourth': 'fo'}}"], []]
        )
        return [*lines, f"for {one} in {name}.values():", f"    emit({one})", f"emit({name}['first'])"]

    def leaving(self, loop: bool) -> list[str]:
        if not self.may_leave:
            return ["pass"]
        ways = ["return", "return Task('left.early')", "fail('enough')", "raise ValueError('enough')"]
        ways += ["break", "continue", "break", "continue"] if loop else []
        return [f"if {self.condition()}:", f"    {self.rng.choice(ways)}"]


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]
