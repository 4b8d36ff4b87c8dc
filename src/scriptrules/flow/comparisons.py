"""Conditions as expressions: what holds where one is true, and where it is false."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from scriptrules.flow.conditions import negated, written
from scriptrules.flow.core import Dead
from scriptrules.flow.domains import MIRRORED, SCALARS, Domain, compared
from scriptrules.flow.effects import ForkCase
from scriptrules.flow.functions import Functions
from scriptrules.flow.values import (
    NONE,
    Case,
    Choice,
    Const,
    Data,
    Fn,
    Method,
    Module,
    Native,
    NewTask,
    Partial,
    Ref,
    State,
    TaskView,
    Text,
    Value,
    Way,
    const,
    merge,
    opaque,
)

COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "Eq": operator.eq,
    "NotEq": operator.ne,
    "Lt": operator.lt,
    "LtE": operator.le,
    "Gt": operator.gt,
    "GtE": operator.ge,
    "Is": operator.is_,
    "IsNot": operator.is_not,
    "In": lambda one, other: one in other,
    "NotIn": lambda one, other: one not in other,
}
Ways = tuple[State | None, State | None]  # where something is true, where it is false


class Comparisons(Functions):
    # ---- conditions

    def evaluate_bool(self, node: ast.BoolOp) -> Value:
        """``a or b``, ``a and b``: one of the values."""
        both = isinstance(node.op, ast.And)

        def chain(at: int) -> Value:
            part = node.values[at]
            value = self.evaluate(part)
            if at == len(node.values) - 1:
                return value
            ways = self.truths(value)
            goes_on, stops = ways if both else (ways[1], ways[0])
            labels = (written(part), negated(part)) if both else (negated(part), written(part))
            paths: list[tuple[str, State, Callable[[], Value]]] = []
            if goes_on is not None:
                paths.append((labels[0], goes_on, lambda: chain(at + 1)))
            if stops is not None:
                paths.insert(0 if not both else 1, (labels[1], stops, lambda: value))
            return self.fork(paths)

        return chain(0)

    def evaluate_condition(self, node: ast.expr) -> Value:
        """A comparison or negation as a value: true and false, each with what it says."""
        base = self.state.facts
        true, false = self.decide(node)
        if true is None or false is None:
            self.state = true or false or self._nowhere()
            return const(true is not None)
        cases = []
        for label, state, answer in ((written(node), true, True), (negated(node), false, False)):
            facts = tuple((key, fact) for key, fact in state.facts.items() if base.get(key) is not fact)
            cases.append(Case(label, facts, const(answer)))
        if not any(case.facts for case in cases):
            return opaque("the outcome of a comparison")
        return Choice(tuple(cases))

    def decide(self, node: ast.expr) -> Ways:
        """The states in which a condition is true, and in which it is false; the current one is both."""
        match node:
            case ast.UnaryOp(op=ast.Not()):
                true, false = self.decide(node.operand)
                return false, true
            case ast.BoolOp():
                return self.decide_bool(node)
            case ast.Compare():
                return self.decide_compare(node)
        return self.truths(self.evaluate(node))

    def decide_bool(self, node: ast.BoolOp) -> Ways:
        both = isinstance(node.op, ast.And)
        stopped: list[Way] = []
        base = self.state.facts
        for at, part in enumerate(node.values):
            effects, self.effects = self.effects, []
            try:
                true, false = self.decide(part)
            except Dead:
                if not at:
                    raise
                true = false = None
            finally:
                made, self.effects = self.effects, effects
            if at and made and stopped:
                before = node.values[at - 1]
                self.fork_effects([ForkCase(written(before) if both else negated(before), tuple(made))], total=False)
            else:
                self.effects += made
            goes_on, stops = (true, false) if both else (false, true)
            if stops is not None:
                stopped.append(Way(ast.unparse(part), stops))
            if goes_on is None:
                break
            self.state = goes_on.copy()
        else:
            goes_on = self.state
        stop = merge(stopped, base)[0] if stopped else None
        return (goes_on, stop) if both else (stop, goes_on)

    def decide_compare(self, node: ast.Compare) -> Ways:
        values = [self.evaluate(one) for one in (node.left, *node.comparators)]
        names = [type(op).__name__ for op in node.ops]
        if len(names) == 1:
            return self.truths(self.spread(values, lambda a, b: self.compare(names[0], a, b)))
        true: State | None = self.state.copy()
        false: State | None = None
        for at, name in enumerate(names):
            assert true is not None
            base, self.state = self.state, true
            result = self.spread(values[at : at + 2], lambda a, b, name=name: self.compare(name, a, b))
            true, failed = self.truths(result)
            self.state = base
            if failed is not None:
                false = base.copy() if len(names) > 1 else failed
            if true is None:
                break
        return true, false

    def compare(self, name: str, left: Value, right: Value) -> Value:
        """A comparison of two values that are no choices."""
        one, other = self.plain(left), self.plain(right)
        if name in ("In", "NotIn") and (table := self.table(right)) is not None and table.exact:
            other = ([key.value for key, _, _ in table.items if isinstance(key, Const)],)
        if one is not None and other is not None:
            try:
                return const(bool(COMPARISONS[name](one[0], other[0])))
            except TypeError:
                raise Dead from None
        if isinstance(left, Data) and other is not None:
            said = compared(name, other[0])
            if said is not None:
                return self.told(left, *said)
        if isinstance(right, Data) and one is not None and name in MIRRORED:
            said = compared(MIRRORED[name], one[0])
            if said is not None:
                return self.told(right, *said)
        if name in ("Eq", "NotEq") and self.differ(left, right):
            return const(name == "NotEq")
        if name in ("Is", "IsNot") and NONE in (left, right):
            thing = right if left == NONE else left
            if isinstance(thing, (Text, Ref, Fn, Native, Partial, Method, NewTask, TaskView, Module)):
                return const(name == "IsNot")
        if all(isinstance(value, (Data, Const)) for value in (left, right)):
            keys = [self.state.key(value) if isinstance(value, Data) else repr(value.value) for value in (left, right)]  # type: ignore[union-attr]
            return Data(f"({keys[0]} {name} {keys[1]})", "the outcome of a comparison")
        return opaque("the outcome of a comparison")

    def told(self, value: Data, true: Domain, false: Domain) -> Value:
        key = self.state.key(value)
        cases = [
            Case("it holds" if answer else "it does not hold", ((key, domain),), const(answer))
            for answer, domain in ((True, true), (False, false))
            if self.state.possible(((key, domain),))
        ]
        if not cases:
            raise Dead
        return cases[0].value if len(cases) == 1 else Choice(tuple(cases))

    def differ(self, left: Value, right: Value) -> bool:
        """Whether two values are surely not equal."""
        for one, other in ((left, right), (right, left)):
            if isinstance(one, Text) and isinstance(other, Const):
                if not isinstance(other.value, str):
                    return True
                head, tail = one.parts[0] or "", one.parts[-1] or ""
                if not (other.value.startswith(head) and other.value.endswith(tail)):
                    return True
            if isinstance(one, (Fn, Native)) and isinstance(other, (Const, Text, Data)):
                return True
        return False

    def equal_facts(self, value: Value, constant: Value) -> tuple[tuple[str, Domain], ...] | None:
        """What it says of the present state that a value is a constant; None where it cannot be."""
        if isinstance(value, Data) and isinstance(constant, Const) and isinstance(constant.value, SCALARS):
            facts = ((self.state.key(value), Domain(only=frozenset({constant.value}))),)
            return facts if self.state.possible(facts) else None
        return None if self.differ(value, constant) else ()

    def unequal_facts(self, value: Value, constants: list[Value]) -> tuple[tuple[str, Domain], ...]:
        plain = [one.value for one in constants if isinstance(one, Const) and isinstance(one.value, SCALARS)]
        if isinstance(value, Data) and plain:
            return ((self.state.key(value), Domain(never=frozenset(plain))),)
        return ()
