"""What is foreseen, beside what has happened: the active rules are analysed in workers, one after the other, and what
their runs generate is compared.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from scriptrules import clock
from scriptrules.clock import Clock
from scriptrules.flow.graph import Graph, Reaching, graph
from scriptrules.flow.matrix import QUANTILES, matrix, reach
from scriptrules.flow.online import OnlineEdge, joined, likely
from scriptrules.flow.shapes import Facts, RuleFacts
from scriptrules.model import RUN_FINAL, Source, Task
from scriptrules.sandbox.pool import Pool
from scriptrules.sightings import DAY, OUTSIDE, Generated
from scriptrules.store.protocol import Filter, Store
from scriptrules.supervisor.arguments import generate_args
from scriptrules.supervisor.background import Background, Observers
from scriptrules.supervisor.shapes import CellShape, MatrixShape, NextShape, entries_of
from scriptrules.supervisor.sightings import GENERATING, Surprises

log = structlog.get_logger(__name__)

RUNS_SHOWN = 100  # runs of a task whose next tasks are told


class Foresight:
    """Knows what the active rules can generate, and tells of what they generate all the same.

    Args:
        active: the sources of the active rules, by file.
    """

    def __init__(
        self,
        pool: Pool,
        store: Store,
        active: Mapping[str, Source],
        clock: Clock,
        background: Background,
        observers: Observers,
    ) -> None:
        self.surprises = Surprises(self._surprised)
        self._pool = pool
        self._store = store
        self._active = active
        self._clock = clock
        self._background = background
        self._observers = observers
        self._facts: dict[str, Facts | None] = {}  # by digest; None: too much for a worker
        self._analysing = False

    @property
    def unpredicted(self) -> int:
        """Edges that no analysis has foreseen, in this life."""
        return self.surprises.count

    def rules_changed(self) -> None:
        """Analyse what is new, and forget what is gone."""
        digests = {source.digest for source in self._active.values()}
        for digest in [digest for digest in self._facts if digest not in digests]:
            del self._facts[digest]
            self.surprises.forget(digest)
        for digest in digests - self._facts.keys():
            self.surprises.expect(digest)
        if not self._analysing:
            self._analysing = True
            self._background.spawn(self._analyse())

    async def _analyse(self) -> None:
        """One source at a time, so that tasks do not wait behind all of them."""
        try:
            while source := self._unknown():
                facts = await self._pool.analyse(source)
                self._facts[source.digest] = facts
                self.surprises.learn(source.digest, facts)
        finally:
            self._analysing = False

    def _unknown(self) -> Source | None:
        return next((source for source in self._active.values() if source.digest not in self._facts), None)

    def _surprised(self, one: Generated) -> None:
        log.warning("flow.unpredicted", rule=one.rule, task=one.task, via=one.via, digest=one.digest)
        self._observers.unpredicted(one.rule, one.task, one.via)

    # ---- what is asked

    def facts(self) -> list[tuple[RuleFacts, str]]:
        """The facts of each active rule that was analysed, and the digest of its source."""
        found = []
        for source in self._active.values():
            facts = self._facts.get(source.digest)
            found += [(one, source.digest) for one in facts.rules] if facts is not None else []
        return found

    async def edges(self) -> list[OnlineEdge]:
        """The edges of the active rules with what was seen of them."""
        return joined(self.facts(), await self._store.edges())

    async def graph(self) -> Graph:
        """Which rules can generate which tasks, and which rules these reach, with what was seen."""
        return graph((facts for facts, _ in self.facts()), await self.edges(), online=True)

    async def matrix(self, since: int | None) -> MatrixShape:
        """Which rules have run which, and can; since the begin of a day (UTC)."""
        begin = 0 if since is None else since - since % DAY
        rows = matrix(await self._store.matrix(begin), self._foreseen())
        cells = [
            CellShape(
                row.by if row.by != OUTSIDE else None,
                row.rule,
                row.count,
                None if row.last is None else clock.text(row.last),
                predicted=row.predicted,
                **{name: _seconds(row.durations[name]) for name in QUANTILES},
            )
            for row in rows
        ]
        return MatrixShape(None if since is None else clock.text(begin), cells)

    def _foreseen(self) -> set[tuple[str, str]]:
        active = [facts for facts, _ in self.facts() if facts.enabled]
        edges = [(facts.rule, edge.task) for facts in active for edge in facts.edges]
        reaching = Reaching(active)
        return reach(edges, ((task, rule) for task in {task for _, task in edges} for rule in reaching.rules(task)))

    async def next_of(self, task: Task) -> list[NextShape]:
        """What is likely to follow from the runs of a task that are under way, the likeliest first."""
        runs = [
            run for run in await self._store.runs(Filter(task=task.id, limit=RUNS_SHOWN)) if run.state not in RUN_FINAL
        ]
        if not runs:
            return []
        seen = await self._store.edges()
        ended: dict[str, int] = {}
        for cell in await self._store.matrix():
            ended[cell.rule] = ended.get(cell.rule, 0) + sum(cell.durations.values())
        facts = {one.rule: one for one, _ in self.facts()}
        now = self._clock()
        found: list[NextShape] = []
        for run in runs:
            generated: dict[tuple[str, str], int] = {}
            for entry in await entries_of(self._store, run.id):
                if entry.name in GENERATING:
                    key = (generate_args(entry.args).name, entry.name)
                    generated[key] = generated.get(key, 0) + 1
            edges = [edge for edge in seen if edge.rule == run.rule]
            for one in likely(facts.get(run.rule), edges, ended.get(run.rule, 0), generated, now - run.created):
                found.append(
                    NextShape(
                        *(run.id, run.rule, one.task, one.via, str(one.certainty), one.condition, one.probability),
                        seen=one.seen,
                        generated=one.generated,
                        remaining=_seconds(one.remaining),
                        expected=None if one.remaining is None else clock.text(now + one.remaining),
                    )
                )
        return sorted(found, key=lambda one: -one.probability)


def _seconds(micros: int | None) -> float | None:
    return None if micros is None else round(micros / clock.SECOND, 6)
