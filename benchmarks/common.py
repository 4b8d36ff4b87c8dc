"""What all benchmarks share: a server of their own in a folder of its own, a light HTTP client, results."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from scriptrules import clock

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"  # ignored by git; on the disk of the checkout, where stores are measured
START_TIMEOUT = 120.0  # seconds

_SERVE = (
    "import pathlib, sys; from scriptrules import config, log; from scriptrules.web.server import serve; "
    "log.configure(); "
    "serve(config.load(pathlib.Path(sys.argv[1]), {'server.listen': '127.0.0.1:0'}), lambda at: print(at, flush=True))"
)


class Result(msgspec.Struct):
    """One number, with what it is to be compared with.

    `value` is the median of `rounds`; `judged` is what `reach` and `aim` are about where that is not the value itself:
    its ratio to the baseline.
    """

    name: str
    what: str
    value: float
    unit: str
    rounds: list[float] = []
    baseline: str = ""
    baseline_value: float | None = None
    ratio: float | None = None
    by_ratio: bool = False
    reach: float | None = None
    aim: float | None = None
    more_is_better: bool = False
    note: str = ""

    @property
    def judged(self) -> float:
        return self.ratio if self.by_ratio and self.ratio is not None else self.value

    @property
    def mark(self) -> str:
        """How far the number comes: "aim", "reach", "below", or nothing where nothing is asked of it."""
        if self.reach is None or self.aim is None:
            return ""
        sign = 1 if self.more_is_better else -1
        if sign * self.judged >= sign * self.aim:
            return "aim"
        return "reach" if sign * self.judged >= sign * self.reach else "below"


def median(values: list[float]) -> float:
    return statistics.median(values)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A project folder on the disk of the checkout, gone afterwards."""
    RESULTS.mkdir(exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="run-", dir=RESULTS))
    (path / "scriptrules.toml").touch()  # or the one of the checkout, above it, would hold
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def write_rules(base: Path, rules: dict[str, str]) -> None:
    """Put rule files into a project folder, by name."""
    for name, text in rules.items():
        file = base / "rules" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


class Server:
    """`scriptrules` as a process of its own, on a free port. `started` is when it was asked for, in microseconds."""

    def __init__(self, base: Path, **settings: str) -> None:
        environ = {**os.environ, **{f"SCRIPTRULES_{key.upper()}": value for key, value in settings.items()}}
        self.base = base
        self.started = clock.now()
        begin = clock.monotonic()
        with (base / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _SERVE, str(base)],
                stdout=subprocess.PIPE,
                stderr=log,
                env=environ,
                start_new_session=True,
            )
        assert self._process.stdout
        self.address = self._process.stdout.readline().decode().strip()
        if not self.address.startswith("http://"):
            self._process.kill()
            said = (base / "server.log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"the server did not start:\n{said}")
        self.seconds_to_ready = clock.monotonic() - begin
        self.pid = self._process.pid
        self.http = Http(self.address)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it in order."""
        self.http.close()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def pids(self) -> list[int]:
        """The server, the zygote and the workers."""
        parents: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    parents.setdefault(int(fields[1]), []).append(int(entry.name))
        found = [self.pid]
        for pid in found:
            found += parents.get(pid, [])
        return found

    def memory(self) -> tuple[int, int]:
        """Bytes that the server, and that zygote and workers occupy: of a shared page each has its share."""
        sizes = []
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    sizes.append(int(line.split()[1]) * 1024)
        return sizes[0], sum(sizes[1:])

    def store(self) -> sqlite3.Connection:
        """The store, to look into: it says how far the server is without costing the server anything."""
        return open_store(self.base)

    def send(self, name: str, data: list[dict[str, Any]]) -> None:
        """Send tasks as NDJSON, a hundred in a request."""
        for at in range(0, len(data), 100):
            lines = [json.dumps({"name": name, "data": item}) for item in data[at : at + 100]]
            self.http.request("POST", "/api/tasks", "\n".join(lines).encode(), "application/x-ndjson")


def open_store(base: Path) -> sqlite3.Connection:
    path = base / ".scriptrules" / "state.db"
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)


class Http:
    """HTTP over one connection that is kept: no more than the benchmarks need."""

    def __init__(self, address: str) -> None:
        host, _, port = address.removeprefix("http://").rpartition(":")
        self._host = f"{host}:{port}"
        self._sock = socket.create_connection((host, int(port)))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._in = self._sock.makefile("rb")

    def request(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> Any:
        """The JSON that the server answers.

        Raises:
            RuntimeError: it answers with a problem.
        """
        self._sock.sendall(encode_request(self._host, method, path, body, kind))
        status = int(self._in.readline().split()[1])
        length = 0
        while line := self._in.readline().strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        answer = self._in.read(length)
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {answer.decode(errors='replace')}")
        return json.loads(answer)

    def close(self) -> None:
        self._in.close()
        self._sock.close()


def flush_milliseconds(base: Path) -> float:
    """The median of an fdatasync after writing a page over one that the file has: what a commit waits for."""
    took = []
    with (base / "flushed").open("wb", buffering=0) as file:
        file.write(bytes(4096))
        for _ in range(100):
            file.seek(0)
            file.write(bytes(4096))
            began = clock.monotonic()
            os.fdatasync(file.fileno())
            took.append((clock.monotonic() - began) * 1000)
    return median(took)


def encode_request(host: str, method: str, path: str, body: bytes, kind: str) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def client(*arguments: object) -> Any:
    """What the load client, in a process of its own, has measured."""
    command = [sys.executable, str(HERE / "load.py"), *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
