"""Lists, sets and dictionaries: made, looked up and changed."""

from __future__ import annotations

from collections.abc import Iterable

from scriptrules.flow.interpreter.comparisons import equal_facts, unequal_facts
from scriptrules.flow.interpreter.elements import Element, carries, elements, members, python_of
from scriptrules.flow.interpreter.machine import Arguments, Dead, Machine
from scriptrules.flow.values import (
    EITHER,
    Case,
    Choice,
    Const,
    Data,
    Items,
    Lost,
    Presence,
    Ref,
    Table,
    TaskView,
    Text,
    Value,
    alternatives,
    another,
    bounded,
    choice,
    const,
    opaque,
)


def copied(machine: Machine, given: Arguments, kind: str) -> Value:
    """A new list, tuple or set of the elements of the argument."""
    if not given.args:
        return machine.new_list([], kind)
    value = machine.state.narrow(given.args[0])
    items, rest = elements(machine, value)
    if kind == "set":
        items = tuple(dict(items).items()) if all(presence is None for _, presence in items) else items
    return machine.new(Items(kind, items, rest))


def in_any_order(machine: Machine, items: Iterable[Element], rest: Value | None) -> Value:
    """A list of which the order is not known."""
    every = members(items, rest)
    return machine.new_list([], rest=alternatives(every) if every else None)


def extended(content: Items, items: Iterable[Element], rest: Value | None) -> Items:
    """A list or set after more elements were added."""
    if content.rest is not None or content.several:
        rests = [one for one in (content.rest, rest) if one is not None]
        more = [*rests, *(item for item, _ in items)]
        return Items(content.kind, content.items, alternatives(more) if more else None, content.several)
    added = [item for item in items if content.kind != "set" or item not in content.items]
    return bounded(Items(content.kind, (*content.items, *added), rest))


def subscript(machine: Machine, value: Value, index: Value, named: str) -> Value:
    """``value[index]``, neither of them a choice; the index as it is written is `named`."""
    items = machine.items(index)
    if items is not None and items.kind == "slice":
        return _sliced(machine, value, [one for one, _ in items.items])
    match value:
        case TaskView():
            if isinstance(index, Const) and isinstance(index.value, str):
                machine.notes.fields.setdefault(index.value, machine.line)
                return field(index.value)
            return opaque("a field of the task")
        case Data():
            if isinstance(index, Const):
                return Data(f"{machine.state.key(value)}[{index.value!r}]", f"in {value.what}")
            return opaque(f"in {value.what}")
        case Const() if isinstance(value.value, str) and isinstance(index, Const):
            try:
                return const(value.value[index.value])
            except (IndexError, TypeError):
                raise Dead from None
        case Const() | Text():
            return opaque("a part of a text")
        case Ref():
            content = machine.state.cells.get(value.id)
            if isinstance(content, Table):
                return looked_up(machine, content, index, named, None)
            if isinstance(content, Items):
                return _element(machine, content, index, named)
    return Lost("an element of a value that is not known")


def _element(machine: Machine, content: Items, index: Value, named: str) -> Value:
    exact = content.exact
    if isinstance(index, Const) and isinstance(index.value, int):
        at = index.value
        if exact or (at >= 0 and all(presence is None for _, presence in content.items[: at + 1])):
            if -len(content.items) <= at < len(content.items):
                return another(content.items[at][0]) if content.several else content.items[at][0]
            if exact:
                raise Dead
    every = members(content.items, content.rest)
    if not every:
        raise Dead
    if not exact or not isinstance(index, Data):
        return alternatives(every)
    found = []
    for at, (item, _) in enumerate(content.items):
        facts = equal_facts(machine, index, const(at))
        if facts is not None:
            found.append(Case(f"{named} == {at}", (), item))  # it may as well be counted from behind
    return choice(found) if found else alternatives(every)


def _sliced(machine: Machine, value: Value, bounds: list[Value]) -> Value:
    content = machine.items(value)
    plain = [python_of(machine, bound) for bound in bounds]
    if content is not None and content.exact and all(one is not None for one in plain):
        cut = slice(*(one[0] for one in plain if one is not None))
        try:
            return machine.new(Items(content.kind, content.items[cut]))
        except (TypeError, ValueError):
            raise Dead from None
    if isinstance(value, Const) and isinstance(value.value, str) and all(one is not None for one in plain):
        try:
            return const(value.value[slice(*(one[0] for one in plain if one is not None))])
        except (TypeError, ValueError):
            raise Dead from None
    if content is not None:
        every = members(content.items, content.rest)
        return machine.new(Items(content.kind, (), alternatives(every) if every else None))
    if isinstance(value, (Const, Text)):
        return Text((None,))
    return opaque("a part of a value") if not carries(machine, value) else Lost("a part of a value")


def dict_(machine: Machine, given: Arguments) -> Value:
    """``dict(…)``."""
    table = Table((), given.keyword_rest)
    if given.args:
        value = given.args[0]
        known = machine.table(value)
        if known is not None:
            table = known
        elif isinstance(value, (Data, TaskView)):
            table = Table((), opaque("a field of the task" if isinstance(value, TaskView) else value.what))
        else:
            table = _pairs(machine, value)
    for name, one in given.keywords:
        table = put(machine, table, const(name), one)
    return machine.new(table)


