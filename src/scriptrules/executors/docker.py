"""Containers on one Docker engine: started once, watched by one event stream, found again after any restart.

A container's name is made of the store and the execution's key, so that the engine itself refuses a second one. What
was found under the name decides what happens (`_begin`), and how the execution was started decides its verdict.

What was tried and rejected: a thread, or a `/wait` request, for each container (100 sockets for 100 containers, and
slower than the one event stream); the SDK's `stop` (it occupies a thread for the whole grace).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from scriptrules import clock
from scriptrules.errors import HostUnavailable, InvalidRequest
from scriptrules.executors import _docker_policy as policy
from scriptrules.executors._docker_cleaning import Cleaning
from scriptrules.executors._docker_containers import LIVE, Containers
from scriptrules.executors._docker_engine import Engine, EngineError
from scriptrules.executors._docker_layer import layer_of, read_output
from scriptrules.executors._docker_logs import KeptLogs, container_log
from scriptrules.executors._docker_pull import PullStopped
from scriptrules.executors._docker_result import Ended, Tail, output_file, result_of
from scriptrules.executors._docker_result import never_started as is_never_started
from scriptrules.executors._docker_watch import RECONNECT_FIRST, RECONNECT_MOST, Watch
from scriptrules.executors._output import OUTPUT_FILE_MAX, OUTPUT_TAIL, file_output
from scriptrules.executors._tasks import Tasks
from scriptrules.jobs import JobType, job_type
from scriptrules.model import ExecutionRequest, ExecutionResult, Json, Verdict
from scriptrules.plugins.executor import Executor, ExecutorContext, ExecutorFactory, LogChunk, Placed
from scriptrules.plugins.spec import hookimpl

RESTARTS_MAX = 3  # of one execution that is restartable and whose container was lost
READ_GRACE = 5.0  # seconds that those who follow a log have to read its end
_ARCHIVE_MAX = OUTPUT_FILE_MAX + 64 * 1024  # bytes; the headers of an archive come on top of the file

_Left = tuple[tuple[Tail, Tail], tuple[Json, str | None] | None]  # of an ended container: its log, its output file


class _Execution:
    """One execution from `ensure` until its result is yielded."""

    def __init__(self, request: ExecutionRequest) -> None:
        self.request = request
        self.lock = asyncio.Lock()
        self.container: str | None = None  # its id, once it is known to have been started
        self.verdict = Verdict.UNKNOWN
        self.started_at: str | None = None  # as the engine wrote it when it was first seen
        self.layer: str | None = None  # the folder that it writes to, on the engine's machine
        self.stop_signal = "SIGTERM"
        self.stop_reason: str | None = None  # we asked it to end
        self.stopped = asyncio.Event()  # the same, for who waits
        self.timed_out = False
        self.outage = False  # the engine went out of reach, and has not been seen to run it since
        self.died = False  # the engine has said so
        self.restarts = 0  # because its container was lost
        self.deadline: float | None = None  # on the clock that never jumps
        self.timers: list[asyncio.TimerHandle] = []
        self.looking = False
        self.look_again = False
        self.pause = RECONNECT_FIRST  # seconds until the next look, where the engine did not answer
        self.retry: asyncio.TimerHandle | None = None

    @property
    def may_restart(self) -> bool:
        wanted = self.request.options.get("restartable") is True
        return wanted and self.stop_reason is None and self.restarts < RESTARTS_MAX

    def cancel_timers(self) -> None:
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()

    def cancel_retry(self) -> None:
        if self.retry is not None:
            self.retry.cancel()
            self.retry = None


class DockerExecutor:
    """One Docker host (see `scriptrules.plugins.executor.Executor` for what each method promises)."""

    def __init__(self, table: policy.HostTable, context: ExecutorContext) -> None:
        self.max_running = table.max_running
        self._table = table
        self._context = context
        self._ended: asyncio.Queue[tuple[str, ExecutionResult] | BaseException | None] = asyncio.Queue()
        self._executions: dict[str, _Execution] = {}
        self._starts: dict[str, int] = {}  # requests to start that this object has sent, by key
        self._readers: dict[str, set[asyncio.Future[None]]] = {}  # of logs, by key
        self._engine = Engine(table, context.host, context.base_dir)
        self._kept = KeptLogs(self._engine, context.state_dir / "logs", table.logs_for, context.clock)
        self._containers = Containers(self._engine, table, context)
        self._tasks = Tasks(self._ended.put_nowait)
        self._watch = Watch(
            self._engine,
            context.store_id,
            context.clock,
            self._container_ended,
            self._compare,
            self._lost,
            self._ended.put_nowait,
        )
        self._cleaning = Cleaning(self._engine, self._containers, self._watch, self._kept, self._tasks, table, context)

    # ---- the contract

    def validate(self, request: ExecutionRequest) -> None:
        policy.check_policy(self._table, request, policy.read_options(request))

    async def ensure(self, request: ExecutionRequest, may_create: bool) -> None:
        self._watch.start()
        while True:
            execution = self._executions.setdefault(request.key, _Execution(request))
            async with execution.lock:
                if self._executions.get(request.key) is not execution:
                    continue
                if execution.container is None:
                    try:
                        await self._begin(execution, may_create)
                    except BaseException:
                        self._forget(execution)
                        raise
                return

    async def results(self) -> AsyncIterator[tuple[str, ExecutionResult]]:
        self._watch.start()
        while (item := await self._ended.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    async def logs(self, key: str, follow: bool = False) -> AsyncIterator[LogChunk]:
        reading = asyncio.get_running_loop().create_future()
        self._readers.setdefault(key, set()).add(reading)
        kept = self._kept.file(key).exists()
        live = container_log(self._engine, self._containers, key, follow, lambda: key in self._executions)
        try:
            async with contextlib.aclosing(self._kept.read(key) if kept else live) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:
            reading.set_result(None)
            self._readers[key].discard(reading)
            if not self._readers[key]:
                del self._readers[key]

    async def stop(self, key: str) -> None:
        execution = self._executions.get(key)
        if execution is not None:
            await self._end(execution, "stopped")

    async def release(self, key: str) -> None:
        self._starts.pop(key, None)
        if readers := self._readers.get(key):
            await asyncio.wait(readers, timeout=READ_GRACE)  # with the container its log is gone
        await self._cleaning.release(key)

    async def check(self) -> str:
        try:
            about = await self._engine.request(lambda client: client.info())
        except EngineError as error:
            raise self._engine.unavailable(error.message) from None
        gigabytes = about["MemTotal"] / 1024**3
        allowed = ", ".join(self._table.images) or "no image, so no rule can use it: set images"
        return (
            f"Docker {about['ServerVersion']} at {self._table.url}, {about['NCPU']} processors, {gigabytes:.0f} GB, "
            f"{about['ContainersRunning']} containers running; allows {allowed}"
        )

    async def version(self) -> str:
        try:
            return str((await self._engine.request(lambda client: client.version()))["Version"])
        except EngineError as error:
            raise self._engine.unavailable(error.message) from None

    async def inventory(self) -> list[Placed]:
        return await self._containers.inventory()

    async def close(self) -> None:
        self._cleaning.close()
        for execution in self._executions.values():
            execution.cancel_timers()
            execution.cancel_retry()
        await self._tasks.close()
        await self._watch.close()
        await self._containers.close()
        await self._engine.close()
        self._ended.put_nowait(None)

    # ---- starting

    async def _begin(self, execution: _Execution, may_create: bool) -> None:
        """Create, start or find the container of `execution`; afterwards it is watched, or has ended."""
        key = execution.request.key
        if not may_create:
            found = await self._containers.find(key)
            if found is None or not self._containers.is_ours(found, key):
                lost = "container was removed"
            elif is_never_started(found["State"]):
                lost = "the engine has forgotten that it started the container"
            else:
                self._adopt(execution, found)
                return
            if not execution.may_restart:
                self._finish(execution, self._failed(lost))
                return
            execution.restarts += 1
        if execution.stop_reason is not None:
            await self._give_up(execution)
            return
        try:
            self.validate(execution.request)
        except InvalidRequest:
            # What was started when the policy still allowed it goes on, and is not lost.
            found = await self._containers.find(key)
            if found is None or not self._containers.is_ours(found, key):
                raise
            if is_never_started(found["State"]):
                await self._containers.remove(found["Id"])
                raise
            self._adopt(execution, found)
            return
        try:
            container = await self._containers.create(execution.request, execution.stopped)
        except PullStopped:
            await self._give_up(execution)
            return
        own = container is not None
        if container is None:
            found = await self._containers.find(key)
            if found is None:
                raise self._engine.unavailable("a container of the same name is just being removed")
            self._containers.check_taken(found, execution.request)
            if not is_never_started(found["State"]):
                self._adopt(execution, found)
                return
            container, own = found["Id"], self._containers.is_own(found)
        if execution.stop_reason is not None:
            await self._give_up(execution)
            return
        await self._start(execution, container, own)

    async def _give_up(self, execution: _Execution) -> None:
        """Start what was told to stop meanwhile no more; where an earlier supervisor has started it, stop it."""
        found = await self._containers.find(execution.request.key)
        ours = found is not None and self._containers.is_ours(found, execution.request.key)
        if found is not None and ours and not is_never_started(found["State"]):
            self._adopt(execution, found)
            return
        verdict = Verdict.ONCE
        if found is not None and ours:
            verdict = Verdict.ONCE if self._containers.is_own(found) else Verdict.UNKNOWN
            await self._containers.remove(found["Id"])
        self._finish(execution, self._failed("stopped before it was started", verdict))

    async def _start(self, execution: _Execution, container: str, own: bool) -> None:
        """Start a container that was never started, as far as the engine knows."""
        key = execution.request.key
        before = self._starts.get(key, 0)
        try:
            await self._containers.fill(container, execution.request)
            # Counted before it is sent: an answer that is lost may be of a start that took place.
            self._starts[key] = before + 1
            await self._containers.start(container)
        except EngineError as error:
            found = await self._containers.find(key)
            if found is None:
                self._starts[key] = before  # it was refused
                raise self._engine.unavailable("the container was removed before it was started") from None
            if is_never_started(found["State"]):
                await self._containers.remove(container)
                if not before and own and execution.request.fresh:
                    raise InvalidRequest(
                        f"the engine cannot start it: {error.message}. Correct run()'s arguments."
                    ) from None
                # An engine that died in the midst of a start is in its own way then, and the process may even run.
                reason = f"the engine cannot say whether it ran: it was asked before, and now refuses ({error.message})"
                if execution.may_restart:
                    raise self._engine.unavailable(reason) from None
                self._finish(execution, self._failed(reason))
                return
        execution.container = container
        execution.verdict = self._started_by_us(execution, own)
        # Seen before anybody could start it again: `once` compares the moment of the start with the one at the end.
        execution.looking = execution.look_again = True
        await self._settle(execution)

    def _adopt(self, execution: _Execution, found: Mapping[str, Any]) -> None:
        """Watch a container that was started before."""
        execution.container = found["Id"]
        execution.verdict = Verdict.ADOPTED
        if self._starts.get(execution.request.key):
            execution.verdict = self._started_by_us(execution, self._containers.is_own(found))
        self._look(execution)

    def _started_by_us(self, execution: _Execution, own: bool) -> Verdict:
        """How often a container was started that we have asked the engine to start.

        It is certain only where nobody can have asked before: an engine that died after it started the process,
        before it wrote that down, says "created" again, and what an earlier supervisor had started may have been
        removed since.
        """
        first = own and execution.request.fresh and not execution.restarts
        return Verdict.ONCE if first and self._starts[execution.request.key] == 1 else Verdict.POSSIBLY_TWICE

    # ---- watching

    def _container_ended(self, key: str, container: str) -> None:
        execution = self._executions.get(key)
        if execution is not None and execution.container == container:
            execution.died = True
            self._look(execution)

    def _lost(self) -> None:
        for execution in self._executions.values():
            execution.outage = True

    async def _compare(self) -> None:
        """Look at each watched execution whose container the engine does not list as running, and clean up."""
        watched = [execution for execution in self._executions.values() if execution.container is not None]
        listed = await self._containers.listed()
        running = {container["Id"] for container in listed if container["State"] in LIVE}
        for execution in watched:
            execution.outage = execution.outage and execution.container not in running
            pending = execution.stop_reason is not None or execution.request.timeout is not None
            if execution.container not in running or pending or execution.started_at is None:
                self._look(execution)
        self._cleaning.look_through(listed)
        await self._cleaning.redo()

    def _look(self, execution: _Execution) -> None:
        execution.look_again = True
        if not execution.looking:
            execution.looking = True
            self._tasks.spawn(self._settle(execution))

    def _look_later(self, execution: _Execution) -> None:
        """An answer was lost; where the engine itself is not, no comparison comes soon."""
        if self._executions.get(execution.request.key) is execution and not self._tasks.closed:
            loop = asyncio.get_running_loop()
            execution.cancel_retry()
            execution.retry = loop.call_later(execution.pause, self._look, execution)
            execution.pause = min(execution.pause * 2, RECONNECT_MOST)

    async def _settle(self, execution: _Execution) -> None:
        try:
            while execution.look_again and self._executions.get(execution.request.key) is execution:
                await self._settle_now(execution)
        except Exception as error:
            problem = f"the docker executor failed ({type(error).__name__}: {error}). Report it; the container is kept."
            self._finish(execution, self._failed(problem))
        finally:
            execution.looking = False

    async def _settle_now(self, execution: _Execution) -> None:
        """Inspect the container and do what follows: finish with a result, or arm the timeout."""
        execution.look_again = False
        assert execution.container is not None
        # Once it is said to have died, what it left is read at once, not after the inspection that confirms it.
        reading = asyncio.ensure_future(self._read_left(execution)) if execution.died else None
        try:
            found = await self._engine.inspect(execution.container)
            execution.layer = layer_of(found)
            if found["State"]["Status"] in LIVE:
                execution.died = False
                self._kept.file(execution.request.key).unlink(missing_ok=True)
                await self._still_runs(execution, found)
            elif self._executions.get(execution.request.key) is execution:
                left = await (reading or self._read_left(execution))
                ended = clock.parse(found["State"]["FinishedAt"])
                lost = execution.outage and await self._watch.restarted_since(ended)
                self._collect(execution, found, left, lost)
            execution.pause = RECONNECT_FIRST
        except HostUnavailable:
            self._look_later(execution)
        except EngineError as error:
            if error.status == 404 and execution.may_restart:
                self._tasks.spawn(self._restart(execution))
            elif error.status == 404:
                self._finish(execution, self._failed("container was removed"))
            # anything else is the engine's trouble of the moment: the next comparison looks again
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    async def _restart(self, execution: _Execution) -> None:
        """Start once more what was removed behind our back, as its rule allows."""
        execution.container, execution.started_at, execution.deadline, execution.died = None, None, None, False
        while self._executions.get(execution.request.key) is execution:
            try:
                async with execution.lock:
                    await self._begin(execution, may_create=False)
                return
            except HostUnavailable:
                await asyncio.sleep(RECONNECT_MOST)
            except InvalidRequest as error:
                self._finish(execution, self._failed(error.message, Verdict.POSSIBLY_TWICE))

    async def _still_runs(self, execution: _Execution, found: Mapping[str, Any]) -> None:
        self._note_start(execution, found)
        if execution.stop_reason is not None:
            if not execution.timers:
                await self._signal(execution)
            return
        timeout = execution.request.timeout
        if timeout is None:
            return
        loop = asyncio.get_running_loop()
        if execution.deadline is None:
            passed = (self._watch.engine_now() - clock.parse(found["State"]["StartedAt"])) / clock.SECOND
            execution.deadline = clock.monotonic() + max(0.0, timeout - max(0.0, passed))
        execution.cancel_timers()
        left = max(0.0, execution.deadline - clock.monotonic())
        execution.timers.append(loop.call_later(left, self._time_out, execution))

    def _note_start(self, execution: _Execution, found: Mapping[str, Any]) -> None:
        started = found["State"]["StartedAt"]
        if execution.started_at is None:
            execution.started_at = started
        if execution.started_at != started or found["RestartCount"]:
            execution.verdict = Verdict.POSSIBLY_TWICE
        execution.stop_signal = found["Config"].get("StopSignal") or "SIGTERM"

    def _time_out(self, execution: _Execution) -> None:
        execution.timed_out = True
        self._tasks.spawn(self._end(execution, f"timeout after {execution.request.timeout:g} s"))

    def _collect(self, execution: _Execution, found: Mapping[str, Any], left: _Left, lost: bool) -> None:
        """Finish with what an ended container left; `lost` where its engine was down by then."""
        self._note_start(execution, found)
        (stdout, stderr), file = left
        ended = Ended(
            state=found["State"],
            stdout=stdout,
            stderr=stderr,
            file=file,
            stop_reason=execution.stop_reason,
            timed_out=execution.timed_out,
            lost=lost,
            memory_mb=found["HostConfig"]["Memory"] // policy.MEGABYTE,
        )
        self._finish(execution, result_of(execution.request, ended, self._context.host, execution.verdict))

    async def _read_left(self, execution: _Execution) -> _Left:
        assert execution.container is not None
        log = self._read_log(execution.request.key, execution.container)
        both: _Left = await asyncio.gather(log, self._read_output(execution.container, execution.layer))
        return both

    async def _read_log(self, key: str, container: str) -> tuple[Tail, Tail]:
        """The ends of both streams; the whole is kept where it is longer."""
        stdout, stderr = Tail(OUTPUT_FILE_MAX), Tail(OUTPUT_TAIL)
        writer = self._kept.writer(key)
        async with contextlib.aclosing(self._engine.logs(container, follow=False)) as frames:
            async for frame in frames:
                (stdout if frame.stream == "stdout" else stderr).add(frame.data)
                await writer.add(frame)
        await writer.finish()
        return stdout, stderr

    async def _read_output(self, container: str, layer: str | None) -> tuple[Json, str | None] | None:
        """Value and problem of the output file; None where there is none."""
        if layer is not None:
            with contextlib.suppress(OSError):
                written = await self._engine.in_thread(lambda: read_output(layer))
                return None if written is None else file_output(written)
        try:
            packed = await self._engine.read(f"/containers/{container}/archive", {"path": policy.OUTPUT}, _ARCHIVE_MAX)
        except EngineError:
            return None
        return output_file(packed)

    def _finish(self, execution: _Execution, result: ExecutionResult) -> None:
        if self._forget(execution):
            self._ended.put_nowait((execution.request.key, result))

    def _forget(self, execution: _Execution) -> bool:
        """Watch it no longer; whether it was watched."""
        if self._executions.get(execution.request.key) is not execution:
            return False
        del self._executions[execution.request.key]
        execution.cancel_timers()
        execution.cancel_retry()
        return True

    # ---- ending

    async def _end(self, execution: _Execution, reason: str) -> None:
        if execution.stop_reason is None:
            execution.stop_reason = reason
            execution.stopped.set()
            execution.cancel_timers()
            if execution.container is not None:
                await self._signal(execution)

    async def _signal(self, execution: _Execution) -> None:
        """Send the polite signal now and the forcible one after the grace."""
        execution.cancel_timers()
        loop = asyncio.get_running_loop()
        kill = loop.call_later(self._table.grace, lambda: self._tasks.spawn(self._kill(execution, "SIGKILL")))
        execution.timers.append(kill)
        await self._kill(execution, execution.stop_signal)

    async def _kill(self, execution: _Execution, signal: str) -> None:
        container = execution.container
        try:
            await self._engine.request(lambda client: client.kill(container, signal))
        except HostUnavailable:
            execution.cancel_timers()  # the next look sends it again
            self._look_later(execution)
        except EngineError:
            self._look(execution)  # it has ended or is gone

    def _failed(self, reason: str, verdict: Verdict = Verdict.UNKNOWN) -> ExecutionResult:
        return ExecutionResult(status="failed", reason=reason, host=self._context.host, verdict=verdict)


def make(table: Mapping[str, Any], context: ExecutorContext) -> Executor:
    """The executor of a Docker host; ConfigError where its table cannot be used."""
    return DockerExecutor(policy.read_table(table, context.host), context)


@hookimpl
def scriptrules_executors() -> Mapping[str, ExecutorFactory]:
    return {"docker": make}


@hookimpl
def scriptrules_job_types() -> list[JobType]:
    return [job_type("Docker", "docker", "A container.", policy.OPTIONS)]
