"""Exceptions: what a `try` generates, from which states its handlers start, and what its `finally` does."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

from scriptrules.flow.atoms import NO_EXCEPTION
from scriptrules.flow.domains import Domain
from scriptrules.flow.effects import (
    Effect,
    Fails,
    Falls,
    Path,
    Returns,
    Split,
    ends,
    flat,
    maybe,
    settle,
    then,
    together,
)
from scriptrules.flow.interpreter.machine import Machine
from scriptrules.flow.interpreter.names import write
from scriptrules.flow.values import EITHER, State, Way, merge, opaque


def try_(machine: Machine, node: ast.Try, state: State) -> Path:
    """`try` with whatever stands behind it."""
    base = state.facts
    machine.tries.append([state.copy()])
    try:
        body = machine.block(node.body, state.copy())
    finally:
        thrown = machine.tries.pop()
    if machine.tries and not node.handlers:
        machine.tries[-1] += thrown
    if not node.handlers:
        path = then(body, lambda after: machine.block(node.orelse, after)) if node.orelse else body
    else:
        path = _handled(machine, node, body, thrown, base)
    return _finally(machine, node, path, thrown) if node.finalbody else path


def _handled(machine: Machine, node: ast.Try, body: Path, thrown: list[State], base: Mapping[str, Domain]) -> Path:
    entry, _ = merge([Way(EITHER, one) for one in thrown], base)
    entry = State(entry.cells, {key: fact for key, fact in entry.facts.items() if base.get(key) is fact})
    cases: list[tuple[str | None, Path]] = []
    for handler in node.handlers:
        machine.at(handler)
        begun = entry.copy()
        if handler.name is not None:
            with machine.within(begun):
                write(machine, handler.name, opaque("an exception"))
        label = f"except {ast.unparse(handler.type)}" if handler.type is not None else "except Exception"
        cases.append((label, machine.block(handler.body, begun)))
    effects = maybe(flat(body))
    left = together(body) if isinstance(body.end, Split) else body
    others = [end for end in ends(left) if not isinstance(end, Fails)]
    for end in others:
        if isinstance(end, Falls):
            after = machine.block(node.orelse, end.state) if node.orelse else Path((), end)
            cases.append((NO_EXCEPTION, after))
        else:
            cases.append((NO_EXCEPTION if len(others) == 1 else None, Path((), end)))
    return settle(Path(effects, Split(tuple(cases), base)))


def _finally(machine: Machine, node: ast.Try, path: Path, thrown: list[State]) -> Path:
    states = [Way(EITHER, end.state) for end in ends(path) if not isinstance(end, (Fails, Split))]
    if machine.tries and states:  # an exception that somebody catches further out gets here as well
        path = Path((*path.effects, *_finally_after(machine, node, thrown)), path.end)
    if not states:  # it is left by an exception only
        entry, _ = merge([Way(EITHER, one) for one in thrown], {})
        last = machine.block(node.finalbody, entry)
        return Path((*flat(path), *flat(last)), Fails())
    if isinstance(path.end, Split):
        path = together(path)
    state, _ = merge(states, {})
    last = machine.block(node.finalbody, state)
    behind = [end.state for end in ends(last) if isinstance(end, Falls)]
    if not behind:
        return Path((*path.effects, *last.effects), last.end)
    after, _ = merge([Way(EITHER, one) for one in behind], {})
    effects = (*path.effects, *flat(last))

    def moved(one: Path) -> Path:
        end = one.end
        match end:
            case Split():
                return Path((), Split(tuple((label, moved(inner)) for label, inner in end.cases), end.base))
            case Returns():
                return Path((), Returns(after, end.value))
            case Fails():
                return Path((), end)
        return Path((), type(end)(after))

    return Path(effects, moved(path).end)


def _finally_after(machine: Machine, node: ast.Try, thrown: list[State]) -> tuple[Effect, ...]:
    """What `finally` generates after an exception, which goes on from there."""
    entry, _ = merge([Way(EITHER, one) for one in thrown], {})
    last = machine.block(node.finalbody, State(entry.cells, {}))
    machine.tries[-1] += [end.state for end in ends(last) if isinstance(end, Falls)]
    return maybe(flat(last))


HANDLING: dict[type[ast.stmt], Callable[[Machine, Any, State], Path]] = {ast.Try: try_}
