"""Comprehensions: loops that make a container."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

from scriptrules.flow.conditions import negated, written
from scriptrules.flow.interpreter.assigning import assign
from scriptrules.flow.interpreter.containers import put
from scriptrules.flow.interpreter.deciding import decide
from scriptrules.flow.interpreter.machine import Arguments, Frame, Machine
from scriptrules.flow.interpreter.methods import method
from scriptrules.flow.interpreter.streams import each
from scriptrules.flow.values import NONE, Items, Ref, State, Table, Value


def comprehension(machine: Machine, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> Value:
    """The container that a comprehension makes."""
    names = frozenset(one.id for part in node.generators for one in ast.walk(part.target) if isinstance(one, ast.Name))
    outer = machine.frame
    first = machine.evaluate(node.generators[0].iter)
    machine.frame = machine.new_id()
    machine.frames[machine.frame] = Frame(outer, names, machine.frames[outer].own)
    kind = "set" if isinstance(node, ast.SetComp) else "list"
    table = isinstance(node, ast.DictComp)
    found = machine.new(Table(()) if table else Items(kind, ()))
    try:
        _generator(machine, node, 0, first, found)
    finally:
        machine.frame = outer
    return found


def _generator(machine: Machine, node: Any, at: int, iterable: Value, found: Ref) -> Value:
    """One `for` of a comprehension and all behind it."""
    if at == len(node.generators):
        if isinstance(node, ast.DictComp):
            key = machine.used(node.key)
            machine.state.cells[found.id] = put(
                machine, machine.state.cells[found.id], key, machine.evaluate(node.value)
            )
        else:
            method(machine, found, "append", Arguments((machine.evaluate(node.elt),)))
        return NONE
    part = node.generators[at]

    def turn(item: Value) -> Value:
        assign(machine, part.target, item)
        return _filtered(machine, part.ifs, lambda: _inner(machine, node, at + 1, found))

    each(machine, iterable, turn)
    return NONE


def _inner(machine: Machine, node: Any, at: int, found: Ref) -> Value:
    iterable = machine.evaluate(node.generators[at].iter) if at < len(node.generators) else NONE
    return _generator(machine, node, at, iterable, found)


def _filtered(machine: Machine, tests: Sequence[ast.expr], what: Callable[[], Value]) -> Value:
    """Do something where all tests hold."""
    if not tests:
        return what()
    true, false = decide(machine, tests[0])
    ways: list[tuple[str, State, Callable[[], Value]]] = []
    if true is not None:
        ways.append((written(tests[0]), true, lambda: _filtered(machine, tests[1:], what)))
    if false is not None:
        ways.append((negated(tests[0]), false, lambda: NONE))
    return machine.fork(ways)
