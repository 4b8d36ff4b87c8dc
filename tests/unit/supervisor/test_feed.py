"""The feed of events: where followers stand in the log, and what each event shows."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest

from scriptrules.model import Run, RunState, Task, TaskState
from scriptrules.store import memory
from scriptrules.store.memory import MemoryStore
from scriptrules.store.protocol import Happened, Transition
from scriptrules.supervisor import feed as feeds
from scriptrules.supervisor.feed import Feed, Wanted, make_event


def task(number: int) -> Task:
    id = f"t{number:06}"
    return Task(id, "a.b", b"{}", TaskState.NEW, number, number, root=id)


def following(body: Callable[[MemoryStore, Feed], Awaitable[None]]) -> None:
    async def whole() -> None:
        store = MemoryStore()
        feed = Feed(store)
        await body(store, feed)
        feed.close()

    asyncio.run(asyncio.wait_for(whole(), 60))


async def names_until(frames: AsyncGenerator[bytes, None], last: int) -> list[str]:
    """The names of events up to a position."""
    found: list[str] = []
    async for frame in frames:
        found += [name.decode() for name in re.findall(rb"^event: (.*)$", frame, re.M)]
        if int(re.findall(rb"^id: (\d+)$", frame, re.M)[-1] if b"id: " in frame else 0) >= last:
            break
    return found


def shown(event: feeds.Event) -> dict[str, Any]:
    data = next(line for line in event.frame.split(b"\n") if line.startswith(b"data: "))
    return dict(json.loads(data[6:]))


def test_whoever_falls_behind_what_is_kept_is_told_in_the_middle_of_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "HAPPENED_KEPT", 50)
    monkeypatch.setattr(feeds, "RECENT", 10)

    async def body(store: MemoryStore, feed: Feed) -> None:
        slow = feed.follow(0, Wanted())
        await store.ingest([task(n) for n in range(20)])
        assert len(await names_until(slow_part(slow), 20)) == 20
        await store.ingest([task(n) for n in range(20, 200)])
        feed.wake()
        names = await names_until(slow, 200)
        assert names[0] == "reset"
        assert names.count("reset") == 1

    following(body)


async def slow_part(frames: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The same stream, which goes on where somebody stops reading."""
    while True:
        yield await anext(frames)


def test_a_filter_that_nothing_passes_moves_the_position_on_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "HEARTBEAT", 0.05)

    async def body(store: MemoryStore, feed: Feed) -> None:
        frames = feed.follow(0, Wanted(name="nothing"))
        await store.ingest([task(n) for n in range(20)])
        feed.wake()
        async for frame in frames:
            assert b"event:" not in frame
            if frame == b"id: 20\n\n":
                break

    following(body)


def test_many_follow_one_reader_and_the_last_one_ends_it() -> None:
    async def body(store: MemoryStore, feed: Feed) -> None:
        streams = [feed.follow(0, Wanted()) for _ in range(5)]
        reading = [asyncio.create_task(names_until(stream, 100)) for stream in streams]
        for n in range(100):
            await store.ingest([task(n)])
            feed.wake()
            await asyncio.sleep(0)
        for names in await asyncio.gather(*reading):
            assert names == ["task.new"] * 100
        for stream in streams:
            await stream.aclose()
        assert feed.followers == 0

    following(body)


def test_closing_ends_every_stream() -> None:
    async def body(_: MemoryStore, feed: Feed) -> None:
        async def whole() -> list[bytes]:
            return [frame async for frame in feed.follow(None, Wanted())]

        reading = [asyncio.create_task(whole()) for _ in range(3)]
        while feed.followers < 3:
            await asyncio.sleep(0)
        feed.close()
        assert all(frames[0] == b"retry: 1000\n\n" for frames in await asyncio.gather(*reading) if frames)
        assert [frame async for frame in feed.follow(None, Wanted())] == []

    following(body)


def test_an_event_shows_the_state_of_its_moment_though_its_run_has_gone_on() -> None:
    run = Run("r1", "a", "t1", "d", RunState.DONE, 30, 5, value=b"[1]", ended=30)
    then = make_event(Happened(7, Transition("r1", "waiting", 20, "sleep"), task(1), run))
    assert b"event: run.waiting\n" in then.frame
    told = shown(then)
    assert (told["state"], told["reason"], told["value"], told["ended"]) == ("waiting", "sleep", None, None)
    assert told["exit"] is not None
    now = shown(make_event(Happened(8, Transition("r1", "done", 30, None), task(1), run)))
    assert (now["state"], now["value"], now["exit"]) == ("done", [1], None)


def test_what_is_gone_is_left_out() -> None:
    assert make_event(Happened(7, Transition("t1", "done", 20, None), None, None)).frame == b""
