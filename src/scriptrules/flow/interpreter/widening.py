"""States that cover others: how a loop or a recursion comes to an end. Pure, but for the frames noted as shared."""

from __future__ import annotations

from typing import Any

import msgspec

from scriptrules.flow.domains import hull
from scriptrules.flow.values import Cell, Fn, Items, Ref, State, Table, Value, alternatives, leaves, same, widen


def widened_state(before: State, after: State, shared: set[int]) -> State:
    """A state that covers both, and that stops growing soon."""
    cells = dict(before.cells)
    for key, cell in after.cells.items():
        known = cells.get(key)
        if known is None:
            cells[key] = cell
        elif known is not cell and not same(known, cell, lambda *_: False):
            cells[key] = summarised(cells, widen(known, cell), shared)
    facts = {key: hull(fact, after.facts[key]) for key, fact in before.facts.items() if key in after.facts}
    return State(cells, facts)


def summarised(cells: dict[Any, Cell], cell: Cell, shared: set[int], deep: int = 4) -> Cell:
    """A cell in which one container, and one frame of a function, stands for all that a loop makes in one place."""
    match cell:
        case Items():
            items = tuple((_one_for_all(cells, one, shared, deep), presence) for one, presence in cell.items)
            rest = None if cell.rest is None else _one_for_all(cells, cell.rest, shared, deep)
            return Items(cell.kind, items, rest, cell.several)
        case Table():
            pairs = tuple((key, _one_for_all(cells, one, shared, deep), there) for key, one, there in cell.items)
            rest = None if cell.rest is None else _one_for_all(cells, cell.rest, shared, deep)
            return Table(pairs, rest, cell.several)
        case int():
            return cell
    return _one_for_all(cells, cell, shared, deep)


def _one_for_all(cells: dict[Any, Cell], value: Value, shared: set[int], deep: int) -> Value:
    every = list(leaves(value))
    if len(every) < 2 or not deep:
        return value
    kept: dict[object, Value] = {}
    for one in every:
        kind: object = one
        if isinstance(one, Ref) and isinstance(cells.get(one.id), (Items, Table)):
            kind = type(cells[one.id])
        elif isinstance(one, Fn):
            kind = one.node
        first = kept.setdefault(kind, one)
        if first != one and isinstance(first, Ref) and isinstance(one, Ref):
            both = msgspec.structs.replace(widen(cells[first.id], cells[one.id]), several=True)
            cells[first.id] = summarised(cells, both, shared, deep - 1)
        elif first != one and isinstance(first, Fn) and isinstance(one, Fn):
            shared.add(first.frame)
            for key in [key for key in cells if isinstance(key, tuple) and key[0] == one.frame]:
                known = cells.get((first.frame, key[1]))
                joined = cells[key] if known is None else widen(known, cells[key])
                cells[first.frame, key[1]] = summarised(cells, joined, shared, deep - 1)
    return value if len(kept) == len(every) else alternatives(kept.values())


def equal_states(one: State, other: State) -> bool:
    """Whether nothing but the identity of opaque data differs in what `one` has."""

    def seen(a: int, b: int) -> bool:
        return same(one.cells.get(a), other.cells.get(b), lambda *_: False)

    return (
        all(
            key in other.cells and (isinstance(key, str) or same(cell, other.cells[key], seen))
            for key, cell in one.cells.items()
        )
        and one.facts.keys() == other.facts.keys()
    )
