"""Functions that go over the elements of what they are given: `map`, `sorted`, `functools.reduce` and others."""

from __future__ import annotations

from collections.abc import Callable

from scriptrules.flow.interpreter.containers import in_any_order
from scriptrules.flow.interpreter.elements import (
    Element,
    called_back,
    carries,
    elements,
    from_python,
    members,
    partly_listed,
    python_of,
)
from scriptrules.flow.interpreter.machine import Arguments, Dead, Machine, nowhere
from scriptrules.flow.interpreter.natives import folded, unknown
from scriptrules.flow.interpreter.streams import each
from scriptrules.flow.interpreter.truth import truths
from scriptrules.flow.values import NONE, Items, Lost, Presence, Value, alternatives, const, opaque


def _sorted(machine: Machine, given: Arguments) -> Value:
    if not given.args:
        raise Dead
    key = given.get(99, "key")
    if key is not None:
        each(machine, given.args[0], lambda one: machine.call(key, Arguments((one,))))
    plain = python_of(machine, given.args[0])
    if plain is not None and key is None and not given.keywords:
        try:
            return from_python(machine, sorted(plain[0]))
        except TypeError:
            raise Dead from None
    items, rest = elements(machine, machine.state.narrow(given.args[0]))
    return in_any_order(machine, items, rest)


def _reversed(machine: Machine, given: Arguments) -> Value:
    if not given.args:
        raise Dead
    source = machine.state.narrow(given.args[0])
    items, rest = elements(machine, source)
    before = given.get(1, "before")  # what was in it when it was asked for, see `native`
    if before is not None and machine.items(before) != machine.items(source):
        more, others = elements(machine, before)
        return in_any_order(machine, (*items, *more), others if rest is None else rest)
    return machine.new(Items("list", items[::-1])) if rest is None else in_any_order(machine, items, rest)


def _enumerate(machine: Machine, given: Arguments) -> Value:
    items, rest = elements(machine, machine.state.narrow(given.args[0])) if given.args else ((), None)
    start = python_of(machine, given.get(1, "start") or const(0))
    begin = start[0] if start is not None and isinstance(start[0], int) else 0
    pairs: list[Element] = []
    least = begin  # the number, if nothing that may be missing is there
    for at, (item, presence) in enumerate(items, begin):
        number = opaque("a number") if start is None else alternatives(const(one) for one in range(least, at + 1))
        pairs.append((machine.new_list([number, item], "tuple"), presence))
        least += presence is None
    more = None if rest is None else machine.new_list([opaque("a number"), rest], "tuple")
    return machine.new(Items("list", tuple(pairs), more))


def _zip(machine: Machine, given: Arguments) -> Value:
    columns = [elements(machine, machine.state.narrow(partly_listed(machine, value))) for value in given.args]
    if given.rest is not None or not columns:
        return machine.new_list(
            [], rest=Lost("what zip() gives") if any(carries(machine, value) for value in given.values) else opaque("…")
        )
    if all(rest is None and all(presence is None for _, presence in items) for items, rest in columns):
        rows = zip(*([item for item, _ in items] for items, _ in columns), strict=False)
        return machine.new_list([machine.new_list(row, "tuple") for row in rows])
    mixed = [
        alternatives([*(item for item, _ in items), *([rest] if rest is not None else [])]) for items, rest in columns
    ]
    return machine.new_list([], rest=machine.new_list(mixed, "tuple"))


def _map(machine: Machine, given: Arguments) -> Value:
    if len(given.args) < 2 or given.rest is not None:
        return unknown(machine, "map", given)
    function, *columns = given.args
    if len(columns) == 1:
        items, rest = each(machine, columns[0], lambda one: machine.call(function, Arguments((one,), texts=("it",))))
    else:
        rows = _zip(machine, Arguments(tuple(columns)))
        items, rest = each(machine, rows, lambda row: machine.call(function, _spread_out(machine, row)))
    return machine.new(Items("list", tuple(items), rest))


def _spread_out(machine: Machine, row: Value) -> Arguments:
    """The arguments of ``f(*row)``."""
    items, rest = elements(machine, row)
    if all(presence is None for _, presence in items):
        return Arguments(tuple(item for item, _ in items), rest=rest)
    return Arguments(rest=alternatives(members(items, rest)))


