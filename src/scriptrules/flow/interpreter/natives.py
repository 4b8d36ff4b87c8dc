"""Functions of the language and of its modules.

Whatever is not listed here or in `iterating.py` gives opaque data. Where a function or a task goes into it, it may call
it with anything, and give it back: nothing is then known of the result.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable

from scriptrules.flow.interpreter.containers import copied, dict_, in_any_order, keys, pairs, put, updated, values
from scriptrules.flow.interpreter.elements import (
    FOLD_MAX,
    VIEWS,
    called_back,
    carries,
    cases,
    elements,
    from_python,
    listed,
    members,
    partly_listed,
    perhaps,
    python_of,
)
from scriptrules.flow.interpreter.injected import INJECTED, injected
from scriptrules.flow.interpreter.machine import Arguments, Dead, Machine
from scriptrules.flow.interpreter.truth import truths
from scriptrules.flow.values import (
    NONE,
    Case,
    Choice,
    Const,
    Data,
    Fn,
    Items,
    Lost,
    Method,
    Native,
    Partial,
    Ref,
    Stream,
    Table,
    Text,
    Value,
    alternatives,
    const,
    opaque,
    text,
    text_of,
)

FOLDED = frozenset(
    [
        "abs",
        "bool",
        "chr",
        "divmod",
        "float",
        "int",
        "len",
        "max",
        "min",
        "ord",
        "pow",
        "range",
        "repr",
        "round",
        "str",
        "sum",
    ]
)


LAZY = VIEWS | frozenset(  # which give a stream
    ["enumerate", "filter", "iter", "map", "reversed", "zip", "itertools.chain", "itertools.starmap"]
)
EXHAUSTING = frozenset(  # which ask for all elements of their arguments
    ["collections.Counter", "collections.OrderedDict", "collections.OrderedDict.fromkeys", "collections.deque"]
) | frozenset(
    ["dict", "dict.fromkeys", "frozenset", "functools.reduce", "list", "max", "min", "set", "sorted", "sum", "tuple"]
)
STORING = frozenset({"copy.copy", "functools.partial", *INJECTED})  # which ask for none of them
TYPES = frozenset({"dict", "list", "set", "str"})  # of which methods are called as functions
TAKING_MORE = frozenset(  # which see to further arguments of which the number is not known
    ["functools.partial", "itertools.chain", "map", "max", "min", "zip", *INJECTED]
)


def native(machine: Machine, function: Native, given: Arguments) -> Value:
    """Call a function that is not the program's own."""
    name = function.name
    if name in LAZY and given.rest is None and given.keyword_rest is None:
        as_it_is = (_copy(machine, given),) if name == "reversed" else ()  # it begins where the end is now
        return machine.new(Stream(name, (*given.args, *as_it_is), given.keywords, given.text(0)))
    if name not in STORING:
        given = _asked(machine, given, listed if name in EXHAUSTING else partly_listed)
    does = machine.language.natives.get(name)
    if does is not None and (given.rest is None or name in TAKING_MORE):
        return does(machine, given)
    kind, _, of_type = name.rpartition(".")
    if kind in TYPES and given.args:
        return machine.call(Method(given.args[0], of_type), Arguments(given.args[1:], given.keywords, given.rest))
    if name in machine.functions:
        return injected(machine, name, given)
    result = folded(machine, name, given) if name in FOLDED else None
    return unknown(machine, name, given) if result is None else result


def _asked(machine: Machine, given: Arguments, ask: Callable[[Machine, Value], Value]) -> Arguments:
    """Arguments with lists in the place of streams."""
    args = tuple(ask(machine, value) for value in given.args)
    return Arguments(args, given.keywords, given.rest, given.keyword_rest, given.texts)


def unknown(machine: Machine, name: str, given: Arguments) -> Value:
    """A function of which nothing is known but that it generates no task by itself."""
    if not any(carries(machine, value) for value in given.values):
        return opaque(f"what {name}() gives")
    for value in given.values:
        called_back(machine, value, Lost(f"what {name}() passes"))
    return Lost(f"what {name}() gives")


def folded(machine: Machine, name: str, given: Arguments) -> Value | None:
    """The result of a pure function of constants."""
    if given.rest is not None or given.keyword_rest is not None or given.keywords:
        return None
    plain = [python_of(machine, value) for value in given.args]
    if any(value is None for value in plain):
        return None
    values = [value[0] for value in plain if value is not None]
    if any(isinstance(value, int) and abs(value) > 10**6 for value in values):
        return None
    if any(isinstance(value, int) and abs(value) > FOLD_MAX for value in values) and name in ("range", "pow"):
        return None
    try:
        made = getattr(builtins, name)(*values)
    except Exception:
        raise Dead from None
    return from_python(machine, list(made) if isinstance(made, range) else made)


def _str(machine: Machine, given: Arguments) -> Value:
    if len(given.args) != 1:
        return opaque("text") if given.args or given.rest is not None else const("")
    value = machine.concrete(given.args[0], given.text(0))
    return machine.spread([value], lambda one: Lost(one.why) if isinstance(one, Lost) else text(text_of(one)))


