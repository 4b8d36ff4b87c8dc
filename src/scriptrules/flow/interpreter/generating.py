"""Generating a task, by a name that may be known in part only."""

from __future__ import annotations

from scriptrules.flow.atoms import Type, Unknown
from scriptrules.flow.effects import Effect, Fork, ForkCase, Generated, Maybe
from scriptrules.flow.interpreter.machine import Dead, Machine
from scriptrules.flow.shapes import Via
from scriptrules.flow.values import Choice, Const, Data, Lost, State, Text, Value, pattern_of
from scriptrules.model import NAME, NAME_MAX

EVERY = "*"


def generate(machine: Machine, name: Value, via: Via, written: str) -> None:
    """A task of this name is generated."""
    effects = _generated(machine, machine.concrete(name, written), via, written)
    if effects is None:
        raise Dead
    machine.effects += effects


def _generated(machine: Machine, name: Value, via: Via, written: str) -> list[Effect] | None:
    name = machine.state.narrow(name)
    match name:
        case Choice():
            cases = []
            before = machine.state
            for case in name.cases:
                machine.state = State(before.cells, dict(before.facts))
                fits = all(machine.state.assume(key, domain) for key, domain in case.facts)
                effects = _generated(machine, case.value, via, written) if fits else None
                machine.state = before
                if fits:
                    cases.append(ForkCase(case.label, tuple(effects or ()), effects is None))
            if all(case.fails for case in cases):
                return None
            return [Fork(tuple(cases))]
        case Const():
            text = name.value
            if not isinstance(text, str) or not NAME.match(text) or len(text) > NAME_MAX:
                return None
            return [Generated(Type(text), via, machine.line)]
        case Text():
            why = f"`{written}` is known in part only"
            return [Generated(Unknown(why, pattern_of(name.parts)), via, machine.line)]
        case Data():
            domain = machine.state.facts.get(machine.state.key(name))
            if domain is not None and domain.truth is False:
                return None
            return [Generated(Unknown(f"`{written}` is {name.what}", EVERY), via, machine.line)]
        case Lost():
            return [Generated(Unknown(f"`{written}` is {name.why}", EVERY), via, machine.line)]
    return None


def anything(machine: Machine, why: str) -> None:
    """Something was called that may generate any task."""
    unknown = Unknown(why, EVERY)
    machine.effects.append(Maybe(tuple(Generated(unknown, via, machine.line) for via in (Via.EMIT, Via.CALL))))
