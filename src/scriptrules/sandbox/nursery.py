"""Where the supervisor gets its workers from: it runs a zygote, and has it fork.

A `Nursery` works under asyncio and uvloop. The zygote is started on the first use, and again on the next one where it
died; its workers die with it. The protocol is described in `scriptrules.sandbox.zygote`.

Tried and rejected:

* `asyncio.create_subprocess_exec`: it brings a watcher that differs by loop and version; the zygote's socket ends with
  the zygote, which is all there is to watch.
* Starting it in a helper thread: the kernel signals the parent's death when the *thread* ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec

from scriptrules.errors import SandboxUnavailable
from scriptrules.sandbox.confine import Limits
from scriptrules.sandbox.zygote import (
    ENTRY_RAISED,
    EXITED,
    FAILED,
    FORK,
    FORKED,
    KILL,
    MESSAGE,
    NOT_CONFINED,
    READY,
    Order,
)

WORKER = "scriptrules.sandbox.worker:main"
START_TIMEOUT = 30.0  # seconds until a zygote that has not said READY is given up

_BOOT = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from scriptrules.sandbox.zygote import serve; serve(sys.argv[2].encode())"
)
_SEE_DOCTOR = "`scriptrules doctor` shows which wall is missing."
_CLOSE_ON_EXEC: int = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Child:
    """A worker process. `sock` is the supervisor's end of its socket, and the caller's to close."""

    def __init__(self, zygote: _Zygote, number: int, sock: socket.socket, pid: int, handle: int) -> None:
        self.sock = sock
        self.pid = pid  # as this process sees it
        self._zygote = zygote
        self._number = number
        self._handle = handle  # a pidfd, or -1
        self._end: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def kill(self) -> None:
        """Send SIGKILL; a worker that has ended, or was killed before, does not mind."""
        if self._end.done():
            return
        if self._handle >= 0:
            _kill(self._handle)
        else:
            self._zygote.send(KILL, self._number)

    async def ended(self) -> str:
        """Wait until the process is gone; returns how: ``"exit 0"``, ``"killed by signal 9 (SIGKILL)"``."""
        return await asyncio.shield(self._end)

    def set_ended(self, how: str) -> None:
        """Called by the zygote's reader, once."""
        if not self._end.done():
            self._end.set_result(how)
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def orphan(self, why: str) -> None:
        """Called when the zygote is lost: nobody reports this one's end any more, so it is ended and watched here."""
        if self._handle < 0:
            self.set_ended(why)
            return
        _kill(self._handle)
        loop = asyncio.get_running_loop()

        def gone() -> None:
            loop.remove_reader(self._handle)
            self.set_ended(why)

        loop.add_reader(self._handle, gone)


