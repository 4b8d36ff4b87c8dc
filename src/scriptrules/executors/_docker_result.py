"""What an ended container becomes as a result, and the archives and log frames on the way: decisions, no engine."""

from __future__ import annotations

import asyncio
import io
import signal
import tarfile
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from scriptrules import clock
from scriptrules.executors._docker_policy import FOLDER, HOSTS, INPUT
from scriptrules.executors._output import OUTPUT_FILE_MAX, file_output, last_line_output, tail_text
from scriptrules.model import ExecutionRequest, ExecutionResult, Json, Verdict

NEVER = "0001-01-01T00:00:00Z"  # how an engine writes that there was no such moment
ENGINE_STREAM = "engine"  # what the engine itself says in the midst of a log: why it cannot go on
_STREAMS = {1: "stdout", 2: "stderr", 3: ENGINE_STREAM}
_CHUNK = 256 * 1024  # bytes
_LOOPBACK = b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


class Tail:
    """The last bytes of a stream."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept = bytearray()
        self.cut = False  # the beginning is missing

    def add(self, data: bytes) -> None:
        self._kept += data
        if len(self._kept) > 2 * self._size:
            del self._kept[: -self._size]
            self.cut = True

    @property
    def data(self) -> bytes:
        return bytes(self._kept)


class Ended(msgspec.Struct, frozen=True):
    """What is known of an ended container."""

    state: dict[str, Any]  # the engine's State
    stdout: Tail
    stderr: Tail
    file: tuple[Json, str | None] | None  # value and problem of the output file; None where there was none
    stop_reason: str | None
    timed_out: bool
    lost: bool  # it ended while its engine was down, which may lose what it wrote last
    memory_mb: int


def never_started(state: Mapping[str, Any]) -> bool:
    """Whether a container's State is of one that the engine has not started yet."""
    return bool(state["Status"] == "created")


def result_of(request: ExecutionRequest, ended: Ended, host: str, verdict: Verdict) -> ExecutionResult:
    """The result of `request`, whose container ended so."""
    started, finished = _moment(ended.state["StartedAt"]), _moment(ended.state["FinishedAt"])
    if started is not None and finished is not None:
        finished = max(started, finished)  # an engine notes the start of what is quickly done only after its end
    exit_code: int | None = ended.state["ExitCode"]
    if ended.file is not None:
        output, problem = ended.file
    elif ended.lost:
        # What looks like the last line may be one that it wrote before.
        output = None
        problem = (
            "It ended while its engine was down, and what it wrote last may be lost. Write to $SCRIPTRULES_OUTPUT."
        )
    else:
        output, problem = last_line_output(ended.stdout.data, cut=ended.stdout.cut), None
    reason = problem if exit_code == 0 and not ended.timed_out else _why(request, ended, started, finished)
    if ended.timed_out and exit_code == 0:
        # A program that ends orderly when it is told to has not done its work; 0 would say that it has.
        exit_code = None
    return ExecutionResult(
        status="done" if exit_code == 0 else "failed",
        exit_code=exit_code,
        reason=reason,
        output=output,
        stdout=tail_text(ended.stdout.data),
        stderr=tail_text(ended.stderr.data),
        started=started,
        ended=finished,
        host=host,
        verdict=verdict,
    )


def _why(request: ExecutionRequest, ended: Ended, started: int | None, finished: int | None) -> str:
    exit_code = ended.state["ExitCode"]
    if ended.stop_reason is not None:
        return ended.stop_reason
    if ended.state.get("OOMKilled"):
        return f"out of memory: it may use {ended.memory_mb} MB. Ask for more with memory_mb."
    # Another supervisor may have stopped it at its timeout and been killed before it could say so.
    killed = exit_code in (128 + signal.SIGTERM, 128 + signal.SIGKILL)
    lasted = ((finished or 0) - (started or 0)) / clock.SECOND
    if killed and request.timeout is not None and lasted >= request.timeout:
        return f"timeout after {request.timeout:g} s"
    if ended.state.get("Error"):
        return f"exit code {exit_code}: {ended.state['Error']}"
    if exit_code > 128 and exit_code - 128 in set(signal.Signals):
        return f"killed by signal {exit_code - 128}"
    return f"exit code {exit_code}"


