"""What the functions of the language, of its modules and the injected ones do, as far as it matters for what follows.

Whatever is not listed here gives opaque data. Where a function or a task goes into it, it may call it with anything,
and give it back: nothing is then known of the result.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from scriptrules.flow.core import EVERY, Arguments, Core, Dead
from scriptrules.flow.shapes import Via
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
    NewTask,
    Partial,
    Presence,
    Ref,
    Table,
    TaskView,
    Text,
    Value,
    alternatives,
    const,
    opaque,
    pattern_of,
    text,
    text_of,
)
from scriptrules.function import FunctionSpec

FOLD_MAX = 2000  # characters or elements of what is computed here
TURNS_MAX = 200  # elements of what is unrolled
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
WAITING = frozenset({"wait", "sleep", "sleep_until", "receive", "hold"})
RUN_PARAMETERS = frozenset({"host", "name", "image", "args", "env", "timeout", "retries"})
Element = tuple[Value, Presence | None]


class Natives(Core):
    def __init__(self, functions: Mapping[str, FunctionSpec]) -> None:
        super().__init__()
        self.specs = functions

    # ---- what higher classes define

    def updated(self, table: Table, added: Table) -> Table:
        raise NotImplementedError

    # ---- elements

    def elements(self, value: Value) -> tuple[tuple[Element, ...], Value | None]:
        """What a loop over `value` gets: known elements, and then any number of another."""
        match value:
            case Ref():
                content = self.state.cells.get(value.id)
                if isinstance(content, Items):
                    return content.items, content.rest
                if isinstance(content, Table):
                    rest = None if content.rest is None else opaque("a key")
                    return tuple((key, presence) for key, _, presence in content.items), rest
            case Const() if isinstance(value.value, str):
                if len(value.value) <= TURNS_MAX:
                    return tuple((const(one), None) for one in value.value), None
                return (), opaque("a character")
            case Const():
                raise Dead
            case Choice():
                found = [self.elements(case.value) for case in value.cases]
                every = [one for items, _ in found for one, _ in items] + [
                    rest for _, rest in found if rest is not None
                ]
                return (), alternatives(every) if every else opaque("nothing")
            case Data():
                return (), opaque(f"in {value.what}")
            case Text() | TaskView():
                return (), opaque("a part of a value that run time decides")
        return (), Lost("an element of a value that is not known")

    def each(self, value: Value, turn: Callable[[Value], Value]) -> tuple[list[Element], Value | None]:
        """Do something for each element: what it gives for the known ones, and for any other."""
        value = self.state.narrow(value)
        items, rest = self.elements(value)
        done: list[Element] = []
        for item, presence in items[:TURNS_MAX]:
            self.step()
            if presence is None:
                done.append((turn(item), None))
                continue
            there = self.under(presence)
            if there is None:
                continue
            result = self.fork(
                [
                    (presence.label, there, lambda item=item: turn(item)),  # type: ignore[misc]
                    ("", self.state.copy(), lambda: NONE),
                ]
            )
            done.append((result, presence))
        if len(items) > TURNS_MAX:
            others = alternatives([item for item, _ in items[TURNS_MAX:]])
            rest = others if rest is None else alternatives([others, rest])
        if rest is None:
            return done, None
        more, effects = self.repeat(lambda: turn(rest))
        self.maybe(effects)
        return done, more

    # ---- functions by their names

    def native(self, name: str, given: Arguments) -> Value:
        """Call a function that is not the program's own."""
        handler = getattr(self, f"fn_{name.replace('.', '_')}", None)
        if handler is not None:
            return handler(given)  # type: ignore[no-any-return]
        if name in self.specs:
            return self.injected(name, given)
        if name in FOLDED and (folded := self.folded(name, given)) is not None:
            return folded
        return self.unknown(name, given)

    def injected(self, name: str, given: Arguments) -> Value:
        """A function that is an entry of the journal: it takes data and gives data."""
        if name in WAITING or self.specs[name].blocks:
            self.notes.waits.add(self.line)
        return opaque(f"what {name}() gives")

    def unknown(self, name: str, given: Arguments) -> Value:
        """A function of which nothing is known but that it generates no task by itself."""
        if not any(self.carries(value) for value in given.values):
            return opaque(f"what {name}() gives")
        for value in given.values:
            self.called_back(value, Lost(f"what {name}() passes"))
        return Lost(f"what {name}() gives")

    def called_back(self, value: Value, argument: Value) -> Value:
        """Functions in `value` may be called any number of times with any number of arguments."""

        def turn() -> Value:
            found: list[Value] = []
            for one in self.callables(value):
                result, state, effects = self.apart(
                    self.state.copy(),
                    lambda one=one: self.call(one, Arguments(rest=argument, keyword_rest=argument)),  # type: ignore[misc]
                )
                self.maybe(effects)
                if result is not None:
                    self.state = self.widened(self.state, state)
                    found.append(result)
            return alternatives(found) if found else NONE

        result, effects = self.repeat(turn)
        self.maybe(effects)
        return result or NONE

    def callables(self, value: Value, deep: int = 4) -> list[Value]:
        """The functions in a value."""
        match value:
            case Fn() | Partial() | Lost() | Method():
                return [value]
            case Native():
                return [value] if value.name in ("emit", "call") or "." in value.name else []
            case Choice():
                return [one for case in value.cases for one in self.callables(case.value, deep)]
            case Ref() if deep:
                return [one for inner in self.inside(value) for one in self.callables(inner, deep - 1)]
            case Ref() if self.carries(value):
                return [Lost("a function deep in a container")]
        return []

    def folded(self, name: str, given: Arguments) -> Value | None:
        """The result of a pure function of constants."""
        if given.rest is not None or given.keyword_rest is not None or given.keywords:
            return None
        plain = [self.plain(value) for value in given.args]
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
        return self.from_plain(list(made) if isinstance(made, range) else made)

    def plain(self, value: Value) -> tuple[Any] | None:
        """The Python value that an exact one stands for."""
        if isinstance(value, Const):
            return (value.value,)
        items = self.items(value)
        if items is not None and items.exact and len(items.items) <= FOLD_MAX:
            inner = [self.plain(one) for one, _ in items.items]
            if all(one is not None for one in inner):
                return ([one[0] for one in inner if one is not None],)
        return None

    def from_plain(self, value: Any) -> Value:
        if isinstance(value, (list, tuple)):
            if len(value) > FOLD_MAX:
                return self.new_list([], rest=opaque("one of many values"))
            return self.new_list(map(self.from_plain, value), type(value).__name__)
        if isinstance(value, str) and len(value) > FOLD_MAX:
            return Text((None,))
        return const(value)

    # ---- injected functions

    def fn_emit(self, given: Arguments) -> Value:
        return self.generated(given, Via.EMIT)

    def fn_call(self, given: Arguments) -> Value:
        self.notes.waits.add(self.line)
        return self.generated(given, Via.CALL)

    def generated(self, given: Arguments, via: Via) -> Value:
        name = given.args[0] if given.args else given.rest
        if name is None:
            raise Dead
        self.generate(name, via, given.text(0))
        return opaque(f"what {via}() gives")

    def fn_fail(self, given: Arguments) -> Value:
        raise Dead

    def fn_run(self, given: Arguments) -> Value:
        host = given.get(0, "host")
        names = [EVERY] if host is None else [self.pattern(one) for one in self.cases(host)]
        options = [name for name, _ in given.keywords if name not in RUN_PARAMETERS]
        for name in names:
            self.notes.started.setdefault((name, self.line), options)
        return opaque("what run() gives")

    def fn_receive(self, given: Arguments) -> Value:
        self.notes.waits.add(self.line)
        what = given.get(0, "on")
        if what is not None:
            for value in self.cases(what):
                items = self.items(value)
                for one in [value] if items is None else [item for item, _ in items.items]:
                    self.notes.received.setdefault(self.pattern(one), self.line)
        return opaque("what receive() gives")

    def cases(self, value: Value) -> list[Value]:
        value = self.state.narrow(value)
        return [one for case in value.cases for one in self.cases(case.value)] if isinstance(value, Choice) else [value]

    def pattern(self, value: Value) -> str:
        return pattern_of(text_of(value)) if isinstance(value, (Const, Text)) else EVERY

    def fn_Task(self, given: Arguments) -> Value:
        name = given.args[0] if given.args else given.rest
        if name is None:
            raise Dead
        return NewTask(self.concrete(name, given.text(0)), self.line)

    def fn_Job(self, given: Arguments) -> Value:
        body = self.table(given.get(1, "body") or NONE)
        if body is not None:
            known = {key.value: one for key, one, _ in body.items if isinstance(key, Const)}
            self.fn_run(Arguments(keywords=tuple((name, one) for name, one in known.items() if name != "action")))
        self.notes.waits.add(self.line)
        return NewTask(given.get(2, "then") or NONE, self.line, Via.THEN)

    # ---- functions of the language

    def fn_str(self, given: Arguments) -> Value:
        if len(given.args) != 1:
            return opaque("text") if given.args or given.rest is not None else const("")
        value = self.concrete(given.args[0], given.text(0))
        return self.spread([value], lambda one: Lost(one.why) if isinstance(one, Lost) else text(text_of(one)))

    def fn_len(self, given: Arguments) -> Value:
        if not given.args:
            return opaque("a number")

        def length(value: Value) -> Value:
            content = self.state.cells.get(value.id) if isinstance(value, Ref) else None
            if isinstance(content, (Items, Table)) and content.exact:
                return const(len(content.items))
            if isinstance(value, Const) and isinstance(value.value, str):
                return const(len(value.value))
            if isinstance(value, Data):
                return Data(f"len({self.state.key(value)})", "a length")
            return opaque("a length")

        return self.spread([given.args[0]], length)

    def fn_bool(self, given: Arguments) -> Value:
        true, false = self.truths(given.args[0]) if given.args else (None, self.state)
        if false is None or true is None:
            return const(true is not None)
        base = self.state.facts
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

    def copied(self, given: Arguments, kind: str) -> Value:
        if not given.args:
            return self.new_list([], kind)
        value = self.state.narrow(given.args[0])
        items, rest = self.elements(value)
        if kind in ("set", "frozenset"):
            items = tuple(dict(items).items()) if all(presence is None for _, presence in items) else items
        return self.new(Items(kind, items, rest))

    def fn_list(self, given: Arguments) -> Value:
        return self.copied(given, "list")

    def fn_tuple(self, given: Arguments) -> Value:
        return self.copied(given, "tuple")

    def fn_set(self, given: Arguments) -> Value:
        return self.copied(given, "set")

    def fn_frozenset(self, given: Arguments) -> Value:
        return self.copied(given, "set")

    def fn_iter(self, given: Arguments) -> Value:
        return self.copied(given, "list")

    fn_copy_copy = fn_copy_deepcopy = lambda self, given: self.fn_copy(given)

    def fn_copy(self, given: Arguments) -> Value:
        value = given.args[0] if given.args else NONE
        content = self.state.cells.get(value.id) if isinstance(value, Ref) else None
        return value if content is None else self.new(content)

    def fn_dict(self, given: Arguments) -> Value:
        table = Table((), given.keyword_rest)
        if given.args:
            value = given.args[0]
            known = self.table(value)
            if known is not None:
                table = known
            elif isinstance(value, (Data, TaskView)):
                table = Table((), opaque("a field of the task" if isinstance(value, TaskView) else value.what))
            else:
                table = self._pairs(value)
        for name, one in given.keywords:
            table = self.put(table, const(name), one)
        return self.new(table)

    def _pairs(self, value: Value) -> Table:
        items, rest = self.elements(value)
        table = Table((), None if rest is None else Lost("a value of a dictionary"))
        if rest is not None and not self.carries(rest):
            table = Table((), opaque("a value of a dictionary"))
        for item, _ in items:
            pair = self.items(item)
            if pair is None or len(pair.items) != 2:
                return Table((), Lost("a value of a dictionary") if self.carries(value) else opaque("a value"))
            table = self.put(table, pair.items[0][0], pair.items[1][0])
        return table

    def put(self, table: Table, key: Value, value: Value) -> Table:
        """A dictionary after ``table[key] = value``."""
        key = self.state.narrow(key)
        if table.several:
            every = tuple((one, alternatives([old, value]), presence) for one, old, presence in table.items)
            rest = value if table.rest is None else alternatives([table.rest, value])
            return Table(every, rest, True)
        if isinstance(key, Const):
            items = {one: (old, presence) for one, old, presence in table.items}
            items[key] = (value, None)
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

    def fn_sorted(self, given: Arguments) -> Value:
        if not given.args:
            raise Dead
        key = given.get(99, "key")
        if key is not None:
            self.each(given.args[0], lambda one: self.call(key, Arguments((one,))))
        plain = self.plain(given.args[0])
        if plain is not None and key is None and not given.keywords:
            try:
                return self.from_plain(sorted(plain[0]))
            except TypeError:
                raise Dead from None
        items, rest = self.elements(self.state.narrow(given.args[0]))
        return self.in_any_order(items, rest)

    def in_any_order(self, items: Iterable[Element], rest: Value | None) -> Value:
        """A list of which the order is not known."""
        every = [item for item, _ in items] + ([] if rest is None else [rest])
        return self.new_list([], rest=alternatives(every) if every else None)

    def fn_reversed(self, given: Arguments) -> Value:
        items, rest = self.elements(self.state.narrow(given.args[0])) if given.args else ((), None)
        return self.new_list([], rest=rest) if rest is not None and not items else (
            self.in_any_order(items, rest) if rest is not None else self.new(Items("list", items[::-1]))
        )  # fmt: skip

    def fn_enumerate(self, given: Arguments) -> Value:
        items, rest = self.elements(self.state.narrow(given.args[0])) if given.args else ((), None)
        start = self.plain(given.get(1, "start") or const(0))
        begin = start[0] if start is not None and isinstance(start[0], int) else 0
        pairs = tuple(
            (self.new_list([const(at) if start is not None else opaque("a number"), item], "tuple"), presence)
            for at, (item, presence) in enumerate(items, begin)
        )
        more = None if rest is None else self.new_list([opaque("a number"), rest], "tuple")
        return self.new(Items("list", pairs, more))

    def fn_zip(self, given: Arguments) -> Value:
        columns = [self.elements(self.state.narrow(value)) for value in given.args]
        if given.rest is not None or not columns:
            return self.new_list(
                [], rest=Lost("what zip() gives") if any(map(self.carries, given.values)) else opaque("…")
            )
        if all(rest is None and all(presence is None for _, presence in items) for items, rest in columns):
            rows = zip(*([item for item, _ in items] for items, _ in columns), strict=False)
            return self.new_list([self.new_list(row, "tuple") for row in rows])
        mixed = [
            alternatives([*(item for item, _ in items), *([rest] if rest is not None else [])])
            for items, rest in columns
        ]
        return self.new_list([], rest=self.new_list(mixed, "tuple"))

    def fn_map(self, given: Arguments) -> Value:
        if len(given.args) < 2 or given.rest is not None:
            return self.unknown("map", given)
        function, *columns = given.args
        if len(columns) == 1:
            items, rest = self.each(columns[0], lambda one: self.call(function, Arguments((one,), texts=("it",))))
        else:
            rows = self.fn_zip(Arguments(tuple(columns)))
            items, rest = self.each(rows, lambda row: self.call(function, self.spreading(row)))
        return self.new(Items("list", tuple(items), rest))

    def spreading(self, row: Value) -> Arguments:
        """The arguments of ``f(*row)``."""
        items, rest = self.elements(row)
        if all(presence is None for _, presence in items):
            return Arguments(tuple(item for item, _ in items), rest=rest)
        return Arguments(rest=alternatives([item for item, _ in items]))

    def fn_itertools_starmap(self, given: Arguments) -> Value:
        if len(given.args) != 2:
            return self.unknown("itertools.starmap", given)
        items, rest = self.each(given.args[1], lambda row: self.call(given.args[0], self.spreading(row)))
        return self.new(Items("list", tuple(items), rest))

    def fn_filter(self, given: Arguments) -> Value:
        if len(given.args) != 2:
            return self.unknown("filter", given)
        function, value = given.args
        items, rest = self.elements(self.state.narrow(value))
        kept: list[Element] = []
        for item, presence in items:
            answer = item if function == NONE else self.call(function, Arguments((item,)))
            true, false = self.truths(answer)
            if true is not None:
                facts = tuple((key, fact) for key, fact in true.facts.items() if self.state.facts.get(key) is not fact)
                kept.append((item, presence if false is None else Presence(f"filter({given.text(0)})", facts)))
        if rest is not None and function != NONE:
            _, effects = self.repeat(lambda: self.call(function, Arguments((rest,))))
            self.maybe(effects)
        return self.new(Items("list", tuple(kept), rest))

    def fn_itertools_chain(self, given: Arguments) -> Value:
        items: list[Element] = []
        rest: list[Value] = [] if given.rest is None else [given.rest]
        for value in given.args:
            more, others = self.elements(self.state.narrow(value))
            items += more
            rest += [] if others is None else [others]
        return self.in_any_order(items, alternatives(rest)) if rest else self.new(Items("list", tuple(items)))

    def fn_functools_partial(self, given: Arguments) -> Value:
        if not given.args or given.rest is not None or given.keyword_rest is not None:
            return self.unknown("functools.partial", given)
        return Partial(given.args[0], given.args[1:], given.keywords)

    def fn_functools_reduce(self, given: Arguments) -> Value:
        if len(given.args) < 2:
            return self.unknown("functools.reduce", given)
        items, rest = self.elements(self.state.narrow(given.args[1]))
        values = [*given.args[2:], *(item for item, _ in items)]
        if rest is None and values and all(presence is None for _, presence in items):
            total = values[0]
            for value in values[1:]:
                total = self.call(given.args[0], Arguments((total, value)))
            return total
        argument = alternatives([*values, *([rest] if rest is not None else []), Lost("what reduce() passes")])
        return alternatives([*values, self.called_back(given.args[0], argument)])

    def fn_next(self, given: Arguments) -> Value:
        items, rest = self.elements(self.state.narrow(given.args[0])) if given.args else ((), None)
        if items and items[0][1] is None and rest is None and not self.consumed(given.args[0]):
            return items[0][0]
        every = [item for item, _ in items] + ([] if rest is None else [rest]) + list(given.args[1:])
        if not every:
            raise Dead
        return alternatives(every)

    def consumed(self, value: Value) -> bool:
        """Whether elements may have been taken from it before: it is no value that was made for this."""
        return True

    def chosen(self, given: Arguments) -> Value:
        """One of the arguments, or of the elements of the only one."""
        key = given.get(99, "key")
        values: list[Value] = list(given.args)
        if len(values) == 1:
            items, rest = self.elements(self.state.narrow(values[0]))
            values = [item for item, _ in items] + ([] if rest is None else [rest])
        if key is not None:
            for value in values:
                self.call(key, Arguments((value,)))
        if default := [value for name, value in given.keywords if name == "default"]:
            values += default
        if not values:
            raise Dead
        return alternatives(values)

    def fn_min(self, given: Arguments) -> Value:
        plain = None if given.keywords else self.folded("min", given)
        return self.chosen(given) if plain is None else plain

    def fn_max(self, given: Arguments) -> Value:
        plain = None if given.keywords else self.folded("max", given)
        return self.chosen(given) if plain is None else plain

    def fn_collections_defaultdict(self, given: Arguments) -> Value:
        factory = given.args[0] if given.args else NONE
        default = None if factory == NONE else self.call(factory, Arguments())
        table = self.table(self.fn_dict(Arguments(given.args[1:], given.keywords))) or Table(())
        return self.new(Table(table.items, default if table.rest is None else Lost("a value of a dictionary")))

    def fn_isinstance(self, given: Arguments) -> Value:
        return opaque("whether it is of a type")

    def fn_callable(self, given: Arguments) -> Value:
        value = given.args[0] if given.args else NONE
        if isinstance(value, (Fn, Native, Partial, Method)):
            return const(True)
        return const(False) if isinstance(value, (Const, Text, Data)) else opaque("whether it can be called")
