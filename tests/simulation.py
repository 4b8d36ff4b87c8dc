"""A whole installation in one thread and in made-up time: the real supervisor, rules and worker code, and chance.

Everything that takes time in a real one takes a random time here: commits, reads, what workers answer, executions. So
steps that are microseconds apart in life happen in any order, and a seed tells which. A kill loses what was not
committed. Nothing sleeps: time jumps to the next thing that happens.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import platform
import random
import selectors
import socket
import textwrap
import traceback
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import structlog

from scriptrules import config, function
from scriptrules.clock import SECOND
from scriptrules.errors import HostUnavailable, ScriptrulesError
from scriptrules.function import Function
from scriptrules.model import RUN_FINAL, TASK_FINAL, ExecutionRequest, ExecutionResult, Verdict, parse_key
from scriptrules.plugins.executor import ExecutorContext, LogChunk
from scriptrules.plugins.manager import Plugins
from scriptrules.sandbox import wire
from scriptrules.sandbox.nursery import Child, Nursery
from scriptrules.sandbox.policy import POLICY_VERSION
from scriptrules.sandbox.worker import Worker
from scriptrules.store._sqlite_writer import Submission, _hand_out
from scriptrules.store.memory import MemoryStore
from scriptrules.store.protocol import Change, Committed, Store, merge
from scriptrules.supervisor.supervisor import Supervisor

NO_PROCESS = 1 << 30  # the pid of a worker that is none
START = 1_700_000_000 * SECOND


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is made up: where nothing is ready, it jumps to the next timer."""

    at = 0.0

    def __init__(self) -> None:
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self.at

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """No threads: what they do is done at once."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout is None:
            raise AssertionError("nothing will ever happen again")
        if not ready and timeout is not None and timeout > 0:
            self._loop.at += timeout
        return ready


class Chance:
    """How long things take."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def delay(self) -> float:
        """Seconds: mostly none, sometimes many."""
        kind = self.random.random()
        return 0.0 if kind < 0.5 else self.random.uniform(0, 0.004) if kind < 0.95 else self.random.uniform(0, 0.06)

    async def pause(self) -> None:
        await asyncio.sleep(self.delay())


# ---- workers


class WorkerHere(Worker):
    """What a worker process executes, in this one."""

    def _flush(self) -> None:
        """What is said goes out with the reply."""

    def do(self, request: Any) -> bytes:
        self._serve(request)
        said = bytes(self._out)
        self._out.clear()
        return said

    def greet(self) -> bytes:
        version = ".".join(platform.python_version_tuple()[:2])
        self._send(wire.Ready({}, version, POLICY_VERSION))
        said = bytes(self._out)
        self._out.clear()
        return said


class ChildHere:
    """The process of a worker, as the pool sees it: killed between any two requests, or before its reply is read."""

    pid = NO_PROCESS

    def __init__(self, chance: Chance) -> None:
        self.sock, self._far = socket.socketpair()
        self._far.setblocking(False)
        self._chance = chance
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[str] = self._loop.create_future()
        self._worker = WorkerHere()
        self._frames = wire.Frames(wire.FRAME_MAX)
        self._todo: deque[Any] = deque()
        self._loop.add_reader(self._far, self._read)
        self._far.send(self._worker.greet())

    def _read(self) -> None:
        try:
            data = self._far.recv(1 << 20)
        except OSError:
            data = b""
        if not data:
            self.kill()
            return
        for body in self._frames.feed(data):
            self._todo.append(wire.decode_to_worker(body))
            self._loop.call_later(self._chance.delay(), self._work)

    def _work(self) -> None:
        if not self._end.done():
            said = self._worker.do(self._todo.popleft())
            if said:
                self._far.send(said)

    def kill(self) -> None:
        if not self._end.done():
            self._loop.remove_reader(self._far)
            self._far.close()
            self._end.set_result("killed by signal 9 (SIGKILL)")

    async def ended(self) -> str:
        return await asyncio.shield(self._end)


class NurseryHere:
    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self.children: list[ChildHere] = []

    async def start(self) -> None:
        return

    async def fork(self) -> Child:
        await self._chance.pause()
        self.children.append(ChildHere(self._chance))
        return cast(Child, self.children[-1])

    async def close(self) -> None:
        for child in self.children:
            child.kill()


# ---- the store