def _pairs(machine: Machine, value: Value) -> Table:
    items, rest = elements(machine, value)
    table = Table((), None if rest is None else Lost("a value of a dictionary"))
    if rest is not None and not carries(machine, rest):
        table = Table((), opaque("a value of a dictionary"))
    for item, _ in items:
        pair = machine.items(item)
        if pair is None or len(pair.items) != 2:
            return Table((), Lost("a value of a dictionary") if carries(machine, value) else opaque("a value"))
        table = put(machine, table, pair.items[0][0], pair.items[1][0])
    return table


def _of_table(machine: Machine, given: Arguments) -> Table:
    table = machine.table(given.args[0]) if given.args else None
    return table or Table((), Lost("a value of a dictionary"))


def keys(machine: Machine, given: Arguments) -> Value:
    """The keys that a dictionary has now."""
    table = _of_table(machine, given)
    rest = None if table.rest is None else opaque("a key")
    return machine.new(Items("list", tuple((key, presence) for key, _, presence in table.items), rest))


def values(machine: Machine, given: Arguments) -> Value:
    """What stands in a dictionary now."""
    table = _of_table(machine, given)
    return machine.new(Items("list", tuple((one, presence) for _, one, presence in table.items), table.rest))


def pairs(machine: Machine, given: Arguments) -> Value:
    """The keys that a dictionary has now, each with what stands there."""
    table = _of_table(machine, given)
    rows = tuple((machine.new_list([key, one], "tuple"), there) for key, one, there in table.items)
    rest = None if table.rest is None else machine.new_list([opaque("a key"), another(table.rest)], "tuple")
    return machine.new(Items("list", rows, rest))


def put(machine: Machine, table: Table, key: Value, value: Value) -> Table:
    """A dictionary after ``table[key] = value``."""
    key = machine.state.narrow(key)
    if table.several:
        every = tuple((one, alternatives([old, value]), presence) for one, old, presence in table.items)
        rest = value if table.rest is None else alternatives([table.rest, value])
        return Table(every, rest, True)
    if isinstance(key, Const):
        items = {one: (old, presence) for one, old, presence in table.items}
        items[next((one for one in items if same_key(one, key)), key)] = (value, None)
        return Table(tuple((one, *item) for one, item in items.items()), table.rest)
    if isinstance(key, Choice) and all(isinstance(case.value, Const) for case in key.cases):
        kept = {one: (old, presence) for one, old, presence in table.items}
        for case in key.cases:
            old = kept.get(case.value)
            both = value if old is None else alternatives([old[0], value])
            kept[case.value] = (both, old[1] if old is not None else Presence(case.label, case.facts))
        return Table(tuple((one, *item) for one, item in kept.items()), table.rest)
    every = tuple((one, alternatives([old, value]), presence) for one, old, presence in table.items)
    return Table(every, value if table.rest is None else alternatives([table.rest, value]))


def updated(machine: Machine, table: Table, added: Table) -> Table:
    """A dictionary after ``table.update(added)``."""
    for key, value, presence in added.items:
        if presence is None or table.several:
            table = put(machine, table, key, value)
        else:
            old = next((one for known, one, _ in table.items if known == key), None)
            items = tuple(item for item in table.items if item[0] != key)
            both = value if old is None else alternatives([old, value])
            table = Table((*items, (key, both, presence if old is None else None)), table.rest)
    if added.rest is None:
        return table
    every = tuple((key, alternatives([one, added.rest]), there) for key, one, there in table.items)
    return Table(every, added.rest if table.rest is None else alternatives([table.rest, added.rest]), table.several)


def looked_up(machine: Machine, table: Table, key: Value, written: str, default: Value | None) -> Value:
    """``table[key]``, or with `default` ``table.get(key, default)``."""
    key = machine.concrete(key, written)
    return machine.spread([key], lambda one: _looked_up(machine, table, one, written, default))


def _looked_up(machine: Machine, table: Table, key: Value, written: str, default: Value | None) -> Value:
    cases: list[Case] = []
    others = [one for one in (None if table.rest is None else another(table.rest), default) if one is not None]
    if table.several:
        table = Table(tuple((name, another(one), there) for name, one, there in table.items), table.rest, True)
    if isinstance(key, Const):
        for name, value, presence in table.items:
            if same_key(name, key):
                if (presence is None and not table.several) or default is None:
                    return value
                there = presence or Presence(EITHER, ())
                return choice([Case(there.label, there.facts, value), Case("otherwise", (), default)])
    else:
        for name, value, _ in table.items:
            facts = equal_facts(machine, key, name)
            if facts is not None:
                cases.append(Case(f"{written} == {name.value!r}" if isinstance(name, Const) else written, facts, value))
    if not cases and not others:
        raise Dead
    if not cases:
        return others[0] if len(others) == 1 else alternatives(others)
    facts = unequal_facts(machine, key, [name for name, _, _ in table.items])
    cases += [Case("otherwise", facts, one) for one in others if machine.state.possible(facts)]
    return choice(cases)


def same_key(one: Value, other: Value) -> bool:
    """Whether two keys are one to a dictionary, as 1 and True are."""
    return one == other or (isinstance(one, Const) and isinstance(other, Const) and one.value == other.value)


def field(name: str) -> Data:
    """A field of the task."""
    return Data(f"task[{name!r}]", f"the task's field {name!r}")
