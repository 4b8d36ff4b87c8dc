"""What containers cost beside the `docker` command, on the same engine in the same run: an engine of the tests' own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from common import Http, Result, Server, folder, median, write_rules

from engine import IMAGE, PrivateEngine, missing
from scriptrules import clock

ALONE = 15  # containers of one round, one after the other
STREAM = 40  # containers of one round with several in flight
DEATHS = 15
SLEEPERS = 100
SETTLE = 4.0  # seconds after which connections that nobody uses are closed

ONE = f"""on = "one"


def main(command):
    log("begun")
    run("locust", "job", "{IMAGE}", args=command)
    wait()
    log("resumed")
"""
MANY = f"""on = "many"


def main(count):
    for n in range(count):
        run("locust", f"job-{{n}}", "{IMAGE}", args=["sleep", "600"])
    wait()
"""


@contextlib.contextmanager
def _engine() -> Iterator[PrivateEngine]:
    if reason := missing() or (None if shutil.which("docker") else "there is no `docker` command to compare with."):
        raise SystemExit(f"benchmarks: containers: {reason}")
    engine = PrivateEngine()
    try:
        engine.start()
        engine.load_image()
        yield engine
    finally:
        engine.remove()


@contextlib.contextmanager
def _project(engine: PrivateEngine, more: str = "") -> Iterator[Path]:
    with folder() as base:
        host = f'[hosts.locust]\nexecutor = "docker"\nurl = "{engine.url}"\nimages = ["**"]\npull = "never"\n{more}\n'
        (base / "scriptrules.toml").write_text(host)
        write_rules(base, {"one": ONE, "many": MANY})
        yield base


def containers(rounds: int) -> list[Result]:
    """All of it, on one engine."""
    with _engine() as engine:
        results = [_alone(engine, rounds), *(_in_flight(engine, rounds, count) for count in (4, 16))]
        return [*results, _deaths(engine, rounds), *_sleepers(engine)]


def _send(server: Server, name: str, data: list[dict[str, object]]) -> None:
    """Send by a new connection: the server closes one that was idle while the command had its turn."""
    server.http.close()
    server.http = Http(server.address)
    server.send(name, data)


# ---- one after the other


def _alone(engine: PrivateEngine, rounds: int) -> Result:
    ours: list[float] = []
    theirs: list[float] = []
    with _project(engine) as base, Server(base) as server:
        _run_one(server)
        for _ in range(rounds):
            mine, others = [], []
            for _ in range(ALONE):
                mine.append(_run_one(server))
                _wait_until_empty(engine)
                others.append(_command(engine))
            ours.append(median(mine))
            theirs.append(median(others))
    baseline = median(theirs)
    return Result(
        "containers", "`run()` + `wait()` of `true`, p50", median(ours), "ms", ours,
        baseline="docker run --rm, ms", baseline_value=baseline, ratio=median(ours) / baseline, by_ratio=True,
        reach=1.05, aim=0.95,
    )  # fmt: skip


def _run_one(server: Server) -> float:
    """Milliseconds from the script's first line until it has been resumed."""
    began = clock.now()
    _send(server, "one", [{"command": ["true"]}])
    store = server.store()
    query = "SELECT at FROM logs WHERE at >= ? ORDER BY at"
    while len(rows := store.execute(query, (began,)).fetchall()) < 2:
        time.sleep(0.002)
    store.close()
    return float(rows[1][0] - rows[0][0]) / 1000


def _command(engine: PrivateEngine) -> float:
    began = clock.monotonic()
    subprocess.run(["docker", "-H", engine.url, "run", "--rm", "--network", "none", IMAGE, "true"], check=True)
    return (clock.monotonic() - began) * 1000


# ---- several at once


def _in_flight(engine: PrivateEngine, rounds: int, count: int) -> Result:
    ours: list[float] = []
    theirs: list[float] = []
    with _project(engine, f"max_running = {count}") as base, Server(base) as server:
        for _ in range(rounds):
            ours.append(_stream(engine, server))
            began = clock.monotonic()
            with ThreadPoolExecutor(count) as threads:
                list(threads.map(lambda _: _command(engine), range(STREAM)))
            theirs.append(STREAM / (clock.monotonic() - began))
    ratio = median(ours) / median(theirs)
    what = f"containers a second, {count} in flight, until they are removed"
    return Result(
        "containers", what, median(ours), "/s", ours,
        baseline="docker run --rm in parallel, /s", baseline_value=median(theirs), ratio=ratio, by_ratio=True,
        reach=1.0, aim=1.1, more_is_better=True,
    )  # fmt: skip


