"""The state of an analysis under way: where the program is, what it has generated so far, and how it forks and repeats.

The classes of the interpreter build on one another: `Core`, `natives.Natives`, `functions.Functions`,
`expressions.Expressions`, `statements.Interpreter`. What a lower one needs of a higher one is declared here.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from scriptrules.flow.atoms import Type, Unknown
from scriptrules.flow.domains import FALSE, TRUE, Domain, hull
from scriptrules.flow.effects import Effect, Fork, ForkCase, Generated, Maybe
from scriptrules.flow.shapes import Via
from scriptrules.flow.values import (
    Case,
    Cell,
    Choice,
    Const,
    Data,
    Fn,
    Items,
    Lost,
    Object,
    Presence,
    Ref,
    State,
    Table,
    TaskView,
    Text,
    Value,
    Way,
    alternatives,
    choice,
    common,
    const,
    leaves,
    merge,
    parts_of,
    pattern_of,
    same,
    widen,
)
from scriptrules.model import NAME, NAME_MAX

STEPS_MAX = 100_000  # nodes that one rule may take: more is too complex
CELLS_A_STEP = 16  # of a state that is copied or merged
ROUNDS_MAX = 12  # of a loop until nothing changes any more
EVERY = "*"


class TooComplex(Exception):
    """The analysis gives up on this rule."""


class Dead(Exception):
    """Control never gets here."""


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
    texts: tuple[str, ...] = ()  # how the first ones are written

    def text(self, at: int) -> str:
        """How an argument is written."""
        return self.texts[at] if at < len(self.texts) else "it"

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


class Notes:
    """What the analysis notices by the way."""

    def __init__(self) -> None:
        self.started: dict[tuple[str, int], list[str]] = {}  # host (a pattern), line: options
        self.received: dict[str, int] = {}  # pattern: line
        self.waits: set[int] = set()  # lines on which a run waits for something outside
        self.fields: dict[str, int] = {}  # fields of the task that are read: line
        self.reached: set[int] = set()  # statements, by id
        self.unreached: dict[int, int] = {}  # statement: line
        self.endless: dict[str, int] = {}  # functions that call themselves and never return: line


class Core:
    def __init__(self) -> None:
        self.state = State({}, {})
        self.effects: list[Effect] = []
        self.pending: list[tuple[tuple[str, bool], ...]] = []  # cases of this statement, and whether they go on
        self.notes = Notes()
        self.frames: dict[int, Frame] = {}
        self.frame = 0
        self.line = 0
        self.steps = 0
        self.tries: list[list[State]] = []  # states in which an exception may leave the bodies of `try`
        self.doubt = 0  # conditions and loops around, of which nobody knows whether they get here
        self.shared: set[int] = set()  # frames that stand for several
        self._ids = 0

    # ---- what higher classes define

    def evaluate(self, node: ast.expr) -> Value:
        raise NotImplementedError

    def call(self, function: Value, arguments: Arguments) -> Value:
        raise NotImplementedError

    # ---- small things

    def new_id(self) -> int:
        self._ids += 1
        return self._ids

    def step(self, state: State | None = None) -> None:
        """Count what was done: a node, or a copy of a state, which costs by its size."""
        self.steps += 1 if state is None else 1 + len(state.cells) // CELLS_A_STEP
        if self.steps > STEPS_MAX:
            raise TooComplex

    def at(self, node: ast.AST) -> None:
        """Note the line, if it is one of the rule's own file."""
        if self.frames[self.frame].own:
            self.line = getattr(node, "lineno", self.line)

    def new(self, content: Object) -> Ref:
        """A new container."""
        ref = Ref(self.new_id())
        self.state.cells[ref.id] = content
        return ref

    def new_list(self, values: Iterable[Value], kind: str = "list", rest: Value | None = None) -> Ref:
        return self.new(Items(kind, tuple((value, None) for value in values), rest))

    def items(self, value: Value) -> Items | None:
        """The elements of a list, tuple or set."""
        found = self.state.cells.get(value.id) if isinstance(value, Ref) else None
        return found if isinstance(found, Items) else None

    def table(self, value: Value) -> Table | None:
        found = self.state.cells.get(value.id) if isinstance(value, Ref) else None
        return found if isinstance(found, Table) else None

    def carries(self, value: Value, deep: int = 6) -> bool:
        """Whether there may be a function or a task in it."""
        match value:
            case Const() | Text() | Data() | TaskView():
                return False
            case Choice():
                return any(self.carries(case.value, deep) for case in value.cases)
            case Ref() if deep:
                return any(self.carries(inner, deep - 1) for inner in self.inside(value))
        return True

    def inside(self, value: Ref) -> list[Value]:
        """What a container may hold."""
        content = self.state.cells.get(value.id)
        if isinstance(content, Items):
            found = [one for one, _ in content.items]
        elif isinstance(content, Table):
            found = [one for _, one, _ in content.items]
        else:
            return [Lost("a container that is not known")]
        return found if content.rest is None else [*found, content.rest]

    def changed(self, value: Value) -> None:
        """Opaque data may have been changed: what is known of it is no longer."""
        for case in [value] if not isinstance(value, Choice) else [case.value for case in value.cases]:
            if isinstance(case, Data):
                self.state.cells[case.key] = self.new_id()

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

    def truths(self, value: Value) -> tuple[State | None, State | None]:
        """The states in which a value is true, and in which it is false."""
        ways: tuple[list[State], list[State]] = ([], [])
        self._truths(value, self.state, ways)
        return self._one(ways[0]), self._one(ways[1])

    def _truths(self, value: Value, state: State, ways: tuple[list[State], list[State]]) -> None:
        if isinstance(value, Choice):
            for case in value.cases:
                inner = state.copy()
                if all(inner.assume(key, domain) for key, domain in case.facts):
                    self._truths(case.value, inner, ways)
            return
        known = self.truth(value)
        if known is not None:
            ways[0 if known else 1].append(state.copy())
            return
        for at, domain in ((0, TRUE), (1, FALSE)):
            inner = state.copy()
            if not isinstance(value, Data) or inner.assume(inner.key(value), domain):
                ways[at].append(inner)

    def _one(self, states: list[State]) -> State | None:
        if not states:
            return None
        facts = states[0].facts
        for state in states[1:]:
            facts = {key: hull(fact, state.facts[key]) for key, fact in facts.items() if key in state.facts}
        return State(states[0].cells, facts)

    def truth(self, value: Value) -> bool | None:
        """What `bool()` gives, if that is known."""
        match value:
            case Const():
                return bool(value.value)
            case Text():
                return True if any(value.parts) else None
            case Data() | Lost() | Choice() | TaskView():
                return None
            case Ref():
                content = self.state.cells.get(value.id)
                if isinstance(content, (Items, Table)):
                    if any(entry[-1] is None for entry in content.items):
                        return True
                    return None if content.items or content.rest is not None else False
                return None
        return True

    def thrown(self) -> None:
        """An exception may leave the program's `try` in this state."""
        if self.tries:
            self.tries[-1].append(self.state.copy())

    # ---- forks

    def apart(self, state: State, what: Callable[[], Value]) -> tuple[Value | None, State, tuple[Effect, ...]]:
        """Do something in a state, apart from everything else; None where control never gets behind it."""
        before, effects, pending = self.state, self.effects, self.pending
        self.state, self.effects, self.pending = state, [], []
        self.doubt += 1
        self.step(state)
        try:
            value: Value | None
            try:
                value = what()
            except Dead:
                value = None
                self.thrown()
            return value, self.state, tuple(self.effects)
        finally:
            self.doubt -= 1
            self.state, self.effects, self.pending = before, effects, pending

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
        if any(case.effects for case in cases):
            self.effects.append(Fork(tuple(cases), total))

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
        if effects:
            self.effects.append(Maybe(effects))

    def stable(self, state: State, turn: Callable[[State], Sequence[State]]) -> State:
        """A state that covers what any number of turns makes of `state`."""
        for _ in range(ROUNDS_MAX):
            grown = state
            for after in turn(state.copy()):
                grown = self.widened(grown, after)
            if self.equal(state, grown):
                return grown
            state = grown
        raise TooComplex

    def widened(self, before: State, after: State) -> State:
        """A state that covers both, and that stops growing soon."""
        cells = dict(before.cells)
        for key, cell in after.cells.items():
            known = cells.get(key)
            if known is None:
                cells[key] = cell
            elif known is not cell and not same(known, cell, lambda *_: False):
                cells[key] = self.summarised(cells, widen(known, cell))
        facts = {key: hull(fact, after.facts[key]) for key, fact in before.facts.items() if key in after.facts}
        return State(cells, facts)

    def summarised(self, cells: dict[Any, Cell], cell: Cell, deep: int = 4) -> Cell:
        """A cell in which one container, and one frame of a function, stands for all that a loop makes in one place."""
        match cell:
            case Items():
                items = tuple((self._one_for_all(cells, one, deep), presence) for one, presence in cell.items)
                rest = None if cell.rest is None else self._one_for_all(cells, cell.rest, deep)
                return Items(cell.kind, items, rest, cell.several)
            case Table():
                pairs = tuple((key, self._one_for_all(cells, one, deep), there) for key, one, there in cell.items)
                rest = None if cell.rest is None else self._one_for_all(cells, cell.rest, deep)
                return Table(pairs, rest, cell.several)
            case int():
                return cell
        return self._one_for_all(cells, cell, deep)

    def _one_for_all(self, cells: dict[Any, Cell], value: Value, deep: int) -> Value:
        every = list(leaves(value))
        if len(every) < 2 or not deep:
            return value
        kept: dict[object, Value] = {}
        for one in every:
            kind: object = one
            if isinstance(one, Ref) and isinstance(cells.get(one.id), (Items, Table)):
                kind = type(cells[one.id])
            elif isinstance(one, Fn):
                kind = one.node
            first = kept.setdefault(kind, one)
            if first != one and isinstance(first, Ref) and isinstance(one, Ref):
                both = msgspec.structs.replace(widen(cells[first.id], cells[one.id]), several=True)
                cells[first.id] = self.summarised(cells, both, deep - 1)
            elif first != one and isinstance(first, Fn) and isinstance(one, Fn):
                self.shared.add(first.frame)
                for key in [key for key in cells if isinstance(key, tuple) and key[0] == one.frame]:
                    known = cells.get((first.frame, key[1]))
                    joined = cells[key] if known is None else widen(known, cells[key])
                    cells[first.frame, key[1]] = self.summarised(cells, joined, deep - 1)
        return value if len(kept) == len(every) else alternatives(kept.values())

    def equal(self, one: State, other: State) -> bool:
        """Whether nothing but the identity of opaque data differs in what `one` has."""

        def seen(a: int, b: int) -> bool:
            return same(one.cells.get(a), other.cells.get(b), lambda *_: False)

        return (
            all(
                key in other.cells and (isinstance(key, str) or same(cell, other.cells[key], seen))
                for key, cell in one.cells.items()
            )
            and one.facts.keys() == other.facts.keys()
        )

    # ---- generating tasks

    def generate(self, name: Value, via: Via, written: str) -> None:
        """A task of this name is generated."""
        effects = self._generated(self.concrete(name, written), via, written)
        if effects is None:
            raise Dead
        self.effects += effects

    def _generated(self, name: Value, via: Via, written: str) -> list[Effect] | None:
        name = self.state.narrow(name)
        match name:
            case Choice():
                cases = []
                before = self.state
                for case in name.cases:
                    self.state = State(before.cells, dict(before.facts))
                    fits = all(self.state.assume(key, domain) for key, domain in case.facts)
                    effects = self._generated(case.value, via, written) if fits else None
                    self.state = before
                    if fits:
                        cases.append(ForkCase(case.label, tuple(effects or ()), effects is None))
                if all(case.fails for case in cases):
                    return None
                return [Fork(tuple(cases))]
            case Const():
                text = name.value
                if not isinstance(text, str) or not NAME.match(text) or len(text) > NAME_MAX:
                    return None
                return [Generated(Type(text), via, self.line)]
            case Text():
                why = f"`{written}` is known in part only"
                return [Generated(Unknown(why, pattern_of(name.parts)), via, self.line)]
            case Data():
                domain = self.state.facts.get(self.state.key(name))
                if domain is not None and domain.truth is False:
                    return None
                return [Generated(Unknown(f"`{written}` is {name.what}", EVERY), via, self.line)]
            case Lost():
                return [Generated(Unknown(f"`{written}` is {name.why}", EVERY), via, self.line)]
        return None

    def anything(self, why: str) -> None:
        """Something was called that may generate any task."""
        unknown = Unknown(why, EVERY)
        self.effects.append(Maybe(tuple(Generated(unknown, via, self.line) for via in (Via.EMIT, Via.CALL))))
