"""The log of a run as one stream: what its script has logged, and what its executions have written or are writing.

Whoever reads slowly slows the reading of logs on their hosts down; nothing is piled up here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import msgspec
import structlog

from scriptrules import clock
from scriptrules.errors import ScriptrulesError
from scriptrules.model import ENTRY_FINAL, Entry, EntryState, Run
from scriptrules.plugins.executor import LogChunk
from scriptrules.store.protocol import Store
from scriptrules.supervisor import shapes
from scriptrules.supervisor.executions import Executions

log = structlog.get_logger(__name__)

INTERVAL = 0.2  # seconds between two looks at a run that is followed
PAGE = 1000  # lines of one look into the store
AHEAD = 200  # lines of executions that are read before somebody wants them
LINE_MAX = 16 * 1024  # characters after which a line is broken
NOTHING = msgspec.Raw(b"null")


class Lines:
    """Puts chunks of one execution together to lines."""

    def __init__(self, seq: int) -> None:
        self._seq = seq
        self._rest = dict.fromkeys(("stdout", "stderr"), "")

    def add(self, chunk: LogChunk) -> list[shapes.LogShape]:
        *lines, rest = (self._rest.get(chunk.stream, "") + chunk.text).split("\n")
        if len(rest) > LINE_MAX:
            lines, rest = [*lines, rest], ""
        self._rest[chunk.stream] = rest
        return [self._shape(chunk.stream, line, chunk.at) for line in lines]

    def rest(self) -> list[shapes.LogShape]:
        return [self._shape(stream, line, None) for stream, line in self._rest.items() if line]

    def _shape(self, stream: str, line: str, at: int | None) -> shapes.LogShape:
        moment = clock.text(clock.now() if at is None else at)
        return shapes.LogShape(moment, self._seq, stream, line.removesuffix("\r"), NOTHING)


class RunLog:
    """Reads the log of one run, once.

    Args:
        follow: go on until the run has ended.
    """

    def __init__(self, store: Store, executions: Executions, run: str, follow: bool) -> None:
        self._store = store
        self._executions = executions
        self._run = run
        self._follow = follow
        self._ahead: asyncio.Queue[shapes.LogShape] = asyncio.Queue(AHEAD)
        self._readers: dict[tuple[int, int], asyncio.Task[None]] = {}  # by seq and attempt
        self._after = 0

    async def lines(self) -> AsyncGenerator[shapes.LogShape, None]:
        """Line by line: those of the script in order, those of each execution in order."""
        try:
            while (run := await self._store.run(self._run)) is not None:
                async for line in self._logged():
                    yield line
                self._read(run, await shapes.entries_of(self._store, self._run))
                over = run.ended is not None or not self._follow
                async for line in self._written(over):
                    yield line
                if over:
                    return
        finally:
            for reader in self._readers.values():
                reader.cancel()
            await asyncio.gather(*self._readers.values(), return_exceptions=True)

    async def _logged(self) -> AsyncGenerator[shapes.LogShape, None]:
        while True:
            lines, self._after = await shapes.logs_of(self._store, self._run, self._after, PAGE)
            for line in lines:
                yield line
            if len(lines) < PAGE:
                return

    def _read(self, run: Run, entries: list[Entry]) -> None:
        """Begin to read what has been written by executions that were not there before."""
        for entry in entries:
            known = (entry.seq, entry.attempt)
            begun = entry.state is EntryState.STARTED or entry.state in ENTRY_FINAL
            if entry.name == "run" and begun and known not in self._readers:
                self._readers[known] = asyncio.create_task(self._read_execution(run, entry))

    async def _read_execution(self, run: Run, entry: Entry) -> None:
        ended = entry.state in ENTRY_FINAL
        if ended and not shapes.is_output_cut(entry):
            for line in shapes.output_of([entry]):
                await self._ahead.put(line)
            return
        lines, some = Lines(entry.seq), False
        try:
            async with contextlib.aclosing(self._executions.logs(run, entry, self._follow and not ended)) as chunks:
                async for chunk in chunks:
                    some = True
                    for line in lines.add(chunk):
                        await self._ahead.put(line)
        except ScriptrulesError as error:
            log.warning("logs.unavailable", run=run.id, seq=entry.seq, problem=error.message)
        for line in lines.rest() if some else shapes.output_of([entry]):
            await self._ahead.put(line)

    async def _written(self, over: bool) -> AsyncGenerator[shapes.LogShape, None]:
        """What is read ahead: for a while, or until all has been read where it is over."""
        until = clock.monotonic() + INTERVAL
        while over or clock.monotonic() < until:
            if over and self._ahead.empty() and all(reader.done() for reader in self._readers.values()):
                return
            try:
                async with asyncio.timeout(INTERVAL if over else max(0.0, until - clock.monotonic())):
                    line = await self._ahead.get()
            except TimeoutError:
                continue
            yield line
