"""What is in values: their elements, whether a function may be among them, and what constants they stand for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from scriptrules.flow.interpreter.machine import Arguments, Dead, Machine
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
    Ref,
    Stream,
    Table,
    TaskView,
    Text,
    Value,
    alternatives,
    another,
    const,
    opaque,
)

FOLD_MAX = 2000  # characters or elements of what is computed here
TURNS_MAX = 200  # elements of what is unrolled
Element = tuple[Value, Presence | None]


def elements(machine: Machine, value: Value) -> tuple[tuple[Element, ...], Value | None]:
    """What a loop over `value` gets: known elements, and then any number of another."""
    match value:
        case Ref():
            content = machine.state.cells.get(value.id)
            if isinstance(content, Items):
                rest = None if content.rest is None else another(content.rest)
                if content.several:
                    return tuple((another(item), presence) for item, presence in content.items), rest
                return content.items, rest
            if isinstance(content, Table):
                rest = None if content.rest is None else opaque("a key")
                return tuple((key, presence) for key, _, presence in content.items), rest
            if isinstance(content, Stream):
                return elements(machine, _drawn(machine, value, content))
        case Const() if isinstance(value.value, str):
            if len(value.value) <= TURNS_MAX:
                return tuple((const(one), None) for one in value.value), None
            return (), opaque("a character")
        case Const():
            raise Dead
        case Choice() if streams(machine, value):
            return elements(machine, listed(machine, value))
        case Choice():
            found = [elements(machine, case.value) for case in value.cases]
            every = [one for items, _ in found for one, _ in items] + [rest for _, rest in found if rest is not None]
            return (), alternatives(every) if every else opaque("nothing")
        case Data():
            return (), opaque(f"in {value.what}")
        case Text() | TaskView():
            return (), opaque("a part of a value that run time decides")
    return (), Lost("an element of a value that is not known")


VIEWS = frozenset({"dict.keys", "dict.values", "dict.items"})  # which call nothing, and never come to an end


def begin(machine: Machine, stream: Value) -> None:
    """Elements of a stream are taken."""
    content = machine.stream(stream)
    if isinstance(stream, Ref) and content is not None and content.name not in VIEWS:
        machine.state.cells[stream.id] = replace(content, begun=True)


def _drawn(machine: Machine, ref: Ref, stream: Stream) -> Value:
    """A container of all that a stream has left to give."""
    begin(machine, ref)
    machine.step()

    def draw() -> Value:
        return machine.language.natives[stream.name](
            machine, Arguments(stream.args, stream.keywords, texts=(stream.label,))
        )

    result = perhaps(machine, draw) if stream.begun else draw()
    return machine.new_list([]) if result is None else result


def streams(machine: Machine, value: Value) -> bool:
    """Whether a value is a stream, or may be one."""
    return any(machine.stream(one) is not None for one in cases(machine, value))


def listed(machine: Machine, value: Value) -> Value:
    """A list of what a stream gives, where `value` is one, all asked for at once; `value` where it is none."""
    if not streams(machine, value):
        return value
    value = machine.state.narrow(value)
    if isinstance(value, Choice):
        return machine.by_case(value, lambda one: listed(machine, one))
    return value if machine.stream(value) is None else machine.new(Items("list", *elements(machine, value)))


def partly_listed(machine: Machine, value: Value) -> Value:
    """The same where not all may be asked for."""
    if not streams(machine, value):
        return value
    found = perhaps(machine, lambda: listed(machine, value))
    return machine.new_list([]) if found is None else found


def members(items: Iterable[Element], rest: Value | None) -> list[Value]:
    """Every value that may be among elements."""
    return [item for item, _ in items] + ([] if rest is None else [another(rest)])


def carries(machine: Machine, value: Value, deep: int = 6) -> bool:
    """Whether there may be a function or a task in it."""
    match value:
        case Const() | Text() | Data() | TaskView():
            return False
        case Choice():
            return any(carries(machine, case.value, deep) for case in value.cases)
        case Ref() if deep:
            return any(carries(machine, inner, deep - 1) for inner in inside(machine, value))
    return True


def inside(machine: Machine, value: Ref) -> list[Value]:
    """What a container may hold."""
    content = machine.state.cells.get(value.id)
    if isinstance(content, Stream):
        return list(content.args)
    if isinstance(content, Items):
        found = [one for one, _ in content.items]
    elif isinstance(content, Table):
        found = [one for _, one, _ in content.items]
    else:
        return [Lost("a container that is not known")]
    return found if content.rest is None else [*found, content.rest]


def like(machine: Machine, value: Value, what: str) -> Value:
    """Something that is part of a value: data, if that is data."""
    return Lost(what) if carries(machine, value) else opaque(what)


def changed(machine: Machine, value: Value) -> None:
    """Opaque data may have been changed: what is known of it is no longer."""
    for case in [value] if not isinstance(value, Choice) else [case.value for case in value.cases]:
        if isinstance(case, Data):
            machine.state.cells[case.key] = machine.new_id()


def perhaps(machine: Machine, what: Callable[[], Value]) -> Value | None:
    """What something gives that may come about later, or never; None where it always fails."""
    value, state, effects = machine.apart(machine.state.copy(), what)
    machine.maybe(effects)
    if value is not None:
        machine.state = machine.widened(machine.state, state)
    return value


def cases(machine: Machine, value: Value) -> list[Value]:
    """The values that a value may be here."""
    value = machine.state.narrow(value)
    return [one for case in value.cases for one in cases(machine, case.value)] if isinstance(value, Choice) else [value]


def callables(machine: Machine, value: Value, deep: int = 4) -> list[Value]:
    """The functions in a value."""
    match value:
        case Fn() | Partial() | Lost() | Method():
            return [value]
        case Native():
            return [value] if value.name in ("emit", "call") or "." in value.name else []
        case Choice():
            return [one for case in value.cases for one in callables(machine, case.value, deep)]
        case Ref() if deep:
            return [one for inner in inside(machine, value) for one in callables(machine, inner, deep - 1)]
        case Ref() if carries(machine, value):
            return [Lost("a function deep in a container")]
    return []


def called_back(machine: Machine, value: Value, argument: Value) -> Value:
    """Functions in `value` may be called any number of times with any number of arguments."""

    def turn() -> Value:
        found: list[Value] = []
        for one in callables(machine, value):
            result, state, effects = machine.apart(
                machine.state.copy(),
                lambda one=one: machine.call(one, Arguments(rest=argument, keyword_rest=argument)),  # type: ignore[misc]
            )
            machine.maybe(effects)
            if result is not None:
                machine.state = machine.widened(machine.state, state)
                found.append(result)
        return alternatives(found) if found else NONE

    result, effects = machine.repeat(turn)
    machine.maybe(effects)
    return result or NONE


PYTHON: dict[str, Callable[[Iterable[Any]], Any]] = {"tuple": tuple, "set": frozenset}


def python_of(machine: Machine, value: Value) -> tuple[Any] | None:
    """The Python value that an exact one stands for."""
    if isinstance(value, Const):
        return (value.value,)
    items = machine.items(value)
    if items is not None and items.exact and len(items.items) <= FOLD_MAX:
        inner = [python_of(machine, one) for one, _ in items.items]
        if all(one is not None for one in inner):
            try:
                return (PYTHON.get(items.kind, list)(one[0] for one in inner if one is not None),)
            except TypeError:  # a set of what has no hash
                return None
    return None


def from_python(machine: Machine, value: Any) -> Value:
    """What stands for a value of Python that was computed here."""
    if isinstance(value, (list, tuple)):
        if len(value) > FOLD_MAX:
            return machine.new_list([], rest=opaque("one of many values"))
        return machine.new_list([from_python(machine, one) for one in value], type(value).__name__)
    if isinstance(value, str) and len(value) > FOLD_MAX:
        return Text((None,))
    return const(value)
