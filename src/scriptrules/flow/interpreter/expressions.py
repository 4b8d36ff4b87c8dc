"""Expressions: what each gives. What it generates on the way is with the machine."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

from scriptrules.flow.conditions import negated, written
from scriptrules.flow.interpreter.comprehensions import comprehension
from scriptrules.flow.interpreter.containers import put, subscript, updated
from scriptrules.flow.interpreter.deciding import decide, evaluate_bool, evaluate_condition
from scriptrules.flow.interpreter.elements import Element, carries, elements, inside, like, listed, members
from scriptrules.flow.interpreter.injected import generated
from scriptrules.flow.interpreter.machine import Arguments, Machine
from scriptrules.flow.interpreter.methods import method
from scriptrules.flow.interpreter.names import attribute, read, write
from scriptrules.flow.interpreter.operators import binary
from scriptrules.flow.shapes import Via
from scriptrules.flow.values import (
    NONE,
    Const,
    Fn,
    Items,
    Lost,
    Module,
    Native,
    Ref,
    State,
    Table,
    Text,
    Value,
    alternatives,
    const,
    opaque,
    text,
    text_of,
)


def _unary(machine: Machine, node: ast.UnaryOp) -> Value:
    if isinstance(node.op, ast.Not):
        return evaluate_condition(machine, node)
    value = machine.evaluate(node.operand)
    number = isinstance(value, Const) and type(value.value) in (int, float)
    if isinstance(value, Const) and number and isinstance(node.op, (ast.USub, ast.UAdd)):
        return const(-value.value if isinstance(node.op, ast.USub) else value.value)
    return opaque("a number")


def _binary(machine: Machine, node: ast.BinOp) -> Value:
    left, right = listed(machine, machine.used(node.left)), listed(machine, machine.used(node.right))
    return machine.spread([left, right], lambda a, b: binary(machine, node.op, a, b))


def _conditional(machine: Machine, node: ast.IfExp) -> Value:
    true, false = decide(machine, node.test)
    ways: list[tuple[str, State, Callable[[], Value]]] = []
    if true is not None:
        ways.append((written(node.test), true, lambda: machine.evaluate(node.body)))
    if false is not None:
        ways.append((negated(node.test), false, lambda: machine.evaluate(node.orelse)))
    return machine.fork(ways)


def _named(machine: Machine, node: ast.NamedExpr) -> Value:
    value = machine.evaluate(node.value)
    write(machine, node.target.id, value)
    return value


def function(machine: Machine, node: ast.FunctionDef | ast.Lambda) -> Fn:
    """The function that a definition makes here."""
    defaults = tuple(machine.evaluate(one) for one in node.args.defaults)
    keywords = tuple(
        (parameter.arg, machine.evaluate(default))
        for parameter, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        if default is not None
    )
    return Fn(node, machine.frame, defaults, keywords)


def _call(machine: Machine, node: ast.Call) -> Value:
    if isinstance(node.func, ast.Attribute):
        receiver = machine.used(node.func.value)
        if not isinstance(receiver, (Module, Native)):
            given = arguments(machine, node)
            machine.at(node)
            return method(machine, receiver, node.func.attr, given, ast.unparse(node.func.value))
        function = attribute(machine, receiver, node.func.attr)
    else:
        function = machine.evaluate(node.func)
    given = arguments(machine, node)
    machine.at(node)
    if getattr(node, "via", None) == Via.THEN:  # a `then` of the declarative form
        return generated(machine, given, Via.THEN)
    return machine.call(function, given)


def arguments(machine: Machine, node: ast.Call) -> Arguments:
    """What stands between the brackets."""
    args: list[Value] = []
    texts: list[str | ast.expr] = []
    rest: Value | None = None
    for one in node.args:
        value = machine.evaluate(one)
        if isinstance(one, ast.Starred):
            items, others = elements(machine, machine.state.narrow(value))
            if rest is None and others is None and all(presence is None for _, presence in items):
                args += [item for item, _ in items]
                texts += ["it"] * len(items)
                continue
            more = members(items, others)
            rest = alternatives([*more, *([] if rest is None else [rest])]) if more else rest
        elif rest is not None:
            rest = alternatives([rest, value])
        else:
            args.append(value)
            texts.append(one if not isinstance(one, ast.Lambda) else "it")
    keywords: dict[str, Value] = {}
    keyword_rest: Value | None = None
    for keyword in node.keywords:
        value = machine.evaluate(keyword.value)
        if keyword.arg is not None:
            keywords[keyword.arg] = value
            continue
        table = machine.table(machine.state.narrow(value))
        if table is None or any(presence is not None for _, _, presence in table.items):
            known = table.rest if table is not None else None
            some = inside(machine, value) if isinstance(value, Ref) else [like(machine, value, "an argument")]
            keyword_rest = alternatives([*some, *([known] if known is not None else [])]) if some else None
            continue
        for name, inner, _ in table.items:
            if isinstance(name, Const) and isinstance(name.value, str):
                keywords[name.value] = inner
        if table.rest is not None:
            keyword_rest = table.rest
    return Arguments(tuple(args), tuple(keywords.items()), rest, keyword_rest, tuple(texts))


def _interpolated(machine: Machine, node: ast.JoinedStr) -> Value:
    """An f-string: text with a gap for each part that is not known."""
    plain: list[bool] = []
    values: list[Value] = []
    for part in node.values:
        if isinstance(part, ast.FormattedValue):
            values.append(machine.used(part.value))
            plain.append(part.conversion in (-1, 115) and part.format_spec is None)
        else:
            values.append(machine.evaluate(part))
            plain.append(True)

    def joined(*pieces: Value) -> Value:
        lost = next((piece for piece in pieces if isinstance(piece, Lost)), None)
        parts = [
            one for piece, known in zip(pieces, plain, strict=True) for one in (text_of(piece) if known else (None,))
        ]
        return text(parts) if lost is None else Text(tuple(parts)) if parts else const("")

    return machine.spread(values, joined)


def _listed(machine: Machine, nodes: Sequence[ast.expr]) -> tuple[list[Element], Value | None]:
    """The elements of a display, starred ones taken apart."""
    items: list[Element] = []
    rest: Value | None = None
    for node in nodes:
        value = machine.evaluate(node)
        more: tuple[Element, ...] = ((value, None),)
        others: Value | None = None
        if isinstance(node, ast.Starred):
            more, others = elements(machine, machine.state.narrow(value))
        if rest is not None:
            every = [rest, *(item for item, _ in more), *([] if others is None else [others])]
            rest = alternatives(every)
        else:
            items += more
            rest = others
    return items, rest


def _dict(machine: Machine, node: ast.Dict) -> Value:
    table = Table(())
    for key, one in zip(node.keys, node.values, strict=True):
        if key is not None:
            name = machine.used(key)
            table = put(machine, table, name, machine.evaluate(one))
            continue
        value = machine.state.narrow(machine.evaluate(one))
        added = machine.table(value)
        if added is None:
            rest = (
                Lost("a value of a dictionary") if carries(machine, value) else opaque("a value that run time decides")
            )
            added = Table((), rest)
        table = updated(machine, table, added)
    return machine.new(table)


def _subscript(machine: Machine, node: ast.Subscript) -> Value:
    value = machine.used(node.value)
    index = machine.used(node.slice)
    named = ast.unparse(node.slice)
    return machine.spread([value, index], lambda one, at: subscript(machine, one, at, named))


def _display(machine: Machine, node: ast.List | ast.Tuple | ast.Set) -> Value:
    items, rest = _listed(machine, node.elts)
    if isinstance(node, ast.Set):
        items = list(dict.fromkeys(items))
    return machine.new(Items(type(node).__name__.lower(), tuple(items), rest))


def _slice(machine: Machine, node: ast.Slice) -> Value:
    bounds = [NONE if part is None else machine.evaluate(part) for part in (node.lower, node.upper, node.step)]
    return machine.new_list(bounds, "slice")


EXPRESSIONS: dict[type[ast.expr], Callable[[Machine, Any], Value]] = {
    ast.Constant: lambda machine, node: const(node.value),
    ast.Name: lambda machine, node: read(machine, node.id),
    ast.Attribute: lambda machine, node: attribute(machine, machine.evaluate(node.value), node.attr),
    ast.Subscript: _subscript,
    ast.Slice: _slice,
    ast.Call: _call,
    ast.Lambda: function,
    ast.NamedExpr: _named,
    ast.Starred: lambda machine, node: machine.evaluate(node.value),
    ast.JoinedStr: _interpolated,
    ast.FormattedValue: lambda machine, node: Text((None,)),
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.BoolOp: evaluate_bool,
    ast.Compare: evaluate_condition,
    ast.IfExp: _conditional,
    ast.List: _display,
    ast.Tuple: _display,
    ast.Set: _display,
    ast.Dict: _dict,
    **dict.fromkeys((ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp), comprehension),
}
