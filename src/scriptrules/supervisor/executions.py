"""Carries out entries that somebody else does: executions on hosts, and functions of plugins.

Everything here happens after the intent was committed, and everything is idempotent by the key of the attempt: an
entry may be asked for again after any restart. What comes back is told to the supervisor as a fact.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import structlog

from scriptrules.clock import Clock
from scriptrules.config import Config
from scriptrules.errors import HostUnavailable, InvalidRequest, ScriptrulesError, nearest
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
from scriptrules.plugins.executor import Executor, ExecutorContext, LogChunk
from scriptrules.plugins.manager import Plugins
from scriptrules.supervisor.arguments import run_args
from scriptrules.supervisor.entries import failed_result

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


class Executions:
    """The hosts of an installation and what runs on them.

    Args:
        started: called with run, seq and attempt once a start is acknowledged.
        ended: called with the outcome.
    """

    def __init__(
        self,
        config: Config,
        plugins: Plugins,
        store_id: str,
        clock: Clock,
        started: Callable[[str, int, int], None],
        ended: Callable[[Outcome], None],
    ) -> None:
        self.hosts: dict[str, Executor] = {}
        self._kinds: dict[str, str] = {}
        self._plugins = plugins
        self._started = started
        self._ended = ended
        self._active: dict[str, asyncio.Task[None] | None] = {}  # by key; None once its start is acknowledged
        self._host_of: dict[str, str] = {}
        self._stopped: set[str] = set()
        self._calls: set[str] = set()  # keys that are calls of plugins' functions
        self._consumers: list[asyncio.Task[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        for name, table in config.hosts.items():
            context = ExecutorContext(name, store_id, config.state_dir / "hosts" / name, config.base, clock)
            self.hosts[name] = plugins.make_executor(table["executor"], table, context)
            self._kinds[name] = table["executor"]

    def start(self) -> None:
        """Begin to listen for results."""
        for name, executor in self.hosts.items():
            self._consumers.append(asyncio.create_task(self._consume(name, executor)))

    async def close(self) -> None:
        """Let go of the hosts; what runs there goes on."""
        pending = [*self._tasks, *self._consumers]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for name, executor in self.hosts.items():
            try:
                await executor.close()
            except Exception as error:
                log.error("host.close_failed", host=name, problem=repr(error))

    def begin(self, run: Run, task: Task, entry: Entry, fresh: bool) -> None:
        """Carry out an unfinished entry; one that is not `fresh` may have been begun before a restart."""
        key = execution_key(run, entry.seq, entry.attempt)
        if key in self._active:
            return
        if entry.name != "run":
            self._calls.add(key)
        work = self._execute(key, run, task, entry, fresh) if entry.name == "run" else self._call(key, run, entry)
        job = asyncio.create_task(work)
        self._active[key] = job
        self._tasks.add(job)
        job.add_done_callback(self._tasks.discard)

    def stop(self, key: str) -> None:
        """Stop what this attempt has started; its outcome is reported in any case."""
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
        # Otherwise its host is just being asked to start it: `_ensure` stops it as soon as that is certain.

    def release(self, key: str) -> None:
        """The result of this attempt is committed."""
        host = self._host_of.pop(key, None)
        self._active.pop(key, None)
        self._stopped.discard(key)
        self._calls.discard(key)
        if host is not None:
            self._spawn(self._release(host, key))

    async def logs(self, run: Run, entry: Entry, follow: bool) -> AsyncIterator[LogChunk]:
        """What the execution of an entry has written, as far as its host still has it."""
        host = self.hosts.get(run_args(entry.args).host)
        if host is not None:
            async for chunk in host.logs(execution_key(run, entry.seq, entry.attempt), follow):
                yield chunk

    # ---- executions

    async def _execute(self, key: str, run: Run, task: Task, entry: Entry, fresh: bool) -> None:
        args = run_args(entry.args)
        verdict = None if fresh else Verdict.UNKNOWN  # of a refusal: a fresh one was never started
        executor = self.hosts.get(args.host)
        request = ExecutionRequest(
            key=key,
            host=args.host,
            name=args.name,
            image=args.image,
            args=args.args,
            env=args.env,
            timeout=args.timeout,
            options=args.options,
            input=task.data,
            attempt=entry.attempt,
            run=run.id,
            seq=entry.seq,
        )
        try:
            if executor is None:
                raise InvalidRequest(
                    f"there is no host {args.host!r}{nearest(args.host, self.hosts)} Add [hosts.{args.host}] to "
                    f"scriptrules.toml. Configured: {', '.join(sorted(self.hosts)) or 'none'}."
                )
            pending = entry.state is EntryState.PENDING
            if pending:
                executor.validate(request)
            await self._ensure(executor, request, may_create=pending)
        except ScriptrulesError as error:
            failure = Failure(type(error).__name__, error.message, code=error.code)
            self._report(key, failed_result(args.host, error.message), failure, verdict)
        except Exception as error:
            log.exception("executor.broken", host=args.host, executor=self._kinds.get(args.host), key=key)
            message = f"the executor {self._kinds.get(args.host)!r} of host {args.host} failed: {error!r}"
            failure = Failure("PluginError", message, code="SR860")
            self._report(key, failed_result(args.host, message), failure, Verdict.UNKNOWN)

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
                await asyncio.sleep(pause)
                pause = min(pause * 2, RETRY_MAX)
        self._host_of[request.key] = request.host
        self._active[request.key] = None
        log.info("execution.started", host=request.host, run=request.run, call=request.seq, image=request.image)
        if may_create:
            self._started(request.run, request.seq, request.attempt)
        if request.key in self._stopped:
            await self._stop(request.host, request.key)

    async def _consume(self, name: str, executor: Executor) -> None:
        """Tell the supervisor of each result of a host, for as long as there is one."""
        pause = RETRY_FIRST
        while True:
            try:
                async for key, result in executor.results():
                    self._take(name, key, result)
                    pause = RETRY_FIRST
            except Exception:
                log.exception("executor.broken", host=name, executor=self._kinds[name], while_="waiting for results")
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_MAX)

    def _take(self, name: str, key: str, result: ExecutionResult) -> None:
        try:
            body = msgspec.json.encode(msgspec.structs.replace(result, host=result.host or name))
            parse_key(key)
        except (TypeError, ValueError) as error:
            log.error("executor.rubbish", host=name, executor=self._kinds[name], key=key, problem=repr(error))
            return
        failed = result.status != "done"
        failure = Failure("ExecutionFailed", result.reason or "it failed") if failed else None
        self._host_of.setdefault(key, name)
        self._report(key, body, failure, result.verdict)

    def _report(self, key: str, result: bytes | None, error: Failure | None, verdict: Verdict | None) -> None:
        run, run_attempt, seq, attempt = parse_key(key)
        problem = error.message if error else None
        log.info("execution.ended", host=self._host_of.get(key), run=run, call=seq, verdict=verdict, problem=problem)
        self._ended(Outcome(key, run, seq, attempt, run_attempt, result, error, verdict))

    async def _stop(self, host: str, key: str) -> None:
        try:
            await self.hosts[host].stop(key)
        except Exception as error:
            log.error("execution.stop_failed", host=host, key=key, problem=repr(error))

    async def _release(self, host: str, key: str) -> None:
        try:
            await self.hosts[host].release(key)
        except Exception as error:
            log.warning("execution.release_failed", host=host, key=key, problem=repr(error))

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---- functions of plugins

    async def _call(self, key: str, run: Run, entry: Entry) -> None:
        function = self._plugins.functions.get(entry.name)
        if function is None:
            message = f"no plugin has the function {entry.name!r} any more. Restore the plugin and retry the run."
            self._report(key, None, Failure("PluginError", message, code="SR860"), None)
            return
        positional, named = _bind(function, msgspec.json.decode(entry.args))
        if "key" in inspect.signature(function.call).parameters:
            named["key"] = key
        try:
            async with asyncio.timeout(function.timeout):
                value = await function.call(*positional, **named)
            body = msgspec.json.encode(value)
        except TimeoutError:
            message = f"{entry.name}() did not answer within {function.timeout:g} s"
            self._report(key, None, Failure("TimeoutError", message), None)
        except Exception as error:
            log.warning("function.failed", function=entry.name, run=run.id, seq=entry.seq, problem=repr(error))
            self._report(key, None, Failure(type(error).__name__, f"{entry.name}(): {error}"), None)
        else:
            self._report(key, body, None, None)


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
