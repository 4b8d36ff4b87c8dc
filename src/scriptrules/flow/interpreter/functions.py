"""Calls: a function of the program is interpreted anew for each call, with the values that it is called with.

A callback is so resolved for each caller that passes it, however many levels lie between. A call that is under way
already, with arguments that are no different but for opaque data, adds nothing: it gives what the calls that did return
have given, and the outermost of them is repeated until that, and what they change, is stable.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

from scriptrules.flow.domains import ANY, hull
from scriptrules.flow.effects import Path, Returns, Split, flat
from scriptrules.flow.interpreter.elements import called_back, carries
from scriptrules.flow.interpreter.generating import anything
from scriptrules.flow.interpreter.machine import Activation, Arguments, Dead, Frame, Machine, TooComplex
from scriptrules.flow.interpreter.methods import method
from scriptrules.flow.interpreter.natives import native, unknown
from scriptrules.flow.interpreter.scopes import Scope, scope
from scriptrules.flow.interpreter.widening import equal_states
from scriptrules.flow.values import (
    EITHER,
    NONE,
    Choice,
    Const,
    Data,
    Fn,
    Items,
    Lost,
    Method,
    Module,
    Native,
    NewTask,
    Partial,
    Ref,
    State,
    Table,
    TaskView,
    Text,
    Value,
    Way,
    alternatives,
    another,
    const,
    merge,
    opaque,
    same,
    widened,
)

DEPTH_MAX = 24  # calls of one function on top of one another, with different arguments
DOUBTFUL_MAX = 2  # the same where nobody knows whether the program gets that deep
STACK_MAX = 40  # calls on top of one another
REPEATED_MAX = 8  # times that a recursion is followed until it is stable


def either(machine: Machine, function: Choice, arguments: Arguments) -> Value:
    """Call what depends on conditions."""
    return machine.by_case(function, lambda one: machine.call(one, arguments))


def partially(machine: Machine, function: Partial, arguments: Arguments) -> Value:
    """Call what `functools.partial` gave."""
    return machine.call(
        function.function,
        Arguments(
            (*function.args, *arguments.args),
            tuple({**dict(function.keywords), **dict(arguments.keywords)}.items()),
            arguments.rest,
            arguments.keyword_rest,
            ("it",) * len(function.args) + arguments.texts,
        ),
    )


def anything_at_all(machine: Machine, function: Lost, arguments: Arguments) -> Value:
    """Call what may be any function."""
    anything(machine, f"{function.why} is called")
    for value in arguments.values:
        called_back(machine, value, Lost(f"what {function.why} passes"))
    return Lost(f"what {function.why} gives")


def never(machine: Machine, function: Const, arguments: Arguments) -> Value:
    """Call a constant: TypeError."""
    raise Dead


def opaquely(machine: Machine, function: Value, arguments: Arguments) -> Value:
    """Call what cannot be called, or nothing is known of."""
    if any(carries(machine, value) for value in arguments.values):
        return unknown(machine, "it", arguments)
    return opaque("what a call gives")


def enter(machine: Machine, function: Fn, arguments: Arguments) -> Value:
    """Call a function of the program."""
    bound = _bind(machine, function, arguments)
    under_way = [one for one in machine.stack if one.function.node is function.node]
    doubtful = len(under_way) > 1 and machine.doubt > under_way[0].doubt
    if len(under_way) >= (DOUBTFUL_MAX if doubtful else DEPTH_MAX):
        bound = {name: _blurred(machine, value) for name, value in bound.items()}
        if len(under_way) >= 2 * DEPTH_MAX:
            raise TooComplex
    for one in reversed(under_way):
        if _repeats(machine, one, function, bound):
            one.cuts.append(machine.state.copy())
            if one.given is None:
                raise Dead
            return one.given
    if len(machine.stack) >= 2 * STACK_MAX:
        raise TooComplex
    state = machine.state
    known = {value: state.facts.get(state.key(value), ANY) for value in bound.values() if isinstance(value, Data)}
    activation = Activation(function, bound, known, machine.doubt)
    machine.stack.append(activation)
    try:
        return _until_stable(machine, activation)
    finally:
        machine.stack.pop()


def _repeats(machine: Machine, activation: Activation, function: Fn, bound: Mapping[str, Value]) -> bool:
    """Whether a call adds nothing to one that is under way."""
    if activation.function.frame != function.frame:
        return False
    for name, value in bound.items():
        before = activation.bound[name]
        if not _alike(machine, before, value):
            return False
        known = activation.known.get(before, ANY) if isinstance(before, Data) else ANY
        if isinstance(value, Data) and value != before and known is not ANY:
            now = machine.state.facts.get(machine.state.key(value), ANY)
            if now is ANY or hull(known, now) != known:
                return False
    return True


def _alike(machine: Machine, one: Value, other: Value) -> bool:
    """Whether two values are equal but for opaque data, also in what they hold."""
    cells = machine.state.cells
    return same(one, other, lambda a, b: same(cells.get(a), cells.get(b), lambda *_: False))


def _blurred(machine: Machine, value: Value) -> Value:
    """`value` without what a recursion may count or build up."""
    match value:
        case Const():
            return opaque("an argument of a recursive call")
        case Choice():
            return alternatives([_blurred(machine, case.value) for case in value.cases])
    return opaque("an argument of a recursive call") if not carries(machine, value) else value


def _until_stable(machine: Machine, activation: Activation) -> Value:
    entry = machine.state
    for _ in range(REPEATED_MAX):
        before, pending = len(machine.effects), len(machine.pending)
        activation.cuts = []
        machine.state = entry.copy()
        given: Value | None
        try:
            given = _executed(machine, activation)
        except Dead:
            given = None
        if not activation.cuts:
            if given is None:
                raise Dead
            return given
        grown = entry
        for state in activation.cuts:
            grown = machine.widened(grown, state)
        grown = State({key: cell for key, cell in grown.cells.items() if key in entry.cells}, grown.facts)
        both = [one for one in (activation.given, given) if one is not None]
        result = widened(both) if both else None
        settled = (result is None and activation.given is None) or (
            result is not None and activation.given is not None and _alike(machine, result, activation.given)
        )
        if settled and equal_states(entry, grown):
            if given is None:
                name = getattr(activation.function.node, "name", "lambda")
                if machine.frames[activation.function.frame].own:
                    machine.notes.endless.setdefault(name, activation.function.node.lineno)
                raise Dead
            return given
        activation.given = result
        entry = grown
        del machine.effects[before:], machine.pending[pending:]
    raise TooComplex


def _executed(machine: Machine, activation: Activation) -> Value:
    """The body of a function, once."""
    function = activation.function
    node = function.node
    frame, line, pending = machine.frame, machine.line, machine.pending
    outer = machine.frames[function.frame]
    machine.frame = machine.new_id()
    names, closed = _scope(machine, node)
    machine.frames[machine.frame] = Frame(function.frame, names, outer.own)
    machine.pending = []
    try:
        for name, value in activation.bound.items():
            machine.state.cells[machine.frame, name] = value
        if isinstance(node, ast.Lambda):
            return machine.evaluate(node.body)
        effects, machine.effects = machine.effects, []
        try:
            path = machine.block(node.body, machine.state)
        finally:
            machine.effects = effects
        machine.effects += flat(path)
        machine.pending = []
        found = _outcome(machine, path)
        if found is None:
            raise Dead
        pending = [*pending, *machine.pending]
        machine.state, value = found
        return value
    finally:
        if closed:  # nothing can refer to its frame any more
            for name in names:
                machine.state.cells.pop((machine.frame, name), None)
        machine.frame, machine.line, machine.pending = frame, line, pending


def _scope(machine: Machine, node: ast.FunctionDef | ast.Lambda) -> Scope:
    found = machine.scopes.get(node)
    if found is None:
        found = machine.scopes[node] = scope(node)
    return found


def _outcome(machine: Machine, path: Path) -> tuple[State, Value] | None:
    """The state in which a function returns, and what it returns."""
    end = path.end
    if isinstance(end, Split):
        done = [(label, _outcome(machine, inner)) for label, inner in end.cases]
        live = [Way(label or EITHER, *found) for label, found in done if found is not None]
        if not live:
            return None
        if len(live) < len(done) and all(label is not None for label, _ in done):
            machine.pending.append(tuple((label or EITHER, found is not None) for label, found in done))
        return merge(live, end.base)
    if isinstance(end, Returns):
        return end.state, end.value
    state = getattr(end, "state", None)
    return None if state is None else (state, NONE)


def _bind(machine: Machine, function: Fn, given: Arguments) -> dict[str, Value]:
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
            found = [another(one) for one in rests if one is not None]
            if not found:
                raise Dead
            bound[name] = found[0] if len(found) == 1 else alternatives(found)
    extra = given.args[len(places) :]
    if spec.vararg is not None:
        bound[spec.vararg.arg] = machine.new(Items("tuple", tuple((one, None) for one in extra), given.rest))
    elif extra:
        raise Dead
    if spec.kwarg is not None:
        pairs = tuple((const(name), value, None) for name, value in named.items())
        bound[spec.kwarg.arg] = machine.new(Table(pairs, given.keyword_rest))
    elif named:
        raise Dead
    return bound


CALLS: dict[type[Value], Callable[[Machine, Any, Arguments], Value]] = {
    Fn: enter,
    Native: native,
    Method: lambda machine, function, arguments: method(machine, function.receiver, function.name, arguments),
    Partial: partially,
    Choice: either,
    Lost: anything_at_all,
    Const: never,
    **dict.fromkeys((Data, Text, Ref, Module, NewTask, TaskView), opaquely),
}
