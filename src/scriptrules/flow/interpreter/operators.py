"""Operators of arithmetic, of text and of containers."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from scriptrules.flow.interpreter.containers import extended, updated
from scriptrules.flow.interpreter.elements import FOLD_MAX, carries, from_python, inside
from scriptrules.flow.interpreter.machine import Dead, Machine
from scriptrules.flow.interpreter.texts import percent
from scriptrules.flow.values import (
    Const,
    Items,
    Lost,
    Ref,
    Table,
    Text,
    Value,
    alternatives,
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


def binary(machine: Machine, op: ast.operator, left: Value, right: Value) -> Value:
    """``left op right``, neither of them a choice."""
    if isinstance(left, Const) and isinstance(right, Const):
        return _computed(machine, op, left.value, right.value)
    texts = [isinstance(one, Text) or (isinstance(one, Const) and isinstance(one.value, str)) for one in (left, right)]
    if isinstance(op, ast.Add) and any(texts):
        return text((*text_of(left), *text_of(right)))
    if isinstance(op, ast.Mod) and texts[0]:
        return percent(machine, left, right)
    one, other = machine.items(left), machine.items(right)
    if one is not None and other is not None and isinstance(op, (ast.Add, ast.BitOr)):
        return machine.new(extended(one, other.items, other.rest))
    if isinstance(op, ast.BitOr) and (table := machine.table(left)) is not None:
        added = machine.table(right)
        return machine.new(updated(machine, table, Table((), opaque("a value")) if added is None else added))
    if not (carries(machine, left) or carries(machine, right)):
        listed = one or other
        if listed is not None and isinstance(op, (ast.Add, ast.Sub, ast.BitAnd, ast.BitXor, ast.Mult, ast.BitOr)):
            every = [item for side in (one, other) if side is not None for item, _ in side.items]
            rests = [side.rest for side in (one, other) if side is not None and side.rest is not None]
            unknown = [opaque("an element")] if one is None or other is None else []
            return machine.new(Items(listed.kind, (), alternatives([*every, *rests, *unknown])))
        return opaque("a result of a calculation")
    if one is not None or other is not None:
        every = [
            *(inside(machine, left) if isinstance(left, Ref) else []),
            *(inside(machine, right) if isinstance(right, Ref) else []),
        ]
        return machine.new(Items("list", (), alternatives([*every, opaque("an element")])))
    return Lost("a result of a calculation")


def _computed(machine: Machine, op: ast.operator, left: Any, right: Any) -> Value:
    small = all(not isinstance(one, int) or abs(one) < 1 << 64 for one in (left, right))
    if type(op) not in OPERATORS or not small:
        return opaque("a result of a calculation")
    numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
    large = any(isinstance(one, int) and abs(one) > FOLD_MAX for one in (left, right))
    if isinstance(op, ast.Mult) and large and not numbers:
        return Text((None,))
    if isinstance(op, ast.Mod) and isinstance(left, str):
        return percent(machine, const(left), const(right))
    try:
        return from_python(machine, OPERATORS[type(op)](left, right))
    except Exception:
        raise Dead from None
