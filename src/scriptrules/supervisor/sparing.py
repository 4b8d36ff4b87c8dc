"""Counting what is unfinished, which costs as much as there is of it, without it costing more than a share of the time.

Tried and rejected: counters of every state that each commit keeps. A commit would have to know which states it ends,
and tasks would be slower for the sake of who looks at their number twice a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from scriptrules import clock

Counted = TypeVar("Counted")
CHEAP = 0.01  # seconds: what takes less is counted whenever somebody asks
PAUSE = 20  # times as long as counting has taken, what was counted is told again


class Sparing(Generic[Counted]):
    """What `count` gives, which may be a moment old where that takes long; those who ask at once count once."""

    def __init__(self, count: Callable[[], Awaitable[Counted]]) -> None:
        self._count = count
        self._counting = asyncio.Lock()
        self._known: list[Counted] = []  # one, or none
        self._until = 0.0

    async def get(self) -> Counted:
        async with self._counting:
            began = clock.monotonic()
            if began >= self._until or not self._known:
                self._known = [await self._count()]
                took = clock.monotonic() - began
                self._until = began + (1 + PAUSE) * took if took > CHEAP else 0.0
            return self._known[0]
