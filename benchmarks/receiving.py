"""What a hundred thousand runs cost that wait in `receive` and were evicted, and how soon one of them goes on."""

from __future__ import annotations

import time

from common import Http, Result, Server, folder, median, write_rules

from scriptrules import clock

RECEIVERS = 100_000
IDLE = 10.0  # seconds
WOKEN = 50  # of them, one after the other

RECEIVE = """on = "receiver"


def main(n):
    receive("answer", {"n": n})
"""


def receivers(rounds: int) -> list[Result]:
    """Memory and CPU time of a server with a hundred thousand receivers, and from a task's sending to the run's end."""
    memory: list[float] = []
    idle: list[float] = []
    woken: list[float] = []
    ready: list[float] = []
    for _ in range(rounds):
        with folder() as base:
            write_rules(base, {"receiver": RECEIVE})
            with Server(base, sandbox_warm_runs="1") as server:
                _receive(server, 0, 2_000)
                _answer(server, list(range(2_000)))
                before = sum(server.memory())
                _receive(server, 2_000, RECEIVERS)
                time.sleep(2.0)
                memory.append((sum(server.memory()) - before) / RECEIVERS / 1000)
                used = _cpu_seconds(server)
                time.sleep(IDLE)
                idle.append((_cpu_seconds(server) - used) / IDLE * 100)
                woken.append(_seconds_each(server, 10_000))
            with Server(base, sandbox_warm_runs="1") as server:
                ready.append(server.seconds_to_ready)
                _seconds_each(server, 20_000)
    many = f"{RECEIVERS:,} runs in `receive`"
    return [
        Result("receivers", f"{many}: memory each, all processes", median(memory), "KB", memory, reach=1, aim=0.2),
        Result("receivers", "CPU while nothing arrives", median(idle), "% of a core", idle, reach=1, aim=0.1),
        Result("receivers", "from sending to the run's end, p50", median(woken) * 1000, "ms", woken, reach=50, aim=10),
        Result("receivers", "restart: ready", median(ready), "s", ready, reach=2, aim=1),
    ]


def _receive(server: Server, first: int, count: int) -> None:
    server.http = Http(server.address)  # one that was idle was closed
    store = server.store()
    for at in range(first, first + count, 500):
        server.send("receiver", [{"n": n} for n in range(at, at + 500)])
        while store.execute("SELECT count(*) FROM tasks WHERE state = 'new'").fetchone()[0] > 500:
            time.sleep(0.005)
    while _waiting(server) != count:
        time.sleep(0.05)


def _answer(server: Server, numbers: list[int]) -> None:
    left = _waiting(server) - len(numbers)
    server.http = Http(server.address)
    server.send("answer", [{"n": n} for n in numbers])
    while _waiting(server) != left:
        time.sleep(0.002)


def _seconds_each(server: Server, first: int) -> float:
    """From before a task is sent until the run that receives it has ended; no other may end."""
    took = []
    for n in range(first, first + WOKEN):
        began = clock.monotonic()
        _answer(server, [n])
        took.append(clock.monotonic() - began)
    left = _waiting(server)
    time.sleep(1.0)
    if _waiting(server) != left:
        raise RuntimeError("more runs went on than were answered")
    return median(took)


def _waiting(server: Server) -> int:
    return int(server.store().execute("SELECT count(*) FROM runs WHERE state = 'waiting'").fetchone()[0])


def _cpu_seconds(server: Server) -> float:
    return sum(clock.cpu_seconds_of(pid) or 0.0 for pid in server.pids())
