"""Scripts as workers execute them: where each goes on, what its slice did, and what becomes of it if a worker dies.

A slice that has ended becomes a decision, unless it does not count any more: its run was cancelled or retried
meanwhile, or a breakpoint holds what it has come to.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog

from scriptrules.clock import Clock
from scriptrules.model import RUN_FINAL, Entry, Failure, RunState
from scriptrules.sandbox import wire
from scriptrules.sandbox.pool import Job, Loss, Pool, Worker
from scriptrules.supervisor import interventions, transitions
from scriptrules.supervisor.arguments import WorkerLied
from scriptrules.supervisor.background import Background, patiently
from scriptrules.supervisor.breakpoints import Breakpoints
from scriptrules.supervisor.decision import Decision, Setting
from scriptrules.supervisor.entries import about_to_be_given, past_of
from scriptrules.supervisor.live import LiveRun, LiveRuns
from scriptrules.supervisor.matching import view_of
from scriptrules.supervisor.transitions import Cut
from scriptrules.supervisor.variables import Variables

log = structlog.get_logger(__name__)

SUSPECTED_MAX = 3  # unexplained deaths of workers that a run is replayed after
replace = msgspec.structs.replace


class Scripts:
    """Lets scripts go on, in the worker that has them or by replay.

    Args:
        decide: takes the decision on a run, with the slice that it is about.
    """

    def __init__(
        self,
        pool: Pool,
        live: LiveRuns,
        breakpoints: Breakpoints,
        variables: Variables,
        setting: Setting,
        clock: Clock,
        background: Background,
        decide: Callable[[LiveRun, Decision, wire.Slice | None], None],
    ) -> None:
        self._pool = pool
        self._live = live
        self._breakpoints = breakpoints
        self._variables = variables
        self._setting = setting
        self._clock = clock
        self._background = background
        self._decide = decide

    def go(self, live: LiveRun, outcome: wire.Outcome) -> None:
        """Let the script go on, unless a breakpoint holds what it is about to get."""
        if self._watched_results(live):
            self._ask_about_results(live, lambda: self._give(live, outcome))
        else:
            self._give(live, outcome)

    def _watched_results(self, live: LiveRun) -> list[Entry]:
        """The entries whose results the script is about to get, if a breakpoint may concern them."""
        given = about_to_be_given(live.entries, self._setting.blocking)
        return [entry for entry in given if self._breakpoints.after(live.task.name, entry.name)]

    def _ask_about_results(self, live: LiveRun, go_on: Callable[[], None]) -> None:
        live.busy = True
        self._background.spawn(self._judge_results(live, go_on))

    async def _judge_results(self, live: LiveRun, go_on: Callable[[], None]) -> None:
        version = None
        while version != self._breakpoints.version:
            version = self._breakpoints.version
            reason = await self._breakpoints.holds_result(live.task, live.run, self._watched_results(live))
        live.busy = False
        if live.stale or live.run.state not in (RunState.QUEUED, RunState.RUNNING):
            live.stale = False  # somebody has cancelled or retried it meanwhile
            if live.run.state is RunState.QUEUED:
                self.replay(live)
        elif reason is None:
            go_on()
        else:
            self._live.give_up(live)
            self._decide(live, interventions.on_break(live.run, reason, self._clock()), None)

    def _give(self, live: LiveRun, outcome: wire.Outcome) -> None:
        """Let the script go on: where it stands, if a worker still has it, otherwise by replay."""
        worker, slot = live.worker, live.slot
        if worker is None or not worker.alive:
            self.replay(live)
            return
        self._live.cool(live)
        live.busy = True
        self._resume(live, worker, slot, outcome, live.entries[-1].ended or self._clock())

    def _resume(self, live: LiveRun, worker: Worker, slot: int, outcome: wire.Outcome, now: int) -> None:
        self._pool.submit_to(
            worker,
            Job(
                lambda number, slot: wire.Resume(number, slot, outcome, now),
                lambda worker, ran: self._ran(worker, live, ran),
                lambda loss: self._lost_run(live, loss),
                slot=slot,
            ),
        )

    def read(self, live: LiveRun, worker: Worker, piece: wire.Slice) -> None:
        """A slice stands still for a variable: let it go on with it. Nothing of the slice is committed by this.

        One that is executed again is told the same: it cannot be evicted for ever while its sources are asked.
        """
        live.busy = True  # nobody else may replay it meanwhile
        kept = live.answers[live.told] if live.told < len(live.answers) else None
        if kept is not None and piece.entries and piece.entries[-1].args == kept[0]:
            live.told += 1
            self._resume(live, worker, piece.slot, kept[1], self._clock())
            return
        del live.answers[live.told :]
        self._live.warm(live, worker, piece.slot)
        self._background.spawn(self._answer_load(live, worker, piece))

    async def _answer_load(self, live: LiveRun, worker: Worker, piece: wire.Slice) -> None:
        try:
            answer = await self._variables.answer(live.task.root, piece.entries)
        except WorkerLied as error:
            worker.kill(f"killed because it lied: {error}", found=True)
            self._lost_run(live, Loss(f"found lying: {error}", suspect=True))
            return
        live.busy = False
        if self._is_stale(live):
            stale = live.stale
            self._live.give_up(live)
            live.stale = stale
            self._forget_slice(live)
            return
        live.answers.append(answer)
        if live.worker is None or not live.worker.alive:
            self.replay(live)  # evicted, or its worker has died: the slice is executed again
        else:
            worker, slot = live.worker, live.slot
            self._live.cool(live)
            live.busy = True
            live.told += 1
            self._resume(live, worker, slot, answer[1], self._clock())

    @staticmethod
    def _is_stale(live: LiveRun) -> bool:
        """Whether the run was cancelled, or retried, while its slice was under way: what that did does not count."""
        return live.run.state in RUN_FINAL or live.run.state is RunState.WAITING or live.stale

    def _forget_slice(self, live: LiveRun) -> None:
        live.answers = []
        if live.stale and live.run.state is RunState.QUEUED:
            self.replay(live)
        live.stale = False

    def replay(self, live: LiveRun) -> None:
        """Execute a run from the top, in whichever worker has time, unless a breakpoint holds what it would get."""
        if live.busy:
            return
        if self._watched_results(live):
            self._ask_about_results(live, lambda: self._replay(live))
        else:
            self._replay(live)

    def _replay(self, live: LiveRun) -> None:
        live.busy = True
        live.told = 0
        self._background.spawn(self._replay_from_source(live))

    async def _replay_from_source(self, live: LiveRun) -> None:
        source = await patiently(lambda: self._live.source(live.run.digest))
        if source is None:
            live.busy = False
            self._hold_run(live, "policy", Failure("Lost", f"the source {live.run.digest} is not in the store"))
            return
        run = live.run
        view = view_of(live.task)
        if run.reasons:
            view = replace(view, reasons=run.reasons)
        past = past_of(live.entries, self._setting.blocking, run.created)

        def make(number: int, slot: int) -> wire.Replay:
            return wire.Replay(number, slot, run.rule, run.digest, view, run.attempt, run.created, past)

        self._pool.submit(
            Job(
                make,
                lambda worker, ran: self._ran(worker, live, ran),
                lambda loss: self._lost_run(live, loss),
                source=source,
            )
        )

    def _ran(self, worker: Worker, live: LiveRun, ran: wire.Ran) -> None:
        """A slice of a run has ended."""
        live.busy = False
        piece = ran.slice
        if piece is None:
            if live.asked_again:
                self._hold_run(live, "policy", Failure("Refused", "its pinned source does not compile any more"))
            else:
                live.asked_again = True
                self.replay(live)
            return
        live.asked_again = False
        if self._breakpoints.concern(live.task, piece, live.run.id):
            live.busy = True
            self._background.spawn(self._judge_slice(worker, live, piece))
        else:
            self._take_slice(worker, live, piece, None)

    async def _judge_slice(self, worker: Worker, live: LiveRun, piece: wire.Slice) -> None:
        version, cut = None, None
        while version != self._breakpoints.version:
            version = self._breakpoints.version
            first, answers = len(live.entries) + 1, live.answers[: live.told]
            cut = await self._breakpoints.cut_of(live.task, live.run.rule, live.run, first, piece, answers)
        live.busy = False
        self._take_slice(worker, live, piece, cut)

    def _take_slice(self, worker: Worker, live: LiveRun, piece: wire.Slice, cut: Cut | None) -> None:
        """Decide on what a slice has done, unless that does not count any more."""
        if self._is_stale(live):
            self.drop_slice(worker, piece)
            self._forget_slice(live)
            return
        if piece.end == "load":
            self.read(live, worker, piece)
            return
        answers, live.answers, live.told = live.answers[: live.told], [], 0
        try:
            decision = transitions.on_slice(
                live.run, live.entries, live.task, piece, self._clock(), self._setting, answers, cut
            )
        except WorkerLied as error:
            worker.kill(f"killed because it lied: {error}", found=True)
            self._lost_run(live, Loss(f"found lying: {error}", suspect=True))
            return
        self.keep_slice(worker, live, piece, cut)
        self._decide(live, decision, piece)
        if piece.fatal:
            self._pool.retire(worker)

    def keep_slice(self, worker: Worker, live: LiveRun, piece: wire.Slice, cut: Cut | None) -> None:
        """Remember where the script is suspended; a cut one has gone on beyond what counts."""
        if cut is not None or not worker.alive:
            self.drop_slice(worker, piece)
        elif piece.end == "blocked":
            self._live.warm(live, worker, piece.slot)

    def drop_slice(self, worker: Worker, piece: wire.Slice) -> None:
        """What the slice did does not count: have its suspended script forgotten."""
        if piece.end in wire.SUSPENDED:
            worker.warm += 1
            self._pool.evict(worker, [piece.slot])

    def _lost_run(self, live: LiveRun, loss: Loss) -> None:
        """The worker died; the run is replayed elsewhere, unless it was what killed it."""
        live.busy = False
        if self._is_stale(live):
            self._forget_slice(live)
            return
        accused = loss.ack is not None and loss.ack.rule == live.run.rule
        live.suspected += loss.suspect or (loss.ack is not None and not accused)
        if not accused and live.suspected < SUSPECTED_MAX:
            self.replay(live)
            return
        line = live.entries[-1].line if live.entries else None
        failure = Failure("LimitExceeded", f"the worker was {loss.how}", line=line, code="SR601")
        piece = wire.Slice(0, "limit", error=failure)
        if live.run.state not in RUN_FINAL:
            self._decide(
                live,
                transitions.on_slice(live.run, live.entries, live.task, piece, self._clock(), self._setting),
                piece,
            )

    def _hold_run(self, live: LiveRun, reason: str, failure: Failure) -> None:
        log.warning("run.held", run=live.run.id, rule=live.run.rule, reason=reason, problem=failure.message)
        self._decide(live, transitions.on_hold(live.run, reason, failure, self._clock()), None)
