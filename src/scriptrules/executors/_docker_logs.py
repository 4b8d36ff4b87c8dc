"""The log of a container as it grows, across engines that go away and come back."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
from collections.abc import AsyncGenerator, Callable

from scriptrules.errors import HostUnavailable
from scriptrules.executors._docker_containers import Containers
from scriptrules.executors._docker_engine import Engine, EngineError
from scriptrules.executors._docker_watch import RECONNECT_FIRST, RECONNECT_MOST
from scriptrules.plugins.executor import LogChunk


async def container_log(
    engine: Engine, containers: Containers, key: str, follow: bool, watched: Callable[[], bool]
) -> AsyncGenerator[LogChunk, None]:
    """What the container of `key` has written, and with `follow` what it writes until it ends.

    Args:
        watched: whether its end is still to come, as far as the executor knows.
    """
    decoders = {stream: codecs.getincrementaldecoder("utf-8")("replace") for stream in ("stdout", "stderr")}
    seen = dict.fromkeys(decoders, 0)  # bytes; a stream that broke is read again from its beginning
    pause = RECONNECT_FIRST
    while True:
        try:
            skip = dict(seen)
            async with contextlib.aclosing(engine.logs(containers.name_of(key), follow)) as pieces:
                async for stream, data in pieces:
                    fresh = data[skip[stream] :]
                    skip[stream] -= len(data) - len(fresh)
                    seen[stream] += len(fresh)
                    if text := decoders[stream].decode(fresh):
                        yield LogChunk(stream, text)
            if not follow or not watched() or not await containers.is_live(key):
                break
        except HostUnavailable:
            if not follow or not watched():
                raise
        except EngineError as error:
            if error.status != 404 and not follow:
                raise engine.unavailable(error.message) from None
            if not follow or not watched():
                break
        await asyncio.sleep(pause)
        pause = min(pause * 2, RECONNECT_MOST)
    for stream, decoder in decoders.items():
        if text := decoder.decode(b"", final=True):
            yield LogChunk(stream, text)
