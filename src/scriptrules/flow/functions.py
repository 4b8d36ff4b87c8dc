"""Calls: a function of the program is interpreted anew for each call, with the values that it is called with.

A callback is so resolved for each caller that passes it, however many levels lie between. A call that is under way
already, with arguments that are no different but for opaque data, adds nothing: it gives what the calls that did return
have given, and the outermost of them is repeated until that, and what they change, is stable.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence

from scriptrules.flow.containers import Containers
from scriptrules.flow.core import Arguments, Dead, Frame, TooComplex
from scriptrules.flow.domains import ANY, hull
from scriptrules.flow.effects import Path, Returns, Split, flat
from scriptrules.flow.values import (
    NONE,
    Choice,
    Const,
    Data,
    Fn,
    Items,
    Lost,
    Method,
    Native,
    Partial,
    Presence,
    State,
    Table,
    Value,
    Way,
    alternatives,
    const,
    merge,
    opaque,
    same,
    widened,
)
from scriptrules.function import FunctionSpec

DEPTH_MAX = 24  # calls of one function on top of one another, with different arguments
DOUBTFUL_MAX = 2  # the same where nobody knows whether the program gets that deep
STACK_MAX = 40  # calls on top of one another


class Activation:
    """A call that is under way."""

    def __init__(self, function: Fn, bound: dict[str, Value], state: State, doubt: int) -> None:
        self.function = function
        self.doubt = doubt
        self.bound = bound
        self.known = {
            value: state.facts.get(state.key(value), ANY) for value in bound.values() if isinstance(value, Data)
        }
        self.cuts: list[State] = []  # in which it was called again
        self.given: Value | None = None  # what calls of it have given so far


class Functions(Containers):
    def __init__(self, functions: Mapping[str, FunctionSpec]) -> None:
        super().__init__(functions)
        self.stack: list[Activation] = []
        self._names: dict[ast.AST, tuple[frozenset[str], bool]] = {}

    def block(self, statements: Sequence[ast.stmt], state: State) -> Path:
        raise NotImplementedError

    # ---- calls

    def call(self, function: Value, arguments: Arguments) -> Value:
        """Call a value."""
        self.step()
        function = self.state.narrow(function)
        match function:
            case Choice():
                ways = []
                for case in function.cases:
                    state = self.under(Presence(case.label, case.facts))
                    if state is not None:
                        ways.append((case.label, state, lambda case=case: self.call(case.value, arguments)))
                return self.fork(ways) if ways else self._nowhere()
            case Fn():
                return self.enter(function, arguments)
            case Native():
                return self.native(function.name, arguments)
            case Method():
                return self.method(function.receiver, function.name, arguments)
            case Partial():
                texts = ("it",) * len(function.args) + arguments.texts
                return self.call(
                    function.function,
                    Arguments(
                        (*function.args, *arguments.args),
                        tuple({**dict(function.keywords), **dict(arguments.keywords)}.items()),
                        arguments.rest,
                        arguments.keyword_rest,
                        texts,
                    ),
                )
            case Lost():
                self.anything(f"{function.why} is called")
                for value in arguments.values:
                    self.called_back(value, Lost(f"what {function.why} passes"))
                return Lost(f"what {function.why} gives")
            case Const():
                raise Dead
        return opaque("what a call gives")

    def enter(self, function: Fn, arguments: Arguments) -> Value:
        """Call a function of the program."""
        bound = self.bind(function, arguments)
        under_way = [one for one in self.stack if one.function.node is function.node]
        doubtful = len(under_way) > 1 and self.doubt > under_way[0].doubt
        if len(under_way) >= (DOUBTFUL_MAX if doubtful else DEPTH_MAX):
            bound = {name: self.blurred(value) for name, value in bound.items()}
            if len(under_way) >= 2 * DEPTH_MAX:
                raise TooComplex
        for one in reversed(under_way):
            if self.repeats(one, function, bound):
                one.cuts.append(self.state.copy())
                if one.given is None:
                    raise Dead
                return one.given
        if len(self.stack) >= 2 * STACK_MAX:
            raise TooComplex
        activation = Activation(function, bound, self.state, self.doubt)
        self.stack.append(activation)
        try:
            return self.until_stable(activation)
        finally:
            self.stack.pop()

    def repeats(self, activation: Activation, function: Fn, bound: dict[str, Value]) -> bool:
        """Whether a call adds nothing to one that is under way."""
        if activation.function.frame != function.frame:
            return False
        for name, value in bound.items():
            before = activation.bound[name]
            if not same(before, value, self.alike):
                return False
            known = activation.known.get(before, ANY) if isinstance(before, Data) else ANY
            if isinstance(value, Data) and value != before and known is not ANY:
                now = self.state.facts.get(self.state.key(value), ANY)
                if now is ANY or hull(known, now) != known:
                    return False
        return True

    def alike(self, one: int, other: int) -> bool:
        cells = self.state.cells
        return same(cells.get(one), cells.get(other), lambda *_: False)

    def blurred(self, value: Value) -> Value:
        """`value` without what a recursion may count or build up."""
        match value:
            case Const():
                return opaque("an argument of a recursive call")
            case Choice():
                return alternatives([self.blurred(case.value) for case in value.cases])
        return opaque("an argument of a recursive call") if not self.carries(value) else value

    def until_stable(self, activation: Activation) -> Value:
        entry = self.state
        for _ in range(8):
            before, pending = len(self.effects), len(self.pending)
            activation.cuts = []
            self.state = entry.copy()
            given: Value | None
            try:
                given = self.execute(activation)
            except Dead:
                given = None
            if not activation.cuts:
                if given is None:
                    raise Dead
                return given
            grown = entry
            for state in activation.cuts:
                grown = self.widened(grown, state)
            grown = State({key: cell for key, cell in grown.cells.items() if key in entry.cells}, grown.facts)
            both = [one for one in (activation.given, given) if one is not None]
            result = widened(both) if both else None
            settled = (result is None and activation.given is None) or (
                result is not None and activation.given is not None and same(result, activation.given, self.alike)
            )
            if settled and self.equal(entry, grown):
                if given is None:
                    name = getattr(activation.function.node, "name", "lambda")
                    if self.frames[activation.function.frame].own:
                        self.notes.endless.setdefault(name, activation.function.node.lineno)
                    raise Dead
                return given
            activation.given = result
            entry = grown
            del self.effects[before:], self.pending[pending:]
        raise TooComplex

    def execute(self, activation: Activation) -> Value:
        """The body of a function, once."""
        function = activation.function
        node = function.node
        frame, line, pending = self.frame, self.line, self.pending
        outer = self.frames[function.frame]
        self.frame = self.new_id()
        names, closed = self.names_of(node)
        self.frames[self.frame] = Frame(function.frame, names, outer.own)
        self.pending = []
        try:
            for name, value in activation.bound.items():
                self.state.cells[self.frame, name] = value
            if isinstance(node, ast.Lambda):
                return self.evaluate(node.body)
            effects, self.effects = self.effects, []
            try:
                path = self.block(node.body, self.state)
            finally:
                self.effects = effects
            self.effects += flat(path)
            self.pending = []
            found = self.outcome(path)
            if found is None:
                raise Dead
            pending = [*pending, *self.pending]
            self.state, value = found
            return value
        finally:
            if closed:  # nothing can refer to its frame any more
                for name in names:
                    self.state.cells.pop((self.frame, name), None)
            self.frame, self.line, self.pending = frame, line, pending

    def outcome(self, path: Path) -> tuple[State, Value] | None:
        """The state in which a function returns, and what it returns."""
        end = path.end
        if isinstance(end, Split):
            done = [(label, self.outcome(inner)) for label, inner in end.cases]
            live = [Way(label or "", *found) for label, found in done if found is not None]
            if not live:
                return None
            if len(live) < len(done) and all(label is not None for label, _ in done):
                self.pending.append(tuple((label or "", found is not None) for label, found in done))
            return merge(live, end.base)
        if isinstance(end, Returns):
            return end.state, end.value
        state = getattr(end, "state", None)
        return None if state is None else (state, NONE)

    def names_of(self, node: ast.FunctionDef | ast.Lambda) -> tuple[frozenset[str], bool]:
        """The names that belong to a function, and whether no other function is made in it."""
        found = self._names.get(node)
        if found is None:
            inner = any(isinstance(one, (ast.FunctionDef, ast.Lambda)) for one in ast.walk(node) if one is not node)
            found = self._names[node] = (bound_names(node), not inner)
        return found

    # ---- parameters

    def bind(self, function: Fn, given: Arguments) -> dict[str, Value]:
        """Parameters and what they get.

        Raises:
            Dead: Python would raise TypeError.
        """
        spec = function.node.args
        places = [*spec.posonlyargs, *spec.args]
        named = dict(given.keywords)
        bound: dict[str, Value] = {}
        defaults = dict(
            zip([one.arg for one in places[len(places) - len(function.defaults) :]], function.defaults, strict=True)
        )
        defaults |= dict(function.keyword_defaults)
        positional = {one.arg for one in spec.posonlyargs}
        for at, parameter in enumerate([*places, *spec.kwonlyargs]):
            name = parameter.arg
            if at < len(places) and at < len(given.args):
                if name in named and name not in positional:
                    raise Dead
                bound[name] = given.args[at]
            elif name in named and name not in positional:
                bound[name] = named.pop(name)
            else:
                rests = [given.rest if at < len(places) else None, given.keyword_rest, defaults.get(name)]
                found = [one for one in rests if one is not None]
                if not found:
                    raise Dead
                bound[name] = found[0] if len(found) == 1 else alternatives(found)
        extra = given.args[len(places) :]
        if spec.vararg is not None:
            bound[spec.vararg.arg] = self.new(Items("tuple", tuple((one, None) for one in extra), given.rest))
        elif extra:
            raise Dead
        if spec.kwarg is not None:
            pairs = tuple((const(name), value, None) for name, value in named.items())
            bound[spec.kwarg.arg] = self.new(Table(pairs, given.keyword_rest))
        elif named:
            raise Dead
        return bound


def bound_names(node: ast.FunctionDef | ast.Lambda) -> frozenset[str]:
    """The names that belong to a function itself."""
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    names = {one.arg for one in every if one is not None}
    foreign: set[str] = set()
    todo: list[ast.AST] = list(node.body) if isinstance(node, ast.FunctionDef) else [node.body]
    while todo:
        one = todo.pop()
        names.update(_binds(one))
        if isinstance(one, (ast.Nonlocal, ast.Global)):
            foreign.update(one.names)
        todo += _within(one)
    return frozenset(names - foreign)


def _within(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a node that bind names where it stands."""
    if isinstance(node, (ast.FunctionDef, ast.Lambda)):
        yield from node.args.defaults
        yield from (one for one in node.args.kw_defaults if one is not None)
    elif isinstance(node, (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)):
        yield from (one for one in ast.walk(node) if isinstance(one, ast.NamedExpr))
    else:
        yield from ast.iter_child_nodes(node)


def _binds(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name(ctx=ast.Store() | ast.Del()):
            yield node.id
        case ast.FunctionDef() | ast.ClassDef():
            yield node.name
        case ast.alias():
            yield (node.asname or node.name).partition(".")[0]
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)):
            yield name
