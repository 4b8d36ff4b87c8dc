"""What a piece of program generates, in its order: a tree of effects, and of the paths on which control leaves it.

`Path` is what the execution of statements gives: effects, and then an end. Where some cases of a choice leave and
others go on, the end is a `Split`, and whatever comes next is executed in each case that goes on. A choice whose cases
all go on is over: it becomes a `Fork` among the effects, and its states are merged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from scriptrules.flow.atoms import NOTHING, Atom, Type, Unknown, branch, sequence
from scriptrules.flow.domains import Domain
from scriptrules.flow.shapes import Certainty, Edge, Via
from scriptrules.flow.values import EITHER, NONE, State, Value, Way, merge

AND = " and "  # between the conditions of an edge
CASES_MAX = 8  # ways on which a program goes on side by side; more are merged


class Generated(msgspec.Struct, frozen=True):
    """A task of a name, or of a pattern, is generated."""

    atom: Type | Unknown
    via: Via
    line: int


class Fork(msgspec.Struct, frozen=True):
    """One of the cases; `total` where one of them always is. A case that ends in an error or `fail()` has `fails`."""

    cases: tuple[ForkCase, ...]
    total: bool = True


class ForkCase(msgspec.Struct, frozen=True):
    label: str
    effects: tuple[Effect, ...]
    fails: bool = False


class Maybe(msgspec.Struct, frozen=True):
    """Effects that may not come about, or not all: of a loop, or of what a handler is for."""

    effects: tuple[Effect, ...]


class Waits(msgspec.Struct, frozen=True):
    """The run waits for something outside: an execution, a timer, a task."""


Effect = Generated | Fork | Maybe | Waits


# ---- ends of a path


class Falls(msgspec.Struct, frozen=True):
    """Control goes on behind it."""

    state: State


class Returns(msgspec.Struct, frozen=True):
    state: State
    value: Value


class Breaks(msgspec.Struct, frozen=True):
    state: State


class Continues(msgspec.Struct, frozen=True):
    state: State


class Fails(msgspec.Struct, frozen=True):
    """An error, or `fail()`; or it never ends."""


class Split(msgspec.Struct, frozen=True):
    """Different ends in different cases. What a case without a label generates may come about or not."""

    cases: tuple[tuple[str | None, Path], ...]
    base: Mapping[str, Domain]  # what was known before
    total: bool = True


class Path(msgspec.Struct, frozen=True):
    effects: tuple[Effect, ...]
    end: Falls | Returns | Breaks | Continues | Fails | Split


End = Falls | Returns | Breaks | Continues | Fails | Split


def state_of(end: End) -> State:
    """The state in which a path ends that control leaves in order."""
    assert not isinstance(end, (Fails, Split))
    return end.state


def ends(path: Path) -> Iterator[End]:
    """How a path can end."""
    if isinstance(path.end, Split):
        for _, inner in path.end.cases:
            yield from ends(inner)
    else:
        yield path.end


def goes_on(path: Path) -> bool:
    """Whether control can get behind it."""
    return any(isinstance(end, Falls) for end in ends(path))


def replace(path: Path, kind: type, make: Callable[[End], Path]) -> Path:
    """The path with something else in place of each end of a kind."""
    end = path.end
    if isinstance(end, Split):
        return Path(
            path.effects,
            Split(tuple((label, replace(inner, kind, make)) for label, inner in end.cases), end.base, end.total),
        )
    if isinstance(end, kind):
        new = make(end)
        return Path((*path.effects, *new.effects), new.end)
    return path


def then(path: Path, step: Callable[[State], Path]) -> Path:
    """What follows a path wherever it goes on."""
    if isinstance(path.end, Split) and sum(isinstance(end, Falls) for end in ends(path)) > CASES_MAX:
        path = together(path)
    return settle(replace(path, Falls, lambda end: step(state_of(end))))


def settle(path: Path) -> Path:
    """A choice whose cases all go on is over."""
    end = path.end
    if not isinstance(end, Split):
        return path
    cases = tuple((label, settle(inner)) for label, inner in end.cases)
    if all(isinstance(inner.end, Falls) for _, inner in cases):
        state, _ = merge([Way(label or EITHER, state_of(inner.end)) for label, inner in cases], end.base)
        return Path((*path.effects, *fork([(label, inner) for label, inner in cases], end.total)), Falls(state))
    return Path(path.effects, Split(cases, end.base, end.total))


def together(path: Path) -> Path:
    """The path with one case for each kind of end, and its effects before them."""
    states: dict[type, list[End]] = {}
    for end in ends(path):
        states.setdefault(type(end), []).append(end)
    base: Mapping[str, Domain] = path.end.base if isinstance(path.end, Split) else {}
    cases: list[tuple[str | None, Path]] = []
    for kind, found in states.items():
        if kind is Fails:
            cases.append((None, Path((), Fails())))
            continue
        ways = [Way(EITHER, state_of(end), end.value if isinstance(end, Returns) else NONE) for end in found]
        state, value = merge(ways, base)
        cases.append((None, Path((), Returns(state, value) if kind is Returns else kind(state))))
    effects = flat(path)
    return Path(effects, cases[0][1].end if len(cases) == 1 else Split(tuple(cases), base))


def doubtful(path: Path) -> Path:
    """A path that control may never have been on, wherever it goes on from there."""
    if not isinstance(path.end, Split):
        return Path(maybe(path.effects), path.end)
    cases = tuple((label, doubtful(inner)) for label, inner in path.end.cases)
    return Path(maybe(path.effects), Split(cases, path.end.base, path.end.total))


def maybe(effects: tuple[Effect, ...]) -> tuple[Effect, ...]:
    """Effects that may not come about."""
    return (Maybe(effects),) if effects else ()


def flat(path: Path) -> tuple[Effect, ...]:
    """All effects of a path."""
    end = path.end
    if not isinstance(end, Split):
        return path.effects
    return (*path.effects, *fork(list(end.cases), end.total))


def fork(cases: Sequence[tuple[str | None, Path]], total: bool) -> tuple[Effect, ...]:
    """A choice as an effect, if it is one."""
    made = tuple(ForkCase(label, flat(inner), _fails(inner)) for label, inner in cases if label is not None)
    forks = (Fork(made, _whole(cases, total)),) if any(case.effects for case in made) else ()
    rest = [Maybe(effects) for label, inner in cases if label is None and (effects := flat(inner))]
    return (*forks, *rest)


def _whole(cases: Sequence[tuple[str | None, Path]], total: bool) -> bool:
    """Whether the cases that have a label are all there are."""
    return total and all(label is not None or _fails(inner) for label, inner in cases)


def _fails(path: Path) -> bool:
    return all(isinstance(end, Fails) for end in ends(path))


# ---- what people see


def atom_of(effects: Sequence[Effect]) -> Atom:
    """Effects as an atom."""
    return sequence(map(_atom, effects))


def _atom(effect: Effect) -> Atom:
    match effect:
        case Generated():
            return effect.atom
        case Maybe():
            return atom_of(effect.effects)
        case Fork():
            return branch(((case.label, atom_of(case.effects)) for case in effect.cases), effect.total)
    return NOTHING


def edges_of(effects: Sequence[Effect], condition: str = "") -> list[Edge]:
    """Effects as edges: each name once for each way to generate it, where it is most certain.

    Args:
        effects: of a rule.
        condition: under which the rule runs.
    """
    certain = _certain(effects)
    hasty, _ = _hasty(effects)
    best: dict[tuple[str, Via], tuple[int, Edge]] = {}
    for found, labels in _generated(effects, (condition,) if condition else ()):
        if isinstance(found.atom, Unknown):
            name, certainty, reason = found.atom.pattern, Certainty.UNKNOWN, found.atom.reason
        else:
            name, reason = found.atom.name, ""
            sure = (name, found.via) in certain
            certainty = Certainty.CERTAIN if sure else Certainty.POSSIBLE
            if sure:
                labels = labels[: 1 if condition else 0]  # it is generated in the other cases as well
        needed = AND.join(_bracketed(label) for label in labels if label != EITHER)
        waits = (found.atom, found.via) not in hasty
        edge = Edge(name, found.via, certainty, needed, found.line, reason, waits)
        known = best.get((name, found.via))
        if known is None or len(labels) < known[0]:
            best[name, found.via] = (len(labels), edge)
    return [edge for _, edge in best.values()]


def _bracketed(label: str) -> str:
    return f"({label})" if " or " in label or " if " in label else label


def _generated(effects: Sequence[Effect], labels: tuple[str, ...]) -> Iterator[tuple[Generated, tuple[str, ...]]]:
    for effect in effects:
        match effect:
            case Generated():
                yield effect, labels
            case Maybe():
                yield from _generated(effect.effects, labels)
            case Fork():
                for case in effect.cases:
                    yield from _generated(case.effects, (*labels, case.label))


def _certain(effects: Sequence[Effect]) -> frozenset[tuple[str, Via]]:
    """What every run generates that gets through these effects."""
    found: set[tuple[str, Via]] = set()
    for effect in effects:
        match effect:
            case Generated(atom=Type(name=name)):
                found.add((name, effect.via))
            case Fork() if effect.total:
                cases = [_certain(case.effects) for case in effect.cases if not case.fails]
                if cases:
                    found |= frozenset.intersection(*cases)
    return frozenset(found)


def _hasty(effects: Sequence[Effect], waited: bool = False) -> tuple[set[tuple[Type | Unknown, Via]], bool]:
    """What a run may generate before it has waited for anything, and whether it has waited behind these effects.

    A wait in a loop or a `try` counts: few are there for nothing.
    """
    found: set[tuple[Type | Unknown, Via]] = set()
    for effect in effects:
        match effect:
            case Waits():
                waited = True
            case Generated() if not waited:
                found.add((effect.atom, effect.via))
            case Maybe():
                inner, waited = _hasty(effect.effects, waited)
                found |= inner
            case Fork():
                cases = [(case.fails, *_hasty(case.effects, waited)) for case in effect.cases]
                found = found.union(*(inner for _, inner, _ in cases))
                waited = waited or (effect.total and all(fails or late for fails, _, late in cases))
    return found, waited
