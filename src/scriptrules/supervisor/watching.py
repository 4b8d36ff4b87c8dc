"""Watches a folder of scripts: whoever keeps something equal to its files is told when they have changed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
from watchfiles import awatch

from scriptrules.rulebook.files import stamp_of

log = structlog.get_logger(__name__)

DEBOUNCE, STEP = 50, 25  # milliseconds that changes of files are gathered for
LOOK_INTERVAL = 500  # milliseconds between two looks: network file systems tell of no changes


class FolderWatch:
    """Awaits `reload` after each change in a folder, which need not be there yet."""

    def __init__(self, folder: Path, reload: Callable[[], Awaitable[None]]) -> None:
        self._folder = folder
        self._reload = reload
        self._stop = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        self._stop.set()
        if self._watching is not None:
            await self._watching

    async def _watch(self) -> None:
        while not self._folder.is_dir():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), LOOK_INTERVAL / 1000)
            if self._stop.is_set():
                return
        seen = None
        async for changes in awatch(
            self._folder,
            debounce=DEBOUNCE,
            step=STEP,
            stop_event=self._stop,
            rust_timeout=LOOK_INTERVAL,
            yield_on_timeout=True,
        ):
            try:
                stamp = await asyncio.to_thread(stamp_of, self._folder)
                if changes or stamp != seen:
                    await self._reload()
                seen = stamp
            except Exception:
                log.exception("folder.reload_failed", folder=str(self._folder))
