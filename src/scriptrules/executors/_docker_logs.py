"""What containers write: followed as it grows, across engines that go away and rotate files; kept when they are gone.

What was tried and rejected: finding the place again in a log that broke off by counting bytes from its beginning (the
engine has thrown the beginning away once it has rotated the file; the stamp of the last frame says where to go on).
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import gzip
import os
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path

import msgspec

from scriptrules import clock
from scriptrules.errors import HostUnavailable
from scriptrules.executors._docker_containers import Containers
from scriptrules.executors._docker_engine import Engine, EngineError
from scriptrules.executors._docker_result import LogFrame
from scriptrules.executors._docker_watch import RECONNECT_FIRST, RECONNECT_MOST
from scriptrules.executors._output import OUTPUT_TAIL
from scriptrules.plugins.executor import LogChunk
from scriptrules.redaction import KNOWN

LATELY = 4096  # frames of a stream whose stamps are remembered
_BATCH = 256 * 1024  # bytes that are written or read in one go


class Place:
    """How far one stream of a log has been read, so that nothing is taken twice.

    Each line has a stamp of its own, which the parts of a long line share. An engine repeats some frames when it
    rotates the file under a reader: a stamp that is not newer than the last, and was seen lately, is of a repetition;
    an older one that was not seen is of a clock that was set back.
    """

    def __init__(self) -> None:
        self.stamp = ""  # of the last frame
        self._parts = 0  # frames of this stamp
        self._complete = False  # the last frame has ended its line
        self._skip = 0
        self._lately: deque[str] = deque(maxlen=LATELY)
        self._known: set[str] = set()

    def resume(self) -> None:
        """The log is read again, from the frames of `stamp` on."""
        self._skip = self._parts

    def is_new(self, frame: LogFrame) -> bool:
        """Whether the next frame was not read before."""
        if frame.stamp < self.stamp and frame.stamp in self._known:
            self._skip = self._parts
            return False
        if frame.stamp == self.stamp and self._complete and not self._skip:
            self._skip = self._parts
        if frame.stamp == self.stamp and self._skip:
            self._skip -= 1
            return False
        self._skip = 0
        self._complete = frame.data.endswith(b"\n")
        if frame.stamp == self.stamp:
            self._parts += 1
        else:
            self.stamp, self._parts = frame.stamp, 1
            if len(self._lately) == LATELY:
                self._known.discard(self._lately[0])
            self._lately.append(frame.stamp)
            self._known.add(frame.stamp)
        return True


class Decoder:
    """Turns frames into chunks of text; a character may be cut in two by a frame's end."""

    def __init__(self) -> None:
        self._decoders = {stream: codecs.getincrementaldecoder("utf-8")("replace") for stream in ("stdout", "stderr")}

    def chunk(self, frame: LogFrame) -> LogChunk | None:
        text = self._decoders[frame.stream].decode(frame.data)
        return LogChunk(frame.stream, text, clock.parse(frame.stamp)) if text else None

    def rest(self) -> list[LogChunk]:
        rests = [(stream, decoder.decode(b"", final=True)) for stream, decoder in self._decoders.items()]
        return [LogChunk(stream, text) for stream, text in rests if text]


async def container_log(
    engine: Engine, containers: Containers, key: str, follow: bool, watched: Callable[[], bool]
) -> AsyncGenerator[LogChunk, None]:
    """What the container of `key` has written, and with `follow` what it writes until it ends.

    Args:
        watched: whether its end is still to come, as far as the executor knows.
    """
    places, decoder = {"stdout": Place(), "stderr": Place()}, Decoder()
    pause = RECONNECT_FIRST
    while True:
        try:
            last = max(place.stamp for place in places.values())
            for place in places.values():
                place.resume()
            async with contextlib.aclosing(engine.logs(containers.name_of(key), follow, last)) as frames:
                async for frame in frames:
                    if places[frame.stream].is_new(frame) and (chunk := decoder.chunk(frame)) is not None:
                        yield chunk
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
    for chunk in decoder.rest():
        yield chunk


class KeptLogs:
    """Logs of ended containers that are longer than what results carry, each in a file.

    Args:
        keep: seconds that they are kept.
    """

    def __init__(self, engine: Engine, folder: Path, keep: float, now: clock.Clock) -> None:
        self._engine = engine
        self._folder = folder
        self._keep = keep
        self._now = now

    def file(self, key: str) -> Path:
        return self._folder / f"{key}.gz"

    def writer(self, key: str) -> LogWriter:
        return LogWriter(self._engine, self.file(key))

    async def read(self, key: str) -> AsyncGenerator[LogChunk, None]:
        """The whole of a log that was kept; nothing where none was."""
        file = self.file(key)
        if not file.exists():
            return
        decoder, batches = Decoder(), _batches(file)
        while (batch := await self._engine.in_thread(lambda: next(batches, None))) is not None:
            for frame in batch:
                if (chunk := decoder.chunk(frame)) is not None:
                    yield chunk
        for chunk in decoder.rest():
            yield chunk

    def expire(self) -> None:
        """Remove those that have been kept for long enough; it blocks."""
        if not self._folder.is_dir():
            return
        oldest = self._now() / clock.SECOND - self._keep
        for file in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if file.stat().st_mtime < oldest:
                    file.unlink()


class LogWriter:
    """Takes the frames of one log; a file comes into being only where a result cannot carry them all."""

    def __init__(self, engine: Engine, file: Path) -> None:
        self._engine = engine
        self._file = file
        self._part = file.with_suffix(".part")
        self._frames: list[LogFrame] = []
        self._held = 0  # bytes
        self._written = dict.fromkeys(("stdout", "stderr"), 0)
        self._begun = False

    async def add(self, frame: LogFrame) -> None:
        self._frames.append(frame)
        self._held += len(frame.data)
        self._written[frame.stream] += len(frame.data)
        too_long = max(self._written.values()) > OUTPUT_TAIL
        if too_long and self._held >= _BATCH:
            await self._flush()

    async def finish(self) -> None:
        """Keep the log, if it is too long for a result."""
        if max(self._written.values()) > OUTPUT_TAIL:
            await self._flush()
            await self._engine.in_thread(lambda: os.replace(self._part, self._file))

    async def _flush(self) -> None:
        frames, self._frames, self._held = self._frames, [], 0
        mode, self._begun = "ab" if self._begun else "wb", True
        await self._engine.in_thread(lambda: _write(self._part, mode, frames))


def _write(file: Path, mode: str, frames: list[LogFrame]) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    encoded = [msgspec.msgpack.encode(_redacted(frame)) for frame in frames]
    with open(file, mode, opener=_private) as raw, gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1) as packed:
        packed.write(b"".join(len(one).to_bytes(4, "big") + one for one in encoded))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _redacted(frame: LogFrame) -> LogFrame:
    """A frame as it is kept: the next server does not know the secrets that this one has resolved."""
    text = frame.data.decode(errors="surrogateescape")
    without = KNOWN.text(text)
    if without == text:
        return frame
    return LogFrame(frame.stream, frame.stamp, without.encode(errors="surrogateescape"))


def _batches(file: Path) -> Iterator[list[LogFrame]]:
    """The frames of a kept log, some at a time; each step blocks."""
    with gzip.open(file) as packed:
        batch, size = list[LogFrame](), 0
        while length := packed.read(4):
            frame = msgspec.msgpack.decode(packed.read(int.from_bytes(length, "big")), type=LogFrame)
            batch.append(frame)
            size += len(frame.data)
            if size >= _BATCH:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch
