"""Durable timers: one look into the store when the earliest wake is due. A sleeping run costs a row and no memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from scriptrules.clock import SECOND, Clock
from scriptrules.errors import StoreUnavailable
from scriptrules.store.protocol import Store, Wake
from scriptrules.supervisor.background import wait_up_to

log = structlog.get_logger(__name__)

BATCH = 500
LOOK_INTERVAL = 30.0  # seconds at most between two looks: the wall clock may be set
PAUSE, LONG_PAUSE = 0.005, 0.05  # seconds before looking again while wakes are being committed


class Timers:
    """Calls `fire` with each wake that is due, once, and a function to be called when that is committed."""

    def __init__(self, store: Store, clock: Clock, fire: Callable[[Wake, Callable[[], None]], None]) -> None:
        self._store = store
        self._clock = clock
        self._fire = fire
        self._next: int | None = None
        self._sooner = asyncio.Event()
        self._firing: set[Wake] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def expect(self, due: int) -> None:
        """A wake was committed."""
        if self._next is None or due < self._next:
            self._next = due
            self._sooner.set()

    def look(self) -> None:
        """The clock has jumped."""
        self._sooner.set()

    async def _run(self) -> None:
        while True:
            try:
                await self._look()
            except StoreUnavailable as error:
                log.warning("timers.waiting_for_store", problem=error.message)
                await asyncio.sleep(1.0)

    async def _look(self) -> None:
        self._sooner.clear()
        self._next = None  # whatever is committed while the store is read may be what that does not see
        wakes = await self._store.due(self._clock(), BATCH + len(self._firing))
        fresh = [wake for wake in wakes if wake not in self._firing]
        for wake in fresh:
            self._firing.add(wake)
            self._fire(wake, lambda wake=wake: self._firing.discard(wake))  # type: ignore[misc]
        if wakes:
            await asyncio.sleep(PAUSE if fresh else LONG_PAUSE)
            return
        self._next = await self._store.next_due()
        pause = LOOK_INTERVAL
        if self._next is not None:
            pause = min(max((self._next - self._clock()) / SECOND, 0.0), LOOK_INTERVAL)
        await wait_up_to(pause, self._sooner)