class Nursery:
    """Forks confined workers.

    Args:
        limits: of each worker.
        entry: ``"module:function"`` that workers run, see `scriptrules.sandbox.zygote`.
    """

    def __init__(self, limits: Limits, entry: str = WORKER) -> None:
        self._limits = limits
        self._entry = entry
        self._zygote: _Zygote | None = None
        self._starting = asyncio.Lock()
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Process id of the zygote, as this process sees it; None where none is alive."""
        return self._zygote.pid if self._zygote and self._zygote.alive else None

    async def start(self) -> None:
        """Start the zygote where none is alive.

        Raises:
            SandboxUnavailable: it did not start; the message ends with what it wrote.
        """
        async with self._starting:
            if self._closed:
                raise SandboxUnavailable("Workers cannot be started: their nursery is closed. Make another one.")
            if self._zygote and self._zygote.alive:
                return
            if self._zygote:
                await self._zygote.gone()
                self._zygote = None
            zygote = _Zygote(self._entry, self._limits)
            await zygote.start()
            self._zygote = zygote

    async def fork(self) -> Child:
        """Make a worker.

        Raises:
            SandboxUnavailable: no zygote can be started, or it cannot fork.
        """
        await self.start()
        assert self._zygote
        try:
            return await self._zygote.fork()
        except ConnectionError:
            # It died since it was last seen; a second death in a row is an error and no coincidence.
            await self.start()
        assert self._zygote
        try:
            return await self._zygote.fork()
        except ConnectionError as error:
            raise SandboxUnavailable(f"Workers cannot be forked: {error}. {_SEE_DOCTOR}") from None

    async def close(self) -> None:
        """End the zygote and all workers, for good; returns when they are gone."""
        self._closed = True
        async with self._starting:
            zygote, self._zygote = self._zygote, None
            if zygote:
                zygote.lose("its nursery was closed")
                await zygote.gone()


class _Zygote:
    """One life of a zygote process."""

    def __init__(self, entry: str, limits: Limits) -> None:
        self._entry = entry
        self._limits = limits
        self._children: dict[int, Child] = {}
        self._asked: dict[int, tuple[asyncio.Future[Child], socket.socket]] = {}
        self._numbers = 0
        self._orphans: list[Child] = []
        self._itself: Child | None = None
        self.alive = False
        self.pid = 0

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._ready: asyncio.Future[None] = loop.create_future()
        self._control, theirs = socket.socketpair()
        order = msgspec.json.encode(Order(entry=self._entry, limits=self._limits, supervisor=os.getpid())).decode()
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-s", "-P", "-S", "-c", _BOOT, json.dumps(_import_path()), order],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    env={"PYTHONHASHSEED": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "1"},
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                self._control.close()
                raise SandboxUnavailable(f"Workers cannot be started: {error}. {_SEE_DOCTOR}") from None
        assert self._process.stderr
        os.set_blocking(self._process.stderr.fileno(), False)
        self._control.setblocking(False)
        self.alive = True
        loop.add_reader(self._control, self._read)
        try:
            await asyncio.wait_for(self._ready, START_TIMEOUT)
        except TimeoutError:
            self.lose(f"nothing heard for {START_TIMEOUT:g} s")
            raise SandboxUnavailable(
                f"Workers cannot be started: the zygote said nothing for {START_TIMEOUT:g} s. {_SEE_DOCTOR}"
            ) from None
        except ConnectionError as error:
            raise SandboxUnavailable(f"Workers cannot be started: {error}. {_SEE_DOCTOR}") from None
        except asyncio.CancelledError:
            self.lose("start cancelled")
            raise

    async def fork(self) -> Child:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._numbers += 1
        number = self._numbers
        future: asyncio.Future[Child] = self._loop.create_future()
        self._asked[number] = future, ours
        with theirs:
            try:
                socket.send_fds(self._control, [MESSAGE.pack(FORK, number, 0)], [theirs.fileno()])
            except OSError as error:
                self._asked.pop(number, None)
                ours.close()
                self.lose(f"the zygote cannot be reached: {error.strerror}")
                raise ConnectionError(str(error)) from None
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and not future.exception():
                child = future.result()
                child.kill()
                child.sock.close()
            raise

    def send(self, kind: int, number: int) -> None:
        with contextlib.suppress(OSError):
            self._control.send(MESSAGE.pack(kind, number, 0))

    async def gone(self) -> None:
        for child in self._orphans:
            await child.ended()

    def lose(self, why: str) -> None:
        """The zygote is dead or has to be: see to it that everything of it is gone."""
        if not self.alive:
            return
        self.alive = False
        self._loop.remove_reader(self._control)
        self._control.close()
        self._process.kill()
        self._process.wait()
        assert self._process.stderr
        with self._process.stderr as stream:
            said = _last_line(stream.read() or b"")
        why = f"{why}: {said}" if said else why
        error = ConnectionError(why)
        if not self._ready.done():
            self._ready.set_exception(error)
        for future, sock in self._asked.values():
            sock.close()
            if not future.done():
                future.set_exception(error)
        self._asked.clear()
        self._orphans = [*self._children.values(), *([self._itself] if self._itself else [])]
        self._children.clear()
        for child in self._orphans:
            child.orphan(f"killed ({why})")

    def _read(self) -> None:
        while self.alive:
            try:
                message, handles, _, _ = socket.recv_fds(self._control, MESSAGE.size, 1, _CLOSE_ON_EXEC)
            except BlockingIOError:
                return
            except OSError:
                message, handles = b"", []
            if len(message) != MESSAGE.size:
                self.lose("the zygote ended")
                return
            kind, number, value = MESSAGE.unpack(message)
            self._take(kind, number, value, handles[0] if handles else -1)

    def _take(self, kind: int, number: int, value: int, handle: int) -> None:
        if kind == READY:
            self.pid = _visible_pid(handle, value)
            self._itself = Child(self, 0, self._control, self.pid, handle)
            if not self._ready.done():
                self._ready.set_result(None)
        elif kind == FORKED:
            future, sock = self._asked.pop(number)
            child = self._children[number] = Child(self, number, sock, _visible_pid(handle, value), handle)
            if future.cancelled():
                child.kill()
                sock.close()
            else:
                future.set_result(child)
        elif kind == FAILED:
            future, sock = self._asked.pop(number)
            sock.close()
            if not future.cancelled():
                future.set_exception(
                    SandboxUnavailable(
                        f"A worker cannot be forked: {os.strerror(value)}. "
                        f"Raise the limits of processes and memory of this user, or lower [sandbox] workers."
                    )
                )
        elif kind == EXITED:
            said = ""
            if os.WIFEXITED(value) and os.WEXITSTATUS(value) == NOT_CONFINED and self._process.stderr:
                said = _last_line(self._process.stderr.read() or b"")
            self._children.pop(number).set_ended(how_it_ended(value) + (f": {said}" if said else ""))


def how_it_ended(status: int) -> str:
    """A status as `os.waitpid` gives it, in words."""
    code = os.waitstatus_to_exitcode(status)
    if code == ENTRY_RAISED:
        return f"exit {code} (the worker's code raised an exception)"
    if code == NOT_CONFINED:
        return f"exit {code} (it could not be prepared or confined)"
    if code >= 0:
        return f"exit {code}"
    number = -code
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"killed by signal {number}"
    cause = {
        "SIGSYS": "a forbidden system call, or a crash",
        "SIGXCPU": "its lifetime of processor seconds is over",
        "SIGSEGV": "a crash",
        "SIGABRT": "a crash",
        "SIGBUS": "a crash",
    }.get(name)
    return f"killed by signal {number} ({name}{f': {cause}' if cause else ''})"


def _import_path() -> list[str]:
    """Where this process imports from, so that workers run the same code, installed or from a checkout."""
    path = [entry for entry in sys.path if os.path.isabs(entry)]
    package = str(Path(__file__).resolve().parents[2])
    return path if package in path else [*path, package]


def _visible_pid(handle: int, pid: int) -> int:
    """The process id behind a pidfd as this process sees it; `pid`, the zygote's view, where there is no pidfd."""
    if handle < 0:
        return pid
    for line in Path(f"/proc/self/fdinfo/{handle}").read_text().splitlines():
        if line.startswith("Pid:"):
            return int(line.split()[1])
    return pid


def _kill(handle: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, signal.SIGKILL)


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1].strip().rstrip(".") if lines else ""
