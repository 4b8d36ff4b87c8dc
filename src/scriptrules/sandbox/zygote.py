"""The process that workers are forked from: everything imported once, nothing of the machine in reach.

The supervisor's side is `scriptrules.sandbox.nursery`, which runs `serve` in a bare interpreter with one socket as
descriptor 0. Over it go messages of one shape, `MESSAGE`:

====== ======= ============================================== ====================
kind   from    number, value                                  descriptor
====== ======= ============================================== ====================
FORK   nursery a number for the worker, 0                     the worker's socket
KILL   nursery the worker's number, 0
READY  zygote  0, process id                                  a pidfd of the zygote
FORKED zygote  the worker's number, process id                a pidfd of the worker
FAILED zygote  the worker's number, errno                     -
EXITED zygote  the worker's number, status as of waitpid      -
====== ======= ============================================== ====================

Process ids are those of the zygote's own namespace; where there are no pidfds (outside Linux) they are everybody's.

A worker runs ``prepare(limits)`` of the entry's module, where it has one, before the walls go up (signal handlers and
timers can be set there and nowhere later), then the entry ``main(limits, walls)``; when that returns, it exits.

The zygote lives as long as the supervisor, and the workers as long as the zygote: as the first process of its own pid
namespace it takes all of them along, by the kernel; elsewhere by the signal on the parent's death, and where that is
missing too, by its own hand when the socket ends.

Tried and rejected:

* ``python -I``: it ignores PYTHONHASHSEED, and sets would iterate in a new order in every zygote. ``-s -P`` and an
  environment with nothing else in it are as isolated.
* Letting the process before the fork into the pid namespace exit: in a container without an init nobody would reap
  the zygote. It stays, waits, and shares all of its memory.
* multiprocessing's forkserver: it imports sockets, threads and pickle into each worker.
"""

from __future__ import annotations

import errno
import gc
import importlib
import os
import resource
import select
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from types import ModuleType

import greenlet
import msgspec

from scriptrules.sandbox.confine import DESCRIPTORS, Limits, confine, die_with_parent, isolate, set_limit

MESSAGE = struct.Struct("=BIi")  # kind, number, value
FORK, KILL, READY, FORKED, FAILED, EXITED = range(1, 7)

ENTRY_RAISED = 70  # exit code: the entry raised an exception
NOT_CONFINED = 71  # exit code: `prepare` or the walls raised one

# What a worker, the interpreter or the facades of pure modules import late. No import works behind the walls.
_PRELOADED = (
    "_blake2", "_datetime", "_decimal", "_md5", "_pydecimal", "_pylong", "_sha1", "_sha2", "_sha256", "_sha3",
    "_sha512", "_strptime", "ast", "base64", "binascii", "bisect", "calendar", "codecs", "cmath", "collections.abc",
    "colorsys", "contextlib", "copy", "csv", "datetime", "decimal", "difflib", "enum", "fractions", "functools",
    "graphlib", "hashlib", "heapq", "hmac", "html", "html.entities", "io", "ipaddress", "itertools", "json",
    "linecache", "locale", "math", "numbers", "operator", "pprint", "random", "re", "reprlib", "statistics", "string",
    "stringprep", "struct", "symtable", "textwrap", "time", "tokenize", "traceback", "typing", "unicodedata",
    "urllib.parse", "uuid", "warnings", "zlib", "zoneinfo", "annotationlib", "string.templatelib", "_colorize",
    "encodings.aliases", "encodings.ascii", "encodings.base64_codec", "encodings.charmap", "encodings.cp1252",
    "encodings.cp437", "encodings.hex_codec", "encodings.idna", "encodings.iso8859_1", "encodings.iso8859_15",
    "encodings.latin_1", "encodings.punycode", "encodings.quopri_codec", "encodings.raw_unicode_escape",
    "encodings.rot_13", "encodings.unicode_escape", "encodings.utf_16", "encodings.utf_16_be", "encodings.utf_16_le",
    "encodings.utf_32", "encodings.utf_32_be", "encodings.utf_32_le", "encodings.utf_7", "encodings.utf_8",
    "encodings.utf_8_sig", "encodings.zlib_codec", "greenlet", "msgspec.json", "msgspec.msgpack",
)  # fmt: skip


class Order(msgspec.Struct, frozen=True):
    """What a zygote is started with."""

    entry: str  # "module:function"
    limits: Limits
    supervisor: int  # process id


class _Entry(msgspec.Struct, frozen=True):
    prepare: Callable[[Limits], None] | None
    main: Callable[[Limits, dict[str, str]], None]


