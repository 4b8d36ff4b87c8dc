"""What the sandbox costs: a run's start, a call, a suspended script, a worker, the language against its stock form."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import RestrictedPython
import structlog
from common import Result, median
from RestrictedPython import Guards
from RestrictedPython.Eval import default_guarded_getiter
from sandboxed import _ask, _ask_all, _load, _pool, _source, _view

from scriptrules import clock
from scriptrules.sandbox import signals, wire
from scriptrules.sandbox.book import RuleScope
from scriptrules.sandbox.builtins import make_builtins
from scriptrules.sandbox.policy import compile_source
from scriptrules.sandbox.pool import Pool

BATCH = 2_000  # tasks sent at once
CALLS = 5_000  # entries of one slice
SUSPENDED = 1_000  # runs
LOOPS = 300_000  # iterations
STARTS = 30  # workers forked

SLEEPS = 'on = "go"\n\n\ndef main():\n    sleep(3600)\n'
EMITS = f'on = "go"\n\n\ndef main():\n    for n in range({CALLS}):\n        emit("step", n=n)\n'
LOOP = f"def main():\n    total = 0\n    for n in range({LOOPS}):\n        total = total + n\n    return total\n"
PROGRAM = "\n\n".join(
    f"def step_{number}(task):\n"
    "    rows = [row for row in task['rows'] if row['size'] > 10]\n"
    "    total = 0\n"
    "    for row in rows:\n"
    "        total = total + row['size'] * 2\n"
    "    return {'total': total, 'name': task['name'].upper()}\n"
    for number in range(20)
)


def sandbox(rounds: int) -> list[Result]:
    """Each number of wall two and of the language, and what a killed worker costs."""
    quiet = structlog.make_filtering_bound_logger(logging.ERROR)  # that workers are killed here is no news
    structlog.configure(wrapper_class=quiet)
    results = asyncio.run(_in_workers(rounds))
    return [*results, _compile(rounds), _loop(rounds), _killed(rounds)]


async def _in_workers(rounds: int) -> list[Result]:
    return [await _start(rounds), await _call(rounds), await _memory(rounds), await _fork(rounds)]


async def _batch(pool: Pool) -> float:
    """Seconds for a batch of tasks, from the first request to the last reply."""
    view, now = _view("go"), clock.now()
    makes: list[Callable[[int, int], Any]] = [lambda number, slot: wire.Take(number, slot, view, now)] * BATCH
    began = clock.monotonic()
    replies = await _ask_all(pool, makes)
    took = clock.monotonic() - began
    slots = [reply.runs[0].slice.slot for reply in replies if reply.runs[0].slice.end == "blocked"]
    if slots:
        pool.workers[0].warm += len(slots)
        pool.evict(pool.workers[0], slots)
        await _ask(pool, lambda number, slot: wire.Take(number, slot, _view("nobody"), now))
    return took


async def _start(rounds: int) -> Result:
    took = []
    async with _pool() as pool:
        await _load(pool, [_source("r", SLEEPS)])
        await _batch(pool)
        for _ in range(rounds * 3):
            took.append(await _batch(pool) / BATCH * 1e6)
    return Result(
        "sandbox", "start of a run in a warm worker until its first call is there", median(took), "µs", took,
        reach=40, aim=20, note=f"over the socket, {BATCH:,} in a batch; a rule with one `sleep`",
    )  # fmt: skip


async def _call(rounds: int) -> Result:
    took = []
    async with _pool() as pool:
        await _load(pool, [_source("r", EMITS)])
        for _ in range(rounds * 3 + 1):
            began = clock.monotonic()
            reply = await _ask(pool, lambda number, slot: wire.Take(number, slot, _view("go"), clock.now()))
            took.append((clock.monotonic() - began) / CALLS * 1e6)
            if len(reply.runs[0].slice.entries) != CALLS:
                raise RuntimeError(f"not every call is an entry: {reply.runs[0].slice.error}")
    return Result(
        "sandbox", "an injected call, script → host → script, inside the worker", median(took[1:]), "µs", took[1:],
        reach=5, aim=2.5, note=f"`emit`, {CALLS:,} in a slice, with its share of the reply",
    )  # fmt: skip


def _private(pid: int) -> int:
    """Bytes that only this process has."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


