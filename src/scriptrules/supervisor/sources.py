"""Has sources of tasks tell of what they know: each in a coroutine of its own, begun again with a growing pause when it
fails, and ended in order.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import structlog

from scriptrules import intake
from scriptrules.config import Config
from scriptrules.errors import BadTask, Draining, KeyConflict, StoreUnavailable
from scriptrules.plugins.manager import Plugins
from scriptrules.plugins.task_sources import TaskSource, TaskSourceContext
from scriptrules.store.protocol import Ingested

log = structlog.get_logger(__name__)

PAUSE_FIRST, PAUSE_MAX = 1.0, 60.0  # seconds before a source that has failed is begun again
PATIENCE = 1.0  # seconds before the next attempt where tasks are not taken
GRACE = 5.0  # seconds that sources have to end in


class SourceShape(msgspec.Struct, frozen=True):
    """A source as people see it."""

    name: str
    source: str
    state: str  # "running" | "failed" (it is begun again) | "ended"
    tasks: int  # that it has brought since the start
    problem: str | None  # of the last time that it failed


class TaskSources:
    """The configured sources, from `start` to `close`.

    Args:
        ingest: stores tasks, all or none, and returns once they are durable.
    """

    def __init__(
        self,
        config: Config,
        plugins: Plugins,
        ingest: Callable[[list[intake.Accepted]], Awaitable[list[Ingested]]],
        counters: Counter[str],
    ) -> None:
        self._config = config
        self._plugins = plugins
        self._ingest = ingest
        self._counters = counters
        self._shapes: dict[str, SourceShape] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Begin all of them.

        Raises:
            ConfigError: one cannot be what it is configured as.
        """
        sources = {name: self._make(name) for name in self._config.sources}
        for name, source in sources.items():
            self._shapes[name] = SourceShape(name, self._config.sources[name]["source"], "running", 0, None)
            self._running[name] = asyncio.create_task(self._supervise(name, source))

    async def close(self) -> None:
        """End them; what they have been told is durable is acknowledged or will be told of again."""
        for task in self._running.values():
            task.cancel()
        if self._running:
            _, late = await asyncio.wait(self._running.values(), timeout=GRACE)
            for name in [name for name, task in self._running.items() if task in late]:
                log.error("source.does_not_end", source=name, after=GRACE)
        self._running.clear()

    def shapes(self) -> list[SourceShape]:
        """What there is to see, by name."""
        return [self._shapes[name] for name in sorted(self._shapes)]

    def _make(self, name: str) -> TaskSource:
        table = self._config.sources[name]
        context = TaskSourceContext(name, self._config.base, self._config.state_dir / "sources" / name)
        return self._plugins.make_task_source(table["source"], table, context)

    async def _supervise(self, name: str, source: TaskSource | None) -> None:
        pause = PAUSE_FIRST
        while True:
            before = self._shapes[name].tasks
            try:
                await self._drain(name, source or self._make(name))
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
            else:
                log.info("source.ended", source=name)
                self._show(name, state="ended")
                return
            self._counters["source_failed"] += 1
            self._show(name, state="failed", problem=problem)
            if self._shapes[name].tasks > before:
                pause = PAUSE_FIRST
            log.error("source.failed", source=name, problem=problem, again=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, PAUSE_MAX)
            source = None
            self._show(name, state="running")

    async def _drain(self, name: str, source: TaskSource) -> None:
        """Store what a source yields, until it ends."""
        try:
            yielded = await anext(source, None)
            while yielded is not None:
                many = isinstance(yielded, list)
                try:
                    ids = await self._store([_accept(one, self._config) for one in (yielded if many else [yielded])])
                except (BadTask, KeyConflict) as error:
                    log.warning("source.task_refused", source=name, problem=error.message)
                    yielded = await source.athrow(error)
                    continue
                self._counters["source_tasks"] += len(ids)
                self._show(name, tasks=self._shapes[name].tasks + len(ids))
                yielded = await source.asend(ids if many else ids[0])
        except StopAsyncIteration:
            return
        finally:
            await source.aclose()

    async def _store(self, tasks: list[intake.Accepted]) -> list[str]:
        while True:
            try:
                return [one.id for one in await self._ingest(tasks)]
            except (StoreUnavailable, Draining) as error:
                log.warning("source.waiting", problem=error.message)
                await asyncio.sleep(PATIENCE)

    def _show(self, name: str, **changes: Any) -> None:
        self._shapes[name] = msgspec.structs.replace(self._shapes[name], **changes)


def _accept(task: Any, config: Config) -> intake.Accepted:
    if not isinstance(task, Mapping) or not isinstance(task.get("name"), str):
        raise BadTask(f'A source yields {{"name": "dotted.name", "data": {{…}}, "key": "…"}}, not {task!r}'[:300])
    unknown = set(task) - {"name", "data", "key"}
    if unknown:
        raise BadTask(f"A task of a source has an unknown field {sorted(map(str, unknown))[0]!r}: name, data, key.")
    key = task.get("key")
    if key is not None and not isinstance(key, str):
        raise BadTask(f"The key of a task is text, not {type(key).__name__}.")
    sandbox = config.sandbox
    return intake.check(task["name"], dict(task.get("data") or {}), key, sandbox.payload_max, sandbox.depth_max)
