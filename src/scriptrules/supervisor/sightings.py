"""What transitions have seen of which rule runs which, for the store to add up; and what nobody has foreseen."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from scriptrules.flow.online import predicts
from scriptrules.flow.shapes import Facts, RuleFacts
from scriptrules.model import RUN_FINAL, Run, Task, TaskState
from scriptrules.sightings import NAMES_MAX, OUTSIDE, SENT, Generated, Ran
from scriptrules.store.protocol import Change, TaskMove
from scriptrules.supervisor.arguments import generate_args
from scriptrules.supervisor.decision import Decision
from scriptrules.supervisor.live import LiveRun

GENERATING = frozenset({"emit", "return", "call"})
FORESEEN_MAX = 50_000  # edges that are remembered as foreseen, so that most are looked up once
AWAITED_MAX = 1000  # tasks of one source that are kept until it is analysed


def note_decision(live: LiveRun, decision: Decision, change: Change) -> None:
    """Add what a decision on a run shows to its change; called before the decision is written into memory."""
    run = decision.run
    if live.run is not run and live.run.state in RUN_FINAL:
        change.finals.append((live.run.state, -1))
    if decision.tasks:
        if live.generated is None:
            live.generated = {
                (generate_args(entry.args).name, entry.name) for entry in live.entries if entry.name in GENERATING
            }
        for via, task in zip(decision.ways, decision.tasks, strict=True):
            first = (task.name, via) not in live.generated
            live.generated.add((task.name, via))
            delay = max(task.created - run.created, 0)
            change.generated.append(Generated(run.rule, task.name, via, run.digest, task.created, delay, first))
    if decision.ended:
        change.finals.append((run.state, 1))
        took = max((run.ended or run.since) - run.created, 0)
        change.ran.append(Ran(live.task.by or OUTSIDE, run.rule, run.since, took))


def note_match(task: Task, move: TaskMove, runs: Iterable[Run], change: Change) -> None:
    """Add what matching a task shows to its change."""
    if task.parent is None and move.state is not TaskState.HELD:
        change.generated.append(Generated(OUTSIDE, task.name, SENT, "", task.created))
    change.ran += [Ran(task.by or OUTSIDE, run.rule, run.created) for run in runs]


class Surprises:
    """Notices tasks that their rule was not foreseen to generate, and tells of each edge once.

    Args:
        tell: hears of each, once in this life.
    """

    def __init__(self, tell: Callable[[Generated], None]) -> None:
        self.count = 0
        self._tell = tell
        self._facts: dict[str, dict[str, RuleFacts]] = {}  # by digest, and rule
        self._awaited: dict[str, list[Generated]] = {}  # by digest: what is looked at once its facts are there
        self._foreseen: set[tuple[str, str, str, str]] = set()
        self._told: dict[str, set[tuple[str, str, str]]] = {}  # by rule

    def expect(self, digest: str) -> None:
        """The facts of a source will come: what its runs generate meanwhile is looked at then."""
        self._awaited.setdefault(digest, [])

    def learn(self, digest: str, facts: Facts | None) -> None:
        """The facts of a source are there; None where there will be none."""
        awaited = self._awaited.pop(digest, [])
        if facts is not None:
            self._facts[digest] = {one.rule: one for one in facts.rules}
            self.look(awaited)

    def forget(self, digest: str) -> None:
        """No rule has this source any more; its last runs may surprise nobody."""
        self._facts.pop(digest, None)
        self._awaited.pop(digest, None)

    def look(self, generated: Iterable[Generated]) -> None:
        """See whether committed tasks were foreseen."""
        for one in generated:
            key = (one.rule, one.digest, one.task, one.via)
            if key in self._foreseen or one.via == SENT:
                continue
            rules = self._facts.get(one.digest)
            if rules is None:
                awaited = self._awaited.get(one.digest)
                if awaited is not None and len(awaited) < AWAITED_MAX:
                    awaited.append(one)
            elif one.rule in rules and predicts(rules[one.rule], one.task, one.via) is not None:
                if len(self._foreseen) >= FORESEEN_MAX:
                    self._foreseen.clear()
                self._foreseen.add(key)
            else:
                self._notice(one)

    def _notice(self, one: Generated) -> None:
        told = self._told.setdefault(one.rule, set())
        edge = (one.digest, one.task, one.via)
        if edge not in told and len(told) < NAMES_MAX:
            told.add(edge)
            self.count += 1
            self._tell(one)
