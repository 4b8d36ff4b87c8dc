"""Which tasks can follow, as data: a name, several in their order, a choice, or what only run time can tell.

There is one way to write down each meaning; `sequence` and `branch` see to it:

* Nothing follows: ``List([])``. One thing follows: that thing itself. Lists are in the order of the program, have no
  lists in them, and what is equal to its neighbour appears once. A loop over known values is unrolled; another stands
  as one turn, and that it may have none is said by the certainty of the edges.
* A choice of two has a condition and its negation; a case that generates nothing is left out. One of three or more, as
  by ``elif``, by `match` or by early returns, is one Branch as well: each condition is meant where none before it
  holds, and the last, where the program has no condition for it, is `OTHERWISE`; only the last is left out where it
  generates nothing. Cases that are all equal are no choice: what they have in common stands alone.
* What comes after a choice comes after the Branch, unless a case leaves before: then it is part of the other cases.
* Conditions are the source, as `ast.unparse` writes it, without needless negations: ``not (a == b)`` is ``a != b``,
  ``not (a < b)`` is ``a >= b``, ``not not a`` is ``a``. ``case "x"`` of ``match kind`` is ``kind == 'x'``, and
  ``case "x" | "y"`` is ``kind in ('x', 'y')``; other patterns are ``case [first, *rest]``, with ``if guard`` behind.
  A `try` is its body, and then a Branch: ``except ValueError``, or `NO_EXCEPTION` for what follows without one.
* A value of which the program does not say on what it depends, as after a loop that may have had no turn, is a Branch
  of cases that are all called `EITHER` (flow/values.py); the condition of an edge leaves it out.
* The `when` of a rule, or the filter of a table's entry, stands around everything as a Branch of one case, since a
  rule that does not match does not run.
* The `reason` of an Unknown is for people. Its `pattern` covers every name that can be generated there; ``*`` in it is
  any text, dots and nothing included (in `on` it is one segment): ``f"report.{kind}"`` gives ``report.*``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from scriptrules.flow.conditions import opposes

OTHERWISE = "otherwise"
NO_EXCEPTION = "no exception"


class Type(msgspec.Struct, frozen=True, tag_field="type", tag="Type"):
    """A task of this name."""

    name: str


class Unknown(msgspec.Struct, frozen=True, tag_field="type", tag="Unknown"):
    """A task whose name run time decides; it fits `pattern`."""

    reason: str
    pattern: str


class List(msgspec.Struct, frozen=True, tag_field="type", tag="List"):
    """All of these, in this order."""

    items: list[Atom]


class Case(msgspec.Struct, frozen=True):
    """What follows where `condition` holds."""

    condition: str
    atom: Atom


class Branch(msgspec.Struct, frozen=True, tag_field="type", tag="Branch"):
    """One of these: the first whose condition holds."""

    cases: list[Case]


Atom = Type | List | Branch | Unknown
NOTHING = List([])


def sequence(atoms: Iterable[Atom]) -> Atom:
    """Several atoms, one after the other, as one."""
    items: list[Atom] = []
    for atom in atoms:
        for item in atom.items if isinstance(atom, List) else [atom]:
            if not items or items[-1] != item:
                items.append(item)
    return items[0] if len(items) == 1 else List(items)


def branch(cases: Iterable[tuple[str, Atom]], total: bool) -> Atom:
    """A choice as one atom. A choice that is all there is in the last case goes on in the same Branch.

    Args:
        cases: conditions and what follows.
        total: whether one of the conditions always holds.
    """
    flat = [Case(condition, atom) for condition, atom in cases]
    if all(case.atom == NOTHING for case in flat):
        return NOTHING
    if total and all(case.atom == flat[0].atom for case in flat):
        return flat[0].atom
    if len(flat) == 2:
        flat = [case for case in flat if case.atom != NOTHING]
    if len(flat) > 1 and isinstance(last := flat[-1].atom, Branch):
        inner = list(last.cases)
        if len(inner) == 2 and opposes(inner[0].condition, inner[1].condition):
            inner[-1] = Case(OTHERWISE, inner[-1].atom)
        flat[-1:] = inner
    if flat[-1].atom == NOTHING:
        flat.pop()
    return Branch(flat)


def leaves(atom: Atom) -> Iterator[Type | Unknown]:
    """Every Type and Unknown in an atom, in its order, repeated as they are."""
    match atom:
        case List():
            for item in atom.items:
                yield from leaves(item)
        case Branch():
            for one in atom.cases:
                yield from leaves(one.atom)
        case _:
            yield atom
