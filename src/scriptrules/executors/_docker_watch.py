"""What happens to containers: one event stream an engine, and a comparison with its list where events may be missing.

What was tried and rejected: trusting events alone (a stream that broke silently loses the end of a container, hence
the comparison after every connect and every `COMPARE_INTERVAL`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from scriptrules import clock
from scriptrules.errors import HostUnavailable
from scriptrules.executors import _docker_marks as marks
from scriptrules.executors._docker_engine import Engine, EngineError

COMPARE_INTERVAL = 30.0  # seconds without an event after which the engine's list is compared
RECONNECT_FIRST, RECONNECT_MOST = 0.1, 5.0  # seconds between attempts to reach an engine again
_MEMORY = 256  # events that an engine remembers, until it is restarted
_MEMORY_MAX = 4 * 1024 * 1024  # bytes of them


class Watch:
    """Follows the events of one store's containers, from the first `start` to `close`.

    Args:
        ended: told key and id of a container that has died or was destroyed.
        compare: awaited where events may be missing.
        lost: told that the engine is out of reach.
        failed: told of an error that ends the watch; it is a bug.
    """

    def __init__(
        self,
        engine: Engine,
        store_id: str,
        now: clock.Clock,
        ended: Callable[[str, str], None],
        compare: Callable[[], Awaitable[None]],
        lost: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._asked: tuple[int, float] | None = None  # the engine's clock, and ours that never jumps, at that moment
        self._engine = engine
        self._store_id = store_id
        self._now = now
        self._ended = ended
        self._compare = compare
        self._lost = lost
        self._failed = failed
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Watch, where it does not yet."""
        if not self._closed and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._watch())

    def engine_now(self) -> int:
        """The time by the engine's clock, which a jump of ours does not touch; ours before the first connect."""
        if self._asked is None:
            return self._now()
        at, then = self._asked
        return at + int((clock.monotonic() - then) * clock.SECOND)

    async def restarted_since(self, moment: int) -> bool:
        """Whether the engine that answers now is another process than the one at `moment`, when a container ended.

        It remembers all that has happened lately to its containers, so the start of that one among it. False where it
        has had so much to remember since that it cannot be told.

        Args:
            moment: microseconds since 1970, on the engine's clock.

        Raises:
            EngineError, HostUnavailable: it cannot be asked now.
        """
        about = await self._engine.request(lambda client: client.info())
        until = clock.parse(about["SystemTime"])  # the engine's own: it would wait for a moment that is still to come
        query = {"since": "1", "until": f"{until // clock.SECOND}.{until % clock.SECOND:06d}000"}
        answer = await self._engine.read("/events", query, _MEMORY_MAX)
        try:
            events = [msgspec.json.decode(line, type=dict[str, Any]) for line in answer.splitlines() if line]
        except msgspec.DecodeError as error:
            raise self._engine.unavailable(f"an answer broke off ({error})") from None
        return len(events) < _MEMORY and all(event["timeNano"] // 1000 > moment for event in events)

    async def close(self) -> None:
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        pause = RECONNECT_FIRST
        filters = {
            "type": ["container"],
            "event": ["die", "destroy"],
            "label": [f"{marks.LABEL_STORE}={self._store_id}"],
        }
        try:
            while True:
                try:
                    about = await self._engine.request(lambda client: client.info())
                    now = clock.parse(about["SystemTime"])
                    self._asked = (now, clock.monotonic())
                    # The engine answers before it listens: `since` has it repeat what happened in between.
                    query = {"filters": msgspec.json.encode(filters).decode(), "since": str(now // clock.SECOND - 1)}
                    async with self._engine.stream("/events", query) as reader:
                        await self._compare()
                        pause = RECONNECT_FIRST
                        await self._follow(reader)
                except (HostUnavailable, EngineError, OSError, EOFError, msgspec.DecodeError):
                    pass  # a last line may be cut off as well
                self._lost()
                await asyncio.sleep(pause)
                pause = min(pause * 2, RECONNECT_MOST)
        except Exception as error:
            self._failed(error)

    async def _follow(self, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                # Not wait_for: before Python 3.12 it can swallow the cancellation that ends this task.
                async with asyncio.timeout(COMPARE_INTERVAL):
                    line = await reader.readline()
            except TimeoutError:
                await self._compare()
                continue
            if not line:
                return
            actor = msgspec.json.decode(line)["Actor"]
            self._ended(actor["Attributes"].get(marks.LABEL_KEY, ""), actor["ID"])