def _moment(stamp: str) -> int | None:
    return None if stamp == NEVER else clock.parse(stamp)


def input_archive(
    data: bytes, secrets: Mapping[str, str], folders: Sequence[str], now: int, *, with_hosts: bool
) -> bytes:
    """A tar of what a container finds: its folder with the input and room for the output, and files with secrets.

    Args:
        data: the task's data, JSON.
        secrets: by absolute path.
        folders: for them, which the image does not have.
        now: microseconds since 1970, for the files' times.
        with_hosts: with the names of the loopback, which the engine does not put in.
    """
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        _add_folder(archive, FOLDER, 0o777, now)  # any user can write the output
        _add_file(archive, INPUT, data, now)
        if with_hosts:
            _add_file(archive, HOSTS, _LOOPBACK, now)
        _add_secrets(archive, secrets, folders, now)
    return packed.getvalue()


def secret_archive(secrets: Mapping[str, str], folders: Sequence[str], now: int) -> bytes:
    """A tar of files with secrets alone."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        _add_secrets(archive, secrets, folders, now)
    return packed.getvalue()


def _add_secrets(archive: tarfile.TarFile, secrets: Mapping[str, str], folders: Sequence[str], now: int) -> None:
    for folder in folders:
        _add_folder(archive, folder, 0o755, now)
    for path, content in secrets.items():
        _add_file(archive, path, content.encode(), now)


def _add_folder(archive: tarfile.TarFile, path: str, mode: int, now: int) -> None:
    folder = tarfile.TarInfo(path.lstrip("/"))
    folder.type, folder.mode, folder.mtime = tarfile.DIRTYPE, mode, now // clock.SECOND
    archive.addfile(folder)


def _add_file(archive: tarfile.TarFile, path: str, data: bytes, now: int) -> None:
    """A file that every user of the container can read: who that is, only the image knows."""
    file = tarfile.TarInfo(path.lstrip("/"))
    file.size, file.mode, file.mtime = len(data), 0o444, now // clock.SECOND
    archive.addfile(file, io.BytesIO(data))


def output_file(packed: bytes) -> tuple[Json, str | None]:
    """Value and problem of the one file in a tar, which may lack its end where the file is too large anyway."""
    try:
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r|") as archive:
            member = archive.next()
            if member is None or not member.isreg():
                return None, "What $SCRIPTRULES_OUTPUT names is no plain file. Write one JSON value into a file there."
            stream = archive.extractfile(member)
            return file_output(stream.read(OUTPUT_FILE_MAX + 1) if stream else b"")
    except tarfile.TarError as error:
        return None, f"The output file came broken from the engine ({error}). Use the last line of stdout instead."


class LogFrame(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One piece of a log, as the engine took it from the container: a line, or a part of a long one."""

    stream: str  # "stdout" | "stderr" | ENGINE_STREAM
    stamp: str  # when, as the engine writes it
    data: bytes


async def log_frames(reader: asyncio.StreamReader) -> AsyncIterator[LogFrame]:
    """The frames of an engine's log stream with time stamps; EOFError where it ends within one."""
    buffer = bytearray()
    while chunk := await reader.read(_CHUNK):
        buffer += chunk
        at = 0
        while len(buffer) - at >= 8:
            end = at + 8 + int.from_bytes(buffer[at + 4 : at + 8], "big")
            if end > len(buffer):
                break
            stream, content = _STREAMS.get(buffer[at], "stderr"), bytes(buffer[at + 8 : end])
            stamp, _, data = (b"", b"", content) if stream == ENGINE_STREAM else content.partition(b" ")
            yield LogFrame(stream, stamp.decode(errors="replace"), data)
            at = end
        del buffer[:at]
    if buffer:
        raise EOFError("within a frame")
