"""What becomes of containers whose results are committed: kept for a while, then removed, whoever supervises then.

What was tried and rejected: the file of released keys as the only memory of what may be removed (a renamed container
says it itself, wherever the supervisor runs next).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from scriptrules import clock
from scriptrules.errors import HostUnavailable
from scriptrules.executors import _docker_marks as marks
from scriptrules.executors import _docker_policy as policy
from scriptrules.executors._docker_containers import RELEASED, Containers
from scriptrules.executors._docker_engine import Engine, EngineError
from scriptrules.executors._docker_logs import KeptLogs
from scriptrules.executors._docker_watch import Watch
from scriptrules.executors._tasks import Tasks
from scriptrules.plugins.executor import ExecutorContext

EXPIRE_INTERVAL = 3600.0  # seconds between two looks for logs that have been kept for long enough


class Cleaning:
    """Removes released containers when they have been kept for long enough."""

    def __init__(
        self,
        engine: Engine,
        containers: Containers,
        watch: Watch,
        kept: KeptLogs,
        tasks: Tasks,
        table: policy.HostTable,
        context: ExecutorContext,
    ) -> None:
        self._engine = engine
        self._containers = containers
        self._watch = watch
        self._kept = kept
        self._tasks = tasks
        self._table = table
        self._context = context
        self._notes = context.state_dir / "release"  # keys whose containers the engine could not be told to remove
        self._expired = 0.0  # when old logs were looked for
        self._sweeps: dict[str, asyncio.TimerHandle] = {}

    async def release(self, key: str) -> None:
        """Remove the container of `key` now or later; where the engine is away, when it is back."""
        note = self._notes / key
        try:
            await self._release(key)
            note.unlink(missing_ok=True)
        except (HostUnavailable, EngineError):
            note.parent.mkdir(parents=True, exist_ok=True)
            note.touch()

    async def _release(self, key: str) -> None:
        found = await self._containers.find(key)
        if found is None or not self._containers.is_ours(found, key):
            return
        container, labels = found["Id"], found["Config"]["Labels"]
        if labels.get(marks.LABEL_KEEP) == "1":
            await self._containers.wipe(container, labels)
        elif self._table.keep_for:
            await self._containers.wipe(container, labels)
            name = self._containers.name_of(key) + RELEASED
            await self._engine.request(lambda client: client.rename(container, name))
            await self._sweep(container)
        else:
            await self._containers.remove(container)

    async def redo(self) -> None:
        """Release what could not be released while the engine was away."""
        for note in sorted(self._notes.iterdir()) if self._notes.is_dir() else ():
            await self.release(note.name)

    def look_through(self, listed: Iterable[Mapping[str, Any]]) -> None:
        """Take up released containers that an earlier supervisor has left to be removed later."""
        for container in listed:
            released = any(name.endswith(RELEASED) for name in container["Names"])
            if released and container["Id"] not in self._sweeps:
                self._tasks.spawn(self._sweep(container["Id"]))
        if not self._expired or clock.monotonic() - self._expired > EXPIRE_INTERVAL:
            self._expired = clock.monotonic()
            self._tasks.spawn(self._engine.in_thread(self._kept.expire))

    async def _sweep(self, container: str) -> None:
        """Remove a released container, now or when it has been kept for long enough."""
        if timer := self._sweeps.pop(container, None):
            timer.cancel()
        with contextlib.suppress(HostUnavailable, EngineError):
            found = await self._engine.inspect(container)
            since = clock.parse(found["State"]["FinishedAt"])
            left = (since - self._watch.engine_now()) / clock.SECOND + self._table.keep_for
            if left <= 0:
                await self._containers.remove(container)
            elif not self._tasks.closed:
                loop = asyncio.get_running_loop()
                sweep = loop.call_later(left, lambda: self._tasks.spawn(self._sweep(container)))
                self._sweeps[container] = sweep

    def close(self) -> None:
        for timer in self._sweeps.values():
            timer.cancel()
