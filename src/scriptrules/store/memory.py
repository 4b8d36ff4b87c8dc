"""The twin in memory: the same answers as SQLite, from dictionaries, for as long as the process lives.

`scriptrules run` uses it, and tests that need no disk. One suite (tests/integration/test_store.py) tests both.
"""

from __future__ import annotations

import asyncio
import uuid
from bisect import insort
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import msgspec

from scriptrules.latency import Latency
from scriptrules.model import (
    RUN_FINAL,
    TASK_FINAL,
    Breakpoint,
    LogLine,
    Run,
    RunState,
    Source,
    Task,
    TaskState,
    why_failed,
)
from scriptrules.rulebook.index import matches
from scriptrules.sightings import DAY, DAYS_KEPT, Cell, Names, SeenEdge, join_cell, join_edge, tally
from scriptrules.store.events import Written, arrivals_of, count, transitions_of
from scriptrules.store.protocol import (
    ON_TASKS,
    Audit,
    Change,
    Committed,
    Filter,
    Happened,
    Ingested,
    Mark,
    Pass,
    Pruned,
    SecretUse,
    SecretVersion,
    Transition,
    Variable,
    Wake,
    decide_keys,
)
from scriptrules.store.receiving import Shapes, pattern_of, shape_of
from scriptrules.tokens import Token

HAPPENED_KEPT = 100_000  # transitions
ON_KEYS = ON_TASKS | {"branch", "receive"}  # kinds of wakes that are found by their key
_replace = msgspec.structs.replace


