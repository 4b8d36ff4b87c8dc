"""What people ask of tasks and runs: cancel, resume, retry. Each becomes a decision like any other fact."""

from __future__ import annotations

import msgspec

from scriptrules.clock import Clock
from scriptrules.errors import NotFound, NotPossible
from scriptrules.model import RUN_FINAL, RunState, Task, TaskState
from scriptrules.store.protocol import Change, Filter, Store
from scriptrules.supervisor import interventions
from scriptrules.supervisor.driver import Driver
from scriptrules.supervisor.limits import RunLimits
from scriptrules.supervisor.live import LiveRuns
from scriptrules.supervisor.matcher import Matcher
from scriptrules.supervisor.rules import Rules

PAGE = 1000  # rows of one look into the store


class Verbs:
    """Carries out what people ask for; each verb returns when it is durable."""

    def __init__(
        self,
        store: Store,
        rules: Rules,
        live: LiveRuns,
        driver: Driver,
        matcher: Matcher,
        limits: RunLimits,
        clock: Clock,
    ) -> None:
        self._store = store
        self._rules = rules
        self._live = live
        self._driver = driver
        self._matcher = matcher
        self._limits = limits
        self._clock = clock

    async def cancel(self, id: str) -> None:
        """Cancel a run, or a task with all its runs.

        Raises:
            NotFound, NotPossible: there is none, or it has ended.
        """
        if id.startswith("r"):
            live = await self._live.get(id)
            if live.run.state in RUN_FINAL:
                raise NotPossible(f"Run {id} is {live.run.state} already.")
            self._live.give_up(live)
            await self._driver.decide_and_wait(live, interventions.on_cancel(live.run, live.entries, self._clock()))
            return
        task = await self._task(id)
        if task.state in (TaskState.NEW, TaskState.HELD):
            await self._matcher.move(task, TaskState.CANCELLED, None)
            return
        runs = [run for run in await self._store.runs(Filter(task=id, limit=PAGE)) if run.state not in RUN_FINAL]
        if not runs:
            raise NotPossible(f"Task {id} is {task.state} already.")
        for run in runs:
            await self.cancel(run.id)

    async def cancel_quietly(self, id: str) -> None:
        """Cancel what may have ended by itself."""
        try:
            await self.cancel(id)
        except (NotFound, NotPossible):
            return

    async def resume(self, id: str) -> None:
        """Let something held go on; an unmatched task is matched again.

        Raises:
            NotFound, NotPossible: there is none, or it is not held.
        """
        if id.startswith("r"):
            live = await self._live.get(id)
            if live.run.state is not RunState.HELD:
                raise NotPossible(f"Run {id} is {live.run.state}, not held.")
            await self._driver.decide_and_wait(live, interventions.on_resume(live.run, live.entries, self._clock()))
            return
        task = await self._task(id)
        if task.state not in (TaskState.HELD, TaskState.UNMATCHED):
            held = await self._store.runs(Filter(task=id, state="held", limit=PAGE))
            if not held:
                raise NotPossible(f"Task {id} is {task.state}, not held.")
            for run in held:
                await self.resume(run.id)
            return
        await self._matcher.move(task, TaskState.NEW, None)

    async def retry(self, id: str, pinned: bool = False, from_start: bool = False) -> None:
        """Do a failed or held run again, against the newest source unless `pinned`; or all failed runs of a task.

        Raises:
            NotFound, NotPossible: there is none, or it has not failed.
        """
        if id.startswith("t"):
            task = await self._task(id)
            runs = await self._store.runs(Filter(task=id, state="failed", limit=PAGE))
            if not runs:
                raise NotPossible(f"Task {id} is {task.state}; no run of it has failed.")
            for run in runs:
                await self.retry(run.id, pinned, from_start)
            return
        live = await self._live.get(id)
        if live.run.state not in (RunState.FAILED, RunState.HELD):
            raise NotPossible(f"Run {id} is {live.run.state}; only failed and held runs can be retried.")
        newest = self._rules.newest(live.run.rule)
        if newest is None and not pinned:
            raise NotPossible(f"There is no rule {live.run.rule} any more. Restore it, or use --pinned.")
        stays = pinned or newest is None
        digest = live.run.digest if stays or newest is None else newest.digest
        control = live.run.control if stays else self._rules.control_of(live.run.rule)
        change = Change()
        if live.run.state is RunState.FAILED:
            change.reopened.append((live.run.task, self._clock()))
        self._live.give_up(live)
        live.stale = False
        admission = None
        if live.run.state is RunState.FAILED and control is not None and control.limit is not None:
            limit = msgspec.structs.replace(control.limit, full="queue")  # somebody wants just this one
            admission = self._limits.ask(live.run.rule, limit, live.task)
        now = self._clock()
        decision = interventions.on_retry(live.run, live.entries, digest, from_start, now, control, admission)
        if admission is not None:
            self._limits.enter(decision.run, admission)
        await self._driver.decide_and_wait(live, decision, change)

    async def _task(self, id: str) -> Task:
        task = await self._store.task(id)
        if task is None:
            raise NotFound(f"There is no task {id}. List them with `scriptrules tasks`.")
        return task
