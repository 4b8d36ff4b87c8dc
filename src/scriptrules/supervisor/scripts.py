"""Scripts as workers execute them: where each goes on, what its slice did, and what becomes of it if a worker dies.

A slice that has ended becomes a decision, unless a breakpoint holds what it has come to. A run has one turn at a time:
what another execution of it did, because it was cancelled or retried meanwhile, is dropped.

Tried and rejected: flags for "a worker has it" and "that does not count any more". Whoever forgets to look at one lets
two workers execute the same slice, and both count: its entries stand in the journal twice.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog

from scriptrules.clock import Clock
from scriptrules.model import Entry, Failure, RunState
from scriptrules.sandbox import wire
from scriptrules.sandbox.pool import Job, Loss, Pool, Worker
from scriptrules.supervisor import interventions, transitions
from scriptrules.supervisor.arguments import WorkerLied
from scriptrules.supervisor.background import Background, patiently
from scriptrules.supervisor.breakpoints import Breakpoints
from scriptrules.supervisor.decision import Decision, Setting
from scriptrules.supervisor.entries import about_to_be_given, outcome_of, past_of
from scriptrules.supervisor.limits import QUEUED
from scriptrules.supervisor.live import LiveRun, LiveRuns, Turn
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

    def go(self, live: LiveRun) -> None:
        """Let the script go on, unless a breakpoint holds what it is about to get."""
        if not self._is_its_turn(live):
            return
        if self._watched_results(live):
            self._ask_about_results(live, lambda: self._give(live))
        else:
            self._give(live)

    @staticmethod
    def _is_its_turn(live: LiveRun) -> bool:
        """Whether the script is to go on; one that is being replayed finds every outcome in its journal."""
        on_its_way = live.run.state in (RunState.QUEUED, RunState.RUNNING) and live.run.reason != QUEUED
        return on_its_way and live.turn is None

    def _watched_results(self, live: LiveRun) -> list[Entry]:
        """The entries whose results the script is about to get, if a breakpoint may concern them."""
        given = about_to_be_given(live.entries, self._setting.blocking)
        return [entry for entry in given if self._breakpoints.after(live.task.name, entry.name)]

    def _ask_about_results(self, live: LiveRun, go_on: Callable[[], None]) -> None:
        turn = live.turn = Turn()
        self._background.spawn(self._judge_results(live, turn, go_on))

    async def _judge_results(self, live: LiveRun, turn: Turn, go_on: Callable[[], None]) -> None:
        version = None
        while version != self._breakpoints.version:
            version = self._breakpoints.version
            reason = await self._breakpoints.holds_result(live.task, live.run, self._watched_results(live))
        if live.turn is not turn:
            return
        live.turn = None
        if reason is None:
            go_on()
        else:
            self._live.give_up(live)
            self._decide(live, interventions.on_break(live.run, reason, self._clock()), None)

    def _give(self, live: LiveRun, variable: wire.Outcome | None = None) -> None:
        """Let the script go on: where it stands, if a worker still has it, otherwise by replay.

        Args:
            variable: that it stands still for. Otherwise it gets what the journal has for the entry that it stands at;
                since it was decided that it goes on, it may have come to another one by replay.
        """
        worker, slot = live.worker, live.slot
        if worker is None or not worker.alive:
            self._replay(live)
            return
        self._live.cool(live)
        if variable is not None:
            self._resume(live, worker, slot, variable, None)
        else:
            last = live.entries[-1]
            self._resume(live, worker, slot, outcome_of(last, live.entries), last.ended)

    def _resume(self, live: LiveRun, worker: Worker, slot: int, outcome: wire.Outcome, ended: int | None) -> None:
        turn = live.turn = Turn()
        now = ended or self._clock()
        self._pool.submit_to(
            worker,
            Job(
                lambda number, slot: wire.Resume(number, slot, outcome, now),
                lambda worker, ran: self._ran(worker, live, turn, ran),
                lambda loss: self._lost_run(live, turn, loss),
                slot=slot,
            ),
        )

    def read(self, live: LiveRun, worker: Worker, piece: wire.Slice) -> None:
        """A slice stands still for a variable: let it go on with it. Nothing of the slice is committed by this.

        One that is executed again is told the same: it cannot be evicted for ever while its sources are asked.
        """
        kept = live.answers[live.told] if live.told < len(live.answers) else None
        if kept is not None and piece.entries and piece.entries[-1].args == kept[0]:
            live.told += 1
            self._resume(live, worker, piece.slot, kept[1], None)
            return
        del live.answers[live.told :]
        self._live.warm(live, worker, piece.slot)
        turn = live.turn = Turn()  # nobody else may replay it meanwhile
        self._background.spawn(self._answer_load(live, turn, worker, piece))

    async def _answer_load(self, live: LiveRun, turn: Turn, worker: Worker, piece: wire.Slice) -> None:
        try:
            answer = await self._variables.answer(live.task.root, piece.entries)
        except WorkerLied as error:
            worker.kill(f"killed because it lied: {error}", found=True)
            self._lost_run(live, turn, Loss(f"found lying: {error}", suspect=True))
            return
        if live.turn is not turn:
            return
        live.answers.append(answer)
        live.told += 1
        self._give(live, answer[1])

    def replay(self, live: LiveRun) -> None:
        """Execute a run from the top, in whichever worker has time, unless a breakpoint holds what it would get."""
        if not self._is_its_turn(live):
            return
        if self._watched_results(live):
            self._ask_about_results(live, lambda: self._replay(live))
        else:
            self._replay(live)

    def _replay(self, live: LiveRun) -> None:
        self._live.evict(live)  # a script that stands where somebody has answered in place of what it waits for
        turn = live.turn = Turn()
        live.told = 0
        self._background.spawn(self._replay_from_source(live, turn))

    async def _replay_from_source(self, live: LiveRun, turn: Turn) -> None:
        source = await patiently(lambda: self._live.source(live.run.digest))
        if live.turn is not turn:
            return
        if source is None:
            live.turn = None
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
                lambda worker, ran: self._ran(worker, live, turn, ran),
                lambda loss: self._lost_run(live, turn, loss),
                source=source,
            )
        )

    def _ran(self, worker: Worker, live: LiveRun, turn: Turn, ran: wire.Ran) -> None:
        """A slice of a run has ended."""
        piece = ran.slice
        if live.turn is not turn:
            if piece is not None:
                self.drop_slice(worker, piece)
        elif piece is None:
            live.turn = None
            if live.asked_again:
                self._hold_run(live, "policy", Failure("Refused", "its pinned source does not compile any more"))
            else:
                live.asked_again = True
                self.replay(live)
        else:
            live.asked_again = False
            if self._breakpoints.concern(live.task, piece, live.run.id):
                self._background.spawn(self._judge_slice(worker, live, turn, piece))
            else:
                self._take_slice(worker, live, turn, piece, None)

    async def _judge_slice(self, worker: Worker, live: LiveRun, turn: Turn, piece: wire.Slice) -> None:
        version, cut = None, None
        while version != self._breakpoints.version:
            version = self._breakpoints.version
            first, answers = len(live.entries) + 1, live.answers[: live.told]
            cut = await self._breakpoints.cut_of(live.task, live.run.rule, live.run, first, piece, answers)
        if live.turn is turn:
            self._take_slice(worker, live, turn, piece, cut)
        else:
            self.drop_slice(worker, piece)

    def _take_slice(self, worker: Worker, live: LiveRun, turn: Turn, piece: wire.Slice, cut: Cut | None) -> None:
        """Decide on what a slice has done."""
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
            self._lost_run(live, turn, Loss(f"found lying: {error}", suspect=True))
            return
        live.turn = None
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

    def _lost_run(self, live: LiveRun, turn: Turn, loss: Loss) -> None:
        """The worker died; the run is replayed elsewhere, unless it was what killed it."""
        if live.turn is not turn:
            return
        live.turn = None
        accused = loss.ack is not None and loss.ack.rule == live.run.rule
        live.suspected += loss.suspect or (loss.ack is not None and not accused)
        if not accused and live.suspected < SUSPECTED_MAX:
            self.replay(live)
            return
        line = live.entries[-1].line if live.entries else None
        failure = Failure("LimitExceeded", f"the worker was {loss.how}", line=line, code="SR601")
        piece = wire.Slice(0, "limit", error=failure)
        decision = transitions.on_slice(live.run, live.entries, live.task, piece, self._clock(), self._setting)
        self._decide(live, decision, piece)

    def _hold_run(self, live: LiveRun, reason: str, failure: Failure) -> None:
        log.warning("run.held", run=live.run.id, rule=live.run.rule, reason=reason, problem=failure.message)
        self._decide(live, transitions.on_hold(live.run, reason, failure, self._clock()), None)
