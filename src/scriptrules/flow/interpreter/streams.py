"""Going over elements: of containers, of what changes meanwhile, and of what only gives them as they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from scriptrules.flow.atoms import OTHERWISE
from scriptrules.flow.interpreter.elements import TURNS_MAX, VIEWS, Element, begin, elements, members
from scriptrules.flow.interpreter.machine import Arguments, Machine, nowhere
from scriptrules.flow.interpreter.truth import truths
from scriptrules.flow.values import NONE, Choice, Object, Ref, State, Stream, Value, alternatives


def each(machine: Machine, value: Value, turn: Callable[[Value], Value]) -> tuple[list[Element], Value | None]:
    """Do something for each element: what it gives for the known ones, and for any other."""
    value = machine.state.narrow(value)
    found = passing(machine, value)
    if found is None:
        more, effects = machine.repeat(lambda: turn(any_of(machine, value)))
        machine.maybe(effects)
        return [], more
    source, through = found
    if not through:
        return _each(machine, source, turn)
    begin(machine, value)

    def passed(item: Value, left: list[Stream]) -> Value:
        if not left:
            return turn(item)
        *left, stream = left
        answer = item if stream.args[0] == NONE else machine.call(stream.args[0], Arguments((item,), texts=("it",)))
        if stream.name == "map":
            return passed(answer, left)
        true, false = truths(machine, answer)
        ways: list[tuple[str, State, Callable[[], Value]]] = []
        if true is not None:
            ways.append((f"filter({stream.label})", true, lambda: passed(item, left)))
        if false is not None:
            ways.append((f"not filter({stream.label})", false, lambda: NONE))
        return machine.fork(ways)

    return _each(machine, source, lambda item: passed(item, through))


def _each(machine: Machine, value: Value, turn: Callable[[Value], Value]) -> tuple[list[Element], Value | None]:
    before = sources(machine, value)
    items, rest = elements(machine, value)
    done: list[Element] = []
    for item, presence in items[:TURNS_MAX]:
        machine.step()
        if changed_since(machine.state, before):
            break  # nobody knows any more which element comes next
        if presence is None:
            done.append((turn(item), None))
            continue
        there = machine.under(presence)
        if there is None:
            continue
        result = machine.fork(
            [
                (presence.label, there, lambda item=item: turn(item)),  # type: ignore[misc]
                (OTHERWISE, machine.state.copy(), lambda: NONE),
            ]
        )
        done.append((result, presence))
    if len(items) > TURNS_MAX:
        others = alternatives([item for item, _ in items[TURNS_MAX:]])
        rest = others if rest is None else alternatives([others, rest])
    if rest is None and not changed_since(machine.state, before):
        return done, None

    def further() -> Value:
        return turn(rest if rest is not None and not changed_since(machine.state, before) else any_of(machine, value))

    more, effects = machine.repeat(further)
    machine.maybe(effects)
    return done, more


def any_of(machine: Machine, value: Value) -> Value:
    """Any of the elements that there are now."""
    every = members(*elements(machine, value))
    return alternatives(every) if every else nowhere()


def passing(machine: Machine, value: Value) -> tuple[Value, list[Stream]] | None:
    """Through which `map` and `filter` the elements of a source pass, the last ones first; None where others come in.

    A stream of which some were taken is None as well: nobody knows where it stands.
    """
    through: list[Stream] = []
    while (stream := machine.stream(value)) is not None and stream.name not in VIEWS:
        if stream.begun:
            return None
        if stream.name not in ("map", "filter") or len(stream.args) != 2:
            return (value, through) if not any(_calls(machine, one) for one in stream.args) else None
        through.append(stream)
        value = machine.state.narrow(stream.args[1])
    return value, through


def _calls(machine: Machine, value: Value) -> bool:
    """Whether functions may be called as elements of it are taken, or it is at no known place."""
    value = machine.state.narrow(value)
    if isinstance(value, Choice):
        return any(_calls(machine, case.value) for case in value.cases)
    stream = machine.stream(value)
    machine.step()
    if stream is None or stream.name in VIEWS:
        return False
    calling = stream.name in ("map", "filter", "itertools.starmap") or stream.begun
    return calling or any(_calls(machine, one) for one in stream.args)


def sources(machine: Machine, value: Value) -> dict[int, Object]:
    """The containers that elements come from, by the id of their Refs."""
    value = machine.state.narrow(value)
    machine.step()
    if isinstance(value, Choice):
        return {key: one for case in value.cases for key, one in sources(machine, case.value).items()}
    if (stream := machine.stream(value)) is not None:
        return {key: one for inner in stream.args for key, one in sources(machine, inner).items()}
    content = machine.state.cells.get(value.id) if isinstance(value, Ref) else None
    return {value.id: content} if isinstance(value, Ref) and content is not None else {}


def changed_since(state: State, before: Mapping[int, Object]) -> bool:
    """Whether something was done to containers."""
    return any(state.cells.get(key) is not content for key, content in before.items())
