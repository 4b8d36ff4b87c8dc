"""The built-in executor ``process``: programs of this machine, allowed one by one, each under a launcher of its own.

A start is effectively once because the launcher (`scriptrules.executors.launcher`) claims the key's folder, durably and
exclusively, before it starts anything, and then starts one program. So a result that a launcher left has the verdict
``once``, whoever finds it: a restart of the supervisor takes nothing from that proof, so ``adopted`` never occurs.
A claim whose launcher is gone without a result is ``unknown``, and nothing is started again.

A folder without a claim was never started: only a release takes a claim away, with the whole folder and by one rename.

What was tried and rejected:

* A queue of its own for what waits for a slot: the supervisor has one for all hosts, which is what people look at.
* asyncio's subprocesses: they belong to one event loop, and end with it.
* Waiting by threads or by polling: a pidfd is one descriptor in the loop's own poll (asyncio's or uvloop's), and it
  works for the launchers of an earlier supervisor. Process id, start time and boot id together prove
  that it is the claimant.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import platform
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec

from scriptrules.errors import ConfigError, HostUnavailable
from scriptrules.executors import launcher
from scriptrules.executors._process_folder import Folders, Follower, open_launcher
from scriptrules.executors._process_policy import (
    OPTIONS,
    Policy,
    check_key,
    check_request,
    describe,
    find_program,
    read_policy,
)
from scriptrules.jobs import JobType, job_type
from scriptrules.model import ExecutionRequest, ExecutionResult
from scriptrules.plugins.executor import Executor, ExecutorContext, ExecutorFactory, LogChunk, Placed
from scriptrules.plugins.spec import hookimpl

FOLLOW_INTERVAL = 0.25  # seconds between two looks at output that somebody follows
LAUNCH_ATTEMPTS = 3

_T = TypeVar("_T")


@hookimpl
def scriptrules_executors() -> dict[str, ExecutorFactory]:
    return {"process": make}


@hookimpl
def scriptrules_job_types() -> list[JobType]:
    return [job_type("Process", "process", "A program of the machine that the server runs on.", OPTIONS)]


def make(table: Mapping[str, Any], context: ExecutorContext) -> Executor:
    """Make the executor of one host.

    Args:
        table: the host's table (`scriptrules.executors._process_policy.Settings`).
        context: the installation.

    Raises:
        ConfigError: an unknown key (the nearest is named), a wrong value, or a platform that lacks pidfds.
    """
    if not hasattr(os, "pidfd_open"):
        raise ConfigError(f'[hosts.{context.host}]: executor = "process" needs Linux 5.3 or newer. Use a docker host.')
    return ProcessExecutor(read_policy(table, context.host, context.base_dir), context)


class ProcessExecutor:
    """One host: this machine, as one of its users. See `scriptrules.plugins.executor.Executor` for the methods."""

    def __init__(self, policy: Policy, context: ExecutorContext) -> None:
        self.max_running = policy.settings.max_running
        self._policy = policy
        self._folders = Folders(policy, context)
        self._active: dict[str, ExecutionRequest] = {}  # ensured here, result not yet yielded
        self._watched: dict[str, int] = {}  # the pidfd of a key's launcher
        self._stopping: set[str] = set()  # asked to stop before there was a launcher to tell
        self._results: asyncio.Queue[tuple[str, ExecutionResult] | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(4, thread_name_prefix=f"process-{policy.host}")
        self._swept = False

    def validate(self, request: ExecutionRequest) -> None:
        check_request(self._policy, request)

    async def ensure(self, request: ExecutionRequest, may_create: bool) -> None:
        check_key(request.key)
        if request.key in self._active:
            return
        self._active[request.key] = request
        try:
            if not self._swept:
                self._swept = True
                await self._in_thread(self._folders.sweep)
            if not may_create and not await self._in_thread(os.path.isdir, self._folders.of(request.key)):
                await self._finish(request.key)  # nothing is left of it, and so it is reported as lost
            elif not await self._adopt(request.key):
                await self._start(request)
        except OSError as error:
            del self._active[request.key]
            raise self._unavailable(error) from error
        except BaseException:
            del self._active[request.key]
            raise
        finally:
            self._stopping.discard(request.key)

    async def results(self) -> AsyncIterator[tuple[str, ExecutionResult]]:
        while (item := await self._results.get()) is not None:
            self._active.pop(item[0], None)
            yield item

    async def logs(self, key: str, follow: bool = False) -> AsyncIterator[LogChunk]:
        check_key(key)
        followers = [Follower(self._folders.of(key), stream) for stream in ("stdout", "stderr")]
        last_look = False
        while not last_look:
            last_look = not follow or key not in self._active or await self._in_thread(self._folders.ended, key)
            for follower in followers:
                while (text := await self._in_thread(follower.read)) is not None:
                    if text:
                        yield LogChunk(follower.stream, text)
            if not last_look:
                await asyncio.sleep(FOLLOW_INTERVAL)

    async def stop(self, key: str) -> None:
        if key not in self._active:
            return
        try:
            self._stopping.add(key)
            await self._in_thread(self._folders.ask_to_stop, key)
            self._tell_to_stop(key)
        except OSError as error:
            raise self._unavailable(error) from error

    async def release(self, key: str) -> None:
        check_key(key)
        self._active.pop(key, None)
        try:
            await self._in_thread(self._folders.remove, key)
        except OSError as error:
            raise self._unavailable(error) from error

    async def check(self) -> str:
        try:
            await self._in_thread(self._folders.check)
        except OSError as error:
            raise self._unavailable(error) from error
        return await self._in_thread(describe, self._policy)

    async def version(self) -> str:
        return f"{platform.system()} {platform.release()}"

    async def inventory(self) -> list[Placed]:
        try:
            return await self._in_thread(self._folders.inventory)
        except OSError as error:
            raise self._unavailable(error) from error

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        for key in list(self._watched):
            self._forget_launcher(key)
        self._results.put_nowait(None)
        self._threads.shutdown(wait=False)
        self._folders.close()

    # ---- from a request to a watched launcher

    async def _start(self, request: ExecutionRequest) -> None:
        key = request.key
        self.validate(request)
        program = await self._in_thread(find_program, self._policy, request.image)
        await self._launch(key, await self._in_thread(self._folders.prepare, request, program))

    async def _launch(self, key: str, spec: bytes) -> None:
        """Start launchers until one has the claim: this one, or another supervisor's."""
        for _ in range(LAUNCH_ATTEMPTS):
            pid, descriptor = await self._in_thread(self._spawn, key, spec)
            try:
                claimed = await _says_something(descriptor)
            finally:
                os.close(descriptor)
            if not claimed:
                await self._in_thread(_reap, pid, 0)
            if await self._adopt(key):
                return
        raise HostUnavailable(
            f"host {self._policy.host!r}: the launcher ended before it began. "
            f"Read {self._folders.of(key)}/launcher.log."
        )

    async def _adopt(self, key: str) -> bool:
        """Take up what a launcher has claimed, running or ended; False where none has."""
        claim = await self._in_thread(self._folders.claim, key)
        if claim is None:
            return False
        ended = await self._in_thread(self._folders.ended, key)  # a supervisor that claimed to stop may live on
        descriptor = None if ended else await self._in_thread(open_launcher, claim)
        if descriptor is None:
            await self._finish(key)
            return True
        self._watched[key] = descriptor
        asyncio.get_running_loop().add_reader(descriptor, self._launcher_ended, key, claim.pid)
        if key in self._stopping or await self._in_thread(self._folders.asked_to_stop, key):
            await self._in_thread(self._folders.ask_to_stop, key)
            self._tell_to_stop(key)
        return True

    def _spawn(self, key: str, spec: bytes) -> tuple[int, int]:
        """Start a launcher; returns its id, and a pipe that says something once it has the claim."""
        folder = self._folders.of(key)
        given = _in_memory(spec)
        reading, writing = os.pipe()
        try:
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", _launcher_file(), folder],
                {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, writing, launcher.ACKNOWLEDGE),
                    (os.POSIX_SPAWN_DUP2, given, 0),
                    (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 2, f"{folder}/launcher.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                ],
                setsid=True,
                setsigmask=(),
                setsigdef=(signal.SIGPIPE, signal.SIGTERM),
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
            os.close(given)
        return pid, reading

    # ---- the end of an execution

    def _launcher_ended(self, key: str, pid: int) -> None:
        self._forget_launcher(key)
        _reap(pid, os.WNOHANG)
        self._run_task(self._finish(key))

    def _forget_launcher(self, key: str) -> None:
        descriptor = self._watched.pop(key)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)

    async def _finish(self, key: str) -> None:
        self._stopping.discard(key)
        request = self._active.get(key)
        if request is None:  # released meanwhile
            return
        result = await self._in_thread(self._folders.collect, request)
        self._results.put_nowait((key, msgspec.structs.replace(result, host=self._policy.host)))

    def _tell_to_stop(self, key: str) -> None:
        try:
            if key in self._watched:
                signal.pidfd_send_signal(self._watched[key], signal.SIGTERM)
        except ProcessLookupError:
            pass

    # ---- the loop

    async def _in_thread(self, work: Callable[..., _T], *args: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    def _run_task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _unavailable(self, error: OSError) -> HostUnavailable:
        return HostUnavailable(f"host {self._policy.host!r}: {error}. `scriptrules doctor` looks at its folder.")


def _in_memory(data: bytes) -> int:
    """A file with `data` that is on no disk and has no name, to be read from its beginning."""
    descriptor = os.memfd_create("spec")
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


async def _says_something(descriptor: int) -> bool:
    """Wait until the pipe has something (True), or has ended (False)."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
    return bool(os.read(descriptor, 1))


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _reap(pid: int, options: int) -> None:
    try:
        os.waitpid(pid, options)
    except ChildProcessError:
        pass  # an earlier supervisor's, or somebody else has reaped it


def _launcher_file() -> str:
    """The compiled launcher where Python keeps one, as Python does not for what it runs by path: that saves 3 ms."""
    source = launcher.__file__
    compiled = importlib.util.cache_from_source(source)
    try:
        with open(compiled, "rb") as stream:
            header = stream.read(16)  # magic number, flags, modification time and size of the source
        found = os.stat(source)
    except OSError:
        return source
    fresh = b"".join((part & 0xFFFFFFFF).to_bytes(4, "little") for part in (0, int(found.st_mtime), found.st_size))
    return compiled if header == importlib.util.MAGIC_NUMBER + fresh else source
