"""Wakes that are due, while others are being committed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from scriptrules import clock
from scriptrules.store.memory import MemoryStore
from scriptrules.store.protocol import Change, Wake
from scriptrules.supervisor.timers import LOOK_INTERVAL, Timers

PATIENCE = LOOK_INTERVAL / 3  # seconds


class SlowStore(MemoryStore):
    """One that something is committed to between what it reads and what it says."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], None] | None = None

    async def next_due(self) -> int | None:
        found = await super().next_due()
        if found is None and self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
            await asyncio.sleep(0.01)  # it is durable, and told, before the answer arrives
        return found


def test_a_wake_that_is_committed_while_the_store_is_asked_for_the_next_one_is_not_late() -> None:
    async def story() -> None:
        store, fired = SlowStore(), asyncio.Event()

        def fire(wake: Wake, done: Callable[[], None]) -> None:
            store.submit(Change(done=[wake]), lambda _: done())
            if wake.run == "r2":
                fired.set()

        timers = Timers(store, clock.now, fire)

        def commit(run: str, seconds: float) -> None:
            wake = Wake(run, 1, "timer", due=clock.now() + int(seconds * clock.SECOND))
            store.submit(Change(wakes=[wake]), lambda _: timers.expect(wake.due or 0))

        store.meanwhile = lambda: commit("r2", 0.05)
        commit("r1", 0.0)
        timers.start()
        try:
            await asyncio.wait_for(fired.wait(), PATIENCE)
        finally:
            await timers.close()

    asyncio.run(story())
