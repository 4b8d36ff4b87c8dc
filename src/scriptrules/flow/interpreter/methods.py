"""Methods: of text, of lists and sets, of dictionaries, of the task, and of what nothing is known of."""

from __future__ import annotations

from scriptrules.flow.interpreter.containers import dict_, extended, field, looked_up, put, same_key, updated
from scriptrules.flow.interpreter.elements import called_back, carries, changed, elements, inside, members
from scriptrules.flow.interpreter.generating import anything
from scriptrules.flow.interpreter.machine import Arguments, Machine, TooComplex, nowhere
from scriptrules.flow.interpreter.texts import text_method
from scriptrules.flow.values import (
    EITHER,
    NONE,
    Choice,
    Const,
    Data,
    Items,
    Lost,
    Object,
    Presence,
    Ref,
    Stream,
    Table,
    TaskView,
    Text,
    Value,
    alternatives,
    const,
    opaque,
)

READING = frozenset(  # methods that change nothing
    [
        "get",
        "keys",
        "values",
        "items",
        "copy",
        "count",
        "index",
        "split",
        "rsplit",
        "splitlines",
        "partition",
        "rpartition",
        "join",
        "lower",
        "upper",
        "title",
        "strip",
        "lstrip",
        "rstrip",
        "startswith",
        "endswith",
        "replace",
        "format",
        "removeprefix",
        "removesuffix",
        "capitalize",
        "casefold",
        "isoformat",
        "strftime",
        "date",
        "time",
        "timestamp",
        "find",
        "isdigit",
        "isalpha",
        "isalnum",
        "zfill",
        "union",
        "intersection",
        "difference",
        "issubset",
        "issuperset",
    ]
)
ADDING_ONE = frozenset({"append", "add", "appendleft", "insert"})
ADDING_ALL = frozenset(
    {"extend", "extendleft", "update", "union", "symmetric_difference", "symmetric_difference_update"}
)
COMPUTING = frozenset({"union", "intersection", "difference", "symmetric_difference"})
KEEPING = frozenset({"append", "add", "insert", "extend", "update", "setdefault"})  # which put their argument into data


def method(machine: Machine, receiver: Value, name: str, given: Arguments, written: str = "it") -> Value:
    """Call a method."""
    receiver = machine.state.narrow(receiver)
    if isinstance(receiver, Choice):
        return machine.by_case(receiver, lambda one: method(machine, one, name, given, written))
    if isinstance(receiver, Text) or (isinstance(receiver, Const) and isinstance(receiver.value, str)):
        return text_method(machine, receiver, name, given)
    if isinstance(receiver, Ref):
        content = machine.state.cells.get(receiver.id)
        if isinstance(content, Items):
            return _list_method(machine, receiver, content, name, given)
        if isinstance(content, Table):
            return _dict_method(machine, receiver, content, name, given, written)
    if isinstance(receiver, TaskView):
        return _task_method(machine, name, given)
    if isinstance(receiver, Lost):
        anything(machine, f"`{name}` of {receiver.why} is called")
        return Lost(receiver.why)
    return _data_method(machine, receiver, name, given)


def _data_method(machine: Machine, receiver: Value, name: str, given: Arguments) -> Value:
    for value in given.values:
        called_back(machine, value, opaque("an element of a value that run time decides"))
    if name not in READING:
        changed(machine, receiver)
    if name in KEEPING and any(carries(machine, value) for value in given.values):
        raise TooComplex  # whatever is taken out of the data later may be a function
    if any(carries(machine, value) for value in given.values):
        return Lost(f"what {name}() gives")
    if isinstance(receiver, Data) and name == "get" and given.args and isinstance(given.args[0], Const):
        plain = len(given.args) == 1 or given.args[1] == NONE
        if plain:
            return Data(f"{machine.state.key(receiver)}[{given.args[0].value!r}]", f"in {receiver.what}")
    return opaque(f"what {name}() gives")


def _task_method(machine: Machine, name: str, given: Arguments) -> Value:
    if name == "get" and given.args and isinstance(given.args[0], Const) and isinstance(given.args[0].value, str):
        name = given.args[0].value
        machine.notes.fields.setdefault(name, machine.line)
        if len(given.args) == 1 or given.args[1] == NONE:
            return field(name)
        if carries(machine, given.args[1]):
            return alternatives([opaque("a field of the task"), given.args[1]])
        return opaque(f"the task's field {name!r}")
    return opaque("fields of the task")


