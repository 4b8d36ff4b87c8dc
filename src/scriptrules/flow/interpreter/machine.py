"""The life of an analysis: where the program is, what it has generated so far, and how it forks and repeats.

A `Machine` knows nothing of Python's grammar. What a node of the tree does, and what calling a value does, stand in the
tables of its `Language`, which the other modules have and `tables.py` puts together. They all take the machine as their
first argument, and whatever one of them needs of the program around it, it asks the machine for: `evaluate` for an
expression, `execute` and `block` for statements, `call` for a call. So none of them imports one that imports it.

Tried and rejected: one class for all of it, spread over modules that inherit from one another (nobody could say where a
name comes from); an object for each theme, each with a reference to all others (the same circle, and harder to follow).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

import msgspec

from scriptrules.flow.domains import Domain
from scriptrules.flow.effects import Effect, Falls, Fork, ForkCase, Maybe, Path, Waits, goes_on, then
from scriptrules.flow.interpreter.scopes import Scope
from scriptrules.flow.interpreter.widening import equal_states, widened_state
from scriptrules.flow.values import (
    Case,
    Choice,
    Data,
    Fn,
    Items,
    Object,
    Presence,
    Ref,
    State,
    Stream,
    Table,
    Value,
    Way,
    bounded,
    choice,
    common,
    const,
    merge,
    parts_of,
)
from scriptrules.function import FunctionSpec

STEPS_MAX = 100_000  # nodes that one rule may take: more is too complex
CELLS_A_STEP = 16  # of a state that is copied or merged
ROUNDS_MAX = 12  # of a loop until nothing changes any more


class TooComplex(Exception):
    """The analysis gives up on this rule."""


class Dead(Exception):
    """Control never gets here."""


def nowhere() -> NoReturn:
    """Where an expression is wanted, and control never gets there."""
    raise Dead


class Frame(msgspec.Struct, frozen=True):
    """Where names are looked up. `names` None: a module."""

    outer: int | None
    names: frozenset[str] | None
    own: bool  # whether its lines are lines of the rule's own file


class Arguments(msgspec.Struct, frozen=True):
    """What a function is called with; `rest` are further ones of which the number is not known."""

    args: tuple[Value, ...] = ()
    keywords: tuple[tuple[str, Value], ...] = ()
    rest: Value | None = None
    keyword_rest: Value | None = None
    texts: tuple[str | ast.expr, ...] = ()  # how the first ones are written

    def text(self, at: int) -> str:
        """How an argument is written."""
        written = self.texts[at] if at < len(self.texts) else "it"
        return written if isinstance(written, str) else ast.unparse(written)

    def get(self, at: int, name: str) -> Value | None:
        """The argument of a parameter, or what stands for it."""
        if at < len(self.args):
            return self.args[at]
        for keyword, value in self.keywords:
            if keyword == name:
                return value
        return self.rest or self.keyword_rest

    @property
    def values(self) -> list[Value]:
        """All of them."""
        rests = [rest for rest in (self.rest, self.keyword_rest) if rest is not None]
        return [*self.args, *(value for _, value in self.keywords), *rests]


class Activation:
    """A call of a function of the program that is under way."""

    def __init__(self, function: Fn, bound: Mapping[str, Value], known: Mapping[Data, Domain], doubt: int) -> None:
        self.function = function
        self.bound = bound
        self.known = known  # of opaque arguments
        self.doubt = doubt
        self.cuts: list[State] = []  # in which it was called again
        self.given: Value | None = None  # what calls of it have given so far


class Notes:
    """What the analysis notices by the way."""

    def __init__(self) -> None:
        self.started: dict[tuple[str, int], list[str]] = {}  # host (a pattern), line: options
        self.received: dict[str, int] = {}  # pattern: line
        self.fields: dict[str, int] = {}  # fields of the task that are read: line
        self.reached: set[int] = set()  # statements, by id
        self.unreached: dict[int, int] = {}  # statement: line
        self.endless: dict[str, int] = {}  # functions that call themselves and never return: line


class Language(msgspec.Struct, frozen=True):
    """What a program can say, each with the function that says what it does. A node that is in no table is too much."""

    expressions: Mapping[type[ast.expr], Callable[[Machine, Any], Value]]  # a node: what it gives
    statements: Mapping[type[ast.stmt], Callable[[Machine, Any, State], Path]]  # a node, in a state: the paths from it
    calls: Mapping[type[Value], Callable[[Machine, Any, Arguments], Value]]  # a kind of value: what a call of it gives
    natives: Mapping[str, Callable[[Machine, Arguments], Value]]  # a function's name: what a call of it gives


class Machine:
    """A program under way."""

    def __init__(
        self, language: Language, functions: Mapping[str, FunctionSpec], libraries: Mapping[str, ast.Module]
    ) -> None:
        self.language = language
        self.functions = functions  # that are injected
        self.libraries = libraries
        self.notes = Notes()
        self.steps = 0
        self._ids = 0
        self.scopes: dict[ast.AST, Scope] = {}  # of the functions that were called
        # Where it is.
        self.state = State({}, {})
        self.line = 0
        self.frame = 0
        self.stack: list[Activation] = []
        self.tries: list[list[State]] = []  # states in which an exception may leave the bodies of `try`
        self.doubt = 0  # conditions and loops around, of which nobody knows whether they get here
        # What it has made.
        self.frames: dict[int, Frame] = {}
        self.shared: set[int] = set()  # frames that stand for several
        self.loaded: dict[str, int] = {}  # library: the frame of its module
        self.effects: list[Effect] = []
        self.pending: list[tuple[tuple[str, bool], ...]] = []  # cases of this statement, and whether they go on

    # ---- the program

    def evaluate(self, node: ast.expr) -> Value:
        """What an expression gives."""
        self.step()
        does = self.language.expressions.get(type(node))
        if does is None:
            raise TooComplex
        return does(self, node)

    def used(self, node: ast.expr) -> Value:
        """What an expression gives, as far as conditions have narrowed it down to few texts."""
        value = self.evaluate(node)
        known = isinstance(value, Data) and self.state.key(value) in self.state.facts
        return self.concrete(value, ast.unparse(node)) if known else value

    def call(self, function: Value, arguments: Arguments) -> Value:
        """Call a value."""
        self.step()
        function = self.state.narrow(function)
        return self.language.calls[type(function)](self, function, arguments)

    def execute(self, node: ast.stmt, state: State) -> Path:
        """The paths on which a statement is left."""
        self.step(state)
        self.at(node)
        does = self.language.statements.get(type(node))
        if does is None:
            raise TooComplex
        if self.tries:
            self.tries[-1].append(state.copy())
        return does(self, node, state)

    def block(self, statements: Sequence[ast.stmt], state: State) -> Path:
        """Statements one after the other."""
        path = Path((), Falls(state))
        for statement in statements:
            if not goes_on(path):
                self._note_unreached(statement)
                break
            self.notes.reached.add(id(statement))
            path = then(path, lambda state, statement=statement: self.execute(statement, state))  # type: ignore[misc]
        return path

    def _note_unreached(self, statement: ast.stmt) -> None:
        frame = self.frames[self.frame]
        if frame.own and frame.names is not None:  # a module that cannot be loaded has other findings
            self.notes.unreached.setdefault(id(statement), statement.lineno)

    # ---- where it is

    def step(self, state: State | None = None) -> None:
        """Count what was done: a node, or a copy of a state, which costs by its size."""
        self.steps += 1 if state is None else 1 + len(state.cells) // CELLS_A_STEP
        if self.steps > STEPS_MAX:
            raise TooComplex

    def at(self, node: ast.AST) -> None:
        """Note the line, if it is one of the rule's own file."""
        if self.frames[self.frame].own:
            self.line = getattr(node, "lineno", self.line)

    def thrown(self) -> None:
        """An exception may leave the program's `try` in this state."""
        if self.tries:
            self.tries[-1].append(self.state.copy())

    def waits(self) -> None:
        """The run waits here for something outside."""
        if not self.effects or not isinstance(self.effects[-1], Waits):
            self.effects.append(Waits())

    @contextmanager
    def within(self, state: State) -> Iterator[None]:
        """Be in another state for a while."""
        before, self.state = self.state, state
        try:
            yield
        finally:
            self.state = before

    @contextmanager
    def aside(self, state: State) -> Iterator[None]:
        """Be in another state for a while, and generate nothing where the program is."""
        before, effects, pending = self.state, self.effects, self.pending
        self.state, self.effects, self.pending = state, [], []
        try:
            yield
        finally:
            self.state, self.effects, self.pending = before, effects, pending

    # ---- containers

    def new_id(self) -> int:
        """A number for a container or a frame."""
        self._ids += 1
        return self._ids

    def new(self, content: Object) -> Ref:
        """A new container."""
        ref = Ref(self.new_id())
        self.state.cells[ref.id] = bounded(content) if isinstance(content, Items) else content
        return ref

    def new_list(self, values: Iterable[Value], kind: str = "list", rest: Value | None = None) -> Ref:
        """A new list, tuple or set of values that are all there."""
        return self.new(Items(kind, tuple((value, None) for value in values), rest))

    def items(self, value: Value) -> Items | None:
        """The elements of a list, tuple or set."""
        found = self.state.cells.get(value.id) if isinstance(value, Ref) else None
        return found if isinstance(found, Items) else None

    def table(self, value: Value) -> Table | None:
        """What a dictionary holds."""
        found = self.state.cells.get(value.id) if isinstance(value, Ref) else None
        return found if isinstance(found, Table) else None

    def stream(self, value: Value) -> Stream | None:
        """What gives elements as they are asked for."""
        found = self.state.cells.get(value.id) if isinstance(value, Ref) else None
        return found if isinstance(found, Stream) else None

    # ---- values that depend on conditions

    def spread(self, values: Sequence[Value], make: Callable[..., Value]) -> Value:
        """`make` of values, case by case where they are choices. `make` must not change the state."""
        for at, value in enumerate(values):
            narrowed = self.state.narrow(value)
            if isinstance(narrowed, Choice):
                self.step()
                cases = []
                before = self.state
                for case in narrowed.cases:
                    self.state = State(before.cells, dict(before.facts))
                    try:
                        if all(self.state.assume(key, domain) for key, domain in case.facts):
                            inner = self.spread([*values[:at], case.value, *values[at + 1 :]], make)
                            cases.append(Case(case.label, case.facts, inner))
                    except Dead:
                        pass
                    finally:
                        self.state = before
                if not cases:
                    raise Dead
                return choice(cases)
            values = [*values[:at], narrowed, *values[at + 1 :]]
        return make(*values)

    def concrete(self, value: Value, written: str) -> Value:
        """`value`, or the few texts that conditions have left of it."""
        if not isinstance(value, Data):
            return value
        key = self.state.key(value)
        domain = self.state.facts.get(key)
        if domain is not None and domain.fits and domain.only is None:
            return common([parts_of(pattern) for pattern in domain.fits])
        if domain is None or domain.only is None or not all(isinstance(one, str) for one in domain.only):
            return value
        return choice(
            [
                Case(f"{written} == {one!r}", ((key, Domain(only=frozenset({one}))),), const(one))
                for one in sorted(domain.only)
            ]
        )

    # ---- forks

    def apart(self, state: State, what: Callable[[], Value]) -> tuple[Value | None, State, tuple[Effect, ...]]:
        """Do something in a state, apart from everything else; None where control never gets behind it."""
        self.doubt += 1
        try:
            with self.aside(state):
                self.step(state)
                value: Value | None
                try:
                    value = what()
                except Dead:
                    value = None
                    self.thrown()
                return value, self.state, tuple(self.effects)
        finally:
            self.doubt -= 1

    def fork(self, ways: Sequence[tuple[str, State, Callable[[], Value]]], total: bool = True) -> Value:
        """Go one of several ways, and on where they meet."""
        base = self.state.facts
        if len(ways) == 1:
            self.state = ways[0][1]
            return ways[0][2]()
        done = [(label, *self.apart(state, what)) for label, state, what in ways]
        self.fork_effects([ForkCase(label, effects, value is None) for label, value, _, effects in done], total)
        live = [Way(label, state, value) for label, value, state, _ in done if value is not None]
        if not live:
            raise Dead
        if len(live) < len(done):
            self.pending.append(tuple((label, value is not None) for label, value, _, _ in done))
        self.state, value = merge(live, base)
        return value

    def fork_effects(self, cases: Sequence[ForkCase], total: bool = True) -> None:
        """What the ways of a fork have generated."""
        if any(case.effects for case in cases):
            self.effects.append(Fork(tuple(cases), total))

    def by_case(self, value: Choice, what: Callable[[Value], Value]) -> Value:
        """Do something with each value that a choice may be, where it is that one."""
        ways = [
            (case.label, state, partial(what, case.value))
            for case in value.cases
            if (state := self.under(Presence(case.label, case.facts))) is not None
        ]
        return self.fork(ways) if ways else nowhere()

    def under(self, presence: Presence | None) -> State | None:
        """The state in which something is there; None where it cannot be."""
        state = self.state.copy()
        if presence is not None and not all(state.assume(key, domain) for key, domain in presence.facts):
            return None
        return state

    # ---- repetition

    def repeat(self, turn: Callable[[], Value]) -> tuple[Value | None, tuple[Effect, ...]]:
        """Do something any number of times; the state is then one in which it may have been done or not.

        Returns:
            What one turn gives, None if it never ends, and its effects.
        """
        self.state = self.stable(self.state, lambda state: [self.apart(state, turn)[1]])
        value, state, effects = self.apart(self.state.copy(), turn)
        if value is not None:
            self.state = self.widened(self.state, state)
        return value, effects

    def maybe(self, effects: tuple[Effect, ...]) -> None:
        """Effects that may not come about."""
        if effects:
            self.effects.append(Maybe(effects))

    def stable(self, state: State, turn: Callable[[State], Sequence[State]]) -> State:
        """A state that covers what any number of turns makes of `state`."""
        for _ in range(ROUNDS_MAX):
            grown = state
            for after in turn(state.copy()):
                grown = self.widened(grown, after)
            if equal_states(state, grown):
                return grown
            state = grown
        raise TooComplex

    def widened(self, before: State, after: State) -> State:
        """A state that covers both, and that stops growing soon."""
        return widened_state(before, after, self.shared)
