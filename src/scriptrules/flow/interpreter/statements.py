"""Statements that are no loop, no `match` and no `try`: the paths on which each is left."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any, cast

from scriptrules.flow.atoms import OTHERWISE
from scriptrules.flow.conditions import negated, written
from scriptrules.flow.effects import Breaks, Continues, End, Fails, Falls, Path, Returns, Split, ends, settle
from scriptrules.flow.interpreter.assigning import assign, augment, delete
from scriptrules.flow.interpreter.deciding import decide, decide_apart
from scriptrules.flow.interpreter.expressions import function
from scriptrules.flow.interpreter.machine import Arguments, Dead, Machine
from scriptrules.flow.interpreter.names import import_, import_from, write
from scriptrules.flow.values import NONE, State, Value


def simple(machine: Machine, node: ast.stmt, state: State) -> Path:
    """A statement that holds no others."""
    end: End
    with machine.aside(state):
        try:
            value = SIMPLE[type(node)](machine, node)
            kind = _ENDS.get(type(node), Falls)
            end = Returns(machine.state, value) if isinstance(node, ast.Return) else kind(machine.state)
            for cases in machine.pending[:1]:
                if sum(alive for _, alive in cases) == 1:
                    base = dict(machine.state.facts)
                    end = Split(tuple((label, Path((), end if alive else Fails())) for label, alive in cases), base)
        except Dead:
            end = Fails()
            machine.thrown()
        path = Path(tuple(machine.effects), end)
    if machine.tries:
        machine.tries[-1] += [end.state.copy() for end in ends(path) if not isinstance(end, (Fails, Split))]
    return path


def _assign(machine: Machine, node: ast.Assign) -> None:
    value = machine.evaluate(node.value)
    for target in node.targets:
        assign(machine, target, value)


def _annotated(machine: Machine, node: ast.AnnAssign) -> None:
    if node.value is not None:
        assign(machine, node.target, machine.evaluate(node.value))


def _define(machine: Machine, node: ast.FunctionDef) -> None:
    value: Value = function(machine, node)
    for decorator in reversed(node.decorator_list):
        value = machine.call(machine.evaluate(decorator), Arguments((value,)))
    write(machine, node.name, value)


def _raise(machine: Machine, node: ast.Raise) -> None:
    if node.exc is not None:
        machine.evaluate(node.exc)
    raise Dead


def _assert(machine: Machine, node: ast.Assert) -> None:
    true, _ = decide(machine, node.test)
    if true is None:
        raise Dead
    machine.state = true


def _delete(machine: Machine, node: ast.Delete) -> None:
    for target in node.targets:
        delete(machine, target)


def _returned(machine: Machine, node: ast.Return) -> Value:
    return NONE if node.value is None else machine.used(node.value)


def if_(machine: Machine, node: ast.If, state: State) -> Path:
    """`if` with all its `elif`s: one choice."""
    base = state.facts
    made, true, false = decide_apart(machine, node.test, state)
    if isinstance(made.end, Fails):
        return made
    if true is None or false is None:
        inner = machine.block(node.body, true) if true is not None else machine.block(node.orelse, cast(State, false))
        return Path((*made.effects, *inner.effects), inner.end)
    chain = [(written(node.test), node.body, true)]
    rest, orelse = false, node.orelse
    paths: list[tuple[str | None, Path]] = []
    last = negated(node.test)
    while len(orelse) == 1 and isinstance(orelse[0], ast.If):
        inner_if = orelse[0]
        machine.notes.reached.add(id(inner_if))
        machine.at(inner_if)
        more, true, false = decide_apart(machine, inner_if.test, rest)
        if more.effects or isinstance(more.end, Fails):
            break
        if true is not None:
            chain.append((last if false is None else written(inner_if.test), inner_if.body, true))
            last = OTHERWISE
        orelse = inner_if.orelse
        if false is None:
            rest, orelse = cast(State, None), []
            break
        rest = false
    machine.doubt += 1
    try:
        for label, body, begun in chain:
            paths.append((label, machine.block(body, begun)))
        if rest is not None:
            paths.append((last, machine.block(orelse, rest)))
    finally:
        machine.doubt -= 1
    return settle(Path(made.effects, Split(tuple(paths), base)))


def _nothing(machine: Machine, node: ast.stmt) -> None:
    """A statement that says only where control goes, or whose a name is."""


SIMPLE: dict[type[ast.stmt], Callable[[Machine, Any], Any]] = {
    ast.Expr: lambda machine, node: machine.evaluate(node.value),
    ast.Assign: _assign,
    ast.AnnAssign: _annotated,
    ast.AugAssign: augment,
    ast.Delete: _delete,
    ast.FunctionDef: _define,
    ast.Import: import_,
    ast.ImportFrom: import_from,
    ast.Return: _returned,
    ast.Raise: _raise,
    ast.Assert: _assert,
    **dict.fromkeys((ast.Pass, ast.Nonlocal, ast.Global, ast.Break, ast.Continue), _nothing),
}
_ENDS: dict[type[ast.stmt], type[Breaks] | type[Continues]] = {ast.Break: Breaks, ast.Continue: Continues}
STATEMENTS: dict[type[ast.stmt], Callable[[Machine, Any, State], Path]] = {
    **dict.fromkeys(SIMPLE, simple),
    ast.If: if_,
}
