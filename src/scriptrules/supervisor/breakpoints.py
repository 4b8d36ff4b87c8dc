"""The breakpoints in force, from ``breakpoints/*.py`` and from the store, and whether one holds something.

The supervisor asks before it commits: a task before its rules are asked (`on_tasks`), a slice before each of its
entries (`cut_of`), a result before the script gets it (`after`). `version` counts changes; whoever has asked under an
older one asks again before committing, so that a breakpoint catches what is committed after it was set, and provably
nothing else. A filter is evaluated in a worker like any rule's. One that cannot be evaluated holds: a breakpoint is
there for safety, so when in doubt it stops.

What was tried and rejected: evaluating call breakpoints inside the script while it runs (each slice would carry the
epoch of breakpoints, every use of a function would pay for the look, and setting one would discard warm slices);
here a run that no breakpoint concerns pays for one look into a dictionary. And keeping those of files in memory only:
a file that was broken when the server began left nothing in force, and tasks went past a stop that somebody had set.
So the last version in order is in the store, and only taking the file away, or `enabled = False`, ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

import msgspec
import structlog

from scriptrules.clock import Clock
from scriptrules.diagnostics import render_in
from scriptrules.errors import BadTask, NotFound, NotPossible
from scriptrules.model import Breakpoint, Entry, Run, Source, Task
from scriptrules.rulebook.breakpoints import PREFIX, TASK, text_of
from scriptrules.rulebook.files import is_declarative, make_source, read_all
from scriptrules.rulebook.index import matches
from scriptrules.sandbox import wire
from scriptrules.sandbox.pool import Job, Loss, Pool, Worker
from scriptrules.store.protocol import Change, Store
from scriptrules.supervisor.background import patiently
from scriptrules.supervisor.entries import AT_ONCE
from scriptrules.supervisor.matching import view_of
from scriptrules.supervisor.references import Answer
from scriptrules.supervisor.transitions import Cut
from scriptrules.supervisor.watching import FolderWatch

log = structlog.get_logger(__name__)

STRIKES = 2  # workers that a filter may cost before it is not evaluated any more, and holds whatever its `on` matches
_AROUND = "() \t\n"  # what may stand around an expression without changing it
_AFTER_AT_ONCE = frozenset(f"after:{function}" for function in AT_ONCE)
STEP = "step"  # why something is held that somebody steps through


class BreakpointInfo(msgspec.Struct, frozen=True):
    """A breakpoint as people see it."""

    name: str
    on: list[str]
    at: str
    when: str | None
    created: int
    by: str  # who set it, or its file
    file: bool
    problems: list[str] = []  # of the newest version of its file, if it is not in force


class Breakpoints:
    """What is held, and where.

    Args:
        folder: of the files; it need not exist.
    """

    def __init__(self, folder: Path, pool: Pool, store: Store, clock: Clock) -> None:
        self.version = 0
        self.commit: Callable[[Change], Awaitable[None]] = _uncommitted  # set before `start`
        self.stepping: set[str] = set()  # tasks and runs that stop at their next entry
        self._folder = folder
        self._pool = pool
        self._store = store
        self._clock = clock
        self._all: dict[str, Breakpoint] = {}
        self._at: dict[str, list[Breakpoint]] = {}
        self._cuts = False  # whether there is one that may stop a slice in its middle
        self._problems: dict[str, tuple[str, list[str]]] = {}  # file and texts, by name
        self._read: dict[str, str] = {}  # digest of the file that a worker has read in this life, by name
        self._strikes: dict[str, int] = {}  # by digest
        self._reading = asyncio.Lock()
        self._watch = FolderWatch(folder, self.reload)

    async def start(self, watch: bool) -> None:
        """Take up those in the store, and read the folder."""
        self._all = {one.name: one for one in await self._store.breakpoints()}
        self.stepping = set(await self._store.stepping())
        await self.reload()
        self._changed()
        if watch:
            self._watch.start()

    async def close(self) -> None:
        await self._watch.close()

    # ---- which there are

    def infos(self) -> list[BreakpointInfo]:
        """All of them, and files that could not become one."""
        infos = []
        for name in sorted({*self._all, *self._problems}):
            one = self._all.get(name)
            file, problems = self._problems.get(name, ("", []))
            if one is None:
                infos.append(BreakpointInfo(name, [], "", None, 0, file, True, problems))
            else:
                infos.append(BreakpointInfo(name, one.on, one.at, one.when, one.created, one.by, one.file, problems))
        return infos

    def get(self, name: str) -> Breakpoint:
        """The breakpoint of this name.

        Raises:
            NotFound: there is none.
        """
        if name not in self._all:
            raise NotFound(f"There is no breakpoint {name[:80]!r}. List them with `scriptrules break list`.")
        return self._all[name]

    async def make(self, name: str, on: list[str], at: str, when: str | None, by: str) -> Breakpoint:
        """A breakpoint as somebody asks for it, checked by a worker; not in force yet.

        Raises:
            BadTask: it cannot be one, with why.
            NotPossible: there is one of that name.
        """
        if name in self._all:
            raise NotPossible(f"There is a breakpoint {name!r} already. Remove it first, or choose another name.")
        text = text_of(on, when, at)
        source = make_source(f"{PREFIX}{name}", f"breakpoint {name}", text, {})
        loaded = await self._pool.load(source)
        facts = loaded.metadata
        if facts is None:
            raise BadTask("\n".join(render_in(problem, source) for problem in loaded.problems))
        if when is not None and (facts.when or "").strip(_AROUND) != when.strip(_AROUND):
            raise BadTask("A filter is one expression of `task` (before or after an entry: of `entry`), and no more.")
        return Breakpoint(name, on, at, source, when, self._clock(), by)

    def put(self, breakpoint: Breakpoint) -> None:
        """From now on it holds what it matches."""
        self._all[breakpoint.name] = breakpoint
        self._changed()

    def remove(self, name: str) -> None:
        self._all.pop(name, None)
        self._changed()

    def _changed(self) -> None:
        self.version += 1
        self._at = {}
        self._cuts = any(one.at.startswith("before:") or one.at in _AFTER_AT_ONCE for one in self._all.values())
        for name in sorted(self._all):
            self._at.setdefault(self._all[name].at, []).append(self._all[name])

    async def reload(self) -> None:
        """Make those with files equal to the files, as far as they are in order."""
        async with self._reading:
            sources, unreadable = await asyncio.to_thread(read_all, self._folder)
            problems = {broken.rule: (broken.file, [f"{broken.file} {broken.problem}"]) for broken in unreadable}
            read: dict[str, str] = {}
            change = Change()
            for name, source in sources.items():
                named = make_source(f"{PREFIX}{name}", source.file, source.text, source.libraries)
                known = self._all.get(name)
                texts: list[str] = []
                if is_declarative(source.file):
                    texts = [f"{source.file}: breakpoints are written in Python: NAME.py."]
                elif known is not None and not known.file:
                    texts = [f"{source.file}: a breakpoint {name!r} is set already."]
                else:
                    read[name] = named.digest
                    if self._read.get(name) == named.digest:
                        texts = self._problems.get(name, ("", []))[1]
                    else:
                        texts = await self._accept(name, named, change)
                if texts:
                    problems[name] = (source.file, texts)
            gone = [name for name, one in self._all.items() if one.file and name not in {*sources, *problems}]
            change.breakpoints += [(name, None) for name in gone]
            await self._take_up(change, problems)
            self._read = read

    async def _accept(self, name: str, source: Source, change: Change) -> list[str]:
        """Have a worker read a file: what it says is put into `change`; or, returned, what is wrong with it."""
        loaded = await self._pool.load(source)
        facts = loaded.metadata
        if facts is None:
            return [render_in(problem, source) for problem in loaded.problems]
        known = self._all.get(name)
        if facts.enabled and (known is None or known.source.digest != source.digest):
            at, file = facts.at or TASK, source.file
            one = Breakpoint(name, facts.on, at, source, facts.when, self._clock(), file, True)
            change.breakpoints.append((name, one))
        elif not facts.enabled and known is not None:
            change.breakpoints.append((name, None))
        return []

    async def _take_up(self, change: Change, problems: dict[str, tuple[str, list[str]]]) -> None:
        """Put in force what files say now, keep it in the store, and tell of what is wrong with them."""
        for name, one in change.breakpoints:
            if one is None:
                del self._all[name]
            else:
                self._all[name] = one
        for name, (file, texts) in problems.items():
            if self._problems.get(name) != (file, texts):
                effect = "the previous version stays in force" if name in self._all else "it is not in force"
                log.error("breakpoint.broken", breakpoint=name, file=file, effect=effect, problems="\n".join(texts))
        if change.breakpoints:
            self._changed()
            log.info("breakpoints.active", names=sorted(self._all))
        elif problems != self._problems:
            change.notices.append("breakpoints.changed")
        self._problems = problems
        if change.breakpoints or change.notices:
            await self.commit(change)

    def step(self, thing: str, change: Change) -> None:
        """Have a task or a run stop at its next entry."""
        self.stepping.add(thing)
        change.stepping.append((thing, True))

    def stop_stepping(self, thing: str, change: Change) -> None:
        if thing in self.stepping:
            self.stepping.discard(thing)
            change.stepping.append((thing, False))

    # ---- whether one holds

    def on_tasks(self, name: str) -> list[Breakpoint]:
        """Those that may hold a task of this name before its rules are asked."""
        return self._among(TASK, name)

    def before(self, task: str, function: str) -> list[Breakpoint]:
        """Those that may hold a run of a task before it uses a function."""
        return self._among(f"before:{function}", task)

    def after(self, task: str, function: str) -> list[Breakpoint]:
        """Those that may hold a run of a task before it gets the result of a function."""
        return self._among(f"after:{function}", task)

    @property
    def may_cut(self) -> bool:
        """Whether any slice may have to be cut."""
        return self._cuts or bool(self.stepping)

    def concern(self, task: Task, piece: wire.Slice, run: str | None = None) -> bool:
        """Whether a slice may have to be cut; one that is not over yet is asked about when it is."""
        if not self.may_cut or piece.end == "load":
            return False
        if run in self.stepping or task.id in self.stepping:
            return True
        names = {intent.name for intent in piece.entries}
        return any(self.before(task.name, name) or self._after_at_once(task.name, name) for name in names)

    def _after_at_once(self, task: str, function: str) -> list[Breakpoint]:
        return self.after(task, function) if function in AT_ONCE else []

    def _among(self, at: str, name: str) -> list[Breakpoint]:
        found = self._at.get(at)
        if not found:
            return []
        return [one for one in found if any(pattern == name or matches(pattern, name) for pattern in one.on)]

    async def holds_task(self, task: Task) -> str | None:
        """Why a task is to be held, if it is."""
        return await self._judge(self.on_tasks(task.name), task, task.id, None)

    async def cut_of(
        self, task: Task, rule: str, run: Run | None, first: int, piece: wire.Slice, answers: Sequence[Answer] = ()
    ) -> Cut | None:
        """Where a slice is to be cut.

        Args:
            run: None where this is its first slice, so that it has no id yet.
            first: the number of the slice's first entry.
            answers: what its loads were told, in their order.
        """
        id = run.id if run is not None else ""
        step = -1  # where it stops, because somebody steps through it
        if piece.entries and (id in self.stepping or (first == 1 and task.id in self.stepping)):
            over = piece.entries[0].name == "load" and STEP in await patiently(lambda: self._store.passed(id, first))
            step = 1 if over else 0
        told = iter(answers)
        for at, intent in enumerate(piece.entries):
            if at == step:
                return Cut(at, STEP)
            entry = wire.EntrySubject(rule, id, first + at, intent.name, intent.args, intent.line)
            reason = await self._judge(self.before(task.name, intent.name), task, id, entry)
            if reason is not None:
                return Cut(at, reason)
            outcome = next(told, (b"", wire.Outcome()))[1] if intent.name == "load" else wire.Outcome()
            if outcome.error is None and outcome.secret is None:
                entry = msgspec.structs.replace(entry, result=outcome.value)
            reason = await self._judge(self._after_at_once(task.name, intent.name), task, id, entry)
            if reason is not None:
                return Cut(at + 1, reason, before=False)
        return None

    async def holds_again(self, task: Task, run: Run, entry: Entry, passing: str | None) -> str | None:
        """Why an entry that a run is held before stays held, though somebody lets it go on.

        Args:
            passing: the breakpoint that has held it until now.
        """
        others = [one for one in self.before(task.name, entry.name) if one.name != passing]
        subject = wire.EntrySubject(run.rule, run.id, entry.seq, entry.name, entry.effective, entry.line)
        return await self._judge(others, task, run.id, subject)

    async def holds_result(self, task: Task, run: Run, entries: Iterable[Entry]) -> str | None:
        """Why a run is to be held before it gets the results of these entries."""
        for entry in entries:
            candidates = self.after(task.name, entry.name)
            if candidates:
                subject = wire.EntrySubject(
                    run.rule, run.id, entry.seq, entry.name, entry.effective, entry.line, entry.result
                )
                reason = await self._judge(candidates, task, run.id, subject)
                if reason is not None:
                    return reason
        return None

    async def _judge(
        self, candidates: list[Breakpoint], task: Task, thing: str, entry: wire.EntrySubject | None
    ) -> str | None:
        """Why the first of these that matches holds something, unless it has passed that one before."""
        passed: set[str] | None = None
        seq = entry.seq if entry is not None else 0
        for one in candidates:
            reason = await self.evaluate(one, task, entry)
            if reason is None:
                continue
            if passed is None:
                passed = await patiently(lambda: self._store.passed(thing, seq))
            if one.name not in passed:
                return reason
        return None

    async def evaluate(self, one: Breakpoint, task: Task, entry: wire.EntrySubject | None) -> str | None:
        """Why a breakpoint holds something, None where it does not."""
        digest = one.source.digest
        if one.when is None:
            return f"breakpoint:{one.name}"
        while self._strikes.get(digest, 0) < STRIKES:
            judged = await self._ask(one, task, entry)
            if isinstance(judged, wire.Judged):
                if judged.problem is None:
                    return f"breakpoint:{one.name}" if judged.holds else None
                error = judged.problem.error
                where = f"line {error.line}: " if error.line else ""
                return f"breakpoint_error:{one.name}: {where}{error.type}: {error.message}"
            if judged.ack is not None or judged.suspect:
                self._strikes[digest] = self._strikes.get(digest, 0) + 1
                log.error("breakpoint.failing", breakpoint=one.name, why=judged.how)
        return f"breakpoint_error:{one.name}: its filter did not end"

    async def _ask(self, one: Breakpoint, task: Task, entry: wire.EntrySubject | None) -> wire.Judged | Loss:
        future: asyncio.Future[wire.Judged | Loss] = asyncio.get_running_loop().create_future()
        view = view_of(task)

        def done(_: Worker, judged: wire.Judged) -> None:
            if not future.done():
                future.set_result(judged)

        def lost(loss: Loss) -> None:
            if not future.done():
                future.set_result(loss)

        def make(number: int, _: int) -> wire.Judge:
            return wire.Judge(number, one.source.rule, one.source.digest, view, entry)

        self._pool.submit(Job(make, done, lost, source=one.source))
        return await future


def held_by(reason: str | None) -> str | None:
    """The name of the breakpoint that has held something for this reason."""
    kind, _, rest = (reason or "").partition(":")
    return rest.partition(":")[0] if kind in ("breakpoint", "breakpoint_error") else None


async def _uncommitted(_: Change) -> None:
    """Before the driver is there, nothing is read."""
