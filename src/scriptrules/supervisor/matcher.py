"""Takes tasks through matching: from durable and new to the runs of the rules that match, or to held or unmatched.

A bounded number of tasks is in memory on the way; the rest waits in the store, where it is durable, and is read in
order when there is room. So a flood of tasks costs disk and not memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import msgspec
import structlog

from scriptrules.clock import Clock
from scriptrules.errors import NotPossible
from scriptrules.model import Control, Failure, Task, TaskState
from scriptrules.sandbox import wire
from scriptrules.sandbox.pool import Job, Loss, Pool, Worker
from scriptrules.store.protocol import Change, Store, TaskMove
from scriptrules.supervisor.arguments import WorkerLied
from scriptrules.supervisor.background import Background, Observers, patiently
from scriptrules.supervisor.breakpoints import Breakpoints
from scriptrules.supervisor.decision import Decision, Setting
from scriptrules.supervisor.driver import Driver
from scriptrules.supervisor.exclusive import Exclusive
from scriptrules.supervisor.limits import Admission, RunLimits
from scriptrules.supervisor.live import LiveRun, LiveRuns
from scriptrules.supervisor.matching import on_taken, view_of
from scriptrules.supervisor.rules import Rules
from scriptrules.supervisor.sightings import note_match
from scriptrules.supervisor.states import TASK
from scriptrules.supervisor.transitions import Cut

log = structlog.get_logger(__name__)

MATCHING_MAX = 5_000  # tasks in memory on their way through matching; further ones wait in the store
TRIES_MAX = 3  # times that a task is matched again after workers died for no reason that is known
replace = msgspec.structs.replace


class Passage(msgspec.Struct):
    """A task on its way through matching, with what was learned of it on the way."""

    task: Task
    condemned: dict[str, Failure] = {}  # rules whose run has killed a worker: they are not executed again
    tries: int = 0  # workers that died with it for no reason that is known
    judged: int = -1  # the version of the breakpoints under which the task itself passed them
    cuts_judged: int = -1  # and under which `cuts` was found
    cuts: dict[str, Cut] = {}  # where first slices are to be cut, by rule


class Matcher:
    """Has tasks matched by workers, and starts the runs of the rules that match."""

    def __init__(
        self,
        store: Store,
        pool: Pool,
        rules: Rules,
        live: LiveRuns,
        driver: Driver,
        limits: RunLimits,
        breakpoints: Breakpoints,
        setting: Setting,
        clock: Clock,
        background: Background,
        observers: Observers,
    ) -> None:
        self._store = store
        self._pool = pool
        self._rules = rules
        self._live = live
        self._driver = driver
        self._limits = limits
        self._breakpoints = breakpoints
        self._setting = setting
        self._clock = clock
        self._background = background
        self._observers = observers
        self._matching: dict[str, Passage] = {}
        self._announced: set[str] = set()  # tasks on their way to the disk, which will be offered
        self._decided: set[str] = set()  # tasks that have left matching while the store was being read
        self._moving: set[str] = set()  # tasks whose next state is on its way to the disk
        self._claims = Exclusive()
        self._claimed: set[str] = set()  # tasks that somebody is about to move, so that they are not matched
        self._behind = True  # tasks in state new are in the store that are not in memory
        self._reading = False

    def offer(self, tasks: Iterable[Task]) -> None:
        """Have durable tasks matched, as far as there is room; the rest is found in the store later."""
        for task in tasks:
            self._announced.discard(task.id)
            if self._behind or len(self._matching) >= MATCHING_MAX or task.id in self._claimed:
                self._behind = True
            else:
                self._take(Passage(task))

    def announce(self, tasks: Iterable[Task]) -> None:
        """New tasks are about to be committed: nobody may take them from the store before they are offered."""
        self._announced.update(task.id for task in tasks)

    def withdraw(self, tasks: Iterable[Task]) -> None:
        """Announced tasks were not stored."""
        self._announced.difference_update(task.id for task in tasks)

    def refill(self) -> None:
        if not self._reading and len(self._matching) < MATCHING_MAX // 2:
            self._reading = True
            self._background.spawn(self._read_new())

    async def _read_new(self) -> None:
        try:
            self._behind = False  # whoever is not offered from here on sets it again
            tasks = await patiently(lambda: self._store.new_tasks("", 2 * MATCHING_MAX))
            if len(tasks) == 2 * MATCHING_MAX:
                self._behind = True
            for task in tasks:
                if task.id not in self._matching and task.id not in self._announced and task.id not in self._decided:
                    if task.id in self._claimed:
                        self._behind = True
                        continue
                    if len(self._matching) >= MATCHING_MAX:
                        self._behind = True
                        break
                    self._take(Passage(task))
        finally:
            self._reading = False
            self._decided.clear()
            if self._behind and not self._claimed:
                self.refill()  # what was left out has been let go of meanwhile

    def _take(self, passage: Passage) -> None:
        """Have a task judged by breakpoints, and then matched."""
        task = passage.task
        self._matching[task.id] = passage
        if self._breakpoints.on_tasks(task.name):
            self._background.spawn(self._judge(passage))
        else:
            passage.judged = self._breakpoints.version
            self._match(passage)

    async def _judge(self, passage: Passage) -> None:
        """Hold a task that a breakpoint matches; its rules are not asked."""
        version, reason = None, None
        while version != self._breakpoints.version:
            version = self._breakpoints.version
            reason = await self._breakpoints.holds_task(passage.task)
        if not self._is_on_its_way(passage):
            return
        if reason is not None:
            await self._hold(passage.task, reason)
            return
        passage.judged = version
        self._match(passage)

    def _match(self, passage: Passage) -> None:
        """Have a task matched, and the first slice of each run executed."""
        task = passage.task
        passage.cuts, passage.cuts_judged = {}, -1  # those of other slices
        view = view_of(task)
        now = 0

        def make(number: int, slot: int) -> wire.Take:
            nonlocal now
            now = self._clock()
            return wire.Take(number, slot, view, now, list(passage.condemned))

        def lost(loss: Loss) -> None:
            self._background.spawn(self._lost_task(passage, loss))

        self._pool.submit(Job(make, lambda worker, taken: self._taken(worker, passage, taken, now), lost))

    def _taken(self, worker: Worker, passage: Passage, taken: wire.Taken, now: int) -> None:
        task = passage.task
        current = self._is_on_its_way(passage)
        if not current or taken.epoch != self._pool.epoch or taken.problem is not None:
            self._drop_slices(worker, taken)
        if not current:
            return
        if taken.epoch != self._pool.epoch:
            self._take(passage)
            return
        if passage.judged != self._breakpoints.version and self._breakpoints.on_tasks(task.name):
            self._drop_slices(worker, taken)  # one was set since
            self._take(passage)
            return
        named = [started.rule for started in taken.runs]
        if taken.problem is not None:
            named.append(taken.problem.rule)
        for rule in named:
            if not self._rules.can_match(rule, task.name):
                self._found_lying(worker, passage, "a rule that is not asked about this task")
                return
        if taken.problem is not None:
            if taken.problem.fatal:
                self._pool.retire(worker)
            self._background.spawn(self._filter_failed(passage, taken.problem))
            return
        if self._may_be_cut(passage, taken):
            self._background.spawn(self._judge_slices(worker, passage, taken, now))
            return
        try:
            controls, admissions = self._controls_of(task, taken)
            matched = on_taken(
                task,
                taken,
                passage.condemned,
                now,
                self._pool.python,
                self._pool.policy,
                self._setting,
                controls,
                admissions,
                passage.cuts,
            )
        except WorkerLied as error:
            self._found_lying(worker, passage, str(error))
            return
        if not matched.runs and taken.runs:
            self._drop_slices(worker, taken)  # nobody answers, or too many do
        change = Change(moves=[matched.move])
        lives: list[tuple[LiveRun, Decision]] = []
        for decision, piece in matched.runs:
            live = LiveRun(decision.run, task, [])
            self._driver.write(live, decision, change, piece)
            lives.append((live, decision))
            if not decision.ended:
                self._live.add(live)
                if piece is not None and piece.end == "load":
                    self._driver.scripts.read(live, worker, piece)
                elif piece is not None:
                    self._driver.scripts.keep_slice(worker, live, piece, passage.cuts.get(live.run.rule))
                if (piece is None or piece.end == "load") and task.id in self._breakpoints.stepping:
                    self._breakpoints.step(live.run.id, change)
            elif piece is not None:
                self._driver.scripts.drop_slice(worker, piece)
            if decision.run.slot is not None:
                self._limits.enter(decision.run, admissions[decision.run.rule])
            if piece is not None and piece.fatal:
                self._pool.retire(worker)
        self._limits.counters["limit_dropped"] += len(matched.dropped)
        for rule in matched.dropped:
            log.info("run.dropped", rule=rule, task=task.id, name=task.name, reason="limit", slot=admissions[rule].slot)
        note_match(task, matched.move, (live.run for live, _ in lives), change)
        self._breakpoints.stop_stepping(task.id, change)
        change.ends = []  # the task's next state counts them already
        self._moving.add(task.id)
        self._driver.commit(change, lambda: self._matched(matched.move, task, lives))

    def _controls_of(self, task: Task, taken: wire.Taken) -> tuple[dict[str, Control], dict[str, Admission]]:
        """What the runs of a task would keep to, and whether those of rules with a limit may begin, by rule."""
        controls: dict[str, Control] = {}
        admissions: dict[str, Admission] = {}
        for started in taken.runs:
            control = self._rules.control_of(started.rule)
            if control is not None:
                controls[started.rule] = control
                if control.limit is not None:
                    admissions[started.rule] = self._limits.ask(started.rule, control.limit, task)
        return controls, admissions

    def _may_be_cut(self, passage: Passage, taken: wire.Taken) -> bool:
        """Whether breakpoints have to be asked about the first slices of a task."""
        if not self._breakpoints.may_cut:
            return False
        return passage.cuts_judged != self._breakpoints.version and any(
            started.slice is not None and self._breakpoints.concern(passage.task, started.slice)
            for started in taken.runs
        )

    async def _judge_slices(self, worker: Worker, passage: Passage, taken: wire.Taken, now: int) -> None:
        version = self._breakpoints.version
        cuts: dict[str, Cut] = {}
        for started in taken.runs:
            if started.slice is not None and started.slice.end != "load":
                cut = await self._breakpoints.cut_of(passage.task, started.rule, None, 1, started.slice)
                if cut is not None:
                    cuts[started.rule] = cut
        passage.cuts, passage.cuts_judged = cuts, version
        self._taken(worker, passage, taken, now)

    def _found_lying(self, worker: Worker, passage: Passage, why: str) -> None:
        worker.kill(f"killed because it lied: {why}", found=True)
        self._background.spawn(self._lost_task(passage, Loss(f"found lying: {why}", suspect=True)))

    def _matched(self, move: TaskMove, task: Task, lives: list[tuple[LiveRun, Decision]]) -> None:
        self._leave(task)
        for live, decision in lives:
            self._driver.carry_out(live, decision)
        if self._observers.of_tasks:
            self._observers.task(replace(task, state=move.state, since=move.since, reason=move.reason))
        for live, _ in lives:
            self._observers.run(live.run)
        if self._behind:
            self.refill()

    def _leave(self, task: Task) -> None:
        """The task's next state is durable."""
        self._matching.pop(task.id, None)
        self._moving.discard(task.id)
        if self._reading:
            self._decided.add(task.id)

    def _drop_slices(self, worker: Worker, taken: wire.Taken) -> None:
        pieces = (started.slice for started in taken.runs)
        slots = [piece.slot for piece in pieces if piece is not None and piece.end in wire.SUSPENDED]
        if slots:
            worker.warm += len(slots)
            self._pool.evict(worker, slots)

    async def _filter_failed(self, passage: Passage, problem: wire.Problem) -> None:
        """A filter raised, or hit a limit: the task is held, and a rule that does so again is quarantined."""
        where = f", line {problem.error.line}" if problem.error.line else ""
        why = f"{problem.kind}: rule {problem.rule}{where}: {problem.error.type}: {problem.error.message}"
        quarantined = problem.kind != "match_limit" or await self._rules.strike(problem.rule, why)
        if not self._is_on_its_way(passage):
            return
        if not quarantined:
            self._take(passage)
        else:
            await self._hold(passage.task, why)

    async def _lost_task(self, passage: Passage, loss: Loss) -> None:
        """The worker that had the task is gone, perhaps because of one of the task's rules."""
        if not self._is_on_its_way(passage):
            return
        ack, how = loss.ack, loss.how
        if ack is not None and (
            ack.rule in passage.condemned or not self._rules.can_match(ack.rule, passage.task.name)
        ):
            ack = None  # it accuses a rule that it was not to execute
            passage.tries += 1
        passage.tries += loss.suspect
        if passage.tries >= TRIES_MAX:
            await self._hold(passage.task, f"match_limit: workers died {TRIES_MAX} times: {how}")
            return
        if ack is not None and ack.main:
            facts = self._rules.facts.get(ack.rule.partition(":")[0])
            line = facts.line if facts else None
            passage.condemned[ack.rule] = Failure("LimitExceeded", f"the worker was {how}", line=line, code="SR601")
        elif ack is not None:
            why = f"match_limit: rule {ack.rule}: its filter did not end; the worker was {how}"
            quarantined = await self._rules.strike(ack.rule, why)
            if not self._is_on_its_way(passage):
                return
            if quarantined:
                await self._hold(passage.task, why)
                return
        self._take(passage)

    async def _hold(self, task: Task, reason: str) -> None:
        log.warning("task.held", task=task.id, name=task.name, reason=reason)
        await self.move(task, TaskState.HELD, reason)

    def _is_on_its_way(self, passage: Passage) -> bool:
        """Whether matching still decides on a task: nobody has cancelled it, and nothing was decided yet."""
        return self._matching.get(passage.task.id) is passage and passage.task.id not in self._moving

    @asynccontextmanager
    async def claimed(self, id: str) -> AsyncIterator[Task | None]:
        """A task as it is, while nobody else can move it: neither matching nor another who asks for something."""
        async with self._claims(id):
            self._claimed.add(id)
            try:
                if id in self._moving:
                    await self._driver.submit(Change())  # what was decided before is durable when this is
                elif self._matching.pop(id, None) is not None:
                    self._behind = True  # whoever does not move it leaves it to be found in the store
                yield await self._store.task(id)
            finally:
                self._claimed.discard(id)
                if self._behind:
                    self.refill()

    async def move(
        self,
        task: Task,
        state: TaskState,
        reason: str | None,
        change: Change | None = None,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """Give a task that is claimed, or in matching, its next state, together with `change`, and call `then`."""
        if state not in TASK[task.state]:
            raise NotPossible(f"Task {task.id} is {task.state}; it cannot become {state}.")
        now = self._clock()
        if state is TaskState.NEW:
            self.announce([task])
        change = change or Change()
        change.moves.append(TaskMove(task.id, state, now, reason))
        self._moving.add(task.id)
        moved = replace(task, state=state, since=now, reason=reason)

        def durable() -> None:
            self._moved(moved)
            then()

        await self._driver.submit(change, durable)

    def _moved(self, task: Task) -> None:
        self._leave(task)
        self._claimed.discard(task.id)
        self._observers.task(task)
        if task.state is TaskState.NEW:
            self._decided.discard(task.id)  # a look that has begun is to find it, if nobody takes it here
            self.offer([task])
        elif self._behind:
            self.refill()
