"""Comparisons of two values: their outcome, and what each outcome says of them."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from scriptrules.flow.domains import MIRRORED, SCALARS, Domain, compared
from scriptrules.flow.interpreter.elements import python_of
from scriptrules.flow.interpreter.machine import Dead, Machine
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
    TaskView,
    Text,
    Value,
    const,
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


def compare(machine: Machine, name: str, left: Value, right: Value) -> Value:
    """A comparison of two values that are no choices."""
    one, other = python_of(machine, left), python_of(machine, right)
    if name in ("In", "NotIn") and (table := machine.table(right)) is not None and table.exact:
        other = ([key.value for key, _, _ in table.items if isinstance(key, Const)],)
    if one is not None and other is not None:
        try:
            return const(bool(COMPARISONS[name](one[0], other[0])))
        except TypeError:
            raise Dead from None
    if isinstance(left, Data) and other is not None:
        said = compared(name, other[0])
        if said is not None:
            return _told(machine, left, *said)
    if isinstance(right, Data) and one is not None and name in MIRRORED:
        said = compared(MIRRORED[name], one[0])
        if said is not None:
            return _told(machine, right, *said)
    if name in ("Eq", "NotEq") and _differ(left, right):
        return const(name == "NotEq")
    if name in ("Is", "IsNot") and NONE in (left, right):
        thing = right if left == NONE else left
        if isinstance(thing, (Text, Ref, Fn, Native, Partial, Method, NewTask, TaskView, Module)):
            return const(name == "IsNot")
    if all(isinstance(value, (Data, Const)) for value in (left, right)):
        keys = [machine.state.key(value) if isinstance(value, Data) else repr(value.value) for value in (left, right)]  # type: ignore[union-attr]
        return Data(f"({keys[0]} {name} {keys[1]})", "the outcome of a comparison")
    return opaque("the outcome of a comparison")


def _told(machine: Machine, value: Data, true: Domain, false: Domain) -> Value:
    key = machine.state.key(value)
    cases = [
        Case("it holds" if answer else "it does not hold", ((key, domain),), const(answer))
        for answer, domain in ((True, true), (False, false))
        if machine.state.possible(((key, domain),))
    ]
    if not cases:
        raise Dead
    return cases[0].value if len(cases) == 1 else Choice(tuple(cases))


def _differ(left: Value, right: Value) -> bool:
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


def equal_facts(machine: Machine, value: Value, constant: Value) -> tuple[tuple[str, Domain], ...] | None:
    """What it says of the present state that a value is a constant; None where it cannot be."""
    if isinstance(value, Data) and isinstance(constant, Const) and isinstance(constant.value, SCALARS):
        facts = ((machine.state.key(value), Domain(only=frozenset({constant.value}))),)
        return facts if machine.state.possible(facts) else None
    return None if _differ(value, constant) else ()


def unequal_facts(machine: Machine, value: Value, constants: list[Value]) -> tuple[tuple[str, Domain], ...]:
    """What it says of the present state that a value is none of some constants."""
    plain = [one.value for one in constants if isinstance(one, Const) and isinstance(one.value, SCALARS)]
    if isinstance(value, Data) and plain:
        return ((machine.state.key(value), Domain(never=frozenset(plain))),)
    return ()
