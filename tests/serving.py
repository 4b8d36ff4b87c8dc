"""A real server in a process of its own, for tests: started as a user would, spoken to over HTTP, killed at will."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE = 60.0  # seconds that a test waits for what must happen
FINAL = {"done", "failed", "unmatched", "dropped", "cancelled"}


def eventually(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """What `condition` gives once it is true; fails the test where it does not become true."""
    end = time.monotonic() + patience
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"did not happen within {patience:.0f} s: {what}")
        time.sleep(0.02)


class Problem(Exception):
    """The server refused a request."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body


class Server:
    """A project in a folder, and the server that serves it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "server.log"
        (folder / "rules").mkdir(exist_ok=True)

    def rule(self, name: str, text: str) -> None:
        """Drop a rule in."""
        path = self.folder / "rules" / (name if name.endswith((".yaml", ".yml")) else f"{name}.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def drop_in(self, **rules: str) -> None:
        """Drop rules in, and wait until they are active."""
        for name, text in rules.items():
            self.rule(name, text)
        names = {name.removesuffix(".yaml") for name in rules}
        eventually(lambda: names <= self.active(), f"{names} active: {self.get('/api/rules')}")

    def active(self) -> set[str]:
        """The rules that are active."""
        return {rule["rule"] for rule in self.get("/api/rules")["items"] if rule["digest"]}

    def config(self, text: str) -> None:
        (self.folder / "scriptrules.toml").write_text(text)

    def start(self, wait: bool = True, configured: bool = False) -> None:
        """Start it, and wait until it is ready; with `configured` it listens where its configuration says."""
        listen = [] if configured else ["--listen", f"127.0.0.1:{self.port}"]
        environ = {key: value for key, value in os.environ.items() if not key.startswith("SCRIPTRULES_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "scriptrules", "serve", *listen],
                cwd=self.folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        eventually(self._is_ready, f"server ready\n{self.log.read_text()[-3000:]}")

    def _is_ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.log.read_text()[-3000:]}")
        if not self.port:
            for line in self.log.read_text().splitlines():
                if '"server.ready"' in line:
                    self.port = int(json.loads(line)["address"].rpartition(":")[2])
        try:
            return bool(self.port) and self.get("/readyz")["status"] == "ready"
        except (OSError, Problem, http.client.HTTPException):
            return False

    def kill(self) -> None:
        """End it by SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> int:
        """End it in order; returns its exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE)
        self.process = None
        return code

    # ---- the command line

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`scriptrules` with these words, told where the server is."""
        environ = {**os.environ, "SCRIPTRULES_URL": f"http://127.0.0.1:{self.port}"}
        command = [sys.executable, "-m", "scriptrules", *words]
        return subprocess.run(command, cwd=self.folder, env=environ, capture_output=True, text=True, check=False)

    # ---- HTTP

    def request(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, {"content-type": kind})
            answer = connection.getresponse()
            decoded = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status >= 400:
            raise Problem(answer.status, decoded)
        return decoded

    def get(self, path: str) -> Any:
        return self.request("GET", path)

    def post(self, path: str, **body: Any) -> Any:
        return self.request("POST", path, json.dumps(body).encode())

    def send(self, name: str, key: str | None = None, **data: Any) -> str:
        """Send a task; returns its id once it is durable."""
        task = {"name": name, "data": data} | ({"key": key} if key else {})
        return str(self.request("POST", "/api/tasks", json.dumps(task).encode())["id"])

    def send_many(self, tasks: list[dict[str, Any]]) -> list[str]:
        body = b"\n".join(json.dumps(task).encode() for task in tasks)
        return list(self.request("POST", "/api/tasks", body, "application/x-ndjson")["ids"])

    def all(self, kind: str, **query: Any) -> list[dict[str, Any]]:
        """Every task or run that fits, over all pages."""
        found: list[dict[str, Any]] = []
        cursor = None
        while True:
            given = {**query, "limit": 1000} | ({"cursor": cursor} if cursor else {})
            page = self.get(f"/api/{kind}?" + "&".join(f"{key}={value}" for key, value in given.items()))
            found += page["items"]
            cursor = page["next"]
            if cursor is None:
                return found

    def task(self, id: str) -> dict[str, Any]:
        return dict(self.get(f"/api/tasks/{id}"))

    def wait_task(self, id: str, states: set[str] = FINAL, patience: float = PATIENCE) -> dict[str, Any]:
        """The task once it is in one of `states`."""

        def reached() -> dict[str, Any] | None:
            task = self.task(id)
            return task if task["state"] in states else None

        try:
            return dict(eventually(reached, f"task {id} in {states}", patience))
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {self.task(id)}\n{self.log.read_text()[-3000:]}") from None

    def run_of(self, task: str, rule: str | None = None) -> dict[str, Any]:
        """The run of a task (of one rule)."""
        runs = [run for run in self.all("runs", task=task) if rule in (None, run["rule"])]
        assert len(runs) == 1, runs
        return runs[0]

    def wait_run(self, task: str, states: set[str], rule: str | None = None) -> dict[str, Any]:
        def reached() -> dict[str, Any] | None:
            runs = [run for run in self.all("runs", task=task) if rule in (None, run["rule"])]
            return runs[0] if runs and runs[0]["state"] in states else None

        return dict(eventually(reached, f"run of {task} in {states}\n{self.log.read_text()[-2000:]}"))

    def entries(self, run: str) -> list[dict[str, Any]]:
        return list(self.get(f"/api/runs/{run}/journal")["items"])

    def events(self) -> list[dict[str, Any]]:
        """What the server has logged."""
        found = []
        for line in self.log.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return [event for event in found if isinstance(event, dict)]

    def worker_pids(self) -> list[int]:
        """Processes of the server that execute rules: the grandchildren by way of the zygote."""
        assert self.process is not None
        return [pid for child in _children(self.process.pid) for pid in _below(child)]


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _below(pid: int) -> list[int]:
    return [found for child in _children(pid) for found in (child, *_below(child))]


@contextmanager
def project() -> Iterator[Server]:
    """A server's folder that executions of another user can reach; everything ends with the block."""
    folder = Path(tempfile.mkdtemp(prefix="scriptrules-test-"))
    folder.chmod(0o755)
    server = Server(folder)
    try:
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


APPEND = """#!/bin/sh
# append a line to a file: the execution's own record of having been started
echo "$2" >> "$1"
echo "{\\"n\\": $2}"
"""


def appending_program(server: Server) -> tuple[str, Path]:
    """A program that appends its second argument to the file named by its first; and such a file."""
    program = server.folder / "append"
    program.write_text(APPEND)
    program.chmod(0o755)
    record = server.folder / "record"
    record.touch()
    record.chmod(0o666)
    return str(program), record
