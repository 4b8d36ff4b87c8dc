"""Assignments: to names, to several at once, to elements of containers."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import cast

from scriptrules.flow.interpreter.containers import extended, put, updated
from scriptrules.flow.interpreter.elements import carries, cases, changed, elements, members
from scriptrules.flow.interpreter.machine import Arguments, Dead, Machine, TooComplex
from scriptrules.flow.interpreter.methods import method
from scriptrules.flow.interpreter.names import write
from scriptrules.flow.interpreter.operators import binary
from scriptrules.flow.values import (
    Case,
    Choice,
    Const,
    Data,
    Items,
    Object,
    Ref,
    State,
    Table,
    Value,
    alternatives,
    opaque,
)


def assign(machine: Machine, target: ast.expr, value: Value) -> None:
    """``target = value``."""
    match target:
        case ast.Name():
            write(machine, target.id, value)
        case ast.Tuple() | ast.List():
            _unpack(machine, target.elts, value)
        case ast.Starred():
            assign(machine, target.value, value)
        case ast.Subscript():
            _store(machine, machine.evaluate(target.value), target.slice, value)
        case ast.Attribute():
            machine.evaluate(target.value)


def _unpack(machine: Machine, targets: Sequence[ast.expr], value: Value) -> None:
    value = machine.state.narrow(value)
    star = next((at for at, one in enumerate(targets) if isinstance(one, ast.Starred)), None)
    if isinstance(value, Choice):
        columns = _columns(machine, value, len(targets)) if star is None else None
        if columns is not None:
            for target, one in zip(targets, columns, strict=True):
                assign(machine, target, one)
            return
    items, rest = elements(machine, value)
    exact = rest is None and all(presence is None for _, presence in items)
    if exact and star is None and len(items) == len(targets):
        for target, (item, _) in zip(targets, items, strict=True):
            assign(machine, target, item)
        return
    if exact and star is not None and len(items) >= len(targets) - 1:
        behind = len(targets) - star - 1
        for target, (item, _) in zip(targets[:star], items, strict=False):
            assign(machine, target, item)
        assign(machine, targets[star], machine.new(Items("list", items[star : len(items) - behind])))
        for target, (item, _) in zip(targets[star + 1 :], items[len(items) - behind :], strict=True):
            assign(machine, target, item)
        return
    if exact and not isinstance(value, Choice):
        raise Dead
    every = members(items, rest)
    mixed = alternatives(every) if every else opaque("a part of a value")
    for target in targets:
        inner = machine.new_list([], rest=mixed) if isinstance(target, ast.Starred) else mixed
        fresh = opaque(inner.what) if isinstance(inner, Data) else inner
        assign(machine, target, fresh)


def _columns(machine: Machine, value: Choice, count: int) -> list[Value] | None:
    """The parts of a value that is one of several tuples, each with the conditions of the whole."""
    rows = []
    for case in value.cases:
        items = machine.items(case.value)
        if items is None or not items.exact or len(items.items) != count:
            return None
        rows.append((case, items))
    return [
        Choice(tuple(Case(case.label, case.facts, items.items[at][0]) for case, items in rows)) for at in range(count)
    ]


def _store(machine: Machine, container: Value, index: ast.expr, value: Value) -> None:
    """``container[index] = value``."""
    key = machine.used(index)
    container = machine.state.narrow(container)
    weak = isinstance(container, Choice)
    for one in cases(machine, container):
        if not isinstance(one, Ref):
            changed(machine, one)
            if carries(machine, value):
                raise TooComplex  # whatever is taken out of the data later may be a function
            continue
        content = machine.state.cells.get(one.id)
        if isinstance(content, Table):
            after = put(machine, content, key, value)
            machine.state.cells[one.id] = _perhaps(machine, content, after) if weak else after
        elif isinstance(content, Items):
            weak = weak or content.several
            exact = isinstance(key, Const) and isinstance(key.value, int) and content.exact and not weak
            if exact and -len(content.items) <= key.value < len(content.items):  # type: ignore[union-attr]
                items = list(content.items)
                items[key.value] = (value, None)  # type: ignore[union-attr]
                machine.state.cells[one.id] = Items(content.kind, tuple(items), content.rest)
            else:
                every = members(content.items, content.rest)
                more = elements(machine, value) if isinstance(index, ast.Slice) else (((value, None),), None)
                every += members(*more)
                rest = alternatives(every) if every else None
                machine.state.cells[one.id] = Items(content.kind, (), rest, content.several)


def augment(machine: Machine, node: ast.AugAssign) -> None:
    """``target += value`` and its like; lists, sets and dictionaries are changed where they are."""
    before, added = machine.used(_loaded(node.target)), machine.used(node.value)
    every = cases(machine, before)
    for one in every:
        content = _changeable(machine, one)
        if isinstance(one, Ref) and content is not None:
            after = _grown(machine, content, node.op, added)
            machine.state.cells[one.id] = after if len(every) == 1 else _perhaps(machine, content, after)
    if all(_changeable(machine, one) is not None for one in every):
        return
    changed(machine, before)
    assign(machine, node.target, machine.spread([before, added], lambda a, b: binary(machine, node.op, a, b)))


def _changeable(machine: Machine, value: Value) -> Items | Table | None:
    """What is in a container that an augmented assignment changes where it is."""
    content = machine.items(value)
    return machine.table(value) if content is None or content.kind == "tuple" else content


def _grown(machine: Machine, content: Items | Table, op: ast.operator, added: Value) -> Object:
    """A container after ``container op= added``."""
    if isinstance(content, Table):
        return updated(machine, content, machine.table(added) or Table((), opaque("a value")))
    if isinstance(op, (ast.Add, ast.BitOr)):
        more, rest = elements(machine, machine.state.narrow(added))
        return extended(content, more, rest)
    every = members(content.items, content.rest)
    if isinstance(op, ast.BitXor):
        every += members(*elements(machine, machine.state.narrow(added)))
    return Items(content.kind, (), alternatives(every) if every else None, content.several)


def _perhaps(machine: Machine, before: Object, after: Object) -> Object:
    """A container to which something may have been done."""
    return cast(Object, machine.widened(State({0: before}, {}), State({0: after}, {})).cells[0])


def delete(machine: Machine, target: ast.expr) -> None:
    """``del target``."""
    if isinstance(target, ast.Subscript):
        container = machine.evaluate(target.value)
        if isinstance(target.slice, ast.Slice):
            machine.evaluate(target.slice)
            method(machine, container, "remove", Arguments())
            return
        method(machine, container, "pop", Arguments((machine.used(target.slice),), texts=(ast.unparse(target.slice),)))


def _loaded(target: ast.expr) -> ast.expr:
    match target:
        case ast.Name():
            return ast.copy_location(ast.Name(target.id, ast.Load()), target)
        case ast.Subscript():
            return ast.copy_location(ast.Subscript(target.value, target.slice, ast.Load()), target)
    return target
