"""What methods do: of text, of lists and sets, of dictionaries, of the task, and of what nothing is known of."""

from __future__ import annotations

import string
from collections.abc import Iterable
from typing import Any

from scriptrules.flow.core import Arguments, Dead
from scriptrules.flow.natives import Element, Natives
from scriptrules.flow.values import (
    EITHER,
    NONE,
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
    choice,
    const,
    opaque,
    text,
    text_of,
)

TEXT_METHODS = frozenset(
    [
        "capitalize",
        "casefold",
        "count",
        "endswith",
        "find",
        "index",
        "isalnum",
        "isalpha",
        "isdigit",
        "islower",
        "isupper",
        "lower",
        "lstrip",
        "partition",
        "removeprefix",
        "removesuffix",
        "replace",
        "rpartition",
        "rsplit",
        "rstrip",
        "split",
        "splitlines",
        "startswith",
        "strip",
        "swapcase",
        "title",
        "upper",
        "zfill",
    ]
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


class Containers(Natives):
    # ---- text

    def text_method(self, receiver: Value, name: str, given: Arguments) -> Value:
        """A method of text."""
        if name == "join" and given.args:
            return self.spread([receiver, given.args[0]], self.joined)
        if name == "format":
            return self.spread([receiver], lambda one: self.formatted(one, given))
        arguments = [self.plain(value) for value in given.args]
        values = [value[0] for value in arguments if value is not None]
        if (
            name in TEXT_METHODS
            and isinstance(receiver, Const)
            and len(values) == len(given.args)
            and not given.keywords
            and given.rest is None
        ):
            try:
                return self.from_plain(getattr(receiver.value, name)(*values))
            except Exception:
                raise Dead from None
        parts = text_of(receiver)
        if name in ("lower", "upper", "casefold", "swapcase"):
            return text([None if part is None else getattr(part, name)() for part in parts])
        if name == "startswith" and values and isinstance(values[0], str) and parts and parts[0] is not None:
            head = parts[0]
            if not head.startswith(values[0][: len(head)]):
                return const(False)
            return const(True) if head.startswith(values[0]) else opaque("whether it begins so")
        if name in ("split", "rsplit", "splitlines", "partition", "rpartition"):
            return self.new_list([], rest=opaque("a part of text"))
        return opaque(f"what {name}() gives")

    def joined(self, separator: Value, value: Value) -> Value:
        items, rest = self.elements(value)
        if rest is not None or not isinstance(separator, Const) or any(presence is not None for _, presence in items):
            return Text((None,))
        between: tuple[str | None, ...] = ("",)
        parts: list[str | None] = []
        for item, _ in items:
            parts += [*between, *(text_of(item) if not isinstance(item, Choice) else (None,))]
            between = (str(separator.value),)
        return text(parts)

    def formatted(self, template: Value, given: Arguments) -> Value:
        """``"a.{}".format(…)``, as far as the template says."""
        if not isinstance(template, Const) or not isinstance(template.value, str):
            return Text((None,))
        parts: list[str | None] = []
        named = dict(given.keywords)
        try:
            for at, (literal, field, spec, conversion) in enumerate(string.Formatter().parse(template.value)):
                parts.append(literal)
                if field is not None:
                    index = at if field == "" else int(field) if field.isdigit() else None
                    value = (
                        named.get(field) if index is None else (given.args[index] if index < len(given.args) else None)
                    )
                    plain = value is not None and not spec and not conversion and not isinstance(value, Choice)
                    parts += text_of(value) if plain and value is not None else (None,)
        except ValueError:
            raise Dead from None
        return text(parts)

    def percent(self, template: Value, value: Value) -> Value:
        """``"a.%s" % value``."""
        if not isinstance(template, Const) or not isinstance(template.value, str):
            return opaque("what % gives")
        items = self.items(value)
        values = [item for item, _ in items.items] if items is not None and items.kind == "tuple" else [value]
        parts: list[str | None] = []
        pieces = template.value.replace("%%", "\0").split("%")
        for at, piece in enumerate(pieces):
            if at:
                simple = piece[:1] in ("s", "d") and at <= len(values)
                parts += text_of(values[at - 1]) if simple and not isinstance(values[at - 1], Choice) else (None,)
                piece = piece[1:] if simple else piece.lstrip("0123456789.-+# ")[1:] if piece[:1] != "(" else ""
                if pieces[at][:1] == "(":
                    return Text((pieces[0].replace("\0", "%") or None, None))
            parts.append(piece.replace("\0", "%"))
        return text(parts)

    # ---- methods

    def method(self, receiver: Value, name: str, given: Arguments, written: str = "it") -> Value:
        """Call a method."""
        receiver = self.state.narrow(receiver)
        if isinstance(receiver, Choice):
            return self.fork(
                [
                    (case.label, state, lambda case=case: self.method(case.value, name, given, written))  # type: ignore[misc]
                    for case in receiver.cases
                    if (state := self.under(Presence(case.label, case.facts))) is not None
                ]
                or self._nowhere()
            )
        if isinstance(receiver, Text) or (isinstance(receiver, Const) and isinstance(receiver.value, str)):
            return self.text_method(receiver, name, given)
        if isinstance(receiver, Ref):
            content = self.state.cells.get(receiver.id)
            if isinstance(content, Items):
                return self.list_method(receiver, content, name, given)
            if isinstance(content, Table):
                return self.dict_method(receiver, content, name, given, written)
        if isinstance(receiver, TaskView):
            return self.task_method(name, given)
        if isinstance(receiver, Lost):
            self.anything(f"`{name}` of {receiver.why} is called")
            return Lost(receiver.why)
        return self.data_method(receiver, name, given)

    @staticmethod
    def _nowhere() -> Any:
        raise Dead

    def data_method(self, receiver: Value, name: str, given: Arguments) -> Value:
        for value in given.values:
            self.called_back(value, opaque("an element of a value that run time decides"))
        if name not in READING:
            self.changed(receiver)
        if any(self.carries(value) for value in given.values):
            return Lost(f"what {name}() gives")
        if isinstance(receiver, Data) and name == "get" and given.args and isinstance(given.args[0], Const):
            plain = len(given.args) == 1 or given.args[1] == NONE
            if plain:
                return Data(f"{self.state.key(receiver)}[{given.args[0].value!r}]", f"in {receiver.what}")
        return opaque(f"what {name}() gives")

    def field(self, name: str) -> Data:
        """A field of the task."""
        return Data(f"task[{name!r}]", f"the task's field {name!r}")

    def task_method(self, name: str, given: Arguments) -> Value:
        if name == "get" and given.args and isinstance(given.args[0], Const) and isinstance(given.args[0].value, str):
            field = given.args[0].value
            self.notes.fields.setdefault(field, self.line)
            if len(given.args) == 1 or given.args[1] == NONE:
                return self.field(field)
            if self.carries(given.args[1]):
                return alternatives([opaque("a field of the task"), given.args[1]])
            return opaque(f"the task's field {field!r}")
        return opaque("fields of the task")

    def list_method(self, receiver: Ref, content: Items, name: str, given: Arguments) -> Value:
        args = given.args
        cells = self.state.cells
        match name:
            case "append" | "add" | "appendleft" if args:
                known = any(one == args[0] and presence is None for one, presence in content.items)
                if content.kind == "set" and known:
                    return NONE
                if content.rest is not None or content.several:
                    more = [args[0]] if content.rest is None else [content.rest, args[0]]
                    cells[receiver.id] = Items(content.kind, content.items, alternatives(more), content.several)
                elif name == "appendleft":
                    cells[receiver.id] = Items(content.kind, ((args[0], None), *content.items))
                else:
                    cells[receiver.id] = Items(content.kind, (*content.items, (args[0], None)))
                return NONE
            case "extend" | "update" if args:
                items, rest = self.elements(self.state.narrow(args[0]))
                cells[receiver.id] = self.extended(content, items, rest)
                return NONE
            case "copy":
                return self.new(content)
            case "clear":
                cells[receiver.id] = Items(content.kind, ())
                return NONE
            case "reverse" if content.rest is None:
                cells[receiver.id] = Items(content.kind, content.items[::-1])
                return NONE
            case "insert" if len(args) == 2 and args[0] == const(0) and content.rest is None:
                cells[receiver.id] = Items(content.kind, ((args[1], None), *content.items))
                return NONE
            case "pop" | "popleft" if (
                content.exact and content.items and (not args or args[0] in (const(0), const(-1)))
            ):
                first = name == "popleft" or (args and args[0] == const(0))
                taken = content.items[0 if first else -1][0]
                cells[receiver.id] = Items(content.kind, content.items[1:] if first else content.items[:-1])
                return taken
            case "index" | "count" | "issubset" | "issuperset" | "isdisjoint":
                return opaque("a number")
            case "union" if len(args) == 1:
                items, rest = self.elements(self.state.narrow(args[0]))
                return self.new(self.extended(content, items, rest))
        every: list[Value] = [item for item, _ in content.items] + ([] if content.rest is None else [content.rest])
        key = given.get(99, "key")
        if key is not None:
            self.called_back(key, alternatives(every) if every else NONE)
        every += [value for value in args if name in ("insert",)]
        for value in args if name in ("symmetric_difference", "__add__") else ():
            items, rest = self.elements(self.state.narrow(value))
            every += [item for item, _ in items] + ([] if rest is None else [rest])
        mixed = alternatives(every) if every else None
        if name in ("pop", "popleft", "remove", "discard", "sort", "insert", "rotate", "reverse"):
            cells[receiver.id] = Items(content.kind, (), mixed)
            if mixed is None and name.startswith("pop"):
                raise Dead
            return mixed if mixed is not None and name.startswith("pop") else NONE
        return self.new(Items(content.kind, (), mixed))

    def extended(self, content: Items, items: Iterable[Element], rest: Value | None) -> Items:
        if content.rest is not None or content.several:
            rests = [one for one in (content.rest, rest) if one is not None]
            more = [*rests, *(item for item, _ in items)]
            return Items(content.kind, content.items, alternatives(more) if more else None, content.several)
        added = [item for item in items if content.kind != "set" or item not in content.items]
        return Items(content.kind, (*content.items, *added), rest)

    def dict_method(self, receiver: Ref, content: Table, name: str, given: Arguments, written: str) -> Value:
        args = given.args
        cells = self.state.cells
        if content.several and name in ("pop", "clear", "update"):
            rest = alternatives(
                [*self.inside(receiver), *given.values, *(self._values(given) if name == "update" else ())]
            )
            cells[receiver.id] = Table(
                tuple((key, alternatives([one, rest]), Presence(EITHER, ())) for key, one, _ in content.items),
                rest,
                True,
            )
            return rest
        match name:
            case "get" if args:
                return self.looked_up(content, args[0], given.text(0), args[1] if len(args) > 1 else NONE)
            case "setdefault" if args:
                default = args[1] if len(args) > 1 else NONE
                found = self.looked_up(content, args[0], given.text(0), default)
                cells[receiver.id] = self.put(content, args[0], found)
                return found
            case "pop" if args:
                found = self.looked_up(content, args[0], given.text(0), args[1] if len(args) > 1 else None)
                left = tuple(item for item in content.items if item[0] != args[0])
                if not isinstance(args[0], Const):
                    left = tuple((key, value, Presence("it is still there", ())) for key, value, _ in content.items)
                cells[receiver.id] = Table(left, content.rest)
                return found
            case "keys":
                keys = None if content.rest is None else opaque("a key")
                return self.new(Items("list", tuple((key, presence) for key, _, presence in content.items), keys))
            case "values":
                return self.new(
                    Items("list", tuple((one, presence) for _, one, presence in content.items), content.rest)
                )
            case "items":
                rows = tuple((self.new_list([key, one], "tuple"), there) for key, one, there in content.items)
                more = None if content.rest is None else self.new_list([opaque("a key"), content.rest], "tuple")
                return self.new(Items("list", rows, more))
            case "copy":
                return self.new(content)
            case "clear":
                cells[receiver.id] = Table(())
                return NONE
            case "update":
                added = self.table(
                    self.fn_dict(Arguments(args[:1], given.keywords, None, given.keyword_rest))
                ) or Table(())
                cells[receiver.id] = self.updated(content, added)
                return NONE
        for value in given.values:
            self.called_back(value, Lost("an element"))
        every = [*self.inside(receiver), *given.values]
        cells[receiver.id] = Table((), Lost("a value of a dictionary")) if self.carries(receiver) else Table(
            (), opaque("a value of a dictionary")
        )  # fmt: skip
        return Lost("a value of a dictionary") if any(map(self.carries, every)) else opaque("a value of a dictionary")

    def _values(self, given: Arguments) -> list[Value]:
        """Whatever may stand in dictionaries that are given."""
        return [one for value in given.values if isinstance(value, Ref) for one in self.inside(value)]

    def updated(self, table: Table, added: Table) -> Table:
        for key, value, presence in added.items:
            if presence is None or table.several:
                table = self.put(table, key, value)
            else:
                old = next((one for known, one, _ in table.items if known == key), None)
                items = tuple(item for item in table.items if item[0] != key)
                both = value if old is None else alternatives([old, value])
                table = Table((*items, (key, both, presence if old is None else None)), table.rest)
        if added.rest is None:
            return table
        every = tuple((key, alternatives([one, added.rest]), there) for key, one, there in table.items)
        return Table(every, added.rest if table.rest is None else alternatives([table.rest, added.rest]), table.several)

    def looked_up(self, table: Table, key: Value, written: str, default: Value | None) -> Value:
        """``table[key]``, or with `default` ``table.get(key, default)``."""
        return self.spread([self.concrete(key, written)], lambda one: self._looked_up(table, one, written, default))

    def _looked_up(self, table: Table, key: Value, written: str, default: Value | None) -> Value:
        cases: list[Case] = []
        others = [one for one in (table.rest, default) if one is not None]
        if isinstance(key, Const):
            for name, value, presence in table.items:
                if name == key:
                    if (presence is None and not table.several) or default is None:
                        return value
                    there = presence or Presence(EITHER, ())
                    return choice([Case(there.label, there.facts, value), Case("otherwise", (), default)])
        else:
            for name, value, _ in table.items:
                facts = self.equal_facts(key, name)
                if facts is not None:
                    cases.append(
                        Case(f"{written} == {name.value!r}" if isinstance(name, Const) else written, facts, value)
                    )
        if not cases and not others:
            raise Dead
        if not cases:
            return others[0] if len(others) == 1 else alternatives(others)
        facts = self.unequal_facts(key, [name for name, _, _ in table.items])
        cases += [Case("otherwise", facts, one) for one in others if self.state.possible(facts)]
        return choice(cases)

    def equal_facts(self, value: Value, constant: Value) -> Any:
        raise NotImplementedError

    def unequal_facts(self, value: Value, constants: list[Value]) -> Any:
        raise NotImplementedError
