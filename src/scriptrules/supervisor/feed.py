"""What happens, as it happens: the log of transitions, given to whoever follows it from any position on.

The log is in the store (`Store.happened`), so that nobody misses anything or gets it twice, whatever dies in between.
While somebody follows, one reader makes events of what is new, once for all; who is further behind reads for itself.
An event shows its task or run with the state, since and reason of that moment, and everything else as it is when the
event is made; the value, the error and the end of a run only in a final state.

Tried and rejected: a queue for each client, filled at each commit. It makes the rate of commits the rate at which
clients have to read, and a client that is late for a second loses its place though the log has it.
"""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_right
from collections.abc import AsyncGenerator

import msgspec

from scriptrules import clock
from scriptrules.model import RUN_FINAL, Run, RunState, Task, TaskState
from scriptrules.rulebook.index import matches
from scriptrules.store.protocol import Happened, Store, Transition
from scriptrules.supervisor.background import patiently, wait_up_to
from scriptrules.supervisor.shapes import run_shape, task_shape

KINDS = ("task", "run", "rules", "breakpoints")
BATCH = 500  # transitions that are looked at in one go
PAUSE = 0.05  # seconds between two looks: bounds what following costs while thousands of tasks a second pass
RECENT = 10_000  # events that are kept for those who follow
HEARTBEAT = 15.0  # seconds after which a client hears something in any case

replace = msgspec.structs.replace


class Wanted(msgspec.Struct, frozen=True):
    """Which events somebody wants. All but `kinds` narrow tasks and runs, and nothing else."""

    kinds: frozenset[str] = frozenset(KINDS)
    name: str | None = None  # of the task, or a pattern
    rule: str | None = None  # runs of this rule only
    root: str | None = None  # what belongs to the tree of this task
    id: str | None = None  # of one task or run


class Event(msgspec.Struct, frozen=True, gc=False):
    position: int
    kind: str  # one of `KINDS`; "" where what it was about is gone
    frame: bytes  # as it is sent
    id: str = ""
    name: str = ""
    rule: str = ""
    root: str = ""


class Feed:
    """Gives the log to those who follow it."""

    def __init__(self, store: Store) -> None:
        self.followers = 0
        self._store = store
        self.closing = asyncio.Event()  # every stream is to end, also those of others
        self._news = asyncio.Event()  # something was committed
        self._moved = asyncio.Event()  # there are new events; another one each time
        self._recent: list[Event] = []
        self._tail = -1  # the position up to which there are events
        self._reader: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Something was committed."""
        if self.followers:
            self._news.set()

    def close(self) -> None:
        """End the streams of all who follow; their clients come back to the next server."""
        self.closing.set()
        if self._reader is not None:
            self._reader.cancel()
        self._moved.set()

    async def follow(self, after: int | None, wanted: Wanted) -> AsyncGenerator[bytes, None]:
        """Events as server-sent ones, from a position on, for as long as the server lives.

        Args:
            after: the position that the client has come to; None: it begins now.
            wanted: which of them.
        """
        if self.closing.is_set():
            return
        self.followers += 1
        if self.followers == 1:
            self._recent, self._tail = [], -1
            self._reader = asyncio.create_task(self._read())
        try:
            async with contextlib.aclosing(self._follow(after, wanted)) as following:
                async for frames in following:
                    yield frames
        finally:
            self.followers -= 1
            if not self.followers and self._reader is not None:
                self._reader.cancel()

    async def _follow(self, after: int | None, wanted: Wanted) -> AsyncGenerator[bytes, None]:
        kept, last = await patiently(self._store.happenings)
        at = last if after is None else after
        yield b"retry: 1000\n\n"
        if not kept <= at <= last:
            yield _reset(at, kept, last)
            at = last
        yield b"id: %d\n\n" % at
        told = clock.monotonic()
        while not self.closing.is_set():
            moved = self._moved
            events = await self._after(at)
            if events and events[0].position > at + 1 and (kept := (await patiently(self._store.happenings))[0]) > at:
                yield _reset(at, kept, events[-1].position)
                events = [Event(events[-1].position, "", b"")]
            frames = b"".join(event.frame for event in events if _fits(event, wanted))
            at = events[-1].position if events else at
            if not frames and clock.monotonic() - told > HEARTBEAT:
                frames = b"id: %d\n\n" % at
            if frames:
                told = clock.monotonic()
                yield frames
            if not events:
                await wait_up_to(HEARTBEAT, moved)

    async def _after(self, at: int) -> list[Event]:
        if at >= self._tail:
            return []
        if self._recent and self._recent[0].position <= at + 1:
            begin = bisect_right(self._recent, at, key=lambda event: event.position)
            return self._recent[begin : begin + BATCH]
        return await self._events(at)

    async def _read(self) -> None:
        self._move((await patiently(self._store.happenings))[1])
        while True:
            events = await self._events(self._tail)
            if events:
                self._recent = (self._recent + events)[-RECENT:]
                self._move(events[-1].position)
            else:
                await self._news.wait()
                self._news.clear()
            await asyncio.sleep(PAUSE)

    def _move(self, tail: int) -> None:
        self._tail = tail
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def _events(self, after: int) -> list[Event]:
        return [make_event(one) for one in await patiently(lambda: self._store.happened(after, BATCH))]


def make_event(one: Happened) -> Event:
    """A transition as it is sent."""
    position, moved, task, run = one.position, one.transition, one.task, one.run
    if not moved.id:
        return Event(position, moved.state.partition(".")[0], _frame(position, moved.state, {}))
    if run is not None:
        name, root = (task.name, task.root) if task is not None else ("", "")
        frame = _frame(position, f"run.{moved.state}", run_shape(_run_then(run, moved)))
        return Event(position, "run", frame, run.id, name, run.rule, root)
    if task is not None:
        frame = _frame(position, f"task.{moved.state}", task_shape(_task_then(task, moved)))
        return Event(position, "task", frame, task.id, task.name, "", task.root)
    return Event(position, "", b"")


def _task_then(task: Task, moved: Transition) -> Task:
    if moved.state == "edited" or (task.state, task.since) == (moved.state, moved.since):
        return task
    return replace(task, state=TaskState(moved.state), since=moved.since, reason=moved.reason)


def _run_then(run: Run, moved: Transition) -> Run:
    if (run.state, run.since) == (moved.state, moved.since):
        return run
    state = RunState(moved.state)
    if state in RUN_FINAL:
        return replace(run, state=state, since=moved.since, reason=moved.reason)
    return replace(run, state=state, since=moved.since, reason=moved.reason, value=None, error=None, ended=None)


def _fits(event: Event, wanted: Wanted) -> bool:
    if event.kind not in wanted.kinds:
        return False
    if event.kind not in ("task", "run"):
        return True
    return (
        (wanted.name is None or wanted.name == event.name or matches(wanted.name, event.name))
        and wanted.rule in (None, event.rule)
        and wanted.root in (None, event.root)
        and wanted.id in (None, event.id)
    )


def _reset(at: int, kept: int, last: int) -> bytes:
    detail = f"Events after {at} are not kept, or never were here: read what is shown anew. It goes on after {last}."
    return _frame(last, "reset", {"after": at, "kept": kept, "last": last, "detail": detail})


def _frame(position: int, name: str, data: object) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (position, name.encode(), msgspec.json.encode(data))