class MemoryStore:
    """See `scriptrules.store.protocol.Store` for the methods."""

    def __init__(self) -> None:
        self.id = uuid.uuid4().hex
        self._tasks: dict[str, Task] = {}
        self._open: dict[str, int] = {}
        self._keys: dict[str, str] = {}
        self._runs: dict[str, Run] = {}
        self._children: defaultdict[str, list[str]] = defaultdict(list)
        self._runs_of: defaultdict[str, list[str]] = defaultdict(list)
        self._journal: defaultdict[str, list[bytes]] = defaultdict(list)
        self._logs: defaultdict[str, list[tuple[int, LogLine]]] = defaultdict(list)
        self._log_position = 0
        self._wakes: dict[tuple[str, int, str, str], Wake] = {}
        self._wakes_on: defaultdict[str, dict[tuple[str, int, str, str], Wake]] = defaultdict(dict)
        self._due: list[tuple[int, tuple[str, int, str, str]]] = []
        self._sources: dict[str, Source] = {}
        self._arrived: dict[str, int] = {}  # places in the order of arrival, by task
        self._place = 0
        self._shapes = Shapes()
        self._marks: dict[str, Mark] = {}
        self._cells: dict[tuple[int, str, str], Cell] = {}
        self._edges: dict[tuple[str, str, str], SeenEdge] = {}
        self._names = Names()
        self._day = 0  # the newest that cells were counted by
        self._variables: dict[tuple[str, str], Variable] = {}
        self._secrets: dict[tuple[str, int], SecretVersion] = {}
        self._uses: set[SecretUse] = set()
        self._breakpoints: dict[str, Breakpoint] = {}
        self._passes: set[Pass] = set()
        self._stepping: dict[str, None] = {}
        self._audit: list[Audit] = []
        self._tokens: dict[str, Token] = {}
        self._happened: deque[Transition] = deque(maxlen=HAPPENED_KEPT)
        self._position = 0  # of the last of them
        self.seen: Counter[str] = Counter()
        self.commit_seconds = Latency()  # nothing takes any time here

    async def open(self) -> None:
        return

    async def close(self) -> None:
        return

    # ---- writing

    def submit(self, change: Change, then: Callable[[Committed], None]) -> None:
        asyncio.get_running_loop().call_soon(then, self._apply(change))

    async def ingest(self, tasks: list[Task]) -> list[Ingested]:
        known = {}
        for task in tasks:
            before = self._keys.get(task.key) if task.key is not None else None
            if before is not None and task.key is not None:
                known[task.key] = (before, self._tasks[before].name, self._tasks[before].data)
        ingested, fresh = decide_keys(tasks, known)
        self._insert(fresh)
        self._note(arrivals_of(fresh))
        return ingested

    async def put_token(self, token: Token, audit: Audit) -> None:
        self._tokens[token.name] = token
        self._audit.append(audit)

    async def remove_token(self, name: str, audit: Audit) -> None:
        self._tokens.pop(name, None)
        self._audit.append(audit)

    async def put_source(self, source: Source) -> None:
        self._sources.setdefault(source.digest, source)

    async def put_variables(self, variables: list[Variable], secrets: list[SecretVersion]) -> None:
        self._put_variables(variables, secrets)

    def _put_variables(self, variables: Iterable[Variable], secrets: Iterable[SecretVersion]) -> None:
        for secret in secrets:
            self._secrets[secret.name, secret.version] = secret
        for variable in variables:
            if variable.value is not None or variable.version is not None:
                self._variables[variable.root, variable.name] = variable
                continue
            self._variables.pop((variable.root, variable.name), None)
            used = {(use.name, use.version) for use in self._uses}
            for place, secret in list(self._secrets.items()):
                if not variable.root and secret.name == variable.name and not secret.source and place not in used:
                    del self._secrets[place]

    async def prune_variables(self, before: int) -> None:
        for root, name in list(self._variables):
            if root and root not in self._tasks:
                del self._variables[root, name]
        self._uses = {use for use in self._uses if use.run in self._runs}
        kept = {(use.name, use.version) for use in self._uses}
        kept |= {(name, variable.version or 0) for (root, name), variable in self._variables.items() if not root}
        for place in list(self._secrets):
            later = (one for one in self._secrets.values() if one.name == place[0] and one.version > place[1])
            if place not in kept and any(one.since < before for one in later):
                del self._secrets[place]

    async def prune(self, before: int, after: str, limit: int) -> Pruned:
        old = sorted(
            task.id
            for task in self._tasks.values()
            if task.parent is None and task.id > after and task.created < before
        )[:limit]
        trees = {root: [task for task in self._tasks.values() if task.root == root] for root in old}
        removed = 0
        for tasks in trees.values():
            runs = [self._runs[id] for task in tasks for id in self._runs_of[task.id]]
            if any(task.since >= before or task.state not in TASK_FINAL for task in tasks):
                continue
            if any(run.state not in RUN_FINAL for run in runs):
                continue
            removed += len(tasks)
            self._remove(tasks, runs)
        return Pruned(old[-1] if len(old) == limit else None, removed)

    def _remove(self, tasks: list[Task], runs: list[Run]) -> None:
        gone = {task.id for task in tasks} | {run.id for run in runs}
        for run in runs:
            del self._runs[run.id]
            for kept in (self._journal, self._logs, self._children):
                kept.pop(run.id, None)
        for task in tasks:
            del self._tasks[task.id]
            self._runs_of.pop(task.id, None)
            self._open.pop(task.id, None)
            self._arrived.pop(task.id, None)
            if task.key is not None:
                del self._keys[task.key]
        self._passes = {one for one in self._passes if one.thing not in gone}

    async def prune_rest(self, before: int, keep: list[str]) -> None:
        used = {run.digest for run in self._runs.values()} | set(keep)
        self._sources = {digest: source for digest, source in self._sources.items() if digest in used}
        self._audit = [one for one in self._audit if one.at >= before]

    def _insert(self, tasks: Iterable[Task]) -> None:
        for task in tasks:
            self._tasks[task.id] = task
            if task.state is TaskState.NEW:
                self._arrived[task.id] = self._next_place()
            if task.parent is not None:
                self._children[task.parent].append(task.id)
            if task.key is not None:
                self._keys[task.key] = task.id

    def _apply(self, change: Change) -> Committed:
        self._insert(change.tasks)
        for run in change.runs:
            if run.id not in self._runs:
                self._runs_of[run.task].append(run.id)
            self._runs[run.id] = run
        for run_id, body in change.journal:
            self._journal[run_id].append(body)
        for run_id, line in change.logs:
            self._log_position += 1
            self._logs[run_id].append((self._log_position, line))
        for wake in change.wakes:
            self._put_wake(wake)
        for wake in change.done:
            self._remove_wake(wake)
        self._marks.update((mark.name, mark) for mark in change.marks)
        for move in change.moves:
            task = self._tasks[move.id]
            self._tasks[move.id] = _replace(task, state=move.state, since=move.since, reason=move.reason)
            self._open[move.id] = move.open
        for id, since in change.reopened:
            self._tasks[id] = _replace(self._tasks[id], state=TaskState.RUNNING, since=since, reason=None)
            self._open[id] = self._open.get(id, 0) + 1
        for id, data in change.edits:
            self._tasks[id] = _replace(self._tasks[id], data=data)
        self._apply_breakpoints(change)
        self._add_sightings(change)
        self._put_variables(change.variables, ())
        self._uses.update(change.uses)
        ended = self._end_tasks(change)
        self._note(transitions_of(change, ((id, state, self._tasks[id].reason) for id, state in ended)))
        return Committed(ended, self._awake(change, ended), self._arrive(change))

    def _apply_breakpoints(self, change: Change) -> None:
        for name, breakpoint in change.breakpoints:
            if breakpoint is None:
                self._breakpoints.pop(name, None)
                self._passes = {one for one in self._passes if one.breakpoint != name}
            else:
                self._breakpoints[name] = breakpoint
        self._passes.update(change.passes)
        for thing, steps in change.stepping:
            if steps:
                self._stepping[thing] = None
            else:
                self._stepping.pop(thing, None)
        self._audit += change.audit

    def _add_sightings(self, change: Change) -> None:
        total = tally(change.generated, change.ran, self._names)
        for (day, by, rule), cell in total.cells.items():
            join_cell(self._cells.setdefault((day, by, rule), Cell(by, rule)), cell)
        for key, edge in total.edges.items():
            if key in self._edges:
                join_edge(self._edges[key], edge)
            else:
                self._edges[key] = edge
        newest = max((day for day, _, _ in total.cells), default=0)
        if newest > self._day:
            self._day = newest
            for place in [place for place in self._cells if 0 < place[0] < newest - DAYS_KEPT]:
                cell = self._cells.pop(place)
                join_cell(self._cells.setdefault((0, cell.by, cell.rule), Cell(cell.by, cell.rule)), cell)

    def _put_wake(self, wake: Wake) -> None:
        place = (wake.run, wake.seq, wake.kind, wake.key)
        self._wakes[place] = wake
        if wake.kind in ON_KEYS:
            self._wakes_on[wake.key][place] = wake
        if wake.due is not None:
            insort(self._due, (wake.due, place))

    def _remove_wake(self, wake: Wake) -> None:
        place = (wake.run, wake.seq, wake.kind, wake.key)
        self._wakes.pop(place, None)
        if wake.key in self._wakes_on:
            self._wakes_on[wake.key].pop(place, None)
            if not self._wakes_on[wake.key]:
                del self._wakes_on[wake.key]
        if wake.kind == "tree":
            for branch in self._branches(wake.run, wake.seq):
                self._remove_wake(branch)

    def _branches(self, run: str, seq: int) -> list[Wake]:
        return [wake for wake in self._wakes.values() if (wake.run, wake.seq, wake.kind) == (run, seq, "branch")]

    def _end_tasks(self, change: Change) -> list[tuple[str, TaskState]]:
        for end in change.ends:
            self._open[end.task] = self._open.get(end.task, 0) - 1
        ended = []
        for id in {end.task for end in change.ends}:
            task = self._tasks[id]
            if self._open[id] == 0 and task.state is TaskState.RUNNING:
                runs = [self._runs[run] for run in sorted(self._runs_of[id])]
                states = {run.state for run in runs}
                state, reason = TaskState.DONE, None
                if RunState.FAILED in states:
                    state = TaskState.FAILED
                    reason = next(why_failed(run) for run in runs if run.state is RunState.FAILED)
                elif RunState.CANCELLED in states:
                    state = TaskState.CANCELLED
                self._tasks[id] = _replace(task, state=state, since=change.ends[-1].since, reason=reason)
                ended.append((id, state))
        return ended

    def _awake(self, change: Change, ended: list[tuple[str, TaskState]]) -> list[Wake]:
        finals = [id for id, _ in ended] + [move.id for move in change.moves if move.state in TASK_FINAL]
        finals += [wake.key for wake in change.wakes if wake.kind in ON_TASKS and self._is_final(wake.key)]
        found: dict[Wake, None] = {}
        for id in finals:
            found.update((wake, None) for wake in self._waiting(id, "task", "call"))
        for id in change.answered:
            found.update((wake, None) for wake in self._waiting(id, "call"))
        found.update((wake, None) for wake in self._grow(finals))
        return list(found)

    def _waiting(self, key: str, *kinds: str) -> list[Wake]:
        return [wake for wake in self._wakes_on.get(key, {}).values() if wake.kind in kinds]

    def _grow(self, ended: list[str]) -> list[Wake]:
        """Let branches take the place of tasks that have ended; returns the wakes whose whole tree has."""
        touched: dict[tuple[str, int], None] = {}
        while ended:
            following: list[str] = []
            for id in ended:
                for wake in self._waiting(id, "tree", "branch"):
                    touched[wake.run, wake.seq] = None
                    if wake.kind == "branch":
                        self._remove_wake(wake)
                    for child in self._children_of(id):
                        self._put_wake(Wake(wake.run, wake.seq, "branch", child))
                        following += [child] if self._is_final(child) else []
            ended = following
        return [wake for run, seq in touched for wake in self._wakes.values() if self._is_whole(wake, run, seq)]

    def _is_whole(self, wake: Wake, run: str, seq: int) -> bool:
        of_tree = (wake.run, wake.seq, wake.kind) == (run, seq, "tree")
        return of_tree and self._is_final(wake.key) and not self._branches(run, seq)

    def _children_of(self, task: str) -> list[str]:
        return [child for run in self._runs_of.get(task, ()) for child in self._children.get(run, ())]

    def _arrive(self, change: Change) -> bool:
        """Places in the order of arrival, and the `receive` that become due; see `_sqlite_arrivals`."""
        for move in change.moves:
            if move.state is TaskState.NEW:
                self._arrived[move.id] = self._next_place()
        for wake in change.looked:
            place = (wake.run, wake.seq, wake.kind, wake.key)
            if place in self._wakes and self._wakes[place].due == wake.due:
                self._put_wake(_replace(wake, due=None))
        found: list[Wake] = []
        for wake in change.wakes:
            if wake.kind == "receive":
                self._shapes.add(shape_of(wake.key))
                after = self._arrived.get(self._runs[wake.run].task, 0)
                if any(place > after and matches(pattern_of(wake.key), self._tasks[id].name)
                       for id, place in self._arrived.items()):  # fmt: skip
                    found.append(wake)
        left = [self._tasks[move.id] for move in change.moves if move.state is not TaskState.NEW]
        keys = {key for task in left for key in self._shapes.keys_of(task.name, task.data)} if self._shapes else ()
        found += [wake for key in keys for wake in self._waiting(key, "receive")]
        for wake in found:
            self._put_wake(_replace(wake, due=self._next_place()))
        return bool(found)

    def _next_place(self) -> int:
        self._place += 1
        return self._place

    def _is_final(self, id: str) -> bool:
        return id in self._tasks and self._tasks[id].state in TASK_FINAL

    # ---- reading

    async def task(self, id: str) -> Task | None:
        return self._tasks.get(id)

    async def run(self, id: str) -> Run | None:
        return self._runs.get(id)

    async def tasks(self, filter: Filter) -> list[Task]:
        wanted = {"state": filter.state, "name": filter.name, "parent": filter.parent, "root": filter.root}
        wanted["reason"] = filter.reason
        source: Iterable[Task] = self._tasks.values()
        if filter.parent is not None:
            source = [self._tasks[id] for id in self._children.get(filter.parent, ())]
        found = [task for task in source if _fits(task, wanted, filter)]
        return sorted(found, key=lambda task: task.id, reverse=True)[: filter.limit]

    async def runs(self, filter: Filter) -> list[Run]:
        wanted = {"state": filter.state, "rule": filter.rule, "task": filter.task, "reason": filter.reason}
        source: Iterable[Run] = self._runs.values()
        if filter.task is not None:
            source = [self._runs[id] for id in self._runs_of.get(filter.task, ())]
        found = [
            run
            for run in source
            if _fits(run, wanted, filter)
            and filter.name in (None, self._tasks[run.task].name)
            and filter.by in (None, self._tasks[run.task].by or "")
        ]
        return sorted(found, key=lambda run: run.id, reverse=True)[: filter.limit]

    async def journal(self, run: str) -> list[bytes]:
        return list(self._journal.get(run, ()))

    async def logs(self, run: str, after: int = 0, limit: int = 1000) -> list[tuple[int, LogLine]]:
        return [entry for entry in self._logs.get(run, ()) if entry[0] > after][:limit]

    async def marks(self) -> list[Mark]:
        return list(self._marks.values())

    async def source(self, digest: str) -> Source | None:
        return self._sources.get(digest)

    async def variables_named(self, root: str, name: str) -> list[Variable]:
        places = dict.fromkeys([(root, name), ("", name)])
        return [self._variables[place] for place in places if place in self._variables]

    async def variables(self, root: str, after: str, limit: int) -> list[Variable]:
        found = [variable for place, variable in sorted(self._variables.items()) if place[0] == root]
        return [variable for variable in found if variable.name > after][:limit]

    async def secret_versions(self, name: str | None) -> list[SecretVersion]:
        found = [secret for secret in self._secrets.values() if name in (None, secret.name)]
        return sorted(found, key=lambda secret: (secret.name, -secret.version))

    async def secret_for(self, use: SecretUse) -> SecretVersion | None:
        return self._secrets.get((use.name, use.version)) if use in self._uses else None

    async def breakpoints(self) -> list[Breakpoint]:
        return [self._breakpoints[name] for name in sorted(self._breakpoints)]

    async def passed(self, thing: str, seq: int) -> set[str]:
        return {one.breakpoint for one in self._passes if (one.thing, one.seq) == (thing, seq)}

    async def tokens(self) -> list[Token]:
        return list(self._tokens.values())

    async def stepping(self) -> list[str]:
        return sorted(self._stepping)

    async def audit(self, thing: str | None, before: int | None, limit: int) -> list[tuple[int, Audit]]:
        found = [
            (position, one)
            for position, one in enumerate(self._audit, 1)
            if thing in (None, one.thing) and (before is None or position < before)
        ]
        return found[::-1][:limit]

    async def requested(self, request: str) -> list[Audit]:
        return [one for one in self._audit if one.request == request]

    async def counts(self) -> dict[str, dict[str, int]]:
        counts: dict[str, dict[str, int]] = {"tasks": {}, "runs": {}}
        things: list[tuple[str, Task | Run]] = [("tasks", task) for task in self._tasks.values()]
        things += [("runs", run) for run in self._runs.values()]
        for kind, thing in things:
            counts[kind][str(thing.state)] = counts[kind].get(str(thing.state), 0) + 1
        return counts

    def _note(self, transitions: list[Written]) -> None:
        self._happened.extend(Transition(*written) for written in transitions)
        self._position += len(transitions)
        self.seen.update(count(transitions))

    async def outstanding(self) -> dict[str, int]:
        return dict(Counter(wake.kind for wake in self._wakes.values()))

    async def happened(self, after: int, limit: int) -> list[Happened]:
        first = self._position - len(self._happened) + 1
        skipped = max(after + 1 - first, 0)
        found: list[Happened] = []
        for position, one in enumerate(islice(self._happened, skipped, skipped + limit), first + skipped):
            run = self._runs.get(one.id)
            found.append(Happened(position, one, self._tasks.get(run.task if run else one.id), run))
        return found

    async def happenings(self) -> tuple[int, int]:
        return self._position - len(self._happened), self._position

    async def matrix(self, since: int = 0) -> list[Cell]:
        found: dict[tuple[str, str], Cell] = {}
        for (day, by, rule), cell in self._cells.items():
            if day >= since // DAY:
                join_cell(found.setdefault((by, rule), Cell(by, rule)), cell)
        return list(found.values())

    async def edges(self) -> list[SeenEdge]:
        return [_replace(edge, delays=dict(edge.delays)) for edge in self._edges.values()]

    # ---- what is outstanding

    async def new_tasks(self, after: str, limit: int) -> list[Task]:
        found = [task for task in self._tasks.values() if task.state is TaskState.NEW and task.id > after]
        return sorted(found, key=lambda task: task.id)[:limit]

    async def unfinished_runs(self, after: str, limit: int) -> list[Run]:
        states = (RunState.QUEUED, RunState.RUNNING)
        found = [run for run in self._runs.values() if run.state in states and run.id > after]
        return sorted(found, key=lambda run: run.id)[:limit]

    async def wakes(self, kinds: tuple[str, ...], after: tuple[str, int], limit: int) -> list[Wake]:
        found = [wake for wake in self._wakes.values() if wake.kind in kinds and (wake.run, wake.seq) > after]
        return sorted(found, key=lambda wake: (wake.run, wake.seq))[:limit]

    async def wakes_of(self, run: str) -> list[Wake]:
        found = [wake for wake in self._wakes.values() if wake.run == run]
        return sorted(found, key=lambda wake: wake.seq)

    async def due(self, now: int, limit: int) -> list[Wake]:
        found: dict[Wake, None] = {}  # one that was put twice is there twice
        for due, place in self._due:
            if due > now or len(found) >= limit:
                break
            if place in self._wakes and self._wakes[place].due == due:
                found[self._wakes[place]] = None
        return list(found)

    async def next_due(self) -> int | None:
        while self._due:
            due, place = self._due[0]
            if place in self._wakes and self._wakes[place].due == due:
                return due
            del self._due[0]
        return None

    async def orphans(self, after: str, limit: int) -> list[Task]:
        found = [
            task
            for task in self._tasks.values()
            if task.reply is not None and task.id > after and task.state not in TASK_FINAL
            if not self._waiting(task.id, "call") and not self._is_answered(task.id)
        ]
        return sorted(found, key=lambda task: task.id)[:limit]

    def _is_answered(self, task: str) -> bool:
        runs = [self._runs[id] for id in self._runs_of.get(task, ())]
        return any(run.answers and run.state in RUN_FINAL for run in runs)

    async def awake(self) -> list[Wake]:
        found: list[Wake] = []
        for wake in self._wakes.values():
            if wake.kind in ("task", "call"):
                if self._is_final(wake.key) or (wake.kind == "call" and self._is_answered(wake.key)):
                    found.append(wake)
            elif self._is_whole(wake, wake.run, wake.seq):
                found.append(wake)
        return found

    async def arrived(self, task: str, keys: Sequence[str], after: int | None, limit: int) -> list[tuple[int, Task]]:
        behind = self._arrived.get(task, 0) if after is None else after
        found = sorted((place, id) for id, place in self._arrived.items() if place > behind)
        patterns = [pattern_of(key) for key in keys]
        fitting = ((place, self._tasks[id]) for place, id in found)
        return [(place, task) for place, task in fitting if any(matches(pattern, task.name) for pattern in patterns)][
            :limit
        ]

    async def unwell(self, task: str, limit: int) -> list[Task]:
        tree = [task]
        for id in tree:
            tree += self._children_of(id)
        found = [self._tasks[id] for id in tree if self._tasks[id].state not in (TaskState.DONE, TaskState.UNMATCHED)]
        return sorted(found, key=lambda task: (task.state in TASK_FINAL, task.id))[:limit]


def _fits(thing: Task | Run, wanted: dict[str, str | None], filter: Filter) -> bool:
    return (
        all(value is None or getattr(thing, name) == value for name, value in wanted.items())
        and (filter.since is None or thing.created >= filter.since)
        and (filter.until is None or thing.created < filter.until)
        and (filter.cursor is None or thing.id < filter.cursor)
    )
