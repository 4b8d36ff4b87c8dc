"""What ten thousand sleeping runs cost, and how soon a server goes on after a restart with all of them outstanding."""

from __future__ import annotations

import time

from common import Result, Server, folder, median, write_rules

SLEEPERS = 10_000
NAP = 3.0  # seconds: it ends while the server is down
STORED = "SELECT count(*) FROM runs WHERE state = 'waiting'"
SETTLE = 1.0  # seconds until nothing is under way any more

SLEEP = """on = "sleeper"


def main(seconds):
    sleep(seconds)
    log("awake")
"""


def memory(rounds: int) -> list[Result]:
    """PSS of server, zygote and workers with and without ten thousand runs in `sleep`: kept warm, and evicted."""
    warm: list[tuple[float, float]] = []
    evicted: list[tuple[float, float]] = []
    for _ in range(rounds):
        warm.append(_kilobytes_each({}))
        evicted.append(_kilobytes_each({"sandbox_warm_runs": "1"}))
    return [
        _memory(f"{SLEEPERS:,} runs in `sleep`: memory each, all processes together", warm, reach=14, aim=10),
        _memory("the same after eviction (warm_runs = 1), where about 0 is asked for", evicted, reach=1, aim=0.2),
    ]


def _memory(what: str, rounds: list[tuple[float, float]], reach: float, aim: float) -> Result:
    together = [server + workers for server, workers in rounds]
    server, workers = median([server for server, _ in rounds]), median([workers for _, workers in rounds])
    note = f"server {server:.2f} with the store's page cache, workers {workers:.2f}"
    return Result("memory", what, median(together), "KB", together, reach=reach, aim=aim, note=note)


def _kilobytes_each(settings: dict[str, str]) -> tuple[float, float]:
    """What a sleeping run adds to the server, and to the zygote and the workers."""
    with folder() as base:
        write_rules(base, {"sleeper": SLEEP})
        with Server(base, **settings) as server:
            # As many tasks as will sleep go through first, so that buffers and caches have the size that they keep.
            _send_steadily(server, 0.0)
            _wait_for(server, "SELECT count(*) FROM runs WHERE state = 'done'", SLEEPERS)
            time.sleep(SETTLE)
            before = server.memory()
            _send_steadily(server, 3600.0)
            _wait_for(server, STORED, SLEEPERS)
            time.sleep(SETTLE)
            after = server.memory()
    return (after[0] - before[0]) / SLEEPERS / 1000, (after[1] - before[1]) / SLEEPERS / 1000


def restart(rounds: int) -> list[Result]:
    """A server that has ended is started again on ten thousand runs in `sleep`, one of which is overdue."""
    ready: list[float] = []
    resumed: list[float] = []
    empty: list[float] = []
    with folder() as base:
        write_rules(base, {"sleeper": SLEEP})
        with Server(base) as server:
            empty.append(server.seconds_to_ready)
            _send_steadily(server, 86_400.0)
            _wait_for(server, STORED, SLEEPERS)
        for _ in range(rounds):
            with Server(base) as server:
                server.send("sleeper", [{"seconds": NAP}])
                _wait_for(server, STORED, SLEEPERS + 1)
            time.sleep(NAP + 0.2)
            with Server(base) as server:
                ready.append(server.seconds_to_ready)
                resumed.append(_first_resumed(server))
    return [
        Result(
            "restart", f"restart with {SLEEPERS:,} runs in `sleep`: ready", median(ready), "s", ready,
            baseline="start on an empty store, s", baseline_value=median(empty), ratio=median(ready) / median(empty),
            reach=2, aim=0.5,
        ),
        Result("restart", "the same: the first one resumed", median(resumed), "s", resumed, reach=2, aim=0.5),
    ]  # fmt: skip


def _send_steadily(server: Server, seconds: float) -> None:
    """Send as many as will sleep, no faster than they come to sleep: a backlog would need memory that stays."""
    store = server.store()
    for _ in range(0, SLEEPERS, 500):
        server.send("sleeper", [{"seconds": seconds}] * 500)
        while store.execute("SELECT count(*) FROM tasks WHERE state = 'new'").fetchone()[0] > 100:
            time.sleep(0.005)


def _wait_for(server: Server, query: str, count: int) -> None:
    store = server.store()
    while store.execute(query).fetchone()[0] != count:
        time.sleep(0.02)


def _first_resumed(server: Server) -> float:
    """Seconds from the start of the process until a run has gone on, by the time in its log."""
    store = server.store()
    while True:
        (at,) = store.execute("SELECT min(at) FROM logs WHERE at > ?", (server.started,)).fetchone()
        if at is not None:
            return (int(at) - server.started) / 1e6
        time.sleep(0.005)
