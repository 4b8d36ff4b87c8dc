"""Executions on a Docker swarm: each is a replicated job of one completion, watched by one poll a swarm.

What was tried and rejected: the manager's events (it tells of services, never of the end of a task); the container
events of the manager's own engine (they say nothing of the other nodes); letting the swarm restart what failed (how
often a program ran would be the swarm's secret; `retries=` says it).
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import structlog

from scriptrules import clock
from scriptrules.errors import HostUnavailable, InvalidRequest
from scriptrules.executors import _swarm_policy as policy
from scriptrules.executors import _swarm_tasks as tasks_of
from scriptrules.executors._docker_engine import Engine, EngineError
from scriptrules.executors._docker_result import LogFrame, Tail
from scriptrules.executors._output import OUTPUT_FILE_MAX, OUTPUT_TAIL
from scriptrules.executors._swarm_cleaning import Cleaning
from scriptrules.executors._swarm_services import Services
from scriptrules.executors._tasks import Tasks
from scriptrules.jobs import JobType, job_type
from scriptrules.model import ExecutionRequest, ExecutionResult, Verdict
from scriptrules.plugins.executor import Executor, ExecutorContext, ExecutorFactory, LogChunk, Placed
from scriptrules.plugins.spec import hookimpl

log = structlog.get_logger(__name__)

POLL_FIRST, POLL_MOST = 0.1, 2.0  # seconds between looks at the tasks; the longer, the longer nothing has changed
LOG_TIMEOUT = 20.0  # seconds for all that an execution has written
STARTING_PATIENCE = 2.0  # seconds that a stop waits for a task which is just about to run
LOG_PATIENCE = 60.0  # seconds that the output of an ended execution is waited for, where its node does not answer


class _Job:
    """One execution from `ensure` until its result is yielded."""

    def __init__(self, request: ExecutionRequest) -> None:
        self.request = request
        self.lock = asyncio.Lock()
        self.service: str | None = None  # its id, once it is known to exist
        self.evidence = tasks_of.Evidence(Verdict.UNKNOWN, {})
        self.started: str | None = None  # as the swarm wrote it when it was first seen to run
        self.seen: tuple[str, ...] = ()  # what the last look found
        self.last: list[dict[str, Any]] = []  # its tasks when there were some
        self.stdout, self.stderr = Tail(OUTPUT_FILE_MAX), Tail(OUTPUT_TAIL)
        self.stop_reason: str | None = None  # we asked it to end
        self.stop_asked = 0.0  # monotonic
        self.halted = False  # the swarm knows that
        self.timed_out = False
        self.timer: asyncio.TimerHandle | None = None
        self.busy = False  # something is being done about it
        self.silent_since: float | None = None  # monotonic; its node does not give out its log
        self.done = asyncio.Event()


class SwarmExecutor:
    """One swarm (see `scriptrules.plugins.executor.Executor` for what each method promises)."""

    def __init__(self, table: policy.SwarmTable, context: ExecutorContext) -> None:
        self.max_running = table.host.max_running
        self._table = table
        self._context = context
        self._ended: asyncio.Queue[tuple[str, ExecutionResult] | BaseException | None] = asyncio.Queue()
        self._jobs: dict[str, _Job] = {}
        self._wake = asyncio.Event()
        self._poller: asyncio.Task[None] | None = None
        self._engine = Engine(table.host, context.host, context.base_dir)
        self._services = Services(self._engine, table, context)
        self._cleaning = Cleaning(self._services, table.host.keep_for, context)
        self._tasks = Tasks(self._ended.put_nowait)

    # ---- the contract

    def validate(self, request: ExecutionRequest) -> None:
        policy.check_policy(self._table, request, policy.read_options(request))

    async def ensure(self, request: ExecutionRequest, may_create: bool) -> None:
        self._watch()
        while True:
            job = self._jobs.setdefault(request.key, _Job(request))
            async with job.lock:
                if self._jobs.get(request.key) is not job:
                    continue
                if job.service is None:
                    try:
                        await self._begin(job, may_create)
                    except BaseException:
                        self._forget(job)
                        raise
                return

    async def results(self) -> AsyncIterator[tuple[str, ExecutionResult]]:
        self._watch()
        while (item := await self._ended.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    async def logs(self, key: str, follow: bool = False) -> AsyncIterator[LogChunk]:
        decoders = {stream: codecs.getincrementaldecoder("utf-8")("replace") for stream in ("stdout", "stderr")}
        seen = dict.fromkeys(decoders, 0)  # bytes; after a stream has broken, all is read again from the beginning
        pause = POLL_FIRST
        while True:
            job = self._jobs.get(key)
            following = follow and job is not None
            skip = dict(seen)
            try:
                async with contextlib.aclosing(self._pieces(key, job if following else None)) as pieces:
                    async for frame in pieces:
                        stream = frame.stream
                        fresh = frame.data[skip[stream] :]
                        skip[stream] -= len(frame.data) - len(fresh)
                        seen[stream] += len(fresh)
                        if text := decoders[stream].decode(fresh):
                            yield LogChunk(stream, text, clock.parse(frame.stamp))
            except HostUnavailable:
                if not following:
                    raise
            except EngineError as error:
                if error.status != 404 and not following:
                    raise self._engine.unavailable(error.message) from None
            if not following:
                break
            await asyncio.sleep(pause)
            pause = min(pause * 2, POLL_MOST)
        for stream, decoder in decoders.items():
            if text := decoder.decode(b"", final=True):
                yield LogChunk(stream, text)

    async def stop(self, key: str) -> None:
        job = self._jobs.get(key)
        if job is not None:
            await self._end(job, "stopped")

    async def release(self, key: str) -> None:
        self._services.forget(key)
        await self._cleaning.release(key)
        self._wake.set()

    async def check(self) -> str:
        try:
            about = await self._engine.request(lambda client: client.info())
        except EngineError as error:
            raise self._engine.unavailable(error.message) from None
        swarm = about["Swarm"]
        if not swarm.get("ControlAvailable"):
            state = swarm.get("LocalNodeState", "inactive")
            raise self._engine.unavailable(f"its engine manages no swarm (state in one: {state}); name a manager's")
        allowed = ", ".join(self._table.host.images) or "no image, so no rule can use it: set images"
        return (
            f"Docker {about['ServerVersion']} at {self._table.host.url}, a swarm of {swarm['Nodes']} nodes with "
            f"{swarm['Managers']} managers; allows {allowed}"
        )

    async def version(self) -> str:
        try:
            return str((await self._engine.request(lambda client: client.version()))["Version"])
        except EngineError as error:
            raise self._engine.unavailable(error.message) from None

    async def inventory(self) -> list[Placed]:
        try:
            return await self._services.inventory(self._cleaning.pending)
        except EngineError as error:
            raise self._engine.unavailable(error.message) from None

    async def close(self) -> None:
        for job in self._jobs.values():
            self._cancel_timer(job)
        await self._tasks.close()
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)
        await self._engine.close()
        self._ended.put_nowait(None)

    # ---- starting

    async def _begin(self, job: _Job, may_create: bool) -> None:
        """Create or find the service of `job`; afterwards it is watched, or has ended."""
        key = job.request.key
        if not may_create:
            found = await self._services.find(key)
            if found is None or not self._services.is_ours(found, key):
                self._finish(job, self._failed("the service was removed"))
            else:
                self._adopt(job, found)
            return
        if job.stop_reason is not None:
            self._finish(job, self._failed("stopped before it was started", Verdict.ONCE))
            return
        try:
            self.validate(job.request)
        except InvalidRequest:
            # What was started when the policy still allowed it goes on, and is not lost.
            found = await self._services.find(key)
            if found is None or not self._services.is_ours(found, key):
                raise
            self._adopt(job, found)
            return
        before = await self._services.nodes()
        service = await self._services.create(job.request)
        if service is None:
            found = await self._services.find(key)
            if found is None:
                raise self._engine.unavailable("a service of the same name is just being removed")
            self._services.check_taken(found, job.request)
            self._adopt(job, found)
            return
        certain = job.request.fresh and self._services.created_once(key)
        job.evidence = tasks_of.Evidence(Verdict.ONCE if certain else Verdict.POSSIBLY_TWICE, before)
        self._take(job, service)

    def _adopt(self, job: _Job, found: Mapping[str, Any]) -> None:
        """Watch a service that was created before."""
        begun = Verdict.ADOPTED
        if self._services.is_own(found) and not self._services.created_once(job.request.key):
            begun = Verdict.POSSIBLY_TWICE
        job.evidence = tasks_of.Evidence(begun, {})
        reason = found["Spec"]["Labels"].get(policy.LABEL_STOPPED)
        if reason is not None:
            job.stop_reason, job.halted, job.timed_out = reason, True, reason.startswith("timeout")
        self._take(job, found["ID"])

    def _take(self, job: _Job, service: str) -> None:
        job.service = service
        self._wake.set()

    # ---- watching

    def _watch(self) -> None:
        if not self._tasks.closed and (self._poller is None or self._poller.done()):
            self._poller = asyncio.get_running_loop().create_task(self._poll())

    async def _poll(self) -> None:
        """Look at all tasks at once, often where something happens, and not at all where nothing is watched."""
        pause = POLL_FIRST
        try:
            while True:
                self._wake.clear()
                try:
                    await self._cleaning.redo()
                    watched = [job for job in self._jobs.values() if job.service is not None]
                    listed = await self._services.tasks() if watched else {}
                    changed = [self._look(job, listed.get(job.service or "", [])) for job in watched]
                    pause = POLL_FIRST if any(changed) else min(pause * 1.5, POLL_MOST)
                except (HostUnavailable, EngineError) as error:
                    log.warning("swarm.unavailable", host=self._context.host, problem=str(error))
                    pause = POLL_MOST
                idle = not self._jobs and not self._cleaning.pending
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if idle else pause):
                        await self._wake.wait()
                        pause = POLL_FIRST
        except Exception as error:
            self._ended.put_nowait(error)

    def _look(self, job: _Job, tasks: list[dict[str, Any]]) -> bool:
        """Do what follows from the tasks of `job` as they are now; whether something has changed."""
        task = tasks_of.the_task(tasks)
        job.last = tasks or job.last
        status = task["Status"] if task else {}
        seen = (task["ID"], status["State"], str(status.get("Err"))) if task else ()
        changed, job.seen = seen != job.seen, seen
        if job.busy:
            return changed
        if job.stop_reason is not None and not job.halted:
            self._do(job, self._halt(job))
        elif task is None:
            self._do(job, self._look_for(job))
        elif status["State"] in tasks_of.ENDED:
            self._do(job, self._collect(job))
        elif status["State"] == "running":
            if job.started is None:
                job.started = tasks_of.started_at(task)
                self._context.report(job.request.key, None)
            if job.request.timeout is not None and job.timer is None and job.stop_reason is None:
                self._do(job, self._arm(job))
        elif changed and status.get("Err"):
            self._context.report(job.request.key, f"waits for a node of {self._context.host}: {status['Err']}")
        return changed

    def _do(self, job: _Job, work: Any) -> None:
        job.busy = True
        self._tasks.spawn(self._carefully(job, work))

    async def _carefully(self, job: _Job, work: Any) -> None:
        try:
            await work
        except (HostUnavailable, EngineError):
            pass  # the next look does it again
        except Exception as error:
            problem = f"the swarm executor failed ({type(error).__name__}: {error}). Report it; the service is kept."
            self._finish(job, self._failed(problem))
        finally:
            job.busy = False

    async def _arm(self, job: _Job) -> None:
        """Have the timeout end it; counted from its start, whoever supervised then."""
        timeout = job.request.timeout or 0.0
        about = await self._engine.request(lambda client: client.info())
        passed = (clock.parse(about["SystemTime"]) - clock.parse(job.started or about["SystemTime"])) / clock.SECOND
        left = min(timeout, max(0.0, timeout - passed))
        job.timer = asyncio.get_running_loop().call_later(left, self._time_out, job)

    def _time_out(self, job: _Job) -> None:
        job.timed_out = True
        self._tasks.spawn(self._end(job, f"timeout after {job.request.timeout:g} s"))

    async def _look_for(self, job: _Job) -> None:
        """A service without tasks: it was ended, removed, or is not yet that far."""
        found = await self._services.find(job.request.key)
        gone = found is None or not self._services.is_ours(found, job.request.key)
        if job.stop_reason is not None:
            await self._conclude(job, lost=None)
        elif gone:
            self._finish(job, self._failed("the service was removed"))

    async def _collect(self, job: _Job) -> None:
        """Gather what an ended task left, and finish."""
        lost = None
        if not job.halted:
            try:
                await self._read_log(job)
            except (HostUnavailable, EngineError) as error:
                since = job.silent_since = job.silent_since or clock.monotonic()
                removed = isinstance(error, EngineError) and error.status == 404
                if not removed and clock.monotonic() - since < LOG_PATIENCE:
                    return
                lost = "What it wrote cannot be had any more: " + (
                    "its service was removed." if removed else str(error)
                )
        await self._conclude(job, lost)

    async def _conclude(self, job: _Job, lost: str | None) -> None:
        task = tasks_of.the_task(job.last)
        if task is None:
            self._finish(job, self._failed(job.stop_reason or "it has no task", Verdict.ONCE))
            return
        verdict = tasks_of.verdict_of(job.evidence, job.last, await self._services.nodes())
        memory = policy.read_options(job.request).common.memory_mb or self._table.host.memory_mb
        seen = tasks_of.Seen(task, job.started, job.stdout, job.stderr, lost, job.stop_reason, job.timed_out, memory)
        self._finish(job, tasks_of.result(job.request, seen, self._context.host, verdict))

    async def _read_log(self, job: _Job) -> None:
        job.stdout, job.stderr = Tail(OUTPUT_FILE_MAX), Tail(OUTPUT_TAIL)
        try:
            async with (
                asyncio.timeout(LOG_TIMEOUT),
                contextlib.aclosing(self._services.logs(job.request.key, follow=False)) as pieces,
            ):
                async for frame in pieces:
                    (job.stdout if frame.stream == "stdout" else job.stderr).add(frame.data)
        except TimeoutError:
            raise self._engine.unavailable("its node does not give out the log") from None

    async def _pieces(self, key: str, job: _Job | None) -> AsyncGenerator[LogFrame, None]:
        """What `key` has written; where a `job` is given also what it writes until that is done."""
        async with contextlib.aclosing(self._services.logs(key, follow=job is not None)) as pieces:
            if job is None:
                async for piece in pieces:
                    yield piece
                return
            done = asyncio.ensure_future(job.done.wait())
            following = None
            try:
                while True:
                    following = asyncio.ensure_future(anext(pieces))
                    await asyncio.wait({following, done}, return_when=asyncio.FIRST_COMPLETED)
                    if not following.done():
                        return
                    try:
                        piece = following.result()
                    except StopAsyncIteration:
                        return
                    yield piece
            finally:
                for task in (done, following):
                    if task is not None:
                        task.cancel()
                        await asyncio.gather(task, return_exceptions=True)

    # ---- ending

    async def _end(self, job: _Job, reason: str) -> None:
        if job.stop_reason is None:
            job.stop_reason, job.stop_asked = reason, clock.monotonic()
            self._cancel_timer(job)
            self._wake.set()

    async def _halt(self, job: _Job) -> None:
        """Keep what it has written, for the swarm forgets that with the task, and have it ended."""
        task = tasks_of.the_task(job.last)
        placed = task is not None and "NodeID" in task
        began = task is not None and task["Status"]["State"] not in tasks_of.BEFORE_START
        if placed and not began and clock.monotonic() - job.stop_asked < STARTING_PATIENCE:
            return  # it may run already, and its node gives out no log before it has said so
        if began:
            with contextlib.suppress(HostUnavailable, EngineError):
                await self._read_log(job)
        if await self._services.halt(job.request.key, job.stop_reason or ""):
            job.halted = True
        else:
            self._finish(job, self._failed(f"{job.stop_reason}; its service was removed, and it may go on"))
        self._wake.set()

    def _finish(self, job: _Job, result: ExecutionResult) -> None:
        if self._forget(job):
            self._ended.put_nowait((job.request.key, result))

    def _forget(self, job: _Job) -> bool:
        """Watch it no longer; whether it was watched."""
        if self._jobs.get(job.request.key) is not job:
            return False
        del self._jobs[job.request.key]
        self._cancel_timer(job)
        job.done.set()
        return True

    @staticmethod
    def _cancel_timer(job: _Job) -> None:
        if job.timer is not None:
            job.timer.cancel()

    def _failed(self, reason: str, verdict: Verdict = Verdict.UNKNOWN) -> ExecutionResult:
        return ExecutionResult(status="failed", reason=reason, host=self._context.host, verdict=verdict)


def make(table: Mapping[str, Any], context: ExecutorContext) -> Executor:
    """The executor of a swarm; ConfigError where its table cannot be used."""
    return SwarmExecutor(policy.read_table(table, context.host), context)


@hookimpl
def scriptrules_executors() -> Mapping[str, ExecutorFactory]:
    return {"swarm": make}


@hookimpl
def scriptrules_job_types() -> list[JobType]:
    return [job_type("Swarm", "swarm", "A job on a cluster of Docker engines.", policy.OPTIONS)]
