"""What people ask of tasks and runs: cancel, hold, resume, step, edit, answer, drop, retry, fork.

Each becomes a decision like any other fact. Who asked for what stands in the audit, written with the decision; what was
done for a request is not done again when the request is repeated.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import msgspec

from scriptrules import journal
from scriptrules.clock import Clock
from scriptrules.errors import BadTask, NotFound, NotPossible
from scriptrules.model import RUN_FINAL, Control, Entry, EntryState, Run, RunState, Task, TaskState
from scriptrules.store.protocol import Audit, Change, Filter, Pass, Store
from scriptrules.supervisor import interventions
from scriptrules.supervisor.breakpoints import STEP, Breakpoints, held_by
from scriptrules.supervisor.decision import Decision, Setting
from scriptrules.supervisor.driver import Driver
from scriptrules.supervisor.entries import about_to_be_given, effective_of
from scriptrules.supervisor.exclusive import Shared
from scriptrules.supervisor.forking import on_fork
from scriptrules.supervisor.limits import Admission, RunLimits
from scriptrules.supervisor.live import LiveRun, LiveRuns
from scriptrules.supervisor.matcher import Matcher
from scriptrules.supervisor.rules import Rules

PAGE = 1000  # rows of one look into the store


class Ask(msgspec.Struct, frozen=True):
    """Who asks for what."""

    verb: str
    who: str = ""  # nobody: the engine itself
    request: str | None = None

    def audit(self, at: int, thing: str, **detail: object) -> list[Audit]:
        """The record of it; what the engine does by itself needs none."""
        if not self.who:
            return []
        return [Audit(at, self.who, self.verb, thing, self.request, msgspec.json.encode(detail) if detail else None)]


CANCEL = Ask("cancel")  # by the engine itself


class Verbs:
    """Carries out what people ask for; each verb returns when it is durable."""

    def __init__(
        self,
        store: Store,
        rules: Rules,
        breakpoints: Breakpoints,
        live: LiveRuns,
        driver: Driver,
        matcher: Matcher,
        limits: RunLimits,
        setting: Setting,
        clock: Clock,
    ) -> None:
        self._store = store
        self._rules = rules
        self._breakpoints = breakpoints
        self._live = live
        self._driver = driver
        self._matcher = matcher
        self._limits = limits
        self._setting = setting
        self._clock = clock
        self.reviving = Shared()  # used by those who begin again what has ended

    async def was_done(self, ask: Ask, thing: str) -> bool:
        """Whether this request has been carried out for this task or run before."""
        if ask.request is None:
            return False
        return any(one.thing == thing for one in await self._store.requested(ask.request))

    # ---- cancel

    async def cancel(self, id: str, ask: Ask = CANCEL) -> None:
        """Cancel a run, or a task with all its runs.

        Raises:
            NotFound, NotPossible: there is none, or it has ended.
        """
        if id.startswith("r"):
            async with self._live.taken(id) as live:
                if live.run.state in RUN_FINAL:
                    raise NotPossible(f"Run {id} is {live.run.state} already.")
                self._live.give_up(live)
                decision = interventions.on_cancel(live.run, live.entries, self._clock())
                await self._decide(live, decision, ask)
            return
        async with self._claimed(id) as task:
            if task.state in (TaskState.NEW, TaskState.HELD):
                await self._move(task, TaskState.CANCELLED, ask)
                return
        runs = [run for run in await self._store.runs(Filter(task=id, limit=PAGE)) if run.state not in RUN_FINAL]
        if not runs:
            raise NotPossible(f"Task {id} is {task.state} already.")
        for run in runs:
            await self.cancel(run.id, ask)

    async def cancel_quietly(self, id: str) -> None:
        """Cancel what may have ended by itself."""
        try:
            await self.cancel(id)
        except (NotFound, NotPossible):
            return

    # ---- hold

    async def hold(self, id: str, ask: Ask) -> None:
        """Have a run stop at its next entry, or all runs of a task that have not ended.

        Raises:
            NotFound, NotPossible: there is none, it has ended, or is held already.
        """
        if id.startswith("r"):
            async with self._live.taken(id) as live:
                if live.run.state in RUN_FINAL or live.run.state is RunState.HELD:
                    raise NotPossible(f"Run {id} is {live.run.state} already.")
                change = Change(audit=ask.audit(self._clock(), id))
                self._breakpoints.step(id, change)
                await self._driver.submit(change)
            return
        task = await self._task(id)
        runs = await self._store.runs(Filter(task=id, limit=PAGE))
        going = [run.id for run in runs if run.state not in RUN_FINAL and run.state is not RunState.HELD]
        if not going:
            raise NotPossible(f"Task {id} is {task.state}; no run of it is under way. A breakpoint holds tasks.")
        for run in going:
            await self.hold(run, ask)

    # ---- what is held

    async def resume(self, id: str, ask: Ask, step: bool = False) -> None:
        """Let something held go on; an unmatched task is matched again.

        Args:
            step: only as far as its next entry, or the next task that it generates.

        Raises:
            NotFound, NotPossible: there is none, or it is not held.
        """
        if id.startswith("r"):
            async with self._live.taken(id):
                await self._resume_run(id, ask, step)
            return
        async with self.reviving.together(), self._claimed(id) as task:
            if task.state in (TaskState.HELD, TaskState.UNMATCHED):
                change = Change()
                breakpoint = held_by(task.reason)
                if breakpoint is not None:
                    change.passes.append(Pass(id, 0, breakpoint))
                if step:
                    self._breakpoints.step(id, change)
                await self._move(task, TaskState.NEW, ask, change)
                return
        held = await self._store.runs(Filter(task=id, state="held", limit=PAGE))
        if not held:
            raise NotPossible(f"Task {id} is {task.state}, not held.")
        for run in held:
            await self.resume(run.id, ask, step)

    async def match_again(self, id: str, reason: str) -> None:
        """Have a task that is held for this reason matched again; by the engine itself."""
        async with self._matcher.claimed(id) as task:
            if task is not None and task.state is TaskState.HELD and task.reason == reason:
                await self._matcher.move(task, TaskState.NEW, None)

    async def _resume_run(self, id: str, ask: Ask, step: bool) -> None:
        judged: tuple[int, Entry] | None = None
        again: str | None = None
        while True:
            live = await self._live.get(id)
            if live.run.state is not RunState.HELD:
                raise NotPossible(f"Run {id} is {live.run.state}, not held.")
            held = _held_before(live)
            if held is None or judged == (self._breakpoints.version, held):
                break
            judged = self._breakpoints.version, held
            again = await self._breakpoints.holds_again(live.task, live.run, held, held_by(live.run.reason))
        change = Change(passes=self._passes_of(live))
        if held is not None and again is not None:
            await self._decide(live, interventions.on_held_again(live.run, held, again, self._clock()), ask, change)
            return
        if step:
            self._breakpoints.step(id, change)
            # What is stepped over is carried out by itself; only a load is read within the slice that it begins.
            change.passes += [Pass(id, entry.seq, STEP) for entry in live.entries[-1:] if entry.name == "load"]
        decision = interventions.on_resume(live.run, live.entries, live.task, self._clock(), self._setting, step)
        await self._decide(live, decision, ask, change)

    def _passes_of(self, live: LiveRun) -> list[Pass]:
        """What is to be remembered when a run goes on from where a breakpoint holds it."""
        breakpoint = held_by(live.run.reason)
        if breakpoint is None:
            return []
        held = _held_before(live)
        places = [held] if held is not None else about_to_be_given(live.entries, self._setting.blocking)
        return [Pass(live.run.id, entry.seq, breakpoint) for entry in places]

    async def edit(self, id: str, data: bytes, merge: bool, ask: Ask) -> None:
        """Give a held task other data, or the entry that a run is held before other arguments.

        Args:
            data: a JSON object.
            merge: only its fields are changed.

        Raises:
            NotFound, NotPossible, BadTask: there is none, it is not held there, or it cannot have these.
        """
        if id.startswith("r"):
            async with self._live.taken(id) as live:
                before = effective_of(live.entries)
                after = _merged(before, data) if merge else data
                decision = interventions.on_edit(live.run, live.entries, live.task, after, self._clock(), self._setting)
                await self._decide(live, decision, ask, None, before=msgspec.Raw(before), after=msgspec.Raw(after))
            return
        async with self._claimed(id) as task:
            if task.state is not TaskState.HELD:
                raise NotPossible(f"Task {id} is {task.state}; only the data of held tasks can be edited.")
            after = _merged(task.data, data) if merge else data
            now = self._clock()
            audit = ask.audit(now, id, before=msgspec.Raw(task.data), after=msgspec.Raw(after))
            await self._driver.submit(Change(edits=[(id, after)], audit=audit))

    async def answer(self, id: str, value: bytes, seq: int | None, ask: Ask) -> None:
        """Supply the result of what a run is held at; with the id of a called task, its answer.

        Args:
            value: JSON.
            seq: of the entry, where the run is about to get several results.

        Raises:
            NotFound, NotPossible, BadTask: there is none, or nothing that could be answered so.
        """
        if id.startswith("t"):
            async with self._claimed(id) as task:
                if task.reply is None or task.parent is None or task.state is not TaskState.HELD:
                    raise NotPossible(f"Task {id} is {task.state}; only a held task that was called can be answered.")
                await self._answer_call(task, task.parent, task.reply, value, ask)
            return
        async with self._live.taken(id) as live:
            decision = interventions.on_answer(live.run, live.entries, value, seq, self._clock(), self._setting)
            change = Change(passes=self._passes_of(live))
            await self._decide(live, decision, ask, change, result=msgspec.Raw(value))

    async def _answer_call(self, task: Task, caller: str, seq: int, value: bytes, ask: Ask) -> None:
        async with self._live.taken(caller) as live:
            now = self._clock()
            decision = interventions.on_call_answered(live.run, live.entries, seq, value, now)
            given = msgspec.Raw(value)
            change = Change(audit=ask.audit(now, caller, result=given) + ask.audit(now, task.id, result=given))
            self._driver.write(live, decision, change, None)
            then = partial(self._driver.committed, live, decision)
            await self._matcher.move(task, TaskState.DROPPED, None, change, then)

    async def drop(self, id: str, ask: Ask) -> None:
        """End a held task without having its rules asked, or a held run where it stands.

        Raises:
            NotFound, NotPossible: there is none, or it is not held.
        """
        if id.startswith("r"):
            async with self._live.taken(id) as live:
                if live.run.state is not RunState.HELD:
                    raise NotPossible(f"Run {id} is {live.run.state}, not held.")
                await self.cancel(id, ask)
            return
        async with self._claimed(id) as task:
            if task.state is not TaskState.HELD:
                raise NotPossible(f"Task {id} is {task.state}, not held.")
            await self._move(task, TaskState.DROPPED, ask)

    # ---- retry

    async def retry(self, id: str, ask: Ask, pinned: bool = False, from_start: bool = False) -> None:
        """Do a failed or held run again, against the newest source unless `pinned`; or all failed runs of a task.

        Raises:
            NotFound, NotPossible: there is none, or it has not failed.
        """
        if id.startswith("t"):
            task = await self._task(id)
            runs = await self._store.runs(Filter(task=id, state="failed", limit=PAGE))
            if not runs:
                raise NotPossible(f"Task {id} is {task.state}; no run of it has failed.")
            for run in runs:
                await self.retry(run.id, ask, pinned, from_start)
            return
        async with self.reviving.together(), self._live.taken(id) as live:
            await self._retry_run(live, ask, pinned, from_start)

    async def _retry_run(self, live: LiveRun, ask: Ask, pinned: bool, from_start: bool) -> None:
        if live.run.state not in (RunState.FAILED, RunState.HELD):
            raise NotPossible(f"Run {live.run.id} is {live.run.state}; only failed and held runs can be retried.")
        digest, control = self._source_for(live.run, pinned)
        change = Change()
        if live.run.state is RunState.FAILED:
            change.reopened.append((live.run.task, self._clock()))
        self._live.give_up(live)
        admission = self._admission(live, control) if live.run.state is RunState.FAILED else None
        now = self._clock()
        decision = interventions.on_retry(live.run, live.entries, digest, from_start, now, control, admission)
        if admission is not None:
            self._limits.enter(decision.run, admission)
        await self._decide(live, decision, ask, change)

    async def fork(self, id: str, seq: int, value: bytes, pinned: bool, ask: Ask) -> str:
        """Have a new run go on from an entry of another with another result; returns its id.

        Raises:
            NotFound, NotPossible, BadTask: there is none, or this cannot be a result of it.
        """
        for done in await self._store.requested(ask.request) if ask.request else ():
            if done.thing == id and done.detail is not None:
                return str(msgspec.json.decode(done.detail)["fork"])
        async with self.reviving.together(), self._live.taken(id):
            return await self._fork_run(id, seq, value, pinned, ask)

    async def _fork_run(self, id: str, seq: int, value: bytes, pinned: bool, ask: Ask) -> str:
        live, records = await self._with_records(id)
        digest, control = self._source_for(live.run, pinned)
        admission = self._admission(live, control)
        now = self._clock()
        fork = self._setting.new_id("r")
        decision = on_fork(live.run, records, live.entries, seq, value, fork, digest, control, admission, now)
        if admission is not None:
            self._limits.enter(decision.run, admission)
        forked = LiveRun(decision.run, live.task, [])
        self._live.add(forked)
        audit = ask.audit(now, id, fork=fork, seq=seq, result=msgspec.Raw(value))
        change = Change(reopened=[(live.run.task, now)], audit=audit)
        await self._driver.decide_and_wait(forked, decision, change)
        return fork

    async def _with_records(self, id: str) -> tuple[LiveRun, list[journal.Record]]:
        """A run with the records that its entries in memory are made of: decisions may be on their way to the disk."""
        while True:
            await self._driver.submit(Change())
            records = [journal.decode(body) for body in await self._store.journal(id)]
            live = await self._live.get(id)
            if _stands(journal.fold(records)) == _stands(live.entries):
                return live, records
            self._live.forget_idle(live)

    def _source_for(self, run: Run, pinned: bool) -> tuple[str, Control | None]:
        """The source that a run is done again with, and how that controls it."""
        newest = self._rules.newest(run.rule)
        if newest is None and not pinned:
            raise NotPossible(f"There is no rule {run.rule} any more. Restore it, or use --pinned.")
        if pinned or newest is None:
            return run.digest, run.control
        return newest.digest, self._rules.control_of(run.rule)

    def _admission(self, live: LiveRun, control: Control | None) -> Admission | None:
        """The slot of a run that somebody wants, whatever else there is."""
        if control is None or control.limit is None:
            return None
        limit = msgspec.structs.replace(control.limit, full="queue")
        return self._limits.ask(live.run.rule, limit, live.task)

    # ---- breakpoints

    async def set_breakpoint(self, name: str, on: list[str], at: str, when: str | None, ask: Ask) -> None:
        """Put a breakpoint in force; what is committed after this returns has been judged by it.

        Raises:
            BadTask, NotPossible: it cannot be one, or there is one of that name.
        """
        breakpoint = await self._breakpoints.make(name, on, at, when, ask.who)
        if any(one.name == name for one in self._breakpoints.infos()):
            raise NotPossible(f"There is a breakpoint {name!r} already.")
        self._breakpoints.put(breakpoint)
        audit = ask.audit(self._clock(), name, on=on, place=at, when=when)
        await self._driver.submit(Change(breakpoints=[(name, breakpoint)], audit=audit))

    async def remove_breakpoint(self, name: str, ask: Ask) -> None:
        """Take a breakpoint away; what it holds stays held.

        Raises:
            NotFound, NotPossible: there is none, or it lives in a file.
        """
        breakpoint = self._breakpoints.get(name)
        if breakpoint.file:
            raise NotPossible(f"Breakpoint {name} is the file {breakpoint.by}. Remove that, or write enabled = False.")
        self._breakpoints.remove(name)
        await self._driver.submit(Change(breakpoints=[(name, None)], audit=ask.audit(self._clock(), name)))
        await self._breakpoints.reload()  # a file of this name had to stand back

    # ---- helpers

    async def _decide(
        self, live: LiveRun, decision: Decision, ask: Ask, change: Change | None = None, **detail: object
    ) -> None:
        change = change or Change()
        change.audit += ask.audit(self._clock(), live.run.id, **detail)
        await self._driver.decide_and_wait(live, decision, change)

    async def _move(self, task: Task, state: TaskState, ask: Ask, change: Change | None = None) -> None:
        change = change or Change()
        change.audit += ask.audit(self._clock(), task.id)
        await self._matcher.move(task, state, None, change)

    @asynccontextmanager
    async def _claimed(self, id: str) -> AsyncIterator[Task]:
        """A task that nobody else moves meanwhile; raises NotFound where there is none."""
        async with self._matcher.claimed(id) as task:
            yield self._there(id, task)

    async def _task(self, id: str) -> Task:
        return self._there(id, await self._store.task(id))

    @staticmethod
    def _there(id: str, task: Task | None) -> Task:
        if task is None:
            raise NotFound(f"There is no task {id}. List them with `scriptrules tasks`.")
        return task


def _held_before(live: LiveRun) -> Entry | None:
    """The entry that a run is held before."""
    last = live.entries[-1] if live.entries else None
    return last if last is not None and last.state is EntryState.HELD else None


def _stands(entries: Sequence[Entry]) -> list[tuple[str, EntryState, int, int]]:
    """How far entries are: every record but an edit moves one of them in time."""
    return [(entry.name, entry.state, entry.since, entry.attempt) for entry in entries]


def _merged(before: bytes, fields: bytes) -> bytes:
    """An object with some of its fields changed."""
    changed = msgspec.json.decode(fields)
    if not isinstance(changed, dict):
        raise BadTask('What is to be changed is a JSON object: {"size": 3}.')
    return msgspec.json.encode({**msgspec.json.decode(before), **changed})