async def _memory(rounds: int) -> Result:
    sizes = []
    for _ in range(rounds):
        async with _pool() as pool:
            await _load(pool, [_source("r", SLEEPS)])
            await _ask(pool, lambda number, slot: wire.Take(number, slot, _view("go"), clock.now()))
            before = _private(pool.workers[0].pid)
            makes: list[Callable[[int, int], Any]] = [
                lambda number, slot: wire.Take(number, slot, _view("go"), clock.now())
            ] * 5000
            await _ask_all(pool, makes)
            sizes.append((_private(pool.workers[0].pid) - before) / len(makes) / 1024)
    return Result(
        "sandbox", "memory of a suspended script", median(sizes), "KB", sizes, reach=12, aim=8,
        note="the worker's own pages, 5,000 scripts that wait in `sleep`",
    )  # fmt: skip


async def _fork(rounds: int) -> Result:
    took = []
    async with _pool() as pool:
        for _ in range(rounds * STARTS):
            pool.size += 1
            began = clock.monotonic()
            await pool._fork()
            took.append((clock.monotonic() - began) * 1000)
            pool.size -= 1
            worker = pool.workers.pop()
            worker.kill("measured")
            await worker.child.ended()
    return Result(
        "sandbox", "a fresh, fully confined worker from the pre-loaded parent, until it is ready", median(took), "ms",
        took, reach=10, aim=5,
    )  # fmt: skip


# ---- the language


def _timed(times: int, what: Callable[[], object]) -> float:
    """Seconds of the quickest of several times."""
    best = float("inf")
    for _ in range(times):
        began = clock.monotonic()
        what()
        best = min(best, clock.monotonic() - began)
    return best


def _compile(rounds: int) -> Result:
    ours, stock = [], []
    for _ in range(rounds * 3):
        ours.append(_timed(3, lambda: compile_source(PROGRAM, "rules/r.py")) * 1000)
        stock.append(_timed(3, lambda: RestrictedPython.compile_restricted(PROGRAM, "r", "exec")) * 1000)
    return Result(
        "sandbox", "compiling a rule of 20 functions", median(ours), "ms", ours, baseline="stock RestrictedPython, ms",
        baseline_value=median(stock), ratio=median(ours) / median(stock), by_ratio=True, reach=2, aim=1.2,
    )  # fmt: skip


def _loop(rounds: int) -> Result:
    code = compile_source(LOOP, "rules/r.py").code
    scope = RuleScope(make_builtins(), {}, 1 << 60)
    signals.current = scope
    main = scope.execute(code)["main"]
    names: dict[str, Any] = {
        "__builtins__": {**Guards.safe_builtins, "range": range},
        "_getiter_": default_guarded_getiter,
    }
    exec(RestrictedPython.compile_restricted(LOOP, "r", "exec"), names)
    ours, stock = [], []
    for _ in range(rounds * 3):
        ours.append(_timed(3, main) / LOOPS * 1e9)
        stock.append(_timed(3, names["main"]) / LOOPS * 1e9)
    return Result(
        "sandbox", "an iteration of a guarded loop", median(ours), "ns", ours, baseline="stock RestrictedPython, ns",
        baseline_value=median(stock), ratio=median(ours) / median(stock), by_ratio=True, reach=2, aim=1.2,
        note="`total = total + n`; stock counts no steps",
    )  # fmt: skip


# ---- a killed worker


def _killed(rounds: int) -> Result:
    took = [asyncio.run(_kill_one()) for _ in range(rounds * 3)]
    return Result(
        "sandbox", f"a killed worker with {SUSPENDED:,} suspended runs: all of them stand in another one again",
        median(took), "s", took, reach=1, aim=0.3, note="one worker, from the kill to the last of the replays",
    )  # fmt: skip


async def _kill_one() -> float:
    async with _pool() as pool:
        source = _source("r", SLEEPS)
        await _load(pool, [source])
        view, now = _view("go"), clock.now()
        makes: list[Callable[[int, int], Any]] = [lambda number, slot: wire.Take(number, slot, view, now)] * SUSPENDED
        taken = await _ask_all(pool, makes)
        intent = taken[0].runs[0].slice.entries[0]
        past = [wire.Past(intent.name, intent.args, None, 0)]
        worker = pool.workers[0]
        began = clock.monotonic()
        worker.kill("measured")
        await worker.child.ended()
        replays: list[Callable[[int, int], Any]] = [
            lambda number, slot: wire.Replay(number, slot, source.rule, source.digest, view, 1, now, past)
        ] * SUSPENDED
        ran = await _ask_all(pool, replays)
        took = clock.monotonic() - began
        if not all(one.slice and one.slice.end == "blocked" and not one.slice.entries for one in ran):
            raise RuntimeError("a run does not stand where it stood")
        return took
