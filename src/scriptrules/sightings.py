"""What runs have shown: which rules have run which, and which tasks each rule has generated; aggregated, and bounded.

A transition adds what it has seen to its change. Stores add up what a group of changes has seen (`tally`) before they
write, so that a thousand runs cost as many rows as there are rules, and reading never depends on how many tasks there
were: cells are counted by day for `DAYS_KEPT` days (older days are one), names by rule up to `NAMES_MAX`, durations in
the classes of a logarithmic histogram.

Tried and rejected: views over tasks and runs (a scan of everything), one histogram a row as JSON (read and written back
for every group; a row a class is an upsert), days beside totals (twice the rows to write).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import msgspec

DAY = 86_400_000_000  # microseconds
DAYS_KEPT = 90  # that a cell is counted by; what is older is counted together
NAMES_MAX = 500  # names that are told apart for one rule
FURTHER = "*"  # all further names of a rule
OUTSIDE = ""  # in place of a rule: the task came from outside
SENT = "sent"  # how a task came from outside
MILLISECOND = 1000  # microseconds
CLASSES_PER_OCTAVE = 4  # of durations: neighbours differ by 19 %
LITTLE = 1e-6  # of a count, below which it is a rounding error
CLASS_MAX = 128  # 49 days; longer ones count as that


class Generated(msgspec.Struct, frozen=True, gc=False):
    """A run has generated a task; where `rule` is `OUTSIDE`, somebody has sent it."""

    rule: str
    task: str
    via: str  # "emit" | "call" | "return" | … | "sent"
    digest: str  # of the run's source
    at: int
    delay: int = 0  # microseconds since the run began
    first: bool = True  # the run had not generated this name in this way before


class Ran(msgspec.Struct, frozen=True, gc=False):
    """A run of `rule`, for a task that a run of `by` has generated, has begun; or, with its duration, has ended."""

    by: str
    rule: str
    at: int
    duration: int | None = None  # microseconds


class Cell(msgspec.Struct, gc=False):
    """How often runs of `by` have led to runs of `rule`."""

    by: str
    rule: str
    count: int = 0
    last: int = 0
    durations: dict[int, int] = {}  # how many runs took how long, by class


class SeenEdge(msgspec.Struct, gc=False):
    """How often runs of a rule have generated a task."""

    rule: str
    task: str
    via: str
    count: int = 0
    runs: int = 0  # that have generated it at least once
    first: int = 0
    last: int = 0
    digest: str = ""  # of the source that has generated it last
    delays: dict[int, int] = {}  # how long runs had been under way, by class


class Evidence(msgspec.Struct, frozen=True):
    """What a store shows about rules, for whoever checks them without a server."""

    edges: list[SeenEdge] = []
    fields: dict[str, frozenset[str]] = {}  # of the newest tasks, by name


class Tally(msgspec.Struct):
    """What a group of changes has seen: cells by (day, by, rule), edges by (rule, task, via)."""

    cells: dict[tuple[int, str, str], Cell] = {}
    edges: dict[tuple[str, str, str], SeenEdge] = {}


class Names:
    """Which names of each rule are told apart, so that names made of data cannot fill a store.

    Args:
        edges: (rule, task, via) of those that a store has.
    """

    def __init__(self, edges: Iterable[tuple[str, str, str]] = ()) -> None:
        self._known: dict[str, set[str]] = {}
        for rule, task, _ in edges:
            self._known.setdefault(rule, set()).add(task)

    def __call__(self, rule: str, task: str) -> str:
        """The name under which a task is counted."""
        known = self._known.get(rule)
        if known is None:
            known = self._known[rule] = set()
        if task in known:
            return task
        if len(known) < NAMES_MAX:
            known.add(task)
            return task
        return FURTHER


def tally(generated: Iterable[Generated], ran: Iterable[Ran], names: Names) -> Tally:
    """Add up what was seen."""
    total = Tally()
    cells, edges = total.cells, total.edges
    for run in ran:
        place = (run.at // DAY, run.by, run.rule)
        cell = cells.get(place)
        if cell is None:
            cell = cells[place] = Cell(run.by, run.rule)
        if run.duration is None:
            cell.count += 1
            cell.last = max(cell.last, run.at)
        else:
            _add(cell.durations, run.duration)
    for one in generated:
        edge = edges.get((one.rule, one.task, one.via))  # there is none under a name that is not told apart
        if edge is None:
            key = (one.rule, names(one.rule, one.task), one.via)
            edge = edges.get(key)
            if edge is None:
                edge = edges[key] = SeenEdge(*key, first=one.at, last=one.at)
        edge.count += 1
        if one.at > edge.last:
            edge.last = one.at
        elif one.at < edge.first:
            edge.first = one.at
        edge.digest = one.digest
        if one.first:
            edge.runs += 1
            _add(edge.delays, one.delay)
    return total


def join_cell(into: Cell, other: Cell) -> None:
    """Add one count of the same cell to another."""
    into.count += other.count
    into.last = max(into.last, other.last)
    _join(into.durations, other.durations)


def join_edge(into: SeenEdge, other: SeenEdge) -> None:
    """Add a later count of the same edge to one."""
    into.count += other.count
    into.runs += other.runs
    into.first, into.last = min(into.first, other.first), max(into.last, other.last)
    into.digest = other.digest
    _join(into.delays, other.delays)


# ---- durations


def class_of(micros: int) -> int:
    """The class that a duration falls into; all below a millisecond are one."""
    if micros <= MILLISECOND:
        return 0
    return min(CLASS_MAX, 1 + int(math.log2(micros / MILLISECOND) * CLASSES_PER_OCTAVE))


def micros_of(number: int) -> int:
    """A duration in the middle of a class."""
    return MILLISECOND // 2 if number == 0 else int(MILLISECOND * 2.0 ** ((number - 0.5) / CLASSES_PER_OCTAVE))


def quantile(classes: Mapping[int, int], share: float, over: int = 0) -> int | None:
    """The duration that `share` of those counted do not exceed, to about a tenth.

    Args:
        over: microseconds; shorter ones do not count, of those in its own class a part.

    Returns:
        Microseconds; None where nothing was counted.
    """
    counted = [(number, count * _part_over(number, over)) for number, count in sorted(classes.items())]
    left = share * sum(count for _, count in counted)
    for number, count in counted:
        left -= count
        if count and left <= LITTLE:
            return max(micros_of(number), over)
    return None


def _part_over(number: int, over: int) -> float:
    """The part of a class that is not below a duration."""
    low = 0 if number == 0 else MILLISECOND * 2.0 ** ((number - 1) / CLASSES_PER_OCTAVE)
    high = MILLISECOND * 2.0 ** (number / CLASSES_PER_OCTAVE) if number < CLASS_MAX else math.inf
    if over <= low:
        return 1.0
    return max(0.0, (high - over) / (high - low)) if high < math.inf else 1.0


def _add(classes: dict[int, int], micros: int) -> None:
    number = class_of(micros) if micros > MILLISECOND else 0
    classes[number] = classes.get(number, 0) + 1


def _join(into: dict[int, int], other: Mapping[int, int]) -> None:
    for number, count in other.items():
        into[number] = into.get(number, 0) + count
