"""What reads, decides and writes without certain others in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Shared:
    """Something that many may use at the same time, or one alone."""

    def __init__(self) -> None:
        self._users = 0
        self._turn = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """Wait until nobody has it alone."""
        async with self._turn:
            self._users += 1
            self._idle.clear()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._idle.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Wait until nobody uses it; who comes meanwhile waits for the end of this."""
        async with self._turn:
            await self._idle.wait()
            yield


class Exclusive:
    """Locks by key; each is there as long as somebody has it or waits for it."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def __call__(self, key: str) -> AsyncIterator[None]:
        """Wait until nobody else is in a block of this key."""
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[key]
            if users == 1:
                del self._locks[key]
            else:
                self._locks[key] = (lock, users - 1)