def _len(machine: Machine, given: Arguments) -> Value:
    if not given.args:
        return opaque("a number")

    def length(value: Value) -> Value:
        content = machine.state.cells.get(value.id) if isinstance(value, Ref) else None
        if isinstance(content, (Items, Table)) and content.exact:
            return const(len(content.items))
        if isinstance(value, Const) and isinstance(value.value, str):
            return const(len(value.value))
        if isinstance(value, Data):
            return Data(f"len({machine.state.key(value)})", "a length")
        return opaque("a length")

    return machine.spread([given.args[0]], length)


def _bool(machine: Machine, given: Arguments) -> Value:
    true, false = truths(machine, given.args[0]) if given.args else (None, machine.state)
    if false is None or true is None:
        return const(true is not None)
    base = machine.state.facts
    return Choice(
        tuple(
            Case(
                given.text(0) if answer else f"not {given.text(0)}",
                tuple((key, fact) for key, fact in state.facts.items() if base.get(key) is not fact),
                const(answer),
            )
            for answer, state in ((True, true), (False, false))
        )
    )


def _copy(machine: Machine, given: Arguments) -> Value:
    value = given.args[0] if given.args else NONE
    content = machine.state.cells.get(value.id) if isinstance(value, Ref) else None
    return value if content is None else machine.new(content)


def _partial(machine: Machine, given: Arguments) -> Value:
    if not given.args or given.rest is not None or given.keyword_rest is not None:
        return unknown(machine, "functools.partial", given)
    return Partial(given.args[0], given.args[1:], given.keywords)


def _defaultdict(machine: Machine, given: Arguments) -> Value:
    factory = given.args[0] if given.args else NONE
    default = None if factory == NONE else perhaps(machine, lambda: machine.call(factory, Arguments()))
    table = machine.table(dict_(machine, Arguments(given.args[1:], given.keywords))) or Table(())
    return machine.new(Table(table.items, default if table.rest is None else Lost("a value of a dictionary")))


def _deque(machine: Machine, given: Arguments) -> Value:
    if given.get(1, "maxlen") is None:
        return copied(machine, given, "list")
    items, rest = elements(machine, machine.state.narrow(given.args[0])) if given.args else ((), None)
    return in_any_order(machine, items, rest)


def _heap(machine: Machine, given: Arguments) -> Value:
    """A function that puts a list into another order, and may add to it or take out of it."""
    if not given.args:
        raise Dead
    more = given.values[1:]
    every = [*more]
    for one in cases(machine, given.args[0]):
        content = machine.items(one)
        if content is None or not isinstance(one, Ref):
            return unknown(machine, "heapq", given)
        inside = [*members(content.items, content.rest), *more]
        every += inside
        machine.state.cells[one.id] = Items(content.kind, (), alternatives(inside) if inside else None, content.several)
    return alternatives(every) if every else NONE


def _fromkeys(machine: Machine, given: Arguments) -> Value:
    if not given.args:
        raise Dead
    items, rest = elements(machine, machine.state.narrow(given.args[0]))
    value = given.get(1, "value") or NONE
    table = Table((), None if rest is None else value)
    for key, presence in items:
        if presence is None:
            table = put(machine, table, key, value)
        else:
            table = updated(machine, table, Table(((key, value, presence),)))
    return machine.new(table)


def _isinstance(machine: Machine, given: Arguments) -> Value:
    return opaque("whether it is of a type")


def _callable(machine: Machine, given: Arguments) -> Value:
    value = given.args[0] if given.args else NONE
    if isinstance(value, (Fn, Native, Partial, Method)):
        return const(True)
    return const(False) if isinstance(value, (Const, Text, Data)) else opaque("whether it can be called")


NATIVES: dict[str, Callable[[Machine, Arguments], Value]] = {
    "bool": _bool,
    "callable": _callable,
    "dict": dict_,
    "frozenset": lambda machine, given: copied(machine, given, "set"),
    "isinstance": _isinstance,
    "iter": lambda machine, given: copied(machine, given, "list"),
    "len": _len,
    "list": lambda machine, given: copied(machine, given, "list"),
    "set": lambda machine, given: copied(machine, given, "set"),
    "str": _str,
    "tuple": lambda machine, given: copied(machine, given, "tuple"),
    "collections.OrderedDict": dict_,
    "collections.OrderedDict.fromkeys": _fromkeys,
    "collections.defaultdict": _defaultdict,
    "collections.deque": _deque,
    "dict.fromkeys": _fromkeys,
    "dict.items": pairs,
    "dict.keys": keys,
    "dict.values": values,
    **dict.fromkeys([f"bisect.insort{side}" for side in ("", "_left", "_right")], _heap),
    **dict.fromkeys([f"heapq.heap{what}" for what in ("ify", "pop", "push", "pushpop", "replace")], _heap),
    "copy.copy": _copy,
    "copy.deepcopy": _copy,
    "functools.partial": _partial,
}
