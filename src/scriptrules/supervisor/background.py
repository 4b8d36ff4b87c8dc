"""Work that nobody waits for, and those who watch: kept, so that none of it is lost or fails in silence."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import structlog

from scriptrules.errors import StoreUnavailable
from scriptrules.model import Run, Task
from scriptrules.plugins.manager import Plugins
from scriptrules.store.protocol import Store

log = structlog.get_logger(__name__)

T = TypeVar("T")
PATIENCE = 1.0  # seconds between two attempts to read a store that cannot be read


async def patiently(read: Callable[[], Awaitable[T]]) -> T:
    """What `read` gives, however long the store cannot be read: for facts that must not get lost meanwhile."""
    while True:
        try:
            return await read()
        except StoreUnavailable as error:
            log.warning("store.waiting", problem=error.message)
            await asyncio.sleep(PATIENCE)


async def wait_up_to(seconds: float, event: asyncio.Event) -> None:
    """Return when `event` is set, or after `seconds`.

    Not `asyncio.wait_for`: before Python 3.12 it forgets a cancellation that comes together with the event.
    """
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


class Background:
    """Coroutines that run beside the rest; an error in one is a bug, and is logged as one."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("supervisor.bug", problem=repr(error), exc_info=error)


class Observers:
    """Tells plugins of transitions, after the commit. One that fails is named and harms nobody."""

    def __init__(self, plugins: Plugins, store: Store, background: Background) -> None:
        self._hook = plugins.hook
        self._store = store
        self._background = background
        self.of_tasks = bool(self._hook.scriptrules_task_changed.get_hookimpls())
        self._runs = bool(self._hook.scriptrules_run_changed.get_hookimpls())

    def task(self, task: Task) -> None:
        """A task has moved."""
        if self.of_tasks:
            self._call(self._hook.scriptrules_task_changed, task=task)

    def run(self, run: Run) -> None:
        """A run has moved."""
        if self._runs:
            self._call(self._hook.scriptrules_run_changed, run=run)

    def ended(self, ids: list[str]) -> None:
        """Tasks have ended with the last of their runs."""
        if self.of_tasks and ids:
            self._background.spawn(self._read_ended(ids))

    async def _read_ended(self, ids: list[str]) -> None:
        for id in ids:
            task = await self._store.task(id)
            if task is not None:
                self.task(task)

    def unpredicted(self, rule: str, task: str, via: str) -> None:
        """A rule has generated a task that the analysis did not foresee."""
        self._call(self._hook.scriptrules_unpredicted, rule=rule, task=task, via=via)

    @staticmethod
    def _call(hook: Any, **arguments: Any) -> None:
        try:
            hook(**arguments)
        except Exception as error:
            log.error("plugin.observer_failed", hook=hook.name, problem=repr(error))
