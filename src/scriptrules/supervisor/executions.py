"""Carries out entries that somebody else does: executions on hosts, and functions of plugins.

Everything here happens after the intent was committed, and everything is idempotent by the key of the attempt: an
entry may be asked for again after any restart. What comes back is told to the supervisor as a fact.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from typing import Any

import msgspec
import structlog

from scriptrules.clock import Clock
from scriptrules.config import Config
from scriptrules.errors import HostUnavailable, InvalidRequest, ScriptrulesError, SecretsUnavailable, nearest
from scriptrules.function import Function
from scriptrules.model import (
    Entry,
    EntryState,
    ExecutionRequest,
    ExecutionResult,
    Failure,
    Run,
    Task,
    Verdict,
    execution_key,
    parse_key,
)
from scriptrules.plugins.executor import Executor, LogChunk, Placed, SecretOf
from scriptrules.plugins.manager import Plugins
from scriptrules.redaction import KNOWN
from scriptrules.supervisor.arguments import SecretText, run_args
from scriptrules.supervisor.asked import Asked
from scriptrules.supervisor.entries import failed_result
from scriptrules.supervisor.hosts import Host, HostShape, Waiting, make_hosts
from scriptrules.supervisor.redacted import redacted_chunks, redacted_result
from scriptrules.supervisor.references import Fill, fill_function, filled, in_function, in_run

log = structlog.get_logger(__name__)

RETRY_FIRST, RETRY_MAX = 0.5, 30.0  # seconds between attempts to reach a host


class Outcome(msgspec.Struct, frozen=True):
    """What became of an attempt at an entry."""

    key: str
    run: str
    seq: int
    attempt: int
    run_attempt: int
    result: bytes | None
    error: Failure | None
    verdict: Verdict | None = None


class DrainShape(msgspec.Struct, frozen=True):
    """How far a server is with letting its executions end: a contract."""

    draining: bool
    running: int  # executions that have not ended
    waiting: int  # starts that the next server will make


class Executions:
    """The hosts of an installation and what runs on them.

    Args:
        started: called with run, seq and attempt once a start is acknowledged.
        ended: called with the outcome.
        look_up: a run, its task and the entry of a start whose turn it is; None where it is over.
        refill: called where the store has starts that memory had no room for.
        reveal: awaited with a run's id and the secrets in an entry's arguments; gives what fills them in.
        secret: awaited with the name of a secret that a host itself needs; gives its text.
    """

    def __init__(
        self,
        config: Config,
        plugins: Plugins,
        store_id: str,
        clock: Clock,
        started: Callable[[str, int, int], None],
        ended: Callable[[Outcome], None],
        look_up: Callable[[str, int], Awaitable[tuple[Run, Task, Entry] | None]],
        refill: Callable[[], Coroutine[Any, Any, None]],
        reveal: Callable[[str, Iterable[SecretText]], Awaitable[Fill]],
        secret: SecretOf,
    ) -> None:
        self._reveal = reveal
        self.draining = False
        self._plugins = plugins
        self._started = started
        self._ended = ended
        self._look_up = look_up
        self._refill = refill
        self._active: dict[str, asyncio.Task[None] | None] = {}  # by key; None once its start is acknowledged
        self._host_of: dict[str, str] = {}
        self.verdicts: Counter[tuple[str, ...]] = Counter()  # of executions that have ended, by host
        self._stopped: set[str] = set()
        self._calls: set[str] = set()  # keys that are calls of plugins' functions
        self._doing: dict[str, str] = {}  # by key: why its start is not acknowledged yet
        self._consumers: list[asyncio.Task[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._store_id = store_id
        self._asked = Asked(config.state_dir / "asked" if config.store_path is not None else None)
        self.hosts = make_hosts(config, plugins, store_id, clock, self._hear, secret)

    def start(self) -> None:
        """Begin to listen for results."""
        for host in self.hosts.values():
            self._consumers.append(asyncio.create_task(self._consume(host)))

    def recovered(self) -> None:
        """What the last supervisor has left was begun: from now on those who wait get slots."""
        for host in self.hosts.values():
            if not host.counted:
                self._spawn(self._count(host))

    async def close(self) -> None:
        """Let go of the hosts; what runs there goes on."""
        pending = [*self._tasks, *self._consumers]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        self._asked.close()
        for name, host in self.hosts.items():
            try:
                await host.executor.close()
            except Exception as error:
                log.error("host.close_failed", host=name, problem=repr(error))

    def begin(self, run: Run, task: Task, entry: Entry, fresh: bool) -> None:
        """Carry out an unfinished entry; one that is not `fresh` may have been begun before a restart."""
        key = execution_key(run, entry.seq, entry.attempt)
        if self.knows(key):
            return
        if entry.name != "run":
            self._calls.add(key)
            self._work(key, self._call(key, run, entry))
            return
        host = self.hosts.get(run_args(entry.effective).host)
        crowded = host is not None and (self.draining or not host.has_room or len(host.queue) > 0)
        if host is not None and crowded and entry.state is EntryState.PENDING:
            request = request_of(key, run, task, entry, fresh)
            if not fresh or _is_valid(host, request):
                host.queue.put(Waiting(entry.since, run.id, entry.seq, key, run.rule, fresh))
                self._fill(host)
                return
        if host is not None:
            host.running.add(key)
        self._work(key, self._execute(key, run, task, entry, fresh))

    def knows(self, key: str) -> bool:
        """Whether this attempt is under way or waits."""
        return key in self._active or any(key in host.queue for host in self.hosts.values())

    def reason_of(self, key: str) -> str | None:
        """Why the start of this attempt is not acknowledged yet."""
        for host in self.hosts.values():
            if key in host.queue:
                if self.draining:
                    return "draining: the next server starts it"
                return f"waits for a slot on {host.name}: {len(host.running)} of {host.max_running} are taken"
        return self._doing.get(key)

    def stop(self, key: str) -> None:
        """Stop what this attempt has started; its outcome is reported in any case."""
        host = next((host for host in self.hosts.values() if key in host.queue), None)
        if host is not None and not host.counted:
            self._stopped.add(key)  # an earlier supervisor may have started it: `_count` finds out
            return
        if host is not None:
            host.queue.remove(key)
        if key not in self._active:
            self._report(key, None, Failure("Cancelled", "cancelled before it was started"), None)
            return
        self._stopped.add(key)
        job = self._active[key]
        if key in self._host_of:
            self._spawn(self._stop(self._host_of[key], key))
        elif job is not None and key in self._calls:
            job.cancel()
            self._report(key, None, Failure("Cancelled", "cancelled"), None)
        else:
            # Its host is just being asked to start it, and may give that up; `_ensure` stops it once it is certain.
            for name in [name for name, host in self.hosts.items() if key in host.running]:
                self._spawn(self._stop(name, key))

    def release(self, key: str) -> None:
        """The result of this attempt is committed."""
        host = self._host_of.pop(key, None)
        self._active.pop(key, None)
        self._stopped.discard(key)
        self._calls.discard(key)
        self._asked.forget(key)
        if host is not None:
            self._spawn(self._release(host, key))

    def drain(self, on: bool) -> None:
        """Start nothing more, or go on with what has waited."""
        self.draining = on
        for host in self.hosts.values():
            self._fill(host)

    def drained(self) -> DrainShape:
        """How far it is."""
        running = sum(len(host.running) for host in self.hosts.values())
        return DrainShape(self.draining, running, sum(len(host.queue) for host in self.hosts.values()))

    async def tidy(self, under_way: set[str], has_ended: Callable[[str], Awaitable[bool]]) -> None:
        """Release what earlier supervisors have left though its result is committed; nothing else is touched.

        Args:
            under_way: keys of the executions that the store has not seen the end of.
            has_ended: whether the store knows the execution of a key, and its end.
        """
        self._asked.tidy(under_way)

        async def tidy_one(host: Host) -> None:
            for one in await self._inventory(host):
                left = one.store == self._store_id and not one.running and not one.kept
                if left and one.key not in under_way and one.key not in self._active and await has_ended(one.key):
                    await self._release(host.name, one.key)

        await asyncio.gather(*map(tidy_one, self.hosts.values()))

    async def look_at_hosts(self, under_way: set[str]) -> list[HostShape]:
        """How each host is, asked all at once.

        Args:
            under_way: keys of the executions that the store has not seen the end of.
        """
        accounted = under_way | self._active.keys()
        return await asyncio.gather(*(host.shape(self._store_id, accounted) for host in self.hosts.values()))

    async def logs(self, run: Run, entry: Entry, follow: bool) -> AsyncGenerator[LogChunk, None]:
        """What the execution of an entry has written, as far as its host still has it."""
        host = self.hosts.get(run_args(entry.effective).host)
        if host is not None:
            key = execution_key(run, entry.seq, entry.attempt)
            async with contextlib.aclosing(redacted_chunks(host.executor.logs(key, follow))) as chunks:
                async for chunk in chunks:
                    yield chunk

    # ---- slots

    async def _count(self, host: Host) -> None:
        """Find what an earlier supervisor has started, though it could not say so any more, before anything starts."""
        if len(host.queue):
            placed = await self._inventory(host)
            for key in sorted({one.key for one in placed if one.store == self._store_id and one.started}):
                if waiting := host.queue.take(key):
                    self._turn(host, waiting)
            for key in [key for key in self._stopped if host.queue.remove(key)]:
                self._report(key, None, Failure("Cancelled", "cancelled before it was started"), None)
        host.counted = True
        self._fill(host)

    async def _inventory(self, host: Host) -> list[Placed]:
        pause = RETRY_FIRST
        while host.hosting is not None:
            try:
                return await host.hosting.inventory()
            except Exception as error:
                log.warning("host.unavailable", host=host.name, problem=str(error), again=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_MAX)
        return []

    def _fill(self, host: Host) -> None:
        """Give free slots to those who wait."""
        while host.has_room and not self.draining and (waiting := host.queue.pop()) is not None:
            self._turn(host, waiting)
        if host.queue.overflowed and not len(host.queue):
            host.queue.overflowed = False
            self._spawn(self._refill())

    def _turn(self, host: Host, waiting: Waiting) -> None:
        host.running.add(waiting.key)
        self._work(waiting.key, self._start_waiting(waiting))

    async def _start_waiting(self, waiting: Waiting) -> None:
        found = await self._look_up(waiting.run, waiting.seq)
        if found is None or execution_key(found[0], waiting.seq, found[2].attempt) != waiting.key:
            self._leave(waiting.key)
            self._active.pop(waiting.key, None)
        else:
            await self._execute(waiting.key, *found, waiting.fresh)

    def _leave(self, key: str) -> None:
        """It has a slot no more."""
        for host in self.hosts.values():
            if key in host.running:
                host.running.discard(key)
                self._fill(host)

    def _hear(self, key: str, sentence: str | None) -> None:
        if sentence is None:
            self._doing.pop(key, None)
        elif key in self._active:
            self._doing[key] = sentence

    # ---- executions

    async def _execute(self, key: str, run: Run, task: Task, entry: Entry, fresh: bool) -> None:
        request = request_of(key, run, task, entry, fresh)
        verdict = None if fresh else Verdict.UNKNOWN  # of a refusal: a fresh one was never started
        host = self.hosts.get(request.host)
        try:
            if host is None:
                raise InvalidRequest(
                    f"there is no host {request.host!r}{nearest(request.host, self.hosts)} Add [hosts.{request.host}] "
                    f"to scriptrules.toml. Configured: {', '.join(sorted(self.hosts)) or 'none'}."
                )
            pending = entry.state is EntryState.PENDING
            fill = await self._fill_of(key, run, entry, patient=not pending)
            request = request_of(key, run, task, entry, fresh or self._asked.certainly_not(key), fill)
            if pending and host.hosting is not None:
                await self._asked.note(key)
            await self._ensure(host.executor, request, may_create=pending)
        except ScriptrulesError as error:
            message = KNOWN.text(error.message)
            failure = Failure(type(error).__name__, message, code=error.code)
            self._report(key, failed_result(request.host, message), failure, verdict)
        except Exception as error:
            kind = host.kind if host else None
            log.exception("executor.broken", host=request.host, executor=kind, key=key)
            message = KNOWN.text(f"the executor {kind!r} of host {request.host} failed: {error!r}")
            failure = Failure("PluginError", message, code="SR860")
            self._report(key, failed_result(request.host, message), failure, Verdict.UNKNOWN)
        finally:
            self._doing.pop(key, None)

    async def _fill_of(self, key: str, run: Run, entry: Entry, patient: bool) -> Fill:
        """What fills in the secrets of a start.

        Args:
            patient: wait until they can be read. What was started must be redacted, so it cannot be taken up before.
        """
        texts = in_run(run_args(entry.effective))
        pause = RETRY_FIRST
        while True:
            try:
                return await self._reveal(run.id, texts)
            except SecretsUnavailable as error:
                if not patient:
                    raise
                log.warning("execution.waits_for_key", key=key, problem=error.message, again=pause)
                self._doing[key] = error.message
                await asyncio.sleep(pause)
                pause = min(pause * 2, RETRY_MAX)

    async def _ensure(self, executor: Executor, request: ExecutionRequest, may_create: bool) -> None:
        pause = RETRY_FIRST
        while True:
            try:
                await executor.ensure(request, may_create)
                break
            except HostUnavailable as error:
                if request.key in self._stopped:
                    failure = Failure("Cancelled", "cancelled while its host could not be reached")
                    self._report(request.key, None, failure, Verdict.UNKNOWN)
                    return
                log.warning("host.unavailable", host=request.host, key=request.key, problem=error.message, again=pause)
                self._doing[request.key] = error.message
                await asyncio.sleep(pause)
                pause = min(pause * 2, RETRY_MAX)
        self._host_of[request.key] = request.host
        self._active[request.key] = None
        log.info("execution.started", host=request.host, run=request.run, call=request.seq, image=request.image)
        if may_create:
            self._started(request.run, request.seq, request.attempt)
        if request.key in self._stopped:
            await self._stop(request.host, request.key)

    async def _consume(self, host: Host) -> None:
        """Tell the supervisor of each result of a host, for as long as there is one."""
        pause = RETRY_FIRST
        while True:
            try:
                async for key, result in host.executor.results():
                    self._take(host, key, result)
                    pause = RETRY_FIRST
            except Exception:
                log.exception("executor.broken", host=host.name, executor=host.kind, while_="waiting for results")
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_MAX)

    def _take(self, host: Host, key: str, result: ExecutionResult) -> None:
        try:
            body = msgspec.json.encode(redacted_result(result, host.name))
            parse_key(key)
        except (TypeError, ValueError) as error:
            log.error("executor.rubbish", host=host.name, executor=host.kind, key=key, problem=repr(error))
            return
        failed = result.status != "done"
        failure = Failure("ExecutionFailed", KNOWN.text(result.reason or "it failed")) if failed else None
        self._host_of.setdefault(key, host.name)
        self._report(key, body, failure, result.verdict)

    def _report(self, key: str, result: bytes | None, error: Failure | None, verdict: Verdict | None) -> None:
        run, run_attempt, seq, attempt = parse_key(key)
        problem = error.message if error else None
        log.info("execution.ended", host=self._host_of.get(key), run=run, call=seq, verdict=verdict, problem=problem)
        if key in self._host_of:
            self.verdicts[self._host_of[key], str(verdict)] += 1
        self._doing.pop(key, None)
        self._leave(key)
        self._ended(Outcome(key, run, seq, attempt, run_attempt, result, error, verdict))

    async def _stop(self, host: str, key: str) -> None:
        try:
            await self.hosts[host].executor.stop(key)
        except Exception as error:
            log.error("execution.stop_failed", host=host, key=key, problem=repr(error))

    async def _release(self, host: str, key: str) -> None:
        try:
            await self.hosts[host].executor.release(key)
        except Exception as error:
            log.warning("execution.release_failed", host=host, key=key, problem=repr(error))

    def _work(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        self._active[key] = self._spawn(work)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ---- functions of plugins

    async def _call(self, key: str, run: Run, entry: Entry) -> None:
        function = self._plugins.functions.get(entry.name)
        if function is None:
            message = f"no plugin has the function {entry.name!r} any more. Restore the plugin and retry the run."
            self._report(key, None, Failure("PluginError", message, code="SR860"), None)
            return
        arguments, accepting = msgspec.json.decode(entry.effective), function.spec.secrets
        try:
            if accepting:
                fill = await self._reveal(run.id, in_function(arguments, accepting))
                arguments = fill_function(arguments, accepting, fill)
            positional, named = _bind(function, arguments)
            if "key" in inspect.signature(function.call).parameters:
                named["key"] = key
            async with asyncio.timeout(function.timeout):
                value = await function.call(*positional, **named)
            body = msgspec.json.encode(KNOWN.value(msgspec.to_builtins(value, str_keys=True)))
        except TimeoutError:
            message = f"{entry.name}() did not answer within {function.timeout:g} s"
            self._report(key, None, Failure("TimeoutError", message), None)
        except Exception as error:
            log.warning("function.failed", function=entry.name, run=run.id, seq=entry.seq, problem=repr(error))
            message = KNOWN.text(f"{entry.name}(): {error}")
            self._report(key, None, Failure(type(error).__name__, message), None)
        else:
            self._report(key, body, None, None)


def _veil(_: SecretText) -> str:
    return "secret"


def request_of(key: str, run: Run, task: Task, entry: Entry, fresh: bool, fill: Fill = _veil) -> ExecutionRequest:
    """What an entry asks of its host.

    Args:
        fresh: no earlier supervisor can have asked for it.
        fill: puts secrets in; without it there is none, and it cannot be started.
    """
    args = run_args(entry.effective)
    return ExecutionRequest(
        key=key,
        host=args.host,
        name=args.name,
        image=args.image,
        args=[filled(value, fill) for value in args.args],
        env={name: filled(value, fill) for name, value in args.env.items()},
        secret_files={path: filled(value, fill) for path, value in args.secret_files.items()},
        timeout=args.timeout,
        options=args.options,
        input=task.data,
        attempt=entry.attempt,
        run=run.id,
        seq=entry.seq,
        fresh=fresh,
    )


def _is_valid(host: Host, request: ExecutionRequest) -> bool:
    try:
        host.executor.validate(request)
    except Exception:
        return False  # `_execute` meets it again, and reports it
    return True


def _bind(function: Function, arguments: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Arguments by parameter name, as an entry has them, as they are passed to the function."""
    positional: list[Any] = []
    named = dict(arguments)
    for parameter in function.spec.parameters:
        if parameter.kind in ("positional", "both"):
            positional.append(named.pop(parameter.name))
        elif parameter.kind == "args":
            positional += named.pop(parameter.name)
    return positional, named
