"""Loops: followed turn by turn where the turns are known, and otherwise until a turn adds nothing."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any, cast

from scriptrules.flow.atoms import OTHERWISE
from scriptrules.flow.conditions import written
from scriptrules.flow.effects import (
    Breaks,
    Continues,
    Fails,
    Falls,
    Path,
    Split,
    doubtful,
    ends,
    flat,
    goes_on,
    maybe,
    replace,
    settle,
    state_of,
    then,
)
from scriptrules.flow.interpreter.assigning import assign
from scriptrules.flow.interpreter.deciding import decide_apart
from scriptrules.flow.interpreter.elements import TURNS_MAX, Element, begin, elements, members
from scriptrules.flow.interpreter.machine import Arguments, Dead, Machine
from scriptrules.flow.interpreter.streams import any_of, changed_since, passing, sources
from scriptrules.flow.interpreter.truth import truths
from scriptrules.flow.interpreter.widening import equal_states
from scriptrules.flow.values import EITHER, NONE, Choice, Data, State, Stream, Value, Way, alternatives, merge, opaque

WHILE_MAX = 30  # turns of a `while` that are followed one by one


def for_(machine: Machine, node: ast.For, state: State) -> Path:
    """A loop over elements, turn by turn as far as they are known."""
    value, state, effects = machine.apart(state, lambda: machine.state.narrow(machine.evaluate(node.iter)))
    if value is None:
        return Path(effects, Fails())
    if isinstance(value, Choice):
        base = state.facts
        paths: list[tuple[str | None, Path]] = []
        for case in value.cases:
            inner = state.copy()
            if all(inner.assume(key, fact) for key, fact in case.facts):
                paths.append((case.label, _loop_over(machine, node, case.value, inner)))
        if not paths:
            return Path(effects, Fails())
        return settle(Path(effects, Split(tuple(paths), base)))
    path = _loop_over(machine, node, value, state)
    return Path((*effects, *path.effects), path.end)


def _loop_over(machine: Machine, node: ast.For, value: Value, state: State) -> Path:
    with machine.within(state):
        value = state.narrow(value)
        found = passing(machine, value)
        source, through = found or (value, [])
        before = sources(machine, source)
        try:
            items, rest = elements(machine, source) if found is not None else ((), None)
        except Dead:
            return Path((), Fails())
        begin(machine, value)
        state = machine.state

    def any_turn(begun: State) -> Path:
        if rest is not None and not changed_since(begun, before):
            return _turn(machine, node, (rest, None), begun, through)
        item, after, made = machine.apart(begun.copy(), lambda: any_of(machine, source))
        path = Path((), Fails()) if item is None else _turn(machine, node, (item, None), after, through)
        return Path((*maybe(made), *path.effects), path.end)

    def any_turns(begun: State) -> Path:
        return _any_turns(machine, any_turn, begun, f"for {ast.unparse(node.target)} in {ast.unparse(node.iter)}")

    if len(items) > TURNS_MAX:
        items, rest = (), alternatives(members(items, rest))
    entry = state.copy() if before else state
    path = Path((), Falls(state))
    for item in items:
        if not goes_on(path):
            break
        path = then(path, lambda begun, item=item: _turn(machine, node, item, begun, through))  # type: ignore[misc]
        if any(changed_since(end.state, before) for end in ends(path) if isinstance(end, Falls)):
            path = any_turns(entry)  # nobody knows any more which element comes next
            return _after_loop(machine, node, path)
    if rest is not None or found is None:
        path = then(path, any_turns)
    return _after_loop(machine, node, path)


def _after_loop(machine: Machine, node: ast.For | ast.While, path: Path) -> Path:
    """The `else` of a loop, and where `break` leads to."""
    if node.orelse:
        path = then(path, lambda state: machine.block(node.orelse, state))
    return settle(replace(path, Breaks, lambda end: Path((), Falls(end.state))))  # type: ignore[union-attr]


def _turn(machine: Machine, node: ast.For, element: Element, state: State, through: Sequence[Stream]) -> Path:
    """One turn of a loop; `continue` ends it as its last line does."""
    machine.step()
    item, presence = element
    if isinstance(item, Data):
        item = opaque(item.what)  # another one in each turn
    there = state
    if presence is not None:
        there = state.copy()
        if not all(there.assume(key, fact) for key, fact in presence.facts):
            return Path((), Falls(state))
    path = _passed(machine, node, item, there, through)
    if presence is None:
        return path
    split = Split(((presence.label, path), (None, Path((), Falls(state)))), state.facts)
    return settle(Path((), split))


def _passed(machine: Machine, node: ast.For, item: Value, state: State, through: Sequence[Stream]) -> Path:
    """A turn for an element that has to pass through `map` and `filter`, the last one first."""
    if not through:
        with machine.within(state):
            try:
                assign(machine, node.target, item)
                begun = machine.state
            except Dead:
                return Path((), Fails())
        body = machine.block(node.body, begun)
        return settle(replace(body, Continues, lambda end: Path((), Falls(state_of(end)))))
    *left, stream = through
    given = Arguments((item,), texts=("it",))
    function = stream.args[0]
    answer, state, made = machine.apart(state, lambda: item if function == NONE else machine.call(function, given))
    if answer is None:
        return Path(made, Fails())
    if stream.name == "map":
        path = _passed(machine, node, answer, state, left)
        return Path((*made, *path.effects), path.end)
    with machine.within(state):
        true, false = truths(machine, answer)
    label = f"filter({stream.label})"
    paths = [(label, _passed(machine, node, item, true, left))] if true is not None else []
    if false is not None:
        paths.append((f"not {label}", Path((), Falls(false))))
    if len(paths) == 1:
        return Path((*made, *paths[0][1].effects), paths[0][1].end)
    return settle(Path(made, Split(tuple(paths), state.facts)))


def _any_turns(machine: Machine, turn: Callable[[State], Path], state: State, label: str, least: int = 0) -> Path:
    """Any number of turns, at least `least` (0 or 1) of them."""

    def after(begun: State) -> list[State]:
        return [end.state for end in ends(turn(begun)) if isinstance(end, Falls)]

    machine.doubt += 1
    try:
        head = machine.stable(state, after)
        path = turn(head.copy())
    finally:
        machine.doubt -= 1
    falls = [end.state for end in ends(path) if isinstance(end, Falls)]
    behind = head
    for one in falls:
        behind = machine.widened(behind, one)
    if all(isinstance(end, (Falls, Breaks)) for end in ends(path)):
        breaks = [Way(EITHER, end.state) for end in ends(path) if isinstance(end, Breaks)]
        effects = flat(path) if least else maybe(flat(path))
        cases: list[tuple[str | None, Path]] = [] if least and not falls else [(None, Path((), Falls(behind)))]
        if breaks:
            cases.append((None, Path((), Breaks(merge(breaks, state.facts)[0]))))
        if least:
            cases = [case for case in cases if not isinstance(case[1].end, Falls)] or [(None, Path((), Fails()))]
        return Path(effects, cases[0][1].end if len(cases) == 1 else Split(tuple(cases), state.facts))
    if least:
        return replace(path, Falls, lambda end: Path((), Fails()))
    if not falls:
        none: list[tuple[str | None, Path]] = [(label, path), (OTHERWISE, Path((), Falls(behind)))]
        return Path((), Split(tuple(none), state.facts))
    return replace(doubtful(path), Falls, lambda end: Path((), Falls(behind)))


def while_(machine: Machine, node: ast.While, state: State, left: int = WHILE_MAX) -> Path:
    """A loop that is followed turn by turn for as long as its condition is known."""
    made, true, false = decide_apart(machine, node.test, state.copy())
    if isinstance(made.end, Fails):
        return made
    if true is None:
        return _after_loop(machine, node, Path(made.effects, Falls(cast(State, false))))
    label = f"while {written(node.test)}"
    if false is not None or not left:
        path = _any_turns(machine, lambda begun: _while_turn(machine, node, begun), state, label)
        return _after_loop(machine, node, _left_loop(machine, node, path))
    turn = _while_turn(machine, node, state.copy())
    if isinstance(turn.end, Falls) and _repeating(state, turn.end.state):
        turn = Path(turn.effects, Fails())  # nothing has changed, so nothing ever will
    elif isinstance(turn.end, Split) and isinstance(node.test, ast.Constant):
        turn = _any_turns(machine, lambda begun: _while_turn(machine, node, begun), state, label, least=1)
    else:
        turn = then(turn, lambda after: while_(machine, node, after, left - 1))
    return settle(replace(turn, Breaks, lambda end: Path((), Falls(end.state))))  # type: ignore[union-attr]


def _repeating(before: State, after: State) -> bool:
    """Whether a turn of a loop ends as it has begun."""
    facts = {key: fact for key, fact in before.facts.items() if key in after.facts}
    return equal_states(State(before.cells, facts), State(after.cells, facts))


def _left_loop(machine: Machine, node: ast.While, path: Path) -> Path:
    """The path with what is known once the condition of the loop does not hold."""

    def ended(state: State) -> Path:
        _, _, false = decide_apart(machine, node.test, state.copy())
        return Path((), Fails() if false is None else Falls(false))

    return then(path, ended)


def _while_turn(machine: Machine, node: ast.While, state: State) -> Path:
    made, true, _ = decide_apart(machine, node.test, state)
    if true is None:
        return Path(made.effects, Fails())
    path = replace(machine.block(node.body, true), Continues, lambda end: Path((), Falls(state_of(end))))
    return settle(Path((*made.effects, *path.effects), path.end))


LOOPS: dict[type[ast.stmt], Callable[[Machine, Any, State], Path]] = {ast.For: for_, ast.While: while_}
