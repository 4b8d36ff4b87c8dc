"""Whether values are true: what is known of it, and the states in which they are and are not."""

from __future__ import annotations

from scriptrules.flow.domains import FALSE, TRUE, hull
from scriptrules.flow.interpreter.machine import Machine
from scriptrules.flow.values import Choice, Const, Data, Items, Lost, Ref, State, Table, TaskView, Text, Value

Ways = tuple[State | None, State | None]  # where something is true, where it is false


def truths(machine: Machine, value: Value) -> Ways:
    """The states in which a value is true, and in which it is false."""
    ways: tuple[list[State], list[State]] = ([], [])
    _truths(machine, value, machine.state, ways)
    return _one(ways[0]), _one(ways[1])


def _truths(machine: Machine, value: Value, state: State, ways: tuple[list[State], list[State]]) -> None:
    if isinstance(value, Choice):
        for case in value.cases:
            inner = state.copy()
            if all(inner.assume(key, domain) for key, domain in case.facts):
                _truths(machine, case.value, inner, ways)
        return
    known = truth(machine, value)
    if known is not None:
        ways[0 if known else 1].append(state.copy())
        return
    for at, domain in ((0, TRUE), (1, FALSE)):
        inner = state.copy()
        if not isinstance(value, Data) or inner.assume(inner.key(value), domain):
            ways[at].append(inner)


def _one(states: list[State]) -> State | None:
    if not states:
        return None
    facts = states[0].facts
    for state in states[1:]:
        facts = {key: hull(fact, state.facts[key]) for key, fact in facts.items() if key in state.facts}
    return State(states[0].cells, facts)


def truth(machine: Machine, value: Value) -> bool | None:
    """What `bool()` gives, if that is known."""
    match value:
        case Const():
            return bool(value.value)
        case Text():
            return True if any(value.parts) else None
        case Data() | Lost() | Choice() | TaskView():
            return None
        case Ref():
            content = machine.state.cells.get(value.id)
            if isinstance(content, (Items, Table)):
                if any(entry[-1] is None for entry in content.items):
                    return True
                return None if content.items or content.rest is not None else False
            return None
    return True
