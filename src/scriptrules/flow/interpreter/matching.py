"""`match`: which cases can be taken, and what each binds."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from scriptrules.flow.atoms import OTHERWISE
from scriptrules.flow.conditions import negated
from scriptrules.flow.effects import Effect, Fails, Falls, Path, Split, maybe, settle
from scriptrules.flow.interpreter.comparisons import compare
from scriptrules.flow.interpreter.containers import subscript
from scriptrules.flow.interpreter.deciding import decide_apart
from scriptrules.flow.interpreter.elements import carries
from scriptrules.flow.interpreter.machine import Dead, Machine
from scriptrules.flow.interpreter.names import write
from scriptrules.flow.interpreter.truth import Ways, truths
from scriptrules.flow.patterns import captures, compiled, label_of
from scriptrules.flow.values import EITHER, Lost, State, Value, Way, merge, opaque


def match_(machine: Machine, node: ast.Match, state: State) -> Path:
    """`match`: a choice of its cases."""
    base = state.facts
    subject, state, effects = machine.apart(state, lambda: machine.used(node.subject))
    if subject is None:
        return Path(effects, Fails())
    named = ast.unparse(node.subject)
    paths: list[tuple[str | None, Path]] = []
    rest: State | None = state
    labels: list[str] = []
    for case in node.cases:
        if rest is None:
            break
        made, true, false = _decide_case(machine, case, named, subject, rest)
        if true is None:
            effects = (*effects, *maybe(made))  # of a guard that never holds
        else:
            label = _closing(labels) if false is None else label_of(case, named)
            paths.append((label, _captured(machine, case, subject, true, made)))
            labels.append(label)
        rest = false
    if rest is not None:
        paths.append((_closing(labels), Path((), Falls(rest))))
    if len(paths) == 1:
        return Path((*effects, *paths[0][1].effects), paths[0][1].end)
    return settle(Path(effects, Split(tuple(paths), base)))


def _closing(labels: list[str]) -> str:
    """The label of the last case."""
    if len(labels) != 1 or labels[0].startswith("case "):
        return OTHERWISE if len(labels) != 1 else f"not {labels[0]}"
    return negated(ast.parse(labels[0], mode="eval").body)


def _decide_case(
    machine: Machine, case: ast.match_case, named: str, subject: Value, state: State
) -> tuple[tuple[Effect, ...], State | None, State | None]:
    """Whether a case is taken: the states in which it is, and in which it is not."""
    true, false = _fitting(machine, case.pattern, subject, state)
    if true is None or case.guard is None:
        return (), true, false
    for name in captures(case.pattern):
        _bind_in(machine, true, name, subject, case.pattern)
    made, held, failed = decide_apart(machine, case.guard, true)
    others = [one for one in (false, failed) if one is not None]
    rest = merge([Way(EITHER, one) for one in others], state.facts)[0] if others else None
    return made.effects, held, rest


def _fitting(machine: Machine, pattern: ast.pattern, subject: Value, state: State) -> Ways:
    """The states in which a subject fits a pattern, and in which it does not."""

    def compared(operator: str, constant: Value) -> Value:
        return machine.spread([subject], lambda one: compare(machine, operator, one, constant))

    with machine.within(state.copy()):
        try:
            test = compiled(pattern, compared)
            if isinstance(test, bool) or test is None:
                return machine.state.copy(), None if test else machine.state.copy()
            return truths(machine, test)
        except Dead:
            return None, state


def _bind_in(machine: Machine, state: State, name: str, subject: Value, pattern: ast.pattern) -> None:
    with machine.within(state):
        whole = isinstance(pattern, ast.MatchAs) and pattern.name == name
        write(machine, name, subject if whole else _part_of(machine, subject, pattern, name))


def _part_of(machine: Machine, subject: Value, pattern: ast.pattern, name: str) -> Value:
    """What a name in a pattern gets."""
    items = machine.items(subject)
    if isinstance(pattern, ast.MatchSequence) and items is not None and items.exact:
        found = items.items if len(pattern.patterns) == len(items.items) else ()
        for inner, (item, _) in zip(pattern.patterns, found, strict=False):
            if isinstance(inner, ast.MatchAs) and inner.name == name and inner.pattern is None:
                return item
    if isinstance(pattern, ast.MatchMapping):
        for key, inner in zip(pattern.keys, pattern.patterns, strict=True):
            if isinstance(inner, ast.MatchAs) and inner.name == name and inner.pattern is None:
                try:
                    return machine.spread(
                        [subject, machine.evaluate(key)],
                        lambda one, at: subscript(machine, one, at, ast.unparse(key)),  # noqa: B023
                    )
                except Dead:
                    return opaque("a part of what was matched")
    return Lost("a part of what was matched") if carries(machine, subject) else opaque("a part of what was matched")


def _captured(machine: Machine, case: ast.match_case, subject: Value, state: State, made: tuple[Effect, ...]) -> Path:
    if case.guard is None:
        for name in captures(case.pattern):
            _bind_in(machine, state, name, subject, case.pattern)
    path = machine.block(case.body, state)
    return Path((*made, *path.effects), path.end)


MATCHING: dict[type[ast.stmt], Callable[[Machine, Any, State], Path]] = {ast.Match: match_}
