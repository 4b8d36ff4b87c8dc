"""Which rules run which: what was counted, beside what the analysis foresees. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from scriptrules.sightings import Cell, quantile

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


class MatrixCell(msgspec.Struct, frozen=True):
    """Runs of `rule` for tasks that runs of `by` have generated; `by` is empty where tasks came from outside."""

    by: str
    rule: str
    count: int
    last: int | None  # microseconds since 1970 UTC
    predicted: bool
    durations: dict[str, int | None]  # of QUANTILES, microseconds


def matrix(cells: Iterable[Cell], predicted: Iterable[tuple[str, str]]) -> list[MatrixCell]:
    """All cells that were counted or are foreseen, by rule.

    Args:
        predicted: (by, rule): a task that `by` can generate can reach `rule`.
    """
    foreseen = set(predicted)
    counted = {(cell.by, cell.rule): cell for cell in cells if cell.count}
    found = []
    for by, rule in sorted(counted.keys() | foreseen):
        cell = counted.get((by, rule), Cell(by, rule))
        durations = {name: quantile(cell.durations, share) for name, share in QUANTILES.items()}
        found.append(MatrixCell(by, rule, cell.count, cell.last or None, (by, rule) in foreseen, durations))
    return found


def reach(edges: Iterable[tuple[str, str]], matches: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Which rules can run which.

    Args:
        edges: (rule, task): the rule can generate the task.
        matches: (task, rule): the task can reach the rule.
    """
    handled: dict[str, list[str]] = {}
    for task, rule in matches:
        handled.setdefault(task, []).append(rule)
    return {(by, rule) for by, task in edges for rule in handled.get(task, ())}
