"""Expressions: what each gives, what it generates on the way, and what holds where it is true or false."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Sequence
from typing import Any

from scriptrules.flow.comparisons import Comparisons
from scriptrules.flow.conditions import negated, written
from scriptrules.flow.core import Arguments, Dead, Frame, TooComplex
from scriptrules.flow.natives import FOLD_MAX, Element
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
    Module,
    Native,
    NewTask,
    Ref,
    State,
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

OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


class Expressions(Comparisons):
    # ---- values

    def evaluate(self, node: ast.expr) -> Value:
        """What an expression gives."""
        self.step()
        match node:
            case ast.Constant():
                return const(node.value)
            case ast.Name():
                return self.read(node.id)
            case ast.Call():
                return self.evaluate_call(node)
            case ast.Attribute():
                return self.attribute(self.evaluate(node.value), node.attr)
            case ast.Subscript():
                return self.evaluate_subscript(node)
            case ast.JoinedStr():
                return self.interpolated(node)
            case ast.BinOp():
                left, right = self.used(node.left), self.used(node.right)
                return self.spread([left, right], lambda a, b: self.binary(node.op, a, b))
            case ast.BoolOp():
                return self.evaluate_bool(node)
            case ast.IfExp():
                true, false = self.decide(node.test)
                return self.fork(
                    [
                        (label, state, lambda branch=branch: self.evaluate(branch))  # type: ignore[misc]
                        for label, state, branch in (
                            (written(node.test), true, node.body),
                            (negated(node.test), false, node.orelse),
                        )
                        if state is not None
                    ]
                )
            case ast.Compare() | ast.UnaryOp(op=ast.Not()):
                return self.evaluate_condition(node)
            case ast.UnaryOp():
                value = self.evaluate(node.operand)
                number = isinstance(value, Const) and type(value.value) in (int, float)
                if isinstance(value, Const) and number and isinstance(node.op, (ast.USub, ast.UAdd)):
                    return const(-value.value if isinstance(node.op, ast.USub) else value.value)
                return opaque("a number")
            case ast.List() | ast.Tuple() | ast.Set():
                kind = {ast.List: "list", ast.Tuple: "tuple", ast.Set: "set"}[type(node)]
                items, rest = self.listed(node.elts)
                if kind == "set":
                    items = list(dict.fromkeys(items))
                return self.new(Items(kind, tuple(items), rest))
            case ast.Dict():
                return self.evaluate_dict(node)
            case ast.Lambda():
                return self.function(node)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                return self.comprehension(node)
            case ast.NamedExpr():
                value = self.evaluate(node.value)
                self.write(node.target.id, value)
                return value
            case ast.Starred():
                return self.evaluate(node.value)
            case ast.Slice():
                return self.new_list([NONE if part is None else self.evaluate(part) for part in _bounds(node)], "slice")
            case ast.FormattedValue():
                return Text((None,))
        raise TooComplex

    def used(self, node: ast.expr) -> Value:
        """What an expression gives, as far as conditions have narrowed it down to few texts."""
        value = self.evaluate(node)
        return self.concrete(value, ast.unparse(node)) if isinstance(value, Data) else value

    def function(self, node: ast.FunctionDef | ast.Lambda) -> Fn:
        """The function that a definition makes here."""
        defaults = tuple(self.evaluate(one) for one in node.args.defaults)
        keywords = tuple(
            (parameter.arg, self.evaluate(default))
            for parameter, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            if default is not None
        )
        return Fn(node, self.frame, defaults, keywords)

    # ---- names

    def home(self, name: str) -> int | None:
        """The frame that a name belongs to, seen from here; None: it is one of the language."""
        at: int | None = self.frame
        while at is not None:
            frame = self.frames[at]
            if frame.names is None:
                return at if (at, name) in self.state.cells else None
            if name in frame.names:
                return at
            at = frame.outer
        return None

    def read(self, name: str) -> Value:
        home = self.home(name)
        if home is None:
            return Native(name)
        value = self.state.cells.get((home, name))
        if value is None:
            raise Dead  # NameError
        return self.state.narrow(value)

    def write(self, name: str, value: Value) -> None:
        at: int | None = self.frame
        while at is not None:
            frame = self.frames[at]
            if frame.names is None or name in frame.names:
                known = self.state.cells.get((at, name)) if at in self.shared else None
                self.state.cells[at, name] = value if known is None else alternatives([known, value])
                return
            at = frame.outer

    def attribute(self, value: Value, name: str) -> Value:
        value = self.state.narrow(value)
        match value:
            case Choice():
                return self.spread([value], lambda one: self.attribute(one, name))
            case Module():
                return self.member(value.name, name)
            case TaskView():
                return Data(f"task.{name}", f"the task's {name}") if name in VIEW else Method(value, name)
            case Data():
                return Data(f"{self.state.key(value)}.{name}", f"in {value.what}")
            case Lost():
                return Lost(value.why)
            case Native():
                return Native(f"{value.name}.{name}")
            case NewTask():
                return value.name
        return Method(value, name)

    def member(self, module: str, name: str) -> Value:
        """What a module has under a name."""
        return Native(f"{module}.{name}")

    # ---- calls

    def evaluate_call(self, node: ast.Call) -> Value:
        if isinstance(node.func, ast.Attribute):
            receiver = self.used(node.func.value)
            if not isinstance(receiver, (Module, Native, Choice)):
                given = self.arguments(node)
                self.at(node)
                return self.method(receiver, node.func.attr, given, ast.unparse(node.func.value))
            if isinstance(receiver, Choice):
                given = self.arguments(node)
                self.at(node)
                return self.method(receiver, node.func.attr, given, ast.unparse(node.func.value))
            function = self.attribute(receiver, node.func.attr)
        else:
            function = self.evaluate(node.func)
        given = self.arguments(node)
        self.at(node)
        if getattr(node, "via", None) == Via.THEN:  # a `then` of the declarative form
            return self.generated(given, Via.THEN)
        return self.call(function, given)

    def arguments(self, node: ast.Call) -> Arguments:
        """What stands between the brackets."""
        args: list[Value] = []
        texts: list[str] = []
        rest: Value | None = None
        for one in node.args:
            value = self.evaluate(one)
            if isinstance(one, ast.Starred):
                items, others = self.elements(self.state.narrow(value))
                if rest is None and others is None and all(presence is None for _, presence in items):
                    args += [item for item, _ in items]
                    texts += ["it"] * len(items)
                    continue
                more = [item for item, _ in items] + ([] if others is None else [others])
                rest = alternatives([*more, *([] if rest is None else [rest])]) if more else rest
            elif rest is not None:
                rest = alternatives([rest, value])
            else:
                args.append(value)
                texts.append(ast.unparse(one) if not isinstance(one, ast.Lambda) else "it")
        keywords: dict[str, Value] = {}
        keyword_rest: Value | None = None
        for keyword in node.keywords:
            value = self.evaluate(keyword.value)
            if keyword.arg is not None:
                keywords[keyword.arg] = value
                continue
            table = self.table(self.state.narrow(value))
            if table is None or any(presence is not None for _, _, presence in table.items):
                known = table.rest if table is not None else None
                some = self.inside(value) if isinstance(value, Ref) else [self.like(value, "an argument")]
                keyword_rest = alternatives([*some, *([known] if known is not None else [])]) if some else None
                continue
            for name, inner, _ in table.items:
                if isinstance(name, Const) and isinstance(name.value, str):
                    keywords[name.value] = inner
            if table.rest is not None:
                keyword_rest = table.rest
        return Arguments(tuple(args), tuple(keywords.items()), rest, keyword_rest, tuple(texts))

    def like(self, value: Value, what: str) -> Value:
        """Something that is part of a value: data, if that is data."""
        return Lost(what) if self.carries(value) else opaque(what)

    # ---- text and numbers

    def interpolated(self, node: ast.JoinedStr) -> Value:
        """An f-string: text with a gap for each part that is not known."""
        plain: list[bool] = []
        values: list[Value] = []
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                values.append(self.used(part.value))
                plain.append(part.conversion in (-1, 115) and part.format_spec is None)
            else:
                values.append(self.evaluate(part))
                plain.append(True)

        def joined(*pieces: Value) -> Value:
            lost = next((piece for piece in pieces if isinstance(piece, Lost)), None)
            parts = [
                one
                for piece, known in zip(pieces, plain, strict=True)
                for one in (text_of(piece) if known else (None,))
            ]
            return text(parts) if lost is None else Text(tuple(parts)) if parts else const("")

        return self.spread(values, joined)

    def binary(self, op: ast.operator, left: Value, right: Value) -> Value:
        if isinstance(left, Const) and isinstance(right, Const):
            return self.computed(op, left.value, right.value)
        texts = [
            isinstance(one, Text) or (isinstance(one, Const) and isinstance(one.value, str)) for one in (left, right)
        ]
        if isinstance(op, ast.Add) and any(texts):
            return text((*text_of(left), *text_of(right)))
        if isinstance(op, ast.Mod) and texts[0]:
            return self.percent(left, right)
        one, other = self.items(left), self.items(right)
        if one is not None and other is not None and isinstance(op, (ast.Add, ast.BitOr)):
            return self.new(self.extended(one, other.items, other.rest))
        if isinstance(op, ast.BitOr) and (table := self.table(left)) is not None:
            added = self.table(right)
            return self.new(self.updated(table, Table((), opaque("a value")) if added is None else added))
        if not (self.carries(left) or self.carries(right)):
            listed = one or other
            if listed is not None and isinstance(op, (ast.Add, ast.Sub, ast.BitAnd, ast.BitXor, ast.Mult, ast.BitOr)):
                every = [item for side in (one, other) if side is not None for item, _ in side.items]
                rests = [side.rest for side in (one, other) if side is not None and side.rest is not None]
                unknown = [opaque("an element")] if one is None or other is None else []
                return self.new(Items(listed.kind, (), alternatives([*every, *rests, *unknown])))
            return opaque("a result of a calculation")
        if one is not None or other is not None:
            every = [
                *(self.inside(left) if isinstance(left, Ref) else []),
                *(self.inside(right) if isinstance(right, Ref) else []),
            ]
            return self.new(Items("list", (), alternatives([*every, opaque("an element")])))
        return Lost("a result of a calculation")

    def computed(self, op: ast.operator, left: Any, right: Any) -> Value:
        small = all(not isinstance(one, int) or abs(one) < 1 << 64 for one in (left, right))
        if type(op) not in OPERATORS or not small:
            return opaque("a result of a calculation")
        numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
        large = any(isinstance(one, int) and abs(one) > FOLD_MAX for one in (left, right))
        if isinstance(op, ast.Mult) and large and not numbers:
            return Text((None,))
        if isinstance(op, ast.Mod) and isinstance(left, str):
            return self.percent(const(left), const(right))
        try:
            return self.from_plain(OPERATORS[type(op)](left, right))
        except Exception:
            raise Dead from None

    # ---- containers

    def listed(self, nodes: Sequence[ast.expr]) -> tuple[list[Element], Value | None]:
        """The elements of a display, starred ones taken apart."""
        items: list[Element] = []
        rest: Value | None = None
        for node in nodes:
            value = self.evaluate(node)
            more: tuple[Element, ...] = ((value, None),)
            others: Value | None = None
            if isinstance(node, ast.Starred):
                more, others = self.elements(self.state.narrow(value))
            if rest is not None:
                every = [rest, *(item for item, _ in more), *([] if others is None else [others])]
                rest = alternatives(every)
            else:
                items += more
                rest = others
        return items, rest

    def evaluate_dict(self, node: ast.Dict) -> Value:
        table = Table(())
        for key, one in zip(node.keys, node.values, strict=True):
            if key is not None:
                name = self.used(key)
                table = self.put(table, name, self.evaluate(one))
                continue
            value = self.state.narrow(self.evaluate(one))
            added = self.table(value)
            if added is None:
                rest = (
                    Lost("a value of a dictionary") if self.carries(value) else opaque("a value that run time decides")
                )
                added = Table((), rest)
            table = self.updated(table, added)
        return self.new(table)

    def evaluate_subscript(self, node: ast.Subscript) -> Value:
        value = self.used(node.value)
        index = self.used(node.slice)
        named = ast.unparse(node.slice)
        return self.spread([value, index], lambda one, at: self.subscript(one, at, named))

    def subscript(self, value: Value, index: Value, named: str) -> Value:
        items = self.items(index)
        if items is not None and items.kind == "slice":
            return self.sliced(value, [one for one, _ in items.items])
        match value:
            case TaskView():
                if isinstance(index, Const) and isinstance(index.value, str):
                    self.notes.fields.setdefault(index.value, self.line)
                    return self.field(index.value)
                return opaque("a field of the task")
            case Data():
                if isinstance(index, Const):
                    return Data(f"{self.state.key(value)}[{index.value!r}]", f"in {value.what}")
                return opaque(f"in {value.what}")
            case Const() if isinstance(value.value, str) and isinstance(index, Const):
                try:
                    return const(value.value[index.value])
                except (IndexError, TypeError):
                    raise Dead from None
            case Const() | Text():
                return opaque("a part of a text")
            case Ref():
                content = self.state.cells.get(value.id)
                if isinstance(content, Table):
                    return self.looked_up(content, index, named, None)
                if isinstance(content, Items):
                    return self.element(content, index, named)
        return Lost("an element of a value that is not known")

    def element(self, content: Items, index: Value, named: str) -> Value:
        exact = content.exact
        if isinstance(index, Const) and isinstance(index.value, int):
            at = index.value
            if exact or (at >= 0 and all(presence is None for _, presence in content.items[: at + 1])):
                if -len(content.items) <= at < len(content.items):
                    return content.items[at][0]
                if exact:
                    raise Dead
        every = [item for item, _ in content.items] + ([] if content.rest is None else [content.rest])
        if not every:
            raise Dead
        if not exact or not isinstance(index, Data):
            return alternatives(every)
        found = []
        for at, (item, _) in enumerate(content.items):
            facts = self.equal_facts(index, const(at))
            if facts is not None:
                found.append(Case(f"{named} == {at}", (), item))  # it may as well be counted from behind
        return choice(found) if found else alternatives(every)

    def sliced(self, value: Value, bounds: list[Value]) -> Value:
        content = self.items(value)
        plain = [self.plain(bound) for bound in bounds]
        if content is not None and content.exact and all(one is not None for one in plain):
            cut = slice(*(one[0] for one in plain if one is not None))
            try:
                return self.new(Items(content.kind, content.items[cut]))
            except (TypeError, ValueError):
                raise Dead from None
        if isinstance(value, Const) and isinstance(value.value, str) and all(one is not None for one in plain):
            try:
                return const(value.value[slice(*(one[0] for one in plain if one is not None))])
            except (TypeError, ValueError):
                raise Dead from None
        if content is not None:
            every = [item for item, _ in content.items] + ([] if content.rest is None else [content.rest])
            return self.new(Items(content.kind, (), alternatives(every) if every else None))
        if isinstance(value, (Const, Text)):
            return Text((None,))
        return opaque("a part of a value") if not self.carries(value) else Lost("a part of a value")

    # ---- comprehensions

    def comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> Value:
        names = frozenset(
            one.id for part in node.generators for one in ast.walk(part.target) if isinstance(one, ast.Name)
        )
        outer = self.frame
        first = self.evaluate(node.generators[0].iter)
        self.frame = self.new_id()
        self.frames[self.frame] = Frame(outer, names, self.frames[outer].own)
        kind = "set" if isinstance(node, ast.SetComp) else "list"
        table = isinstance(node, ast.DictComp)
        found = self.new(Table(()) if table else Items(kind, ()))
        try:
            self.generator(node, 0, first, found)
        finally:
            self.frame = outer
        return found

    def generator(self, node: Any, at: int, iterable: Value, found: Ref) -> Value:
        """One `for` of a comprehension and all behind it."""
        if at == len(node.generators):
            if isinstance(node, ast.DictComp):
                key = self.used(node.key)
                self.state.cells[found.id] = self.put(self.state.cells[found.id], key, self.evaluate(node.value))
            else:
                self.method(found, "append", Arguments((self.evaluate(node.elt),)))
            return NONE
        part = node.generators[at]

        def turn(item: Value) -> Value:
            self.assign(part.target, item)
            return self.filtered(part.ifs, lambda: self.inner(node, at + 1, found))

        self.each(iterable, turn)
        return NONE

    def inner(self, node: Any, at: int, found: Ref) -> Value:
        iterable = self.evaluate(node.generators[at].iter) if at < len(node.generators) else NONE
        return self.generator(node, at, iterable, found)

    def filtered(self, tests: Sequence[ast.expr], what: Callable[[], Value]) -> Value:
        """Do something where all tests hold."""
        if not tests:
            return what()
        true, false = self.decide(tests[0])
        ways: list[tuple[str, State, Callable[[], Value]]] = []
        if true is not None:
            ways.append((written(tests[0]), true, lambda: self.filtered(tests[1:], what)))
        if false is not None:
            ways.append((negated(tests[0]), false, lambda: NONE))
        return self.fork(ways)

    def assign(self, target: ast.expr, value: Value) -> None:
        raise NotImplementedError


VIEW = frozenset({"name", "id", "parent", "root", "hop", "created", "reasons"})


def _bounds(node: ast.Slice) -> tuple[ast.expr | None, ...]:
    return node.lower, node.upper, node.step
