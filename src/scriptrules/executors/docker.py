"""Containers on one Docker engine: started once, watched by one event stream, found again after any restart.

A container's name is made of the store and the execution's key, so that the engine itself refuses a second one. What
was found under the name decides what happens (`_begin`), and how the execution was started decides its verdict.

What was tried and rejected: a thread, or a `/wait` request, for each container (100 sockets for 100 containers, and
slower than the one event stream); the SDK's `stop` (it occupies a thread for the whole grace); trusting events alone
(a stream that broke silently loses the end of a container, hence the comparison with the engine's list after every
connect and every `COMPARE_INTERVAL`); the file of released keys as the only memory of what may be removed (a renamed
container says it itself, wherever the supervisor runs next).
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import re
import uuid
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any

import msgspec

from scriptrules import clock
from scriptrules.errors import HostUnavailable, InvalidRequest
from scriptrules.executors import _docker_policy as policy
from scriptrules.executors._docker_engine import Engine, EngineError
from scriptrules.executors._docker_result import Ended, Tail, input_archive, output_file, result_of
from scriptrules.executors._docker_result import never_started as is_never_started
from scriptrules.executors._output import OUTPUT_FILE_MAX, OUTPUT_TAIL
from scriptrules.model import ExecutionRequest, ExecutionResult, Verdict
from scriptrules.plugins.executor import Executor, ExecutorContext, ExecutorFactory, LogChunk
from scriptrules.plugins.spec import hookimpl

STOP_GRACE = 10.0  # seconds between the polite signal and the forcible one
COMPARE_INTERVAL = 30.0  # seconds without an event after which the engine's list is compared
RECONNECT_FIRST, RECONNECT_MOST = 0.1, 5.0  # seconds between attempts to reach an engine again
RELEASED = "-released"  # ends the name of a container that is only kept for a while
_ARCHIVE_MAX = OUTPUT_FILE_MAX + 64 * 1024  # bytes; the headers of an archive come on top of the file
_LIVE = frozenset({"running", "paused", "restarting", "removing"})


class _Execution:
    """One execution from `ensure` until its result is yielded."""

    def __init__(self, request: ExecutionRequest) -> None:
        self.request = request
        self.lock = asyncio.Lock()
        self.container: str | None = None  # its id, once it is known to have been started
        self.verdict = Verdict.UNKNOWN
        self.started_at: str | None = None  # as the engine wrote it when it was first seen
        self.stop_signal = "SIGTERM"
        self.stop_reason: str | None = None  # we asked it to end
        self.timed_out = False
        self.outage = False  # the engine was out of reach while it ran
        self.counted = False  # among those that max_running bounds
        self.timers: list[asyncio.TimerHandle] = []
        self.looking = False
        self.look_again = False

    def cancel_timers(self) -> None:
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()


class DockerExecutor:
    """One Docker host (see `scriptrules.plugins.executor.Executor` for what each method promises)."""

    def __init__(self, table: policy.HostTable, context: ExecutorContext) -> None:
        self._table = table
        self._context = context
        self._engine = Engine(table, context.host, context.base_dir)
        self._owner = uuid.uuid4().hex
        self._executions: dict[str, _Execution] = {}
        self._starts: dict[str, int] = {}  # requests to start that this object has sent, by key
        self._ended: asyncio.Queue[tuple[str, ExecutionResult] | BaseException | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeps: dict[str, asyncio.TimerHandle] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._busy = 0
        self._slot_freed = asyncio.Event()
        self._skew = 0  # microseconds that the engine's clock is ahead of ours
        self._closed = False

    # ---- the contract

    def validate(self, request: ExecutionRequest) -> None:
        policy.check_policy(self._table, request, policy.read_options(request))

    async def ensure(self, request: ExecutionRequest, may_create: bool) -> None:
        if may_create:
            self.validate(request)
        self._watch()
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
        self._watch()
        while (item := await self._ended.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    async def logs(self, key: str, follow: bool = False) -> AsyncIterator[LogChunk]:
        decoders = {stream: codecs.getincrementaldecoder("utf-8")("replace") for stream in ("stdout", "stderr")}
        seen = dict.fromkeys(decoders, 0)  # bytes; a stream that broke is read again from its beginning
        pause = RECONNECT_FIRST
        while True:
            try:
                skip = dict(seen)
                async with contextlib.aclosing(self._engine.logs(self._name(key), follow)) as pieces:
                    async for stream, data in pieces:
                        fresh = data[skip[stream] :]
                        skip[stream] -= len(data) - len(fresh)
                        seen[stream] += len(fresh)
                        if text := decoders[stream].decode(fresh):
                            yield LogChunk(stream, text)
                if not follow or key not in self._executions or not await self._is_live(key):
                    break
            except HostUnavailable:
                if not follow or key not in self._executions:
                    raise
            except EngineError as error:
                if error.status != 404 and not follow:
                    raise self._engine.unavailable(error.message) from None
                if not follow or key not in self._executions:
                    break
            await asyncio.sleep(pause)
            pause = min(pause * 2, RECONNECT_MOST)
        for stream, decoder in decoders.items():
            if text := decoder.decode(b"", final=True):
                yield LogChunk(stream, text)

    async def stop(self, key: str) -> None:
        execution = self._executions.get(key)
        if execution is not None:
            await self._end(execution, "stopped")

    async def release(self, key: str) -> None:
        self._starts.pop(key, None)
        note = self._context.state_dir / "release" / key
        try:
            await self._release(key)
            note.unlink(missing_ok=True)
        except (HostUnavailable, EngineError):
            note.parent.mkdir(parents=True, exist_ok=True)
            note.touch()

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

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for timer in self._sweeps.values():
            timer.cancel()
        for execution in self._executions.values():
            execution.cancel_timers()
        tasks = [*self._tasks, *([self._watcher] if self._watcher else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._engine.close()
        self._ended.put_nowait(None)

    # ---- starting

    async def _begin(self, execution: _Execution, may_create: bool) -> None:
        """Create, start or find the container of `execution`; afterwards it is watched, or has ended."""
        key = execution.request.key
        if not may_create:
            found = await self._find(key)
            if found is None or not self._is_ours(found, key):
                self._finish(execution, self._failed("container was removed"))
            elif is_never_started(found["State"]):
                self._finish(execution, self._failed("the engine has forgotten that it started the container"))
            else:
                self._adopt(execution, found)
            return
        if self._table.max_running and self._busy >= self._table.max_running:
            found = await self._find(key)
            if found is not None and self._is_ours(found, key) and not is_never_started(found["State"]):
                self._adopt(execution, found)
                return
        await self._take_slot(execution)
        if execution.stop_reason is not None:
            self._finish(execution, self._failed("stopped before it was started", Verdict.ONCE))
            return
        container = await self._create(execution.request)
        own = container is not None
        if container is None:
            found = await self._find(key)
            if found is None:
                raise self._engine.unavailable("a container of the same name is just being removed")
            self._check_taken(found, execution.request)
            if not is_never_started(found["State"]):
                self._adopt(execution, found)
                return
            container, own = found["Id"], found["Config"]["Labels"].get(policy.LABEL_OWNER) == self._owner
        await self._start(execution, container, own)

    async def _create(self, request: ExecutionRequest) -> str | None:
        """The id of a new container; None where its name is taken."""
        options = policy.read_options(request)
        labels = policy.labels_of(request, options, self._context.store_id, self._owner)
        body = policy.container_body(self._table, request, options, labels)
        name = self._name(request.key)
        if self._table.pull == "always":
            await self._pull(request.image)
        for may_pull in (self._table.pull == "missing", False):
            try:
                made = await self._engine.request(lambda client: client.create_container_from_config(body, name))
                return str(made["Id"])
            except EngineError as error:
                if error.status == 409:
                    return None
                missing = error.status == 404 and "no such image" in error.message.lower()
                if missing and may_pull:
                    await self._pull(request.image)
                elif missing:
                    raise InvalidRequest(
                        f"the image {request.image!r} is not on host {self._context.host!r}, which is configured with "
                        f'pull = "{self._table.pull}". Load the image there, or correct its name.'
                    ) from None
                else:
                    raise InvalidRequest(f"the engine refused: {error.message}. Correct run()'s arguments.") from None
        raise AssertionError("the second attempt returns or raises")

    async def _pull(self, image: str) -> None:
        try:
            await self._engine.pull(image)
        except EngineError as error:
            raise InvalidRequest(
                f"the image {image!r} cannot be pulled on host {self._context.host!r}: {error.message}. "
                f"Correct its name, or load it there."
            ) from None

    async def _start(self, execution: _Execution, container: str, own: bool) -> None:
        """Start a container that was never started, as far as the engine knows."""
        key = execution.request.key
        archive = input_archive(execution.request.input, self._context.clock())

        def start(client: Any) -> Any:
            client.put_archive(container, "/", archive)
            # Counted before it is sent: an answer that is lost may be of a start that took place.
            self._starts[key] = self._starts.get(key, 0) + 1
            client.start(container)

        try:
            await self._engine.request(start)
        except EngineError as error:
            found = await self._find(key)
            if found is None or is_never_started(found["State"]):
                await self._remove(container)
                raise InvalidRequest(
                    f"the engine cannot start it: {error.message}. Correct run()'s arguments."
                ) from None
        execution.container = container
        # An engine that died after it started the process, before it wrote that down, says "created" again.
        execution.verdict = Verdict.ONCE if own and self._starts[key] == 1 else Verdict.POSSIBLY_TWICE
        # Seen before anybody could start it again: `once` compares the moment of the start with the one at the end.
        execution.looking = execution.look_again = True
        await self._settle(execution)

    def _adopt(self, execution: _Execution, found: Mapping[str, Any]) -> None:
        """Watch a container that was started before."""
        own = found["Config"]["Labels"].get(policy.LABEL_OWNER) == self._owner
        starts = self._starts.get(execution.request.key, 0)
        execution.container = found["Id"]
        execution.verdict = Verdict.ADOPTED
        if own and starts:
            execution.verdict = Verdict.ONCE if starts == 1 else Verdict.POSSIBLY_TWICE
        self._count(execution)
        self._look(execution)

    async def _take_slot(self, execution: _Execution) -> None:
        while self._table.max_running and self._busy >= self._table.max_running and execution.stop_reason is None:
            self._slot_freed.clear()
            await self._slot_freed.wait()
        self._count(execution)

    def _count(self, execution: _Execution) -> None:
        if not execution.counted:
            execution.counted = True
            self._busy += 1

    # ---- watching

    def _watch(self) -> None:
        if not self._closed and (self._watcher is None or self._watcher.done()):
            self._watcher = asyncio.get_running_loop().create_task(self._watch_events())

    async def _watch_events(self) -> None:
        """Follow the engine's events for as long as the executor lives, and compare lists after each connect."""
        pause = RECONNECT_FIRST
        filters = {
            "type": ["container"],
            "event": ["die", "destroy"],
            "label": [f"{policy.LABEL_STORE}={self._context.store_id}"],
        }
        try:
            while True:
                try:
                    about = await self._engine.request(lambda client: client.info())
                    now = clock.parse(about["SystemTime"])
                    self._skew = now - self._context.clock()
                    # The engine answers before it listens: `since` has it repeat what happened in between.
                    query = {"filters": msgspec.json.encode(filters).decode(), "since": str(now // clock.SECOND - 1)}
                    async with self._engine.stream("/events", query) as reader:
                        await self._compare()
                        await self._redo_releases()
                        pause = RECONNECT_FIRST
                        await self._follow_events(reader)
                except (HostUnavailable, EngineError, OSError, EOFError, msgspec.DecodeError):
                    pass  # a last line may be cut off as well
                for execution in self._executions.values():
                    execution.outage = True
                await asyncio.sleep(pause)
                pause = min(pause * 2, RECONNECT_MOST)
        except Exception as error:
            self._ended.put_nowait(error)

    async def _follow_events(self, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                # Not wait_for: before Python 3.12 it can swallow the cancellation that ends this task.
                async with asyncio.timeout(COMPARE_INTERVAL):
                    line = await reader.readline()
            except TimeoutError:
                await self._compare()
                continue
            if not line:
                return
            event = msgspec.json.decode(line)
            execution = self._executions.get(event["Actor"]["Attributes"].get(policy.LABEL_KEY, ""))
            if execution is not None and execution.container == event["Actor"]["ID"]:
                self._look(execution)

    async def _compare(self) -> None:
        """Look at each watched execution whose container the engine does not list as running, and sweep."""
        watched = [execution for execution in self._executions.values() if execution.container is not None]
        filters = {"label": f"{policy.LABEL_STORE}={self._context.store_id}"}
        listed = await self._engine.request(lambda client: client.containers(all=True, filters=filters))
        running = {container["Id"] for container in listed if container["State"] in _LIVE}
        for execution in watched:
            pending = execution.stop_reason is not None or execution.request.timeout is not None
            if execution.container not in running or pending or execution.started_at is None:
                self._look(execution)
        for container in listed:
            released = any(name.endswith(RELEASED) for name in container["Names"])
            if released and container["Id"] not in self._sweeps:
                self._spawn(self._sweep(container["Id"]))

    def _look(self, execution: _Execution) -> None:
        execution.look_again = True
        if not execution.looking:
            execution.looking = True
            self._spawn(self._settle(execution))

    async def _settle(self, execution: _Execution) -> None:
        try:
            while execution.look_again:
                await self._settle_now(execution)
        except Exception as error:
            problem = f"the docker executor failed ({type(error).__name__}: {error}). Report it; the container is kept."
            self._finish(execution, self._failed(problem))
        finally:
            execution.looking = False

    async def _settle_now(self, execution: _Execution) -> None:
        """Inspect the container and do what follows: finish with a result, or arm the timeout."""
        execution.look_again = False
        container = execution.container
        try:
            found = await self._engine.request(lambda client: client.inspect_container(container))
            if found["State"]["Status"] in _LIVE:
                await self._still_runs(execution, found)
            elif self._executions.get(execution.request.key) is execution:
                await self._collect(execution, found)
        except HostUnavailable:
            pass  # the comparison after the next connect looks again
        except EngineError as error:
            if error.status == 404:
                self._finish(execution, self._failed("container was removed"))
            # anything else is the engine's trouble of the moment: the next comparison looks again

    async def _still_runs(self, execution: _Execution, found: Mapping[str, Any]) -> None:
        self._note_start(execution, found)
        if execution.stop_reason is not None:
            if not execution.timers:
                await self._signal(execution)
            return
        timeout = execution.request.timeout
        started = found["State"]["StartedAt"]
        if timeout is None:
            return
        execution.cancel_timers()
        left = (clock.parse(started) - self._context.clock() - self._skew) / clock.SECOND + timeout
        loop = asyncio.get_running_loop()
        execution.timers.append(loop.call_later(max(0.0, left), self._time_out, execution))

    def _note_start(self, execution: _Execution, found: Mapping[str, Any]) -> None:
        started = found["State"]["StartedAt"]
        if execution.started_at is None:
            execution.started_at = started
        if execution.started_at != started or found["RestartCount"]:
            execution.verdict = Verdict.POSSIBLY_TWICE
        execution.stop_signal = found["Config"].get("StopSignal") or "SIGTERM"

    def _time_out(self, execution: _Execution) -> None:
        execution.timed_out = True
        self._spawn(self._end(execution, f"timeout after {execution.request.timeout:g} s"))

    async def _collect(self, execution: _Execution, found: Mapping[str, Any]) -> None:
        """Gather what an ended container left, and finish."""
        self._note_start(execution, found)
        stdout, stderr = Tail(OUTPUT_FILE_MAX), Tail(OUTPUT_TAIL)
        async with contextlib.aclosing(self._engine.logs(found["Id"], follow=False)) as pieces:
            async for stream, data in pieces:
                (stdout if stream == "stdout" else stderr).add(data)
        file = None
        with contextlib.suppress(EngineError):  # there is no such file
            path = f"/containers/{found['Id']}/archive"
            file = output_file(await self._engine.read(path, {"path": policy.OUTPUT}, _ARCHIVE_MAX))
        ended = Ended(
            state=found["State"],
            stdout=stdout,
            stderr=stderr,
            file=file,
            stop_reason=execution.stop_reason,
            timed_out=execution.timed_out,
            outage=execution.outage,
            memory_mb=found["HostConfig"]["Memory"] // policy.MEGABYTE,
        )
        self._finish(execution, result_of(execution.request, ended, self._context.host, execution.verdict))

    def _finish(self, execution: _Execution, result: ExecutionResult) -> None:
        if self._forget(execution):
            self._ended.put_nowait((execution.request.key, result))

    def _forget(self, execution: _Execution) -> bool:
        """Watch it no longer; whether it was watched."""
        if self._executions.get(execution.request.key) is not execution:
            return False
        del self._executions[execution.request.key]
        execution.cancel_timers()
        if execution.counted:
            self._busy -= 1
            self._slot_freed.set()
        return True

    # ---- ending

    async def _end(self, execution: _Execution, reason: str) -> None:
        if execution.stop_reason is None:
            execution.stop_reason = reason
            execution.cancel_timers()
            self._slot_freed.set()
            if execution.container is not None:
                await self._signal(execution)

    async def _signal(self, execution: _Execution) -> None:
        """Send the polite signal now and the forcible one after the grace."""
        execution.cancel_timers()
        loop = asyncio.get_running_loop()
        kill = loop.call_later(STOP_GRACE, lambda: self._spawn(self._kill(execution, "SIGKILL")))
        execution.timers.append(kill)
        await self._kill(execution, execution.stop_signal)

    async def _kill(self, execution: _Execution, signal: str) -> None:
        container = execution.container
        try:
            await self._engine.request(lambda client: client.kill(container, signal))
        except HostUnavailable:
            execution.cancel_timers()  # the comparison after the next connect sends it again
        except EngineError:
            self._look(execution)  # it has ended or is gone

    async def _release(self, key: str) -> None:
        found = await self._find(key)
        if found is None or not self._is_ours(found, key) or found["Config"]["Labels"].get(policy.LABEL_KEEP) == "1":
            return
        container = found["Id"]
        if self._table.keep_for:
            name = self._name(key) + RELEASED
            await self._engine.request(lambda client: client.rename(container, name))
            await self._sweep(container)
        else:
            await self._remove(container)

    async def _sweep(self, container: str) -> None:
        """Remove a released container, now or when it has been kept for long enough."""
        if timer := self._sweeps.pop(container, None):
            timer.cancel()
        with contextlib.suppress(HostUnavailable, EngineError):
            found = await self._engine.request(lambda client: client.inspect_container(container))
            since = clock.parse(found["State"]["FinishedAt"])
            left = (since - self._context.clock() - self._skew) / clock.SECOND + self._table.keep_for
            if left <= 0:
                await self._remove(container)
            elif not self._closed:
                loop = asyncio.get_running_loop()
                self._sweeps[container] = loop.call_later(left, lambda: self._spawn(self._sweep(container)))

    async def _remove(self, container: str) -> None:
        try:
            await self._engine.request(lambda client: client.remove_container(container, v=True, force=True))
        except EngineError as error:
            if error.status not in (404, 409):  # gone, or just being removed
                raise

    async def _redo_releases(self) -> None:
        folder = self._context.state_dir / "release"
        for note in sorted(folder.iterdir()) if folder.is_dir() else ():
            await self.release(note.name)

    # ---- finding

    def _name(self, key: str) -> str:
        store = re.sub(r"[^a-zA-Z0-9_.-]", "", self._context.store_id)[:8]
        return f"scriptrules-{store}-{key}"

    async def _find(self, key: str) -> dict[str, Any] | None:
        name = self._name(key)
        try:
            found: dict[str, Any] = await self._engine.request(lambda client: client.inspect_container(name))
        except EngineError as error:
            if error.status == 404:
                return None
            raise self._engine.unavailable(error.message) from None
        return found

    def _is_ours(self, found: Mapping[str, Any], key: str) -> bool:
        labels = found["Config"]["Labels"] or {}
        return (labels.get(policy.LABEL_STORE), labels.get(policy.LABEL_KEY)) == (self._context.store_id, key)

    def _check_taken(self, found: Mapping[str, Any], request: ExecutionRequest) -> None:
        name = self._name(request.key)
        if not self._is_ours(found, request.key):
            raise InvalidRequest(
                f"the name {name!r} is taken on host {self._context.host!r} by a container that is not ours. "
                f"Remove or rename that container."
            )
        if found["Config"]["Labels"].get(policy.LABEL_SPEC) != policy.spec_digest(request):
            raise InvalidRequest(
                f"the container {name!r} on host {self._context.host!r} was made for other arguments. Remove it."
            )

    async def _is_live(self, key: str) -> bool:
        found = await self._find(key)
        return found is not None and found["State"]["Status"] in _LIVE

    def _failed(self, reason: str, verdict: Verdict = Verdict.UNKNOWN) -> ExecutionResult:
        return ExecutionResult(status="failed", reason=reason, host=self._context.host, verdict=verdict)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if self._closed:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._ended.put_nowait(error)


def make(table: Mapping[str, Any], context: ExecutorContext) -> Executor:
    """The executor of a Docker host; ConfigError where its table cannot be used."""
    return DockerExecutor(policy.read_table(table, context.host), context)


@hookimpl
def scriptrules_executors() -> Mapping[str, ExecutorFactory]:
    return {"docker": make}