class Sight:
    """One supervisor's sight of a store that outlives it: commits take a while, and die with it until they are done."""

    def __init__(self, durable: MemoryStore, chance: Chance, committed: Callable[[], None]) -> None:
        self.alive = True
        self._durable = durable
        self._chance = chance
        self._committed = committed
        self._waiting: list[Submission] = []
        self._told: deque[Callable[[], None]] = deque()
        self._writing = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._durable, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def slowly(*args: Any) -> Any:
            await self._chance.pause()
            if not self.alive:
                await asyncio.Event().wait()
            result = await found(*args)
            await self._chance.pause()
            return result

        return slowly

    async def prune_rest(self, before: int, keep: list[str]) -> None:
        """The audit is kept: it tells the checks who has given what. No source that is put later is removed by this."""
        await self._durable.prune_rest(0, keep)
        await self._chance.pause()

    def submit(self, change: Change, then: Callable[[Committed], None]) -> None:
        self._waiting.append(Submission(change, None, then, None))
        self._write_soon()

    def _write_soon(self) -> None:
        if not self._writing and self._waiting:
            self._writing = True
            asyncio.get_running_loop().call_later(self._chance.delay(), self._write)

    def _write(self) -> None:
        self._writing = False
        if not self.alive:
            return
        many = self._chance.random.randint(1, len(self._waiting))
        group, self._waiting = self._waiting[:many], self._waiting[many:]
        parts = merge([one.change for one in group if one.change is not None])
        committed = [self._durable._apply(part) for part in parts]
        self._committed()
        self._told.append(lambda: _hand_out(group, committed))
        asyncio.get_running_loop().call_later(self._chance.delay(), self._tell)
        self._write_soon()

    def _tell(self) -> None:
        if self.alive:
            self._told.popleft()()

    async def close(self) -> None:
        """Commit what was submitted."""
        for part in merge([one.change for one in self._waiting if one.change is not None]):
            self._durable._apply(part)
        self.alive = False


# ---- executions


class World:
    """What runs outside, whoever watches."""

    def __init__(self, chance: Chance) -> None:
        self.chance = chance
        self.started: Counter[str] = Counter()
        self.ended: dict[str, ExecutionResult] = {}
        self.heard: Callable[[str], None] = lambda _: None
        self.calls: Counter[str] = Counter()

    def start(self, request: ExecutionRequest) -> None:
        self.started[request.key] += 1
        loop = asyncio.get_running_loop()
        failed = request.args[-1] == "1" or (request.args[-1] == "once" and request.attempt == 1)
        loop.call_later(self.chance.random.uniform(0, 0.1), self.end, request.key, failed)

    def end(self, key: str, failed: bool, reason: str = "exit code 1") -> None:
        if key not in self.ended:
            status = "failed" if failed else "done"
            self.ended[key] = ExecutionResult(
                status, int(failed), reason if failed else None, {"n": key}, host="local", verdict=Verdict.ONCE
            )
        self.heard(key)