def _list_method(machine: Machine, receiver: Ref, content: Items, name: str, given: Arguments) -> Value:
    args = given.args if given.rest is None else ()
    match name:
        case "append" | "add" | "appendleft" if args:
            if name == "appendleft" and content.rest is None and not content.several:
                return _becomes(machine, receiver, Items(content.kind, ((args[0], None), *content.items)))
            return _becomes(machine, receiver, extended(content, [(args[0], None)], None))
        case "extend" | "update" if len(args) == 1:
            items, rest = elements(machine, machine.state.narrow(args[0]))
            return _becomes(machine, receiver, extended(content, items, rest))
        case "copy":
            return machine.new(Items(content.kind, *elements(machine, receiver)))
        case "clear" if not content.several:
            return _becomes(machine, receiver, Items(content.kind, ()))
        case "reverse" if content.rest is None and not content.several:
            return _becomes(machine, receiver, Items(content.kind, content.items[::-1]))
        case "insert" if len(args) == 2 and args[0] == const(0) and content.rest is None and not content.several:
            return _becomes(machine, receiver, Items(content.kind, ((args[1], None), *content.items)))
        case "pop" | "popleft" if content.exact and content.items and (not args or args[0] in (const(0), const(-1))):
            first = name == "popleft" or (args and args[0] == const(0))
            _becomes(machine, receiver, Items(content.kind, content.items[1:] if first else content.items[:-1]))
            return content.items[0 if first else -1][0]
        case "index" | "count" | "issubset" | "issuperset" | "isdisjoint":
            return opaque("a number")
        case "union" if len(args) == 1:
            items, rest = elements(machine, machine.state.narrow(args[0]))
            return machine.new(extended(content, items, rest))
    return _jumbled(machine, receiver, content, name, given)


def _becomes(machine: Machine, container: Ref, content: Object) -> Value:
    machine.state.cells[container.id] = content
    return NONE


def _jumbled(machine: Machine, receiver: Ref, content: Items, name: str, given: Arguments) -> Value:
    """A method after which any of the elements may be anywhere, or gone."""
    every = members(content.items, content.rest)
    key = given.get(99, "key")
    if key is not None:
        called_back(machine, key, alternatives(every) if every else NONE)
    if name in ADDING_ONE:
        every += given.values
    elif name in ADDING_ALL:
        every += [one for value in given.values for one in members(*elements(machine, machine.state.narrow(value)))]
    mixed = alternatives(every) if every else None
    if name in COMPUTING:
        return machine.new(Items(content.kind, (), mixed))
    _becomes(machine, receiver, Items(content.kind, (), mixed, content.several))
    if not name.startswith("pop"):
        return NONE
    return nowhere() if mixed is None else mixed


def _dict_method(machine: Machine, receiver: Ref, content: Table, name: str, given: Arguments, written: str) -> Value:
    args = given.args
    cells = machine.state.cells
    if content.several and name in ("pop", "popitem", "clear", "update"):
        rest = alternatives(
            [*inside(machine, receiver), *given.values, *(_values(machine, given) if name == "update" else ())]
        )
        cells[receiver.id] = Table(
            tuple((key, alternatives([one, rest]), Presence(EITHER, ())) for key, one, _ in content.items),
            rest,
            True,
        )
        return rest
    match name:
        case "get" if args:
            return looked_up(machine, content, args[0], given.text(0), args[1] if len(args) > 1 else NONE)
        case "setdefault" if args:
            default = args[1] if len(args) > 1 else NONE
            found = looked_up(machine, content, args[0], given.text(0), default)
            cells[receiver.id] = put(machine, content, args[0], found)
            return found
        case "pop" if args:
            found = looked_up(machine, content, args[0], given.text(0), args[1] if len(args) > 1 else None)
            left = tuple(item for item in content.items if not same_key(item[0], args[0]))
            if not isinstance(args[0], Const):
                left = tuple((key, value, Presence("it is still there", ())) for key, value, _ in content.items)
            cells[receiver.id] = Table(left, content.rest)
            return found
        case "keys" | "values" | "items":
            return machine.new(Stream(f"dict.{name}", (receiver,)))
        case "copy":
            return machine.new(content)
        case "clear":
            cells[receiver.id] = Table(())
            return NONE
        case "update":
            added = machine.table(
                dict_(machine, Arguments(args[:1], given.keywords, None, given.keyword_rest))
            ) or Table(())
            cells[receiver.id] = updated(machine, content, added)
            return NONE
    for value in given.values:
        called_back(machine, value, Lost("an element"))
    every = [*inside(machine, receiver), *given.values]
    cells[receiver.id] = Table((), Lost("a value of a dictionary")) if carries(machine, receiver) else Table(
        (), opaque("a value of a dictionary")
    )  # fmt: skip
    return (
        Lost("a value of a dictionary")
        if any(carries(machine, one) for one in every)
        else opaque("a value of a dictionary")
    )


def _values(machine: Machine, given: Arguments) -> list[Value]:
    """Whatever may stand in dictionaries that are given."""
    return [one for value in given.values if isinstance(value, Ref) for one in inside(machine, value)]
