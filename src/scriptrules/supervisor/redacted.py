"""What executions and functions say, without the values of secrets: before it is kept, or shown."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

import msgspec

from scriptrules.model import ExecutionResult
from scriptrules.plugins.executor import LogChunk
from scriptrules.redaction import KNOWN


def redacted_result(result: ExecutionResult, host: str) -> ExecutionResult:
    """A result as it is kept; `host` is where it comes from, if it does not say so itself."""
    return msgspec.structs.replace(
        result,
        host=result.host or host,
        reason=None if result.reason is None else KNOWN.text(result.reason),
        output=KNOWN.value(result.output),
        stdout=KNOWN.tail(result.stdout),
        stderr=KNOWN.tail(result.stderr),
    )


async def redacted_chunks(chunks: AsyncIterator[LogChunk]) -> AsyncGenerator[LogChunk, None]:
    """Output as it comes, also where one value spans two chunks."""
    kept: dict[str, str] = {}
    try:
        async for chunk in chunks:
            text = KNOWN.text(kept.pop(chunk.stream, "") + chunk.text)
            held = KNOWN.unfinished(text)
            if held:
                kept[chunk.stream] = text[-held:]
                text = text[:-held]
            if text:
                yield LogChunk(chunk.stream, text, chunk.at)
        for stream, text in kept.items():
            yield LogChunk(stream, text)
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()  # whoever reads no more holds nothing open on the host
