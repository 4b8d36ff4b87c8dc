"""Runs that wait for one another in a circle: found when a run begins to wait, and held with the circle named.

Runs wait for tasks that they have emitted or called, so these waits lead down a tree and close no circle by themselves.
A slot of a rule's `limit` leads anywhere: a run that is queued waits for one of those who hold it. So nothing is looked
at while no run is queued.

What can go on by itself is never held: a timeout, an execution, a task that may arrive, one that is held for somebody
to release, end a wait whatever else there is. The runs are read twice; only where nothing has moved in between did they
all stand still at one moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from scriptrules.clock import Clock
from scriptrules.errors import NotFound
from scriptrules.model import ENTRY_FINAL, RUN_FINAL, TASK_FINAL, Entry, Failure, Run, RunState, TaskState
from scriptrules.store.protocol import Filter, Store
from scriptrules.supervisor.arguments import wait_args
from scriptrules.supervisor.background import Background, patiently
from scriptrules.supervisor.driver import Driver
from scriptrules.supervisor.entries import child_of, is_final, is_generated
from scriptrules.supervisor.limits import QUEUED, RunLimits
from scriptrules.supervisor.live import LiveRuns
from scriptrules.supervisor.transitions import on_hold

DEADLOCK = "deadlock"
PAGE = 1000  # rows of one look into the store
RUNS_MAX = 1000  # that one look follows

Needs = list[list[str]]  # ways to go on: each needs all of these runs to end. None at all: it goes on by itself


class Standing(msgspec.Struct, frozen=True):
    """A run that cannot go on before others have ended, and since when."""

    run: Run
    needs: Needs


def stuck(standing: Mapping[str, Standing]) -> set[str]:
    """The runs that can never go on: each of their ways needs another such run."""
    left = set(standing)
    while True:
        free = {id for id in left if not all(left.intersection(way) for way in standing[id].needs)}
        if not free:
            return left
        left -= free


def circle(start: str, standing: Mapping[str, Standing], left: set[str]) -> list[str]:
    """A circle of runs that `start` leads into; each waits for the next, and the last for the first."""
    path = [start]
    while True:
        following = next(run for way in standing[path[-1]].needs for run in way if run in left)
        if following in path:
            return path[path.index(following) :]
        path.append(following)


class Deadlocks:
    """Looks whether a run that begins to wait closes a circle."""

    def __init__(
        self, store: Store, live: LiveRuns, limits: RunLimits, driver: Driver, background: Background, clock: Clock
    ) -> None:
        self._store = store
        self._live = live
        self._limits = limits
        self._driver = driver
        self._background = background
        self._clock = clock
        self._looking = asyncio.Lock()  # two looks at one circle would each hold a run of it

    def look(self, run: Run) -> None:
        """A run has begun to wait."""
        waits = run.state is RunState.WAITING and run.reason in ("call", "wait")
        if self._limits.queued() and (run.reason == QUEUED or waits):
            self._background.spawn(self._look(run.id))

    def look_again(self) -> None:
        """The last supervisor may not have come to look."""
        for run in self._limits.waiting():
            self._background.spawn(self._look(run))

    async def _look(self, start: str) -> None:
        async with self._looking:
            await self._hold_one_of_a_circle(start)

    async def _hold_one_of_a_circle(self, start: str) -> None:
        first = await self._standing(start)
        left = stuck(first)
        if start not in left:
            return
        second = await self._standing(start)
        if any(first[id] != second.get(id) for id in left):
            return  # who has moved since looks again, if it waits
        found = circle(start, first, left)
        # The one that waits for a queued run is held: it keeps its slot, and can be answered or cancelled.
        held = next(id for id, after in zip(found, found[1:] + found[:1], strict=True) if self._is_queued(first, after))
        at = found.index(held)
        names = [f"{first[id].run.rule} ({id})" for id in [*found[at:], *found[:at], held]]
        live = await patiently(lambda: self._live.get(held))
        if live.run == first[held].run:
            failure = Failure("Deadlock", " waits for ".join(names))
            self._driver.decide(live, on_hold(live.run, DEADLOCK, failure, self._clock()))

    @staticmethod
    def _is_queued(standing: Mapping[str, Standing], run: str) -> bool:
        return standing[run].run.reason == QUEUED

    async def _standing(self, start: str) -> dict[str, Standing]:
        """The runs that cannot go on by themselves, as far as `start` leads to them."""
        found: dict[str, Standing] = {}
        todo, seen = [start], {start}
        while todo and len(seen) < RUNS_MAX:
            id = todo.pop()
            run, entries = await self._read(id)
            needs = await self._needs(run, entries) if run is not None else []
            if run is not None and needs:
                found[id] = Standing(run, needs)
                todo += {other for way in needs for other in way} - seen
                seen.update(todo)
        return found

    async def _read(self, id: str) -> tuple[Run | None, Sequence[Entry]]:
        try:
            live = await patiently(lambda: self._live.get(id))
        except NotFound:
            return None, []
        run, entries = live.run, list(live.entries)
        self._live.forget_idle(live)
        return run, entries

    async def _needs(self, run: Run, entries: Sequence[Entry]) -> Needs:
        if run.state is RunState.QUEUED and run.reason == QUEUED:
            holders = self._limits.holders(run)
            return [] if run.id in holders else [[holder] for holder in holders]  # it has got a slot just now
        last = entries[-1] if entries else None
        if run.state is not RunState.WAITING or run.deadline is not None or last is None or last.state in ENTRY_FINAL:
            return []
        if last.name == "call":
            runs = await self._runs_of(child_of(last))
            return [[one.id for one in runs if one.answers]] if runs is not None else []
        if last.name != "wait" or (args := wait_args(last.args)).timeout is not None:
            return []
        targets = [entries[seq - 1] for seq in args.what if not is_final(entries[seq - 1], args.tree)]
        ways = [await self._runs_for(target, args.tree) for target in targets]
        if args.any:
            return ways if all(ways) else []
        return [[run for way in ways for run in way]] if any(ways) else []

    async def _runs_for(self, target: Entry, tree: bool) -> list[str]:
        """The runs that have to end before an emitted task, or its tree, has."""
        if not is_generated(target):
            return []
        tasks = [child_of(target)]
        if tree:
            tasks = [task.id for task in await patiently(lambda: self._store.unwell(tasks[0], RUNS_MAX))]
        return [run.id for task in tasks for run in await self._runs_of(task) or ()]

    async def _runs_of(self, task: str) -> list[Run] | None:
        """The unfinished runs of a task; None where it is being matched, is held, or has ended."""
        known = await patiently(lambda: self._store.task(task))
        if known is None or known.state in TASK_FINAL or known.state in (TaskState.NEW, TaskState.HELD):
            return None
        runs = await patiently(lambda: self._store.runs(Filter(task=task, limit=PAGE)))
        return [run for run in runs if run.state not in RUN_FINAL]
