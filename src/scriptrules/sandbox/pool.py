"""The supervisor's side of the workers: who does what, who has fallen silent, and who is replaced.

A job goes to a worker and comes back by exactly one of two calls: `done` with the reply, or `lost` where the worker
died first. A worker that falls silent while it burns CPU time is killed; what it announced last is the culprit, and
everything else that it had is simply done elsewhere. What a worker says is decoded strictly; one that says anything
out of order is killed, not trusted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import structlog

from scriptrules import clock
from scriptrules.diagnostics import Diagnostic
from scriptrules.errors import SandboxUnavailable
from scriptrules.flow.shapes import Facts
from scriptrules.function import FunctionSpec
from scriptrules.jobs import JobType
from scriptrules.model import Source
from scriptrules.sandbox import wire
from scriptrules.sandbox.confine import Limits, missing
from scriptrules.sandbox.nursery import WORKER, Child, Nursery

log = structlog.get_logger(__name__)

WINDOW = 64  # unanswered jobs a worker is given; more would only have to be done again if it dies
LOOK_INTERVAL = 0.1  # seconds between two looks at workers that say nothing
SILENCE_MAX = 60.0  # seconds of wall time without a word and without using CPU time
START_TIMEOUT = 30.0  # seconds until a new worker must have said that it is ready
RUNS_MAX = 1 << 16  # runs that one task can start: slots between two takes
REFUSED = (wire.FrameError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # bytes that are no message
ACKS_MAX = 2 * RUNS_MAX  # announcements for one job: a filter and a run of each rule
REPLIES: dict[type, type] = {
    wire.Load: wire.Loaded, wire.Take: wire.Taken, wire.Replay: wire.Ran, wire.Resume: wire.Ran,
    wire.Analyse: wire.Analysed,
    wire.Judge: wire.Judged,
    wire.Explain: wire.Explained,
}  # fmt: skip


class Loss(msgspec.Struct, frozen=True):
    """A worker died before it had done a job."""

    how: str
    ack: wire.Ack | None = None  # what of this job it was executing: the culprit
    suspect: bool = False  # nobody knows the culprit, and this job was the first in line


class Job:
    """One request to a worker. It comes back by `done` or by `lost`, exactly once."""

    __slots__ = ("done", "epoch", "lost", "make", "number", "reply", "slot", "source", "tries")

    def __init__(
        self,
        make: Callable[[int, int], Any],
        done: Callable[[Worker, Any], None],
        lost: Callable[[Loss], None],
        slot: int = 0,
        source: Source | None = None,
    ) -> None:
        self.make = make  # (number, slot) -> message
        self.done = done
        self.lost = lost
        self.number = 0
        self.epoch = 0  # of the active rules when it was given to a worker
        self.reply: type = object  # what answers it
        self.slot = slot  # of the suspended run that it is about; 0: it gets new ones
        self.source = source  # that the worker must know for it
        self.tries = 0


class Worker(asyncio.Protocol):
    """A worker process as the supervisor sees it."""

    def __init__(self, pool: Pool, child: Child) -> None:
        self.child = child
        self.pid = child.pid
        self.jobs: deque[Job] = deque()
        self.warm = 0  # suspended runs it holds, as the supervisor counts them
        self.digests: set[str] = set()
        self.ready: asyncio.Future[wire.Ready] = asyncio.get_running_loop().create_future()
        self.retiring = False
        self.alive = True
        self.why: str | None = None  # why we killed it
        self.found = False  # the culprit is known already: none of the jobs that it still has
        self.messages = 0
        self.ack: wire.Ack | None = None
        self.acks = 0  # since its last reply
        self.seen = (0, 0.0, clock.monotonic())  # messages, CPU seconds, time: when it last said something
        self._pool = pool
        self._frames = wire.Frames(wire.REPLY_MAX)
        self._transport: asyncio.Transport | None = None
        self._out = bytearray()
        self._flushing = False

    def send(self, message: Any) -> None:
        """Send with whatever else is sent in this turn of the loop: a batch is one write."""
        wire.add_frame(self._out, message)
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._transport is not None and self.alive:
            self._transport.write(bytes(self._out))
        self._out.clear()

    def kill(self, why: str, found: bool = False) -> None:
        """End it at once.

        Args:
            why: goes on after "the worker was …".
            found: whether what it did last is the culprit, and none of the jobs that it still has.
        """
        if self.why is None:
            self.why, self.found = why, found
        self.child.kill()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self.why is not None:
            return  # whatever a worker says after its death sentence does not count
        try:
            for body in self._frames.feed(data):
                self.messages += 1
                self._pool._receive(self, wire.decode_from_worker(body))
                if self.why is not None:
                    return
        except REFUSED as error:
            self.kill(f"killed because it sent something that is no message: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool._lost(self)


class Pool:
    """Starts workers, gives them jobs, and keeps what they must know: functions, budget and active rules.

    Args:
        size: number of workers.
        limits: of each process.
        budget: of each slice.
        functions: that rules may call.
        hard_seconds: CPU seconds without a word after which a worker is killed.
        entry: ``"module:function"`` that workers run, see `scriptrules.sandbox.zygote`.
    """

    def __init__(
        self,
        size: int,
        limits: Limits,
        budget: wire.Budget,
        functions: list[FunctionSpec],
        hard_seconds: float,
        entry: str = WORKER,
        jobs: Sequence[JobType] = (),
    ) -> None:
        self.size = size
        self.workers: list[Worker] = []
        self.walls: dict[str, str] = {}
        self.restarts = 0
        self.gone: Callable[[Worker], None] = lambda _: None  # called with each worker that has died
        self.epoch = 0
        self.python = ""
        self.policy = 0
        self._nursery = Nursery(limits, entry)
        self._setup = wire.Setup(functions, budget, list(jobs))
        self._hard_seconds = hard_seconds
        self._active: dict[str, Source] = {}
        self._pending: deque[Job] = deque()
        self._numbers = 0
        self._slots = 0
        self._watch: asyncio.Task[None] | None = None
        self._forking: set[asyncio.Task[None]] = set()
        self._unready = 0  # workers that are being started
        self._closing = False

    # ---- life

    async def start(self) -> None:
        """Start the workers.

        Raises:
            SandboxUnavailable: none can be started.
        """
        await self._nursery.start()
        first = await asyncio.gather(*(self._fork() for _ in range(self.size)))
        self.walls = first[0].walls
        self.python = first[0].python
        self.policy = first[0].policy
        self._watch = asyncio.create_task(self._look())

    @property
    def missing_walls(self) -> list[str]:
        """Walls of the sandbox that this platform lacks, each with the reason."""
        return missing(self.walls)

    async def close(self) -> None:
        """End all workers; suspended runs are in the store."""
        self._closing = True
        if self._watch is not None:
            self._watch.cancel()
        for task in self._forking:
            task.cancel()
        for worker in list(self.workers):
            worker.close()
        await self._nursery.close()

    async def _fork(self) -> wire.Ready:
        self._unready += 1
        try:
            return await self._fork_one()
        finally:
            self._unready -= 1

    async def _fork_one(self) -> wire.Ready:
        child = await self._nursery.fork()
        loop = asyncio.get_running_loop()
        worker = Worker(self, child)
        await loop.create_connection(lambda: worker, sock=child.sock)
        worker.send(self._setup)
        try:
            ready = await asyncio.wait_for(asyncio.shield(worker.ready), START_TIMEOUT)
        except TimeoutError:
            worker.kill("killed because it did not get ready")
            raise SandboxUnavailable(
                "A worker did not get ready in time. `scriptrules doctor` shows which wall is missing."
            ) from None
        if not worker.alive or worker.why is not None:
            raise SandboxUnavailable(
                f"A worker ended as soon as it was ready: {worker.why or 'by itself'}. `scriptrules doctor` says more."
            )
        for source in self._active.values():
            self._teach(worker, source)
        worker.send(wire.Book(self.epoch, {rule: source.digest for rule, source in self._active.items()}, []))
        self.workers.append(worker)
        self._pump()
        return ready

    # ---- jobs

    def submit(self, job: Job) -> None:
        """Have a job done by whichever worker has the least to do."""
        self._pending.append(job)
        self._pump()

    def submit_to(self, worker: Worker, job: Job) -> None:
        """Have a job done by this worker, which holds the run that it is about."""
        self._give(worker, job)

    def new_slots(self) -> int:
        """The first of `RUNS_MAX` slots that nobody has used."""
        self._slots += RUNS_MAX
        return self._slots

    def _pump(self) -> None:
        while self._pending:
            worker = self._least_busy()
            if worker is None:
                return
            self._give(worker, self._pending.popleft())

    def _least_busy(self) -> Worker | None:
        """The worker that has the least to do; None where none takes any more."""
        found, least = None, (WINDOW, 0)
        for worker in self.workers:
            if worker.why is None:
                load = (len(worker.jobs), worker.warm)
                if load < least:
                    found, least = worker, load
        return found

    def _give(self, worker: Worker, job: Job) -> None:
        if not worker.alive or worker.why is not None:
            asyncio.get_running_loop().call_soon(job.lost, Loss("gone already"))
            return
        if job.source is not None:
            self._teach(worker, job.source)
        self._numbers += 1
        job.number = self._numbers
        job.slot = job.slot or self.new_slots()
        job.tries += 1
        if not worker.jobs:
            worker.seen = (worker.messages, clock.cpu_seconds_of(worker.pid) or 0.0, clock.monotonic())
        worker.jobs.append(job)
        message = job.make(job.number, job.slot)
        job.epoch, job.reply = self.epoch, REPLIES[type(message)]
        worker.send(message)

    # ---- what workers know

    async def load(self, source: Source) -> wire.Loaded:
        """Have a source compiled and described by one worker. It becomes active by `activate` only."""
        future: asyncio.Future[wire.Loaded] = asyncio.get_running_loop().create_future()
        tries = 0

        def done(worker: Worker, reply: wire.Loaded) -> None:
            if reply.metadata is not None:
                worker.digests.add(source.digest)
            if not future.done():
                future.set_result(reply)

        def lost(loss: Loss) -> None:
            nonlocal tries
            tries += loss.suspect
            if loss.ack is None and tries < 3:
                self.submit(job)
                return
            problem = Diagnostic(
                code="SR118", message=f"The file cannot be compiled: the worker was {loss.how}.", line=1, column=0,
                hint="Shorten it, or take deep nesting apart.",
            )  # fmt: skip
            if not future.done():
                future.set_result(wire.Loaded(0, None, [problem]))

        job = Job(lambda number, _: _load(number, source), done, lost)
        self.submit(job)
        return await future

    async def analyse(self, source: Source) -> Facts | None:
        """What the rules of a file can generate, as one worker finds out; None where that was too much for it."""
        future: asyncio.Future[Facts | None] = asyncio.get_running_loop().create_future()

        def settle(facts: Facts | None) -> None:
            if not future.done():
                future.set_result(facts)

        def lost(loss: Loss) -> None:
            if loss.ack is None and job.tries < 3:
                self.submit(job)
            else:
                log.warning("flow.not_analysed", rule=source.rule, problem=f"the worker was {loss.how}")
                settle(None)

        def done(worker: Worker, reply: wire.Analysed) -> None:
            honest = all(facts.rule.partition(":")[0] == source.rule for facts in reply.facts.rules)
            settle(reply.facts if honest else None)

        job = Job(lambda number, _: wire.Analyse(number, source), done, lost)
        self.submit(job)
        return await future

    def activate(self, epoch: int, put: dict[str, Source], drop: list[str]) -> None:
        """Make rules active, or inactive, in all workers, from this epoch on."""
        self.epoch = epoch
        for rule in drop:
            self._active.pop(rule, None)
        self._active.update(put)
        change = wire.Book(epoch, {rule: source.digest for rule, source in put.items()}, drop)
        for worker in self.workers:
            for source in put.values():
                self._teach(worker, source)
            worker.send(change)

    def _teach(self, worker: Worker, source: Source) -> None:
        if source.digest in worker.digests:
            return
        worker.digests.add(source.digest)

        def done(worker: Worker, reply: wire.Loaded) -> None:
            if reply.metadata is None:
                worker.digests.discard(source.digest)

        self._give(worker, Job(lambda number, _: _load(number, source), done, lambda _: None))

    def evict(self, worker: Worker, slots: list[int]) -> None:
        """Have suspended runs forgotten."""
        worker.warm -= len(slots)
        if worker.alive:
            worker.send(wire.Evict(slots))

    def retire(self, worker: Worker) -> None:
        """Replace a worker that had better not go on: after an allocation failed, say."""
        if not worker.retiring:
            worker.retiring = True
            worker.kill("replaced")

    # ---- what workers say

    def _receive(self, worker: Worker, message: wire.FromWorker) -> None:
        job = worker.jobs[0] if worker.jobs else None
        match message:
            case wire.Ready():
                if worker.ready.done():
                    worker.kill("killed because it said twice that it is ready")
                else:
                    worker.ready.set_result(message)
            case wire.Ack():
                worker.acks += 1
                if job is None or message.number != job.number or worker.acks > ACKS_MAX:
                    worker.kill("killed because it announced what it was not asked")
                else:
                    worker.ack = message
            case _:
                if job is None or not self._fits(job, message):
                    worker.kill("killed because it answered what it was not asked")
                    return
                worker.jobs.popleft()
                worker.ack = None
                worker.acks = 0
                job.done(worker, message)
                if self._pending:
                    self._pump()

    def _fits(self, job: Job, message: wire.FromWorker) -> bool:
        """Whether a reply is one to its job: of its kind, and about the slots and rules that it was given."""
        if isinstance(message, wire.Ready) or message.number != job.number or type(message) is not job.reply:
            return False
        if isinstance(message, wire.Ran):
            return message.slice is None or self._may_end(message.slice, job.slot)
        if isinstance(message, wire.Taken):
            return (
                message.epoch == job.epoch
                and len(message.runs) < RUNS_MAX
                and (len(message.runs) < 2 or len({started.rule for started in message.runs}) == len(message.runs))
                and all(self._may_start(job, at, started) for at, started in enumerate(message.runs))
                and (message.problem is None or message.problem.kind in wire.PROBLEMS)
            )
        if isinstance(message, wire.Judged):
            return message.problem is None or message.problem.kind in wire.PROBLEMS
        return True

    def _may_start(self, job: Job, at: int, started: wire.Started) -> bool:
        if started.slice is not None and not self._may_end(started.slice, job.slot + at):
            return False
        if job.epoch != self.epoch:
            return True  # the rules have changed meanwhile: the task is matched again, whatever was found
        source = self._active.get(started.rule) or self._active.get(started.rule.partition(":")[0])
        return source is not None and source.digest == started.digest

    def _may_end(self, piece: wire.Slice, slot: int) -> bool:
        return piece.slot == slot and wire.keeps_to(self._setup.budget, piece)

    async def _look(self) -> None:
        """Kill workers that say nothing although they have something to do."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            now = clock.monotonic()
            for worker in self.workers:
                if worker.why is not None:
                    continue
                messages, used_before, since = worker.seen
                used = clock.cpu_seconds_of(worker.pid)
                if worker.messages != messages or used is None:
                    worker.seen = (worker.messages, used or 0.0, now)
                elif used - used_before > self._hard_seconds:
                    worker.kill(f"killed after {used - used_before:.1f} s of CPU time")
                elif worker.jobs and now - since > SILENCE_MAX:
                    worker.kill(f"killed after {now - since:.0f} s of silence")

    def _lost(self, worker: Worker) -> None:
        """A worker is gone: its jobs are done elsewhere, but for the one that it died of."""
        worker.alive = False
        worker.close()
        worker.child.kill()  # it may have closed its socket and live on
        if worker in self.workers:
            self.workers.remove(worker)
        if self._closing:
            return
        self.restarts += 1
        task = asyncio.create_task(self._bury(worker))
        self._forking.add(task)
        task.add_done_callback(self._forking.discard)

    async def _bury(self, worker: Worker) -> None:
        how = await worker.child.ended()
        why = worker.why or how
        jobs, worker.jobs = worker.jobs, deque()
        self.gone(worker)
        culprit = worker.ack
        log.warning(
            "worker.lost", pid=worker.pid, why=why, rule=culprit.rule if culprit else None, jobs=len(jobs), ended=how
        )
        for at, job in enumerate(jobs):
            if worker.retiring:
                job.lost(Loss(why))
            elif culprit is not None:
                job.lost(Loss(why, culprit if culprit.number == job.number else None))
            else:
                job.lost(Loss(why, suspect=at == 0 and not worker.found))
        if not worker.ready.done():
            worker.ready.set_exception(
                SandboxUnavailable(f"A worker ended before it was ready: {why}. `scriptrules doctor` says more.")
            )
            return
        pause = 0.05
        while not self._closing and len(self.workers) + self._unready < self.size:
            try:
                await self._fork()
            except SandboxUnavailable as error:
                log.error("worker.cannot_start", problem=str(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)

    async def ended(self) -> None:
        """Wait until the processes of all workers are gone; for an orderly end."""
        with contextlib.suppress(Exception):
            await asyncio.gather(*(worker.child.ended() for worker in self.workers))


def _load(number: int, source: Source) -> wire.Load:
    return wire.Load(number, source.digest, source.rule, source.file, source.text, source.libraries)
