"""Drives runs: every fact becomes a decision, every decision one change of the store, and then its effects.

Decisions on one run follow one another in memory without waiting for the disk; the store keeps their order, so what
is committed is always a prefix of what was decided. Effects happen after the commit, never before.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import structlog

from scriptrules import journal
from scriptrules.clock import Clock
from scriptrules.errors import NotFound
from scriptrules.model import ENTRY_FINAL, RUN_FINAL, Failure, Run, RunState, Task, TaskState
from scriptrules.sandbox import wire
from scriptrules.sandbox.pool import Pool
from scriptrules.sightings import Generated
from scriptrules.store.protocol import TOLD_BY_ANOTHER, Change, Committed, Filter, RunEnd, Store, Wake
from scriptrules.supervisor import interventions, receiving, transitions
from scriptrules.supervisor.answers import answer_of, summary_of
from scriptrules.supervisor.background import Background, Observers, patiently
from scriptrules.supervisor.breakpoints import STEP, Breakpoints
from scriptrules.supervisor.decision import Cancel, Decision, Go, Replay, Setting, Start, Stop
from scriptrules.supervisor.executions import Executions, Outcome
from scriptrules.supervisor.limits import RunLimits, on_slot, wakes_of
from scriptrules.supervisor.live import LiveRun, LiveRuns
from scriptrules.supervisor.scripts import Scripts
from scriptrules.supervisor.sightings import note_decision
from scriptrules.supervisor.timers import Timers
from scriptrules.supervisor.variables import Variables

log = structlog.get_logger(__name__)

UNWELL_SHOWN = 5  # tasks of a tree that the reason of its failure names
RUNS_OF_A_TASK = 1000  # that one look into the store reads


class Driver:
    """Everything that happens to a run after it was started."""

    def __init__(
        self,
        store: Store,
        pool: Pool,
        live: LiveRuns,
        limits: RunLimits,
        breakpoints: Breakpoints,
        setting: Setting,
        clock: Clock,
        background: Background,
        observers: Observers,
        variables: Variables,
    ) -> None:
        self.commits = 0  # grows with every commit: whoever shows something looks again
        self.calls: Counter[str] = Counter()  # that were answered, by how they ended
        self.wake: Callable[[], None] = lambda: None  # whoever shows something, after every commit
        self.executions: Executions | None = None  # set before the first run is driven
        self.timers = Timers(store, clock, self.timer)
        self.announce: Callable[[Iterable[Task]], None] = _nobody  # hears of tasks before they are committed
        self.waits: Callable[[Run], None] = _nothing  # hears of runs that have not ended
        self.offer: Callable[[Iterable[Task]], None] = _nobody  # gets them once they are
        self.notice: Callable[[Iterable[Generated]], None] = _unnoticed  # gets what was generated, once it is committed
        self.cancel_quietly: Callable[[str], Coroutine[Any, Any, None]] = _no_one  # a task that nobody waits for now
        self.scripts = Scripts(pool, live, breakpoints, variables, setting, clock, background, self.decide)
        self._store = store
        self._live = live
        self._limits = limits
        limits.start = self.give_slot
        self._breakpoints = breakpoints
        self._setting = setting
        self._clock = clock
        self._background = background
        self._observers = observers
        self._answering: set[Wake] = set()
        self._dear: set[str] = set()  # shapes that the store was told to remember

    def commit(self, change: Change, then: Callable[[], None]) -> None:
        """Commit a change, then call `then`.

        The store tells what a group of changes has brought about to one of their submitters only, so whoever commits
        does so by this, and nobody is not woken.
        """

        def durable(committed: Committed) -> None:
            then()
            if change.generated:
                self.notice(change.generated)
            if committed is not TOLD_BY_ANOTHER:
                self._after_commit(committed)

        self._store.submit(change, durable)

    async def submit(self, change: Change, then: Callable[[], None] = lambda: None) -> None:
        """Commit a change, call `then`, and return when it is durable; `then` is called though the caller has gone."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def durable() -> None:
            then()
            if not future.done():
                future.set_result(None)

        self.commit(change, durable)
        await future

    # ---- decisions

    def decide(self, live: LiveRun, decision: Decision | None, piece: wire.Slice | None = None) -> None:
        """Commit a decision on a run, then carry it out."""
        if decision is None:
            self._live.forget_idle(live)
            return
        change = Change()
        self.write(live, decision, change, piece)
        self.commit(change, lambda: self.committed(live, decision))

    def write(self, live: LiveRun, decision: Decision, change: Change, piece: wire.Slice | None) -> None:
        """Put a decision into a change, and into memory."""
        note_decision(live, decision, change)
        run = live.run = decision.run
        live.uncommitted += 1
        for record in decision.records:
            journal.apply(live.entries, record)
            change.journal.append((run.id, journal.encode(record)))
        if decision.ended or run.state not in RUN_FINAL:  # else this is late, and what has ended may be removed by now
            change.runs.append(run)
        change.tasks += decision.tasks
        self.announce(task for task in decision.tasks if task.state is TaskState.NEW)
        change.wakes += decision.wakes
        change.done += decision.done
        change.variables += decision.variables
        change.uses += decision.uses
        if run.state is RunState.FAILED and run.error is not None:
            error = f"{run.error.type}: {run.error.message}"
            log.warning("run.failed", run=run.id, rule=run.rule, task=run.task, error=error, line=run.error.line)
        if self._breakpoints.stepping and (run.reason == STEP or decision.ended):
            self._breakpoints.stop_stepping(run.id, change)
        if decision.ended:
            change.ends.append(RunEnd(run.task, run.since))
            change.done += wakes_of(run)
            self._limits.leave(run)
            if run.answers:
                change.answered.append(run.task)
        if piece is not None and piece.logs:
            at = self._clock()
            change.logs += [
                (run.id, transitions.log_line(at, entry.seq, entry.text, entry.fields)) for entry in piece.logs
            ]

    def committed(self, live: LiveRun, decision: Decision) -> None:
        """A decision is durable."""
        self.carry_out(live, decision)
        self._observers.run(decision.run)

    def carry_out(self, live: LiveRun, decision: Decision) -> None:
        """The effects of a committed decision."""
        assert self.executions is not None
        live.uncommitted -= 1
        for wake in decision.wakes:
            if wake.due is not None:
                self.timers.expect(wake.due)
        stopping = {effect.key for effect in decision.effects if isinstance(effect, Stop)}
        for wake in decision.done:
            if wake.kind in ("execution", "function") and wake.key not in stopping:
                self.executions.release(wake.key)
        for effect in decision.effects:
            match effect:
                case Go():
                    self.scripts.go(live)
                case Start():
                    self.begin(live, effect.seq)
                case Stop():
                    self.executions.stop(effect.key)
                case Replay():
                    self.scripts.replay(live)
                case Cancel():
                    self._background.spawn(self.cancel_quietly(effect.id))
        self.offer([task for task in decision.tasks if task.state is TaskState.NEW])
        if decision.ended and live.run.state in RUN_FINAL and not live.uncommitted:  # else it was retried meanwhile
            self._live.remove(live)
        else:
            self.waits(live.run)
            self._live.forget_idle(live)

    def _after_commit(self, committed: Committed) -> None:
        self.commits += 1
        self.wake()
        if committed.due:
            self.timers.look()
        for wake in committed.awake:
            self.answer(wake)
        self._observers.ended([id for id, _ in committed.ended])

    def begin(self, live: LiveRun, seq: int, fresh: bool = True) -> None:
        """Have an entry carried out by somebody else, unless it is over."""
        assert self.executions is not None
        if len(live.entries) >= seq and live.entries[seq - 1].state not in ENTRY_FINAL:
            self.executions.begin(live.run, live.task, live.entries[seq - 1], fresh)

    # ---- facts from outside

    def execution_started(self, run: str, seq: int, attempt: int) -> None:
        def fact(live: LiveRun) -> None:
            if len(live.entries) >= seq and live.entries[seq - 1].attempt == attempt:
                self.decide(live, transitions.on_started(live.run, live.entries, seq, self._clock()))

        self._tell(run, fact)

    def execution_ended(self, outcome: Outcome) -> None:
        def fact(live: LiveRun) -> None:
            decision = None
            if len(live.entries) >= outcome.seq and live.run.attempt == outcome.run_attempt:
                decision = transitions.on_outcome(
                    live.run,
                    live.entries,
                    outcome.seq,
                    outcome.attempt,
                    outcome.result,
                    outcome.error,
                    outcome.verdict,
                    self._clock(),
                    self._setting,
                )
            if decision is None and self.executions is not None:
                self.executions.release(outcome.key)  # it was told before
            self.decide(live, decision)

        self._tell(outcome.run, fact)

    def timer(self, wake: Wake, done: Callable[[], None]) -> None:
        def fact(live: LiveRun) -> None:
            if wake.kind == "timeout":
                decision = interventions.on_timeout(live.run, live.entries, wake, self._clock())
                if decision.run is not live.run:
                    self._live.give_up(live)
                self._decide_timer(live, decision, done)
            elif receiving.is_receiving(live.entries, wake.seq):
                self._background.spawn(self._receive(live, wake, done))
            elif len(live.entries) < wake.seq or wake.kind == "receive":
                self._decide_timer(live, Decision(live.run, done=[wake]), done)
            else:
                self._decide_timer(live, transitions.on_timer(live.run, live.entries, wake, self._clock()), done)

        self._tell(wake.run, fact, lambda: self.commit(Change(done=[wake]), done))

    async def _receive(self, live: LiveRun, wake: Wake, done: Callable[[], None]) -> None:
        """A run receives what has arrived; where nothing has, its time may be over."""
        entries, entry = list(live.entries), live.entries[wake.seq - 1]
        found = await patiently(lambda: receiving.find(self._store, live.run, entries, entry))

        if not self._dear.issuperset(found.dear):
            self._dear.update(found.dear)
            self.commit(Change(remembered=found.dear), lambda: None)

        def fact(live: LiveRun) -> None:
            if len(live.entries) < wake.seq or live.entries[wake.seq - 1] != entry:
                done()  # it was decided meanwhile, or the run has begun again: look once more
                self.timers.look()
            elif found.task is not None:
                decision = transitions.on_received(live.run, live.entries, wake.seq, found.task, self._clock())
                self._decide_timer(live, decision, done)
            elif wake.kind == "receive":
                self.commit(Change(looked=[wake]), done)
                self._live.forget_idle(live)
            else:
                self._decide_timer(live, transitions.on_timer(live.run, live.entries, wake, self._clock()), done)

        self._tell(wake.run, fact, lambda: self.commit(Change(done=[wake]), done))

    def _decide_timer(self, live: LiveRun, decision: Decision, done: Callable[[], None]) -> None:
        change = Change()
        self.write(live, decision, change, None)

        def then() -> None:
            done()
            self.committed(live, decision)

        self.commit(change, then)

    def give_slot(self, run: str) -> None:
        """A queued run has got its slot, by a decision that is yet to be submitted: its own has to come after that."""

        def fact(live: LiveRun) -> None:
            self.decide(live, on_slot(live.run, live.entries, self._clock()))

        asyncio.get_running_loop().call_soon(self._tell, run, fact)

    def answer(self, wake: Wake) -> None:
        """What a run waits for has ended: a task, or a call."""
        if wake not in self._answering:
            self._answering.add(wake)
            self._background.spawn(self._read_answer(wake))

    async def _read_answer(self, wake: Wake) -> None:
        task = await patiently(lambda: self._store.task(wake.key))
        runs = await patiently(lambda: self._store.runs(Filter(task=wake.key, limit=RUNS_OF_A_TASK)))
        runs.reverse()
        unwell = await patiently(lambda: self._store.unwell(wake.key, UNWELL_SHOWN)) if wake.kind == "tree" else []
        error: Failure | None = None
        if task is None:
            body, error = b"null", Failure("CallFailed", f"task {wake.key} is not in the store any more")
        elif wake.kind == "call":
            body, error = answer_of(task, runs)
            self.calls["failed" if error else "done"] += 1
        else:
            body = summary_of(task, runs)

        def fact(live: LiveRun) -> None:
            self._answering.discard(wake)
            decision = Decision(live.run, done=[wake])
            if len(live.entries) >= wake.seq and wake.kind == "tree":
                decision = transitions.on_tree_ended(
                    live.run, live.entries, wake, body, unwell, self._clock(), self._setting
                )
            elif len(live.entries) >= wake.seq:
                decision = transitions.on_task_ended(
                    live.run, live.entries, wake, body, error, self._clock(), self._setting
                )
            self.decide(live, decision)

        self._tell(wake.run, fact)

    def _tell(self, run: str, fact: Callable[[LiveRun], None], missing: Callable[[], None] = lambda: None) -> None:
        """Apply a fact to a run, which is read from the store if nobody has it in memory."""
        live = self._live.runs.get(run)
        if live is not None:
            fact(live)
        else:
            self._background.spawn(self._load_and_tell(run, fact, missing))

    async def _load_and_tell(self, run: str, fact: Callable[[LiveRun], None], missing: Callable[[], None]) -> None:
        try:
            live = await patiently(lambda: self._live.get(run))
        except NotFound:
            log.warning("fact.for_nobody", run=run)
            missing()
            return
        fact(live)

    async def decide_and_wait(self, live: LiveRun, decision: Decision, change: Change | None = None) -> None:
        """Commit a decision, together with `change`, and carry it out; returns when it is durable."""
        change = change or Change()
        self.write(live, decision, change, None)
        await self.submit(change, lambda: self.committed(live, decision))


def _nobody(_: Iterable[Task]) -> None:
    """Before the matcher is there, no run is driven."""


def _unnoticed(_: Iterable[Generated]) -> None:
    """Nor is anything foreseen."""


def _nothing(_: Run) -> None:
    """Nor does any wait."""


async def _no_one(_: str) -> None:
    """Nor is anything cancelled."""