def _stream(engine: PrivateEngine, server: Server) -> float:
    store = server.store()
    query = "SELECT count(*) FROM runs WHERE state = 'done'"
    wanted = store.execute(query).fetchone()[0] + STREAM
    began = clock.monotonic()
    _send(server, "one", [{"command": ["true"]}] * STREAM)
    while store.execute(query).fetchone()[0] < wanted:
        time.sleep(0.01)
    store.close()
    _wait_until_empty(engine)
    return STREAM / (clock.monotonic() - began)


def _wait_until_empty(engine: PrivateEngine) -> None:
    while json.loads(_get(engine, "/containers/json?all=1")):
        time.sleep(0.005)


def _get(engine: PrivateEngine, path: str) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"{engine.folder}/s")
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        with connection.makefile("rb") as answer:
            return answer.read().partition(b"\r\n\r\n")[2]


# ---- from the end of a container until its script goes on


def _deaths(engine: PrivateEngine, rounds: int) -> Result:
    medians, answers = [], list[float]()
    with _project(engine) as base, Server(base) as server, _heard_deaths(engine, answers) as heard:
        store = server.store()
        for _ in range(rounds):
            took = []
            for _ in range(DEATHS):
                began, known = clock.now(), len(heard)
                _send(server, "one", [{"command": ["sleep", "0.3"]}])
                query = "SELECT at FROM logs WHERE at >= ? ORDER BY at"
                while len(rows := store.execute(query, (began,)).fetchall()) < 2 or len(heard) == known:
                    time.sleep(0.002)
                took.append((rows[1][0] - heard[known]) / 1000)
                _wait_until_empty(engine)
            medians.append(median(took))
        store.close()
    note = "from when another listener has heard the engine's event"
    return Result(
        "containers", "a container dies → its script is resumed, p50", median(medians), "ms", medians,
        baseline="until the engine answers about it, ms", baseline_value=median(answers), reach=10, aim=5, note=note,
    )  # fmt: skip


@contextlib.contextmanager
def _heard_deaths(engine: PrivateEngine, answers: list[float]) -> Iterator[list[int]]:
    """When each container has died, as a listener hears it; microseconds since 1970.

    Args:
        answers: gets the milliseconds that the engine then takes to answer the listener's question about it.
    """
    heard: list[int] = []
    filters = quote(json.dumps({"event": ["die"]}))
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(f"{engine.folder}/s")
    connection.sendall(f"GET /events?filters={filters} HTTP/1.0\r\n\r\n".encode())

    def listen() -> None:
        with connection.makefile("rb") as lines:
            for line in lines:
                if line.startswith(b"{"):
                    heard.append(clock.now())
                    began = clock.monotonic()
                    _get(engine, f"/containers/{json.loads(line)['id']}/json")
                    answers.append((clock.monotonic() - began) * 1000)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield heard
    finally:
        connection.shutdown(socket.SHUT_RDWR)
        listener.join()
        connection.close()


# ---- a hundred that sleep


def _sleepers(engine: PrivateEngine) -> list[Result]:
    with _project(engine) as base:
        with Server(base) as server:
            _run_one(server)
            time.sleep(SETTLE)
            threads, memory = _threads(server.pid), server.memory()[0]
            _send(server, "many", [{"count": SLEEPERS}])
            _wait_for_starts(base, SLEEPERS + 1)
            time.sleep(SETTLE)
            grown = (server.memory()[0] - memory) / 1e6
            more, sockets = _threads(server.pid) - threads, _connections(engine)
            os.kill(server.pid, signal.SIGKILL)
        (base / "server.log").unlink()
        began = clock.monotonic()
        with Server(base) as server:
            _wait_for_starts(base, SLEEPERS)
            adopted = clock.monotonic() - began
        engine.clear()
    what = f"{SLEEPERS} sleeping containers"
    return [
        Result("containers", f"{what}: connections to the engine", sockets, "", reach=2, aim=1),
        Result("containers", f"{what}: memory of the supervisor, more than before", grown, "MB", reach=10, aim=3),
        Result("containers", f"{what}: threads of the supervisor, more than before", more, "", reach=4, aim=0),
        Result("containers", f"killed and started again with {SLEEPERS}: all adopted", adopted, "s", reach=3, aim=1.5),
    ]


def _wait_for_starts(base: Path, count: int) -> None:
    log = base / "server.log"
    while not log.exists() or log.read_bytes().count(b'"execution.started"') < count:
        time.sleep(0.01)


def _threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def _connections(engine: PrivateEngine) -> int:
    """How many connections the engine has, whoever made them: all but the socket that it listens on."""
    path = f"{engine.folder}/s"
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return sum(line[-1] == path and line[3] != "00010000" for line in lines)