def _starmap(machine: Machine, given: Arguments) -> Value:
    if len(given.args) != 2:
        return unknown(machine, "itertools.starmap", given)
    items, rest = each(machine, given.args[1], lambda row: machine.call(given.args[0], _spread_out(machine, row)))
    return machine.new(Items("list", tuple(items), rest))


def _filter(machine: Machine, given: Arguments) -> Value:
    if len(given.args) != 2:
        return unknown(machine, "filter", given)
    function, value = given.args
    items, rest = elements(machine, machine.state.narrow(value))
    kept: list[Element] = []
    for item, presence in items:
        answer = item if function == NONE else machine.call(function, Arguments((item,)))
        true, false = truths(machine, answer)
        if true is not None:
            facts = tuple((key, fact) for key, fact in true.facts.items() if machine.state.facts.get(key) is not fact)
            kept.append((item, presence if false is None else Presence(f"filter({given.text(0)})", facts)))
    if rest is not None and function != NONE:
        _, effects = machine.repeat(lambda: machine.call(function, Arguments((rest,))))
        machine.maybe(effects)
    return machine.new(Items("list", tuple(kept), rest))


def _chain(machine: Machine, given: Arguments) -> Value:
    items: list[Element] = []
    rest: list[Value] = [] if given.rest is None else [given.rest]
    for value in given.args:
        more, others = elements(machine, machine.state.narrow(value))
        items += more
        rest += [] if others is None else [others]
    return in_any_order(machine, items, alternatives(rest)) if rest else machine.new(Items("list", tuple(items)))


def _reduce(machine: Machine, given: Arguments) -> Value:
    if len(given.args) < 2:
        return unknown(machine, "functools.reduce", given)
    items, rest = elements(machine, machine.state.narrow(given.args[1]))
    values = [*given.args[2:], *(item for item, _ in items)]
    if rest is None and values and all(presence is None for _, presence in items):
        total = values[0]
        for value in values[1:]:
            total = machine.call(given.args[0], Arguments((total, value)))
        return total
    argument = alternatives([*values, *([rest] if rest is not None else []), Lost("what reduce() passes")])
    return alternatives([*values, called_back(machine, given.args[0], argument)])


def _next(machine: Machine, given: Arguments) -> Value:
    items, rest = elements(machine, machine.state.narrow(given.args[0])) if given.args else ((), None)
    every = members(items, rest) + list(given.args[1:])
    if not every:
        raise Dead
    return alternatives(every)


def _chosen(machine: Machine, given: Arguments) -> Value:
    """One of the arguments, or of the elements of the only one."""
    key = given.get(99, "key")
    items: tuple[Element, ...] = tuple((value, None) for value in given.args)
    rest = given.rest
    if len(items) == 1 and rest is None:
        items, rest = elements(machine, machine.state.narrow(items[0][0]))
    elif len(items) < 2 and rest is not None:  # of one argument, it is the elements
        rest = alternatives([rest, *(one for value in given.values[:2] for one in members(*elements(machine, value)))])
    if key is not None:
        each(machine, machine.new(Items("list", items, rest)), lambda one: machine.call(key, Arguments((one,))))
    values = members(items, rest) + [value for name, value in given.keywords if name == "default"]
    return alternatives(values) if values else nowhere()


def _extreme(machine: Machine, name: str, given: Arguments) -> Value:
    """`min` or `max`."""
    result = None if given.keywords or given.rest is not None else folded(machine, name, given)
    return _chosen(machine, given) if result is None else result


ITERATING: dict[str, Callable[[Machine, Arguments], Value]] = {
    "enumerate": _enumerate,
    "filter": _filter,
    "map": _map,
    "max": lambda machine, given: _extreme(machine, "max", given),
    "min": lambda machine, given: _extreme(machine, "min", given),
    "next": _next,
    "reversed": _reversed,
    "sorted": _sorted,
    "zip": _zip,
    "functools.reduce": _reduce,
    "itertools.chain": _chain,
    "itertools.starmap": _starmap,
}
