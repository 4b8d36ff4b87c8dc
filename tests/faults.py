"""Faults between a supervisor and a Docker engine: a proxy that sees each request, and does to it what a test asks.

It stands between them as a network would, so the product has no hook for tests: an answer is lost because it is never
handed on, and a supervisor dies at a certain step because the proxy kills it when it sees that step's request.
"""

from __future__ import annotations

import collections
import contextlib
import re
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

CASES: collections.Counter[str] = collections.Counter()  # what has been tried in this session, by kind
_CHUNK = 65536
_VERSION = re.compile(r"^/v[0-9.]+")

Act = Callable[[], None]


def nothing() -> None:
    """Only lose what is to be lost."""


class Fault:
    """What befalls the first request, or the first few, that match.

    Args:
        request: a regular expression for ``METHOD /path``, without version and query.
        when: "before" the engine gets it, or "after" the engine has answered.
        act: called at that moment.
        lose: whether request or answer are lost then, as by a broken connection.
        times: how many requests it befalls.
    """

    def __init__(
        self, request: str, when: str = "after", act: Act = nothing, lose: bool = True, times: int = 1
    ) -> None:
        self.request = re.compile(request)
        self.when = when
        self.act = act
        self.lose = lose
        self.left = times
        self.done = threading.Event()  # it has befallen as many as it should


class Proxy:
    """Listens on a socket of its own and hands on what comes to an engine's."""

    def __init__(self, engine_socket: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sr-proxy-"))
        self.url = f"unix://{self.folder}/s"
        self.seen: list[str] = []  # "METHOD /path" of each request
        self._engine = engine_socket
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{self.folder}/s")
        self._listener.listen(64)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def add(self, fault: Fault) -> Fault:
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        self._faults.clear()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for each in self._open:
                _shut(each)
        for thread in self._threads:
            thread.join(10)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError, ValueError):
            self._keep(stack, client)
            head, body = _read_request(client)
            if not head:
                return
            method, path = head.split(b" ", 2)[:2]
            what = f"{method.decode()} {_VERSION.sub('', path.decode()).partition('?')[0]}"
            self.seen.append(what)
            before, after = self._fault(what, "before"), self._fault(what, "after")
            if before is not None:
                before.act()
                before.done.set()
                if before.lose:
                    return
            upstream = socket.socket(socket.AF_UNIX)
            self._keep(stack, upstream)
            upstream.connect(self._engine)
            upstream.sendall(_closing(head) + body)
            if after is None:
                threading.Thread(target=_watch_for_end, args=(client, upstream), daemon=True).start()
                while piece := upstream.recv(_CHUNK):
                    client.sendall(piece)
                return
            answer = _read_answer(upstream, endless=what.endswith(("/events", "/logs")))
            after.act()
            after.done.set()
            if not after.lose:
                client.sendall(answer)
                while piece := upstream.recv(_CHUNK):
                    client.sendall(piece)

    def _keep(self, stack: contextlib.ExitStack, each: socket.socket) -> None:
        stack.enter_context(each)
        with self._lock:
            self._open.add(each)
        stack.callback(self._open.discard, each)
        stack.callback(_shut, each)

    def _fault(self, what: str, when: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.left and fault.when == when and fault.request.fullmatch(what):
                    fault.left -= 1
                    return fault
        return None


def _read_request(client: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = client.recv(_CHUNK)
        if not piece:
            return b"", b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?im)^content-length: *(\d+)", head)
    while len(body) < (int(length[1]) if length else 0):
        if not (piece := client.recv(_CHUNK)):
            return b"", b""
        body += piece
    return head, body


def _closing(head: bytes) -> bytes:
    """The head of a request whose answer ends with the connection."""
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([*lines, b"Connection: close", b"", b""])


def _read_answer(upstream: socket.socket, endless: bool) -> bytes:
    """The whole answer; of an endless one what comes with the first piece of its body."""
    data = b""
    while piece := upstream.recv(_CHUNK):
        data += piece
        if endless and data.partition(b"\r\n\r\n")[2]:
            break
    return data


def _shut(each: socket.socket) -> None:
    """End a connection though another thread still reads from it: closing alone would wait for that."""
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)


def _watch_for_end(client: socket.socket, upstream: socket.socket) -> None:
    """End what the engine still sends to a client that has gone."""
    with contextlib.suppress(OSError):
        if not client.recv(1):
            _shut(upstream)


def summary() -> str:
    """A line for the end of a test session."""
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(CASES.items()))
    return f"docker faults: {sum(CASES.values())} cases ({kinds})"