class ExecutorHere:
    """The executor of one supervisor's life."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ensured: set[str] = set()
        self._results: asyncio.Queue[str] = asyncio.Queue()
        world.heard = self._hear

    def _hear(self, key: str) -> None:
        if key in self._ensured and key in self._world.ended:
            self._results.put_nowait(key)

    def validate(self, request: ExecutionRequest) -> None:
        return

    async def ensure(self, request: ExecutionRequest, may_create: bool) -> None:
        await self._world.chance.pause()
        if self._world.chance.random.random() < 0.03:
            raise HostUnavailable("it cannot be reached now")
        if request.key not in self._world.started:
            if may_create:
                self._world.start(request)
            else:
                self._world.ended[request.key] = ExecutionResult("failed", reason="lost", host="local")
        self._ensured.add(request.key)
        await self._world.chance.pause()
        self._hear(request.key)

    async def results(self) -> AsyncIterator[tuple[str, ExecutionResult]]:
        while True:
            key = await self._results.get()
            await self._world.chance.pause()
            yield key, self._world.ended[key]

    async def logs(self, key: str, follow: bool = False) -> AsyncIterator[LogChunk]:
        return
        yield

    async def stop(self, key: str) -> None:
        await self._world.chance.pause()
        if key in self._world.started:
            self._world.end(key, True, "stopped")

    async def release(self, key: str) -> None:
        return

    async def check(self) -> str:
        return "it is there"

    async def close(self) -> None:
        return


def plugins_of(world: World) -> Plugins:
    """What rules may use here: a host, and a function whose first attempt fails for odd numbers."""

    @function(retries=2)
    async def ask(n: int, key: str = "") -> int:
        """Ask somebody who does not always answer at once."""
        world.calls[key] += 1
        await world.chance.pause()
        *_, attempt = parse_key(key)
        if n % 2 and attempt == 1:
            raise RuntimeError("busy")
        return n * 2

    functions: list[Function] = [ask]
    plugins = Plugins(None)
    plugin = SimpleNamespace(
        scriptrules_functions=lambda: functions,
        scriptrules_executors=lambda: {"here": lambda table, context: _made(table, context, world)},
    )
    plugins._add("here", "test", lambda: cast(Any, plugin))
    return plugins


def _made(table: Any, context: ExecutorContext, world: World) -> Any:
    return ExecutorHere(world)


# ---- the installation


class Site:
    """An installation that is killed and started again; `alive` is its supervisor."""

    def __init__(self, folder: Path, seed: int, rules: dict[str, str], committed: Callable[[], None]) -> None:
        self.chance = Chance(seed)
        self.durable = MemoryStore()
        self.world = World(self.chance)
        self.alive: Supervisor
        self.failures: list[BaseException] = []
        self._folder = folder
        self._committed = committed
        self._asked: set[asyncio.Task[Any]] = set()
        (folder / "rules").mkdir()
        for name, text in rules.items():
            self.rule(name, text)
        hosts = '[hosts.local]\nexecutor = "here"\n'
        sandbox = f"[sandbox]\nworkers = 2\nwarm_runs = {self.chance.random.choice([1, 3, 100])}\n"
        (folder / config.FILE).write_text(f'[store]\nurl = "memory:"\n{sandbox}{hosts}')

    def rule(self, name: str, text: str) -> None:
        (self._folder / "rules" / f"{name}.py").write_text(textwrap.dedent(text))

    def clock(self) -> int:
        return START + round(asyncio.get_running_loop().time() * SECOND)

    async def start(self) -> None:
        self._sight = Sight(self.durable, self.chance, self._committed)
        settings = config.load(self._folder, environ={})
        plugins = plugins_of(self.world)
        store = cast(Store, self._sight)
        self.alive = Supervisor(settings, store, plugins, self.clock, watch=False)
        self.alive.pool._nursery = cast(Nursery, NurseryHere(self.chance))
        await self.alive.start()

    async def close(self) -> None:
        """End it in order; nobody asks for anything any more."""
        for task in self._asked:
            task.cancel()
        await asyncio.gather(*self._asked, return_exceptions=True)
        await self.alive.close()

    async def kill(self) -> None:
        """End it as SIGKILL does: nothing that it was about to do is done."""
        self._sight.alive = False
        self.world.heard = lambda _: None
        nursery = self.alive.pool._nursery
        await nursery.close()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    def kill_worker(self) -> None:
        workers = self.alive.pool.workers
        if workers:
            self.chance.random.choice(workers).child.kill()

    def ask(self, work: Coroutine[Any, Any, Any]) -> None:
        """Have somebody ask for something, beside everything else; that it cannot be done is no failure."""

        async def asked() -> None:
            try:
                await work
            except ScriptrulesError:
                return
            except Exception as error:
                self.failures.append(error)

        task = asyncio.create_task(asked())
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    async def settle(self, patience: float, help_on: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Wait until every task has ended; `help_on` does what people would."""
        end = asyncio.get_running_loop().time() + patience
        while True:
            await asyncio.sleep(0.5)
            store = self.durable
            left: list[Any] = [task for task in store._tasks.values() if task.state not in TASK_FINAL]
            left += [run for run in store._runs.values() if run.state not in RUN_FINAL]
            if not left:
                return
            if asyncio.get_running_loop().time() > end:
                shown = [(one.id, getattr(one, "rule", one), one.state, one.reason) for one in left]
                raise AssertionError(f"these do not end: {shown[:8]}")
            await help_on()


def _of_callback(context: dict[str, Any]) -> list[str]:
    """What was raised where nobody could catch it; that a kill leaves things undone is no failure."""
    return ["".join(traceback.format_exception(context["exception"]))] if "handle" in context else []


@contextmanager
def made_up_time(seed: int) -> Iterator[VirtualLoop]:
    """A loop in which nothing takes any real time; bugs that it or the engine log are raised.

    Args:
        seed: of the ids; the same seeds bring about the same, where PYTHONHASHSEED is the same too.
    """
    loop = VirtualLoop()
    broken: list[str] = []
    loop.set_exception_handler(lambda _, context: broken.extend(_of_callback(context)))
    ids = patch("scriptrules.model.random.getrandbits", random.Random(seed).getrandbits)
    with structlog.testing.capture_logs() as logs, ids:
        try:
            yield loop
        finally:
            while tasks := asyncio.all_tasks(loop):
                for task in tasks:
                    task.cancel()
                loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            loop.close()
            assert not broken, broken[0]
    bugs = [entry for entry in logs if entry["event"].endswith((".bug", ".broken"))]
    assert not bugs, json.dumps(bugs[:3], default=str)
