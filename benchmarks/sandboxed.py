"""What a worker needs to match a task and to replay a run: one confined worker, driven as the supervisor drives it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

from common import Result, median

from scriptrules import clock
from scriptrules.model import Source
from scriptrules.plugins.manager import Plugins
from scriptrules.sandbox import wire
from scriptrules.sandbox.confine import Limits
from scriptrules.sandbox.pool import Job, Pool, Worker

FEW, MANY = 10, 10_000  # rules
TAKES = 10_000  # tasks in a batch
CALLS = 2_000  # uses of an injected function in the run that is replayed
HARD_SECONDS = 30.0

EMITS = f'on = "long"\n\n\ndef main():\n    for n in range({CALLS - 1}):\n        emit("step", n=n)\n    sleep(3600)\n'
SLEEPS = f'on = "long"\n\n\ndef main():\n    for n in range({CALLS}):\n        sleep(1)\n'


def matching(rounds: int) -> list[Result]:
    """The same tasks against many rules of distinct names and against few: a look-up, and one filter to evaluate."""
    return asyncio.run(_matching(rounds))


async def _matching(rounds: int) -> list[Result]:
    few: list[float] = []
    many: list[float] = []
    spread: list[float] = []
    async with _pool() as pool_of_few, _pool() as pool_of_many:
        await _learn(pool_of_few, FEW)
        await _learn(pool_of_many, MANY)
        for _ in range(rounds * 3):
            for pool, rules, into in ((pool_of_few, FEW, few), (pool_of_many, FEW, many), (pool_of_many, MANY, spread)):
                into.append(await _take(pool, [f"name.n{at % rules}" for at in range(TAKES)]) / TAKES * 1e6)
    return [
        _matching_result(f"matching one task against {MANY:,} rules of distinct names", many, few),
        _matching_result(f"the same with tasks for all {MANY:,} rules in turn", spread, few),
    ]


def _matching_result(what: str, many: list[float], few: list[float]) -> Result:
    return Result(
        "matching", what, median(many), "µs", many, baseline=f"against {FEW} rules, µs", baseline_value=median(few),
        ratio=median(many) / median(few), by_ratio=True, reach=3, aim=1.5,
    )  # fmt: skip


async def _learn(pool: Pool, rules: int) -> None:
    """Make so many rules active, and have each filter evaluated once."""
    await _load(pool, [_source(f"r{number}", _rule(number)) for number in range(rules)])
    await _take(pool, [f"name.n{number}" for number in range(rules)])


def replay(rounds: int) -> list[Result]:
    """A run with 2,000 entries in its journal, executed from the top until it stands where it stood."""
    return asyncio.run(_replay(rounds))


async def _replay(rounds: int) -> list[Result]:
    emits = await _replays(EMITS, rounds)
    sleeps = await _replays(SLEEPS, rounds)
    return [
        Result(
            "replay", f"replay of a run of {CALLS:,} calls (`emit`) in the worker", median(emits), "ms", emits,
            reach=20, aim=10, note="from the request to the reply",
        ),
        Result(
            "replay", f"the same with {CALLS:,} calls that block (`sleep`)", median(sleeps), "ms", sleeps,
            reach=20, aim=10,
        ),
    ]  # fmt: skip


async def _replays(text: str, rounds: int) -> list[float]:
    """Milliseconds of each replay."""
    took = []
    source = _source("long", text)
    async with _pool() as pool:
        await _load(pool, [source])
        past = await _past(pool)
        view = _view("long")
        for _ in range(rounds * 3):
            began = clock.monotonic()
            ran = await _ask(
                pool, lambda number, slot: wire.Replay(number, slot, source.rule, source.digest, view, 1, 0, past)
            )
            took.append((clock.monotonic() - began) * 1000)
            if ran.slice is None or ran.slice.end != "blocked" or ran.slice.entries:
                raise RuntimeError(f"the replay did not come to where the run stands: {ran.slice}")
            pool.workers[0].warm += 1
            pool.evict(pool.workers[0], [ran.slice.slot])
    return took


async def _past(pool: Pool) -> list[wire.Past]:
    """The journal of a run that stands at its last call: as the first slice wrote it, each blocking call answered."""
    taken = await _ask(pool, lambda number, slot: wire.Take(number, slot, _view("long"), clock.now()))
    intents = taken.runs[0].slice.entries
    waiting = wire.Past(intents[-1].name, intents[-1].args, None, 0)
    if len(intents) == CALLS:
        return [*(wire.Past(intent.name, intent.args, None, 0) for intent in intents[:-1]), waiting]
    return [*[wire.Past(waiting.name, waiting.args, wire.Outcome(), clock.now())] * (CALLS - 1), waiting]


# ---- one worker


@contextlib.asynccontextmanager
async def _pool() -> AsyncIterator[Pool]:
    functions = [function.spec for function in Plugins(None).functions.values()]
    pool = Pool(1, Limits(memory_mb=512), wire.Budget(), functions, HARD_SECONDS)
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close()


def _rule(number: int) -> str:
    when = 'lambda task: task["size"] > 100'
    return f'on = "name.n{number}"\nwhen = {when}\n\n\ndef main(size):\n    emit("big", size=size)\n'


def _source(rule: str, text: str) -> Source:
    return Source(rule, f"rules/{rule}.py", text, digest=f"digest-{rule}")


async def _load(pool: Pool, sources: list[Source]) -> None:
    for at in range(0, len(sources), 200):
        for loaded in await asyncio.gather(*map(pool.load, sources[at : at + 200])):
            if loaded.metadata is None:
                raise RuntimeError(str(loaded.problems))
    pool.activate(pool.epoch + 1, {source.rule: source for source in sources}, [])


def _view(name: str) -> wire.TaskView:
    return wire.TaskView("t0000000000000", name, b'{"size":3}', "t0000000000000", 0, 0)


async def _ask(pool: Pool, make: Callable[[int, int], Any]) -> Any:
    return (await _ask_all(pool, [make]))[0]


async def _ask_all(pool: Pool, makes: list[Callable[[int, int], Any]]) -> list[Any]:
    replies: list[Any] = []
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(_: Worker, reply: Any) -> None:
        replies.append(reply)
        if len(replies) == len(makes):
            ended.set_result(None)

    def lost(*how: object) -> None:
        if not ended.done():
            ended.set_exception(RuntimeError(f"the worker was lost: {how}"))

    for make in makes:
        pool.submit(Job(make, done, lost))
    await ended
    return replies


def _make_take(view: wire.TaskView, now: int, number: int, slot: int) -> wire.Take:
    return wire.Take(number, slot, view, now)


async def _take(pool: Pool, names: list[str]) -> float:
    """Seconds that it takes to match a task of each name."""
    views = [_view(name) for name in names]
    now = clock.now()
    began = clock.monotonic()
    taken = await _ask_all(pool, [partial(_make_take, view, now) for view in views])
    took = clock.monotonic() - began
    if any(reply.problem or reply.runs or len(reply.reasons) != 1 for reply in taken):
        raise RuntimeError("a task was not compared with its one rule")
    return took
