"""Removes what has ended long ago, tree by tree, in small steps that keep nobody waiting.

Nobody may begin again what is just being removed: a retry whose run is gone when it is committed would leave a run
without a task. So `reviving` is used together by those who may, and alone for each step. And what is on its way to the
disk may need a source that no row names yet: everything decided is durable before sources go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog

from scriptrules import clock as clocks
from scriptrules.clock import Clock
from scriptrules.errors import StoreUnavailable
from scriptrules.store.protocol import Store
from scriptrules.supervisor.exclusive import Shared

log = structlog.get_logger(__name__)

SWEEP_INTERVAL = 600.0  # seconds between two looks through the store; less where little is kept
TREES_A_STEP = 200
PAUSE = 0.02  # seconds between two steps


class Retention:
    """Keeps finished tasks, runs and logs for a time.

    Args:
        keep: microseconds; None: for ever.
        active: the digests of the sources that are active now, or about to be.
        decided: returns when all that was decided before is durable.
        reviving: held by those who begin again what has ended.
    """

    def __init__(
        self,
        store: Store,
        keep: int | None,
        active: Callable[[], Iterable[str]],
        clock: Clock,
        decided: Callable[[], Awaitable[None]],
        reviving: Shared,
    ) -> None:
        self._store = store
        self._keep = keep
        self._active = active
        self._clock = clock
        self._decided = decided
        self._reviving = reviving
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._keep is not None:
            self._task = asyncio.create_task(self._sweep_for_ever(self._keep))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _sweep_for_ever(self, keep: int) -> None:
        while True:
            await asyncio.sleep(min(SWEEP_INTERVAL, keep / clocks.SECOND / 2))
            try:
                removed = await self.sweep(keep)
            except StoreUnavailable as error:
                log.warning("retention.waiting", problem=error.message)
                continue
            if removed:
                log.info("retention.removed", tasks=removed)

    async def sweep(self, keep: int) -> int:
        """Remove all that ended longer ago than `keep` microseconds; returns how many tasks that were."""
        before = self._clock() - keep
        removed, after = 0, ""
        while True:
            async with self._reviving.alone():
                pruned = await self._store.prune(before, after, TREES_A_STEP)
            removed += pruned.tasks
            if pruned.after is None:
                break
            after = pruned.after
            await asyncio.sleep(PAUSE)
        sources = {*self._active()}
        await self._decided()
        await self._store.prune_rest(before, list(sources.union(self._active())))
        await self._store.prune_variables(before)
        return removed
