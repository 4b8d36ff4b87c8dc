"""Conditions: the states in which an expression is true and false, and what it gives as a value."""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import partial

from scriptrules.flow.conditions import negated, written
from scriptrules.flow.effects import Fails, Falls, ForkCase, Path
from scriptrules.flow.interpreter.comparisons import compare
from scriptrules.flow.interpreter.elements import partly_listed
from scriptrules.flow.interpreter.machine import Dead, Machine, nowhere
from scriptrules.flow.interpreter.truth import Ways, truths
from scriptrules.flow.values import EITHER, Case, Choice, State, Value, Way, const, merge, opaque


def decide(machine: Machine, node: ast.expr) -> Ways:
    """The states in which a condition is true, and in which it is false; the current one is both."""
    match node:
        case ast.UnaryOp(op=ast.Not()):
            true, false = decide(machine, node.operand)
            return false, true
        case ast.BoolOp():
            return _decide_bool(machine, node)
        case ast.Compare():
            return _decide_compare(machine, node)
    return truths(machine, machine.evaluate(node))


def _decide_bool(machine: Machine, node: ast.BoolOp) -> Ways:
    both = isinstance(node.op, ast.And)
    stopped: list[Way] = []
    base = machine.state.facts
    for at, part in enumerate(node.values):
        effects, machine.effects = machine.effects, []
        try:
            true, false = decide(machine, part)
        except Dead:
            if not at:
                raise
            true = false = None
        finally:
            made, machine.effects = machine.effects, effects
        if at and made and stopped:
            before = node.values[at - 1]
            machine.fork_effects([ForkCase(written(before) if both else negated(before), tuple(made))], total=False)
        else:
            machine.effects += made
        goes_on, stops = (true, false) if both else (false, true)
        if stops is not None:
            stopped.append(Way(ast.unparse(part), stops))
        if goes_on is None:
            break
        machine.state = goes_on.copy()
    else:
        goes_on = machine.state
    stop = merge(stopped, base)[0] if stopped else None
    return (goes_on, stop) if both else (stop, goes_on)


def _decide_compare(machine: Machine, node: ast.Compare) -> Ways:
    left, right = machine.evaluate(node.left), machine.evaluate(node.comparators[0])
    if isinstance(node.ops[0], (ast.In, ast.NotIn)):
        right = partly_listed(machine, right)
    true, false = _compared(machine, node.ops[0], left, right)
    for at in range(1, len(node.ops)):  # of `a < b < c`, c is evaluated only where a < b
        if true is None:
            break
        base, left = true.facts, right
        later, state, made = machine.apart(true, partial(machine.evaluate, node.comparators[at]))
        if false is None:
            machine.effects += made
            if later is None:
                raise Dead
        else:
            before = ast.Compare(node.left, node.ops[:at], node.comparators[:at])
            machine.fork_effects([ForkCase(written(before), made, later is None)], total=False)
            if later is None:
                return None, false
        right = later
        with machine.within(state):
            true, failed = _compared(machine, node.ops[at], left, right)
        if failed is not None:
            false = failed if false is None else merge([Way(EITHER, false), Way(EITHER, failed)], base)[0]
    return true, false


def _compared(machine: Machine, op: ast.cmpop, left: Value, right: Value) -> Ways:
    name = type(op).__name__
    return truths(machine, machine.spread([left, right], lambda a, b: compare(machine, name, a, b)))


def evaluate_bool(machine: Machine, node: ast.BoolOp) -> Value:
    """``a or b``, ``a and b``: one of the values."""
    both = isinstance(node.op, ast.And)

    def chain(at: int) -> Value:
        part = node.values[at]
        value = machine.evaluate(part)
        if at == len(node.values) - 1:
            return value
        ways = truths(machine, value)
        goes_on, stops = ways if both else (ways[1], ways[0])
        labels = (written(part), negated(part)) if both else (negated(part), written(part))
        paths: list[tuple[str, State, Callable[[], Value]]] = []
        if goes_on is not None:
            paths.append((labels[0], goes_on, lambda: chain(at + 1)))
        if stops is not None:
            paths.insert(0 if not both else 1, (labels[1], stops, lambda: value))
        return machine.fork(paths)

    return chain(0)


def evaluate_condition(machine: Machine, node: ast.expr) -> Value:
    """A comparison or negation as a value: true and false, each with what it says."""
    base = machine.state.facts
    true, false = decide(machine, node)
    if true is None or false is None:
        machine.state = true or false or nowhere()
        return const(true is not None)
    ways = [Way(written(node), true), Way(negated(node), false)]
    machine.state = merge(ways, base)[0]
    cases = []
    for label, state, answer in ((ways[0].label, true, True), (ways[1].label, false, False)):
        facts = tuple((key, fact) for key, fact in state.facts.items() if base.get(key) is not fact)
        cases.append(Case(label, facts, const(answer)))
    if not any(case.facts for case in cases):
        return opaque("the outcome of a comparison")
    return Choice(tuple(cases))


def decide_apart(machine: Machine, test: ast.expr, state: State) -> tuple[Path, State | None, State | None]:
    """The effects of a condition, and the states in which it is true and false."""
    with machine.aside(state):
        try:
            true, false = decide(machine, test)
        except Dead:
            machine.thrown()
            return Path(tuple(machine.effects), Fails()), None, None
        return Path(tuple(machine.effects), Falls(state)), true, false