def serve(order: bytes) -> None:
    """Be the zygote: never returns before the supervisor's end of descriptor 0 is closed.

    Args:
        order: an `Order` as JSON.
    """
    told = msgspec.json.decode(order, type=Order)
    die_with_parent(told.supervisor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_limit(resource.RLIMIT_NOFILE, DESCRIPTORS, DESCRIPTORS)
    entry = _find(told.entry)
    _preload()
    walls = isolate()
    die_with_parent(told.supervisor)  # again: a change of user has cleared it
    if walls["namespaces"].startswith("on"):
        first = os.fork()
        if first:
            _stand_for(first)
        die_with_parent(None)
    gc.collect()
    gc.freeze()
    _Zygote(entry, told.limits, walls).serve()


def _find(entry: str) -> _Entry:
    module_name, _, function = entry.partition(":")
    module: ModuleType = importlib.import_module(module_name)
    return _Entry(getattr(module, "prepare", None), getattr(module, function))


def _preload() -> None:
    """Import and use once what would open files, load libraries or make locks on its first use."""
    for name in _PRELOADED:
        try:
            importlib.import_module(name)
        except ImportError:
            pass  # another version of Python has it under another name
    hashlib = sys.modules["hashlib"]
    for algorithm in sorted(hashlib.algorithms_guaranteed):
        try:
            hashlib.new(algorithm, b"")
        except ValueError:
            pass  # refused by the policy of the system's OpenSSL, here as later
    sys.modules["datetime"].datetime.strptime("2026", "%Y")
    for source in ("(", "ﬁ = '\\N{DASH}'"):
        try:
            compile(source, "<preload>", "exec")
        except SyntaxError as error:
            traceback.format_exception(error)

    # The first exception that crosses from one greenlet into another sets up the C++ unwinder.
    def fail() -> None:
        raise ValueError

    try:
        greenlet.greenlet(fail).switch()
    except ValueError:
        pass


def _stand_for(first: int) -> None:
    """Wait for the first process of the pid namespace, which only its parent can reap, and end as it did."""
    _, status = os.waitpid(first, 0)
    os._exit(0 if status == 0 else 1)


class _Zygote:
    def __init__(self, entry: _Entry, limits: Limits, walls: dict[str, str]) -> None:
        self._entry = entry
        self._limits = limits
        self._walls = walls
        self._control = socket.socket(fileno=0)
        self._pid = os.getpid()
        self._workers: dict[int, int] = {}  # process id: number
        self._woken, self._wake = socket.socketpair()

    def serve(self) -> None:
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        self._tell(READY, 0, self._pid, self._pid)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self._woken.fileno():
                    self._woken.recv(4096)
                    self._reap()
                elif not self._obey():
                    self._end()

    def _obey(self) -> bool:
        try:
            message, descriptors, _, _ = socket.recv_fds(self._control, MESSAGE.size, 1)
        except ConnectionError:
            return False
        if not message:
            return False
        kind, number, _ = MESSAGE.unpack(message)
        if kind == FORK:
            self._fork(number, descriptors[0])
        elif kind == KILL:
            for pid, known in self._workers.items():
                if known == number:
                    os.kill(pid, signal.SIGKILL)
        return True

    def _fork(self, number: int, descriptor: int) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            os.close(descriptor)
            self._tell(FAILED, number, error.errno or errno.EAGAIN)
            return
        if pid == 0:
            self._become_worker(descriptor)
        os.close(descriptor)
        self._workers[pid] = number
        self._tell(FORKED, number, pid, pid)

    def _become_worker(self, descriptor: int) -> None:
        code = NOT_CONFINED
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for ours in (self._control, self._woken, self._wake):
                ours.detach()
            os.dup2(descriptor, 0)
            if self._entry.prepare:
                self._entry.prepare(self._limits)
            sys.stdin = sys.stdout = sys.stderr = sys.__stdin__ = sys.__stdout__ = sys.__stderr__ = None  # type: ignore[misc]
            walls = self._walls | confine(self._limits, self._pid)
            code = ENTRY_RAISED
            self._entry.main(self._limits, walls)
            code = 0
        except BaseException:
            if code == NOT_CONFINED:
                os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)

    def _reap(self) -> None:
        while self._workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            self._tell(EXITED, self._workers.pop(pid), status)

    def _tell(self, kind: int, number: int, value: int, pid: int = 0) -> None:
        message = MESSAGE.pack(kind, number, value)
        handle = -1
        try:
            if pid and hasattr(os, "pidfd_open"):
                handle = os.pidfd_open(pid)
                socket.send_fds(self._control, [message], [handle])
            else:
                self._control.send(message)
        except ConnectionError:
            self._end()
        finally:
            if handle >= 0:
                os.close(handle)

    def _end(self) -> None:
        for pid in self._workers:
            os.kill(pid, signal.SIGKILL)
        os._exit(0)
