"""What transitions have seen of which rule runs which, for the store to add up; and what nobody has foreseen."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from scriptrules.flow.online import predicts
from scriptrules.flow.shapes import RuleFacts
from scriptrules.journal import SliceRecord
from scriptrules.model import Run, Task, TaskState
from scriptrules.sightings import NAMES_MAX, OUTSIDE, SENT, Generated, Ran, SeenEdge
from scriptrules.store.protocol import Change, TaskMove
from scriptrules.supervisor.arguments import generate_args
from scriptrules.supervisor.background import Observers
from scriptrules.supervisor.decision import Decision
from scriptrules.supervisor.live import LiveRun

log = structlog.get_logger(__name__)

GENERATING = frozenset({"emit", "return", "call"})
FORESEEN_MAX = 50_000  # edges that are remembered as foreseen, so that most are looked up once

FactsOf = Callable[[str, str], RuleFacts | None]  # by rule and digest; None: it was not analysed


def note_decision(live: LiveRun, decision: Decision, change: Change) -> None:
    """Add what a decision on a run shows to its change; called before the decision is written into memory."""
    run = decision.run
    if decision.tasks:
        if live.generated is None:
            live.generated = {
                (generate_args(entry.args).name, entry.name) for entry in live.entries if entry.name in GENERATING
            }
        for via, task in zip(_ways(decision), decision.tasks, strict=True):
            first = (task.name, via) not in live.generated
            live.generated.add((task.name, via))
            delay = max(task.created - run.created, 0)
            change.generated.append(Generated(run.rule, task.name, via, run.digest, task.created, delay, first))
    if decision.ended:
        took = max((run.ended or run.since) - run.created, 0)
        change.ran.append(Ran(live.task.by or OUTSIDE, run.rule, run.since, took))


def note_match(task: Task, move: TaskMove, runs: Iterable[Run], change: Change) -> None:
    """Add what matching a task shows to its change."""
    if task.parent is None and move.state is not TaskState.HELD:
        change.generated.append(Generated(OUTSIDE, task.name, SENT, "", task.created))
    change.ran += [Ran(task.by or OUTSIDE, run.rule, run.created) for run in runs]


def _ways(decision: Decision) -> list[str]:
    return [
        name
        for record in decision.records
        if isinstance(record, SliceRecord)
        for name, _, _ in record.entries
        if name in GENERATING
    ]


class Surprises:
    """Notices tasks that their rule was not foreseen to generate, and tells of each edge once.

    Args:
        facts_of: what the analysis says of a rule.
        observers: hear of it.
    """

    def __init__(self, facts_of: FactsOf, observers: Observers) -> None:
        self.count = 0  # edges that nobody has foreseen, in this life
        self._facts_of = facts_of
        self._observers = observers
        self._foreseen: set[tuple[str, str, str, str]] = set()
        self._told: dict[str, set[tuple[str, str, str]]] = {}  # by rule

    def remember(self, edges: Iterable[SeenEdge]) -> None:
        """Edges that were seen in an earlier life: they have been told of."""
        for edge in edges:
            self._told.setdefault(edge.rule, set()).add((edge.digest, edge.task, edge.via))

    def look(self, generated: Iterable[Generated]) -> None:
        """See whether committed tasks were foreseen."""
        for one in generated:
            key = (one.rule, one.digest, one.task, one.via)
            if key in self._foreseen or one.via == SENT:
                continue
            facts = self._facts_of(one.rule, one.digest)
            if facts is None:
                continue
            if predicts(facts, one.task, one.via) is not None:
                if len(self._foreseen) >= FORESEEN_MAX:
                    self._foreseen.clear()
                self._foreseen.add(key)
            else:
                self._tell(one)

    def _tell(self, one: Generated) -> None:
        told = self._told.setdefault(one.rule, set())
        edge = (one.digest, one.task, one.via)
        if edge in told or len(told) >= NAMES_MAX:
            return
        told.add(edge)
        self.count += 1
        log.warning("flow.unpredicted", rule=one.rule, task=one.task, via=one.via, digest=one.digest)
        self._observers.unpredicted(one.rule, one.task, one.via)
