"""The runs that are in memory: those under way, and as many suspended ones as workers keep warm.

Everything here can be forgotten at any time: a run that is not in memory is read from the store when something
happens to it, and replayed when it goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from scriptrules import journal
from scriptrules.errors import NotFound
from scriptrules.model import Entry, Run, Source, Task
from scriptrules.sandbox.pool import Pool, Worker
from scriptrules.store.protocol import Store
from scriptrules.supervisor.references import Answer

SOURCES_KEPT = 256  # pinned sources in memory


class Turn:
    """One execution of a script: from when a worker is about to be asked until what its slice did is decided on."""


class LiveRun:
    """A run in memory. `worker` and `slot` say where its script is suspended, if it is."""

    __slots__ = (
        "answers",
        "asked_again",
        "entries",
        "generated",
        "run",
        "slot",
        "suspected",
        "task",
        "told",
        "turn",
        "uncommitted",
        "worker",
    )

    def __init__(self, run: Run, task: Task, entries: list[Entry]) -> None:
        self.run = run
        self.task = task
        self.entries = entries
        self.generated: set[tuple[str, str]] | None = None  # names, and how; made when it is asked for
        self.worker: Worker | None = None
        self.slot = 0
        self.turn: Turn | None = None  # the only execution of it that counts, if there is one
        self.asked_again = False
        self.suspected = 0  # times that a worker died with it first in line, for no reason that is known
        self.uncommitted = 0  # decisions that are on their way to the disk
        self.answers: list[Answer] = []  # what the loads of the slice under way are told, also if it is executed again
        self.told = 0  # how many of them this execution of the slice has been told


class LiveRuns:
    def __init__(self, store: Store, pool: Pool, warm_max: int) -> None:
        self.runs: dict[str, LiveRun] = {}
        self._store = store
        self._pool = pool
        self._warm_max = warm_max
        self._warm: dict[Worker, dict[str, LiveRun]] = {}  # in the order in which they began to wait
        self._loading: dict[str, asyncio.Future[LiveRun]] = {}
        self._sources: dict[str, Source] = {}

    async def get(self, id: str) -> LiveRun:
        """A run, from memory or from the store.

        Raises:
            NotFound: there is none.
        """
        if id in self.runs:
            return self.runs[id]  # without a pause: who has a run decides before anybody else can
        loading = self._loading.get(id)
        if loading is None:
            loading = self._loading[id] = asyncio.ensure_future(self._load(id))
            loading.add_done_callback(lambda _: self._loading.pop(id, None))
        live = await asyncio.shield(loading)
        return self.runs.setdefault(id, live)  # one object a run, also where several have waited for it

    async def _load(self, id: str) -> LiveRun:
        run = await self._store.run(id)
        task = await self._store.task(run.task) if run is not None else None
        if run is None or task is None:
            raise NotFound(f"There is no run {id}. List them with `scriptrules runs`.")
        entries = journal.fold(map(journal.decode, await self._store.journal(id)))
        return self.runs.setdefault(id, LiveRun(run, task, entries))

    async def source(self, digest: str) -> Source | None:
        """A pinned source."""
        source = self._sources.get(digest)
        if source is None:
            source = await self._store.source(digest)
            if source is not None:
                if len(self._sources) >= SOURCES_KEPT:
                    self._sources.pop(next(iter(self._sources)))
                self._sources[digest] = source
        return source

    @asynccontextmanager
    async def taken(self, id: str) -> AsyncIterator[LiveRun]:
        """A run for somebody who may decide on it, and who decides without a pause; raises NotFound."""
        live = await self.get(id)
        try:
            yield live
        finally:
            self.forget_idle(live)

    def add(self, live: LiveRun) -> None:
        self.runs[live.run.id] = live

    def remove(self, live: LiveRun) -> None:
        """The run has ended."""
        self.give_up(live)
        self.runs.pop(live.run.id, None)

    def warm(self, live: LiveRun, worker: Worker, slot: int) -> None:
        """A worker has the run suspended; the one that has waited longest is evicted where there are too many."""
        live.worker, live.slot = worker, slot
        warm = self._warm.setdefault(worker, {})
        warm[live.run.id] = live
        worker.warm += 1
        if len(warm) > self._warm_max:
            oldest = next(iter(warm.values()))
            self.evict(oldest)  # it may be waiting for a variable: then its slice is executed again
            self.forget_idle(oldest)

    def cool(self, live: LiveRun) -> None:
        """The run goes on where it is suspended."""
        if live.worker is not None:
            self._warm.get(live.worker, {}).pop(live.run.id, None)
            live.worker.warm -= 1
        live.worker, live.slot = None, 0

    def give_up(self, live: LiveRun) -> None:
        """Have the suspended script forgotten; what a worker is executing does not count any more."""
        self.evict(live)
        live.turn = None
        live.answers, live.told = [], 0

    def evict(self, live: LiveRun) -> None:
        """Have the suspended script forgotten: the run goes on by replay."""
        if live.worker is not None:
            self._warm.get(live.worker, {}).pop(live.run.id, None)
            self._pool.evict(live.worker, [live.slot])
            live.worker, live.slot = None, 0

    def forget_idle(self, live: LiveRun) -> None:
        """Drop from memory a run that nothing holds there."""
        idle = live.worker is None and live.turn is None and not live.uncommitted
        if idle and self.runs.get(live.run.id) is live:
            del self.runs[live.run.id]

    def worker_gone(self, worker: Worker) -> None:
        """Its suspended runs are replayed when they go on."""
        for live in self._warm.pop(worker, {}).values():
            live.worker, live.slot = None, 0
            self.forget_idle(live)
