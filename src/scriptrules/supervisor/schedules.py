"""Sends tasks at times: for rules with a `schedule`, and for ``[[schedules]]`` of the configuration.

How far each schedule has come is a mark in the store, set after the task of a time is durable. A supervisor that is
killed in between sends that task again, with the same key, and the store knows it: each time gives one task.

A clock that was ahead and is set right leaves marks in the future: schedules go on from now, and what was sent for a
time already is known by its key.

Tried and rejected: finding out from the last task of a schedule how far it has come. Retention removes tasks.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from zoneinfo import ZoneInfo

import msgspec
import structlog

from scriptrules import clock as clocks
from scriptrules import cron
from scriptrules.clock import SECOND, Clock
from scriptrules.config import Config
from scriptrules.cron import CatchUp
from scriptrules.errors import KeyConflict, ScriptrulesError
from scriptrules.intake import Accepted
from scriptrules.rulebook.control import scheduled_task
from scriptrules.store.protocol import Change, Ingested, Mark, Store
from scriptrules.supervisor.background import patiently, wait_up_to
from scriptrules.supervisor.rules import Rules

log = structlog.get_logger(__name__)

BATCH = 500  # times of one schedule that are made up for in one go
LOOK_INTERVAL = 30.0  # seconds at most between two looks: the wall clock may be set
PATIENCE = 1.0  # seconds before the next attempt where tasks are not taken


class Schedule(msgspec.Struct, frozen=True):
    """When which task is sent."""

    name: str  # begins the keys of its tasks
    task: str
    cron: str
    timezone: str
    catch_up: CatchUp
    data: bytes = b"{}"

    @property
    def spec(self) -> str:
        """One that is changed begins anew, as if it had never been there."""
        return f"{self.cron} {self.timezone}"


class ScheduleShape(msgspec.Struct, frozen=True):
    """A schedule as people see it."""

    name: str
    task: str
    cron: str
    timezone: str
    catch_up: str
    last: str | None  # the last time that a task was sent for
    next: str | None


class Schedules:
    """Keeps time for all schedules, from `start` to `close`.

    Args:
        ingest: stores tasks that have keys, and returns once they are durable.
        submit: commits a change.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        rules: Rules,
        clock: Clock,
        ingest: Callable[[list[Accepted]], Awaitable[list[Ingested]]],
        submit: Callable[[Change], Awaitable[None]],
        counters: Counter[str],
    ) -> None:
        self._counters = counters
        self._config = config
        self._store = store
        self._rules = rules
        self._clock = clock
        self._ingest = ingest
        self._submit = submit
        self._fixed = [
            Schedule(
                f"schedules/{one.title}",
                one.task,
                one.cron,
                one.timezone or config.flow.timezone,
                one.catch_up,
                msgspec.json.encode(one.data),
            )
            for one in config.schedules
        ]
        self._marks: dict[str, Mark] = {}
        self._sent: dict[str, int] = {}
        self._looked = 0
        self._next: dict[Schedule, int | None] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin with what has become due while nobody was there."""
        self._marks = {mark.name: mark for mark in await self._store.marks()}
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def look(self) -> None:
        """Rules have changed, or the clock has jumped."""
        self._changed.set()

    def all(self) -> list[Schedule]:
        """The schedules in force: those of the configuration, and of the rules that are active."""
        return [*self._fixed, *_of_rules(self._rules, self._config.flow.timezone)]

    def shapes(self) -> list[ScheduleShape]:
        """What there is to see, soonest first."""
        shown = [(self._next.get(one), one) for one in self.all()]
        shown.sort(key=lambda pair: (pair[0] is None, pair[0] or 0, pair[1].name))
        return [
            ScheduleShape(
                one.name.partition("/")[2],
                one.task,
                one.cron,
                one.timezone,
                one.catch_up,
                clocks.text(self._sent[one.name]) if one.name in self._sent else None,
                clocks.text(at) if at is not None else None,
            )
            for at, one in shown
        ]

    async def _run(self) -> None:
        while True:
            try:
                self._changed.clear()
                pause = await self._look()
            except ScriptrulesError as error:
                log.warning("schedules.waiting", problem=error.message)
                pause = PATIENCE
            await wait_up_to(pause, self._changed)

    async def _look(self) -> float:
        """Send what is due; returns for how many seconds nothing is."""
        if self._clock() < self._looked:
            log.warning("schedules.clock_set_back", to=clocks.text(self._clock()))
            self._next.clear()
        self._looked = self._clock()
        for schedule in self.all():
            if schedule not in self._next or (self._next[schedule] or 0) <= self._clock():
                await self._fire(schedule)
        known = set(self.all())
        self._next = {one: at for one, at in self._next.items() if one in known}
        soonest = min((at for at in self._next.values() if at is not None), default=None)
        if soonest is None:
            return LOOK_INTERVAL
        return min(max((soonest - self._clock()) / SECOND, 0.0), LOOK_INTERVAL)

    async def _fire(self, schedule: Schedule) -> None:
        """Send a task for each time of a schedule that has come."""
        zone = cron.zone_of(schedule.timezone)
        assert zone is not None  # the configuration was checked
        mark, now = self._marks.get(schedule.name), self._clock()
        if mark is None or mark.spec != schedule.spec or mark.at > now:
            mark = await self._set_mark(schedule, now)
        due = cron.due(schedule.cron, zone, mark.at, now, schedule.catch_up, BATCH)
        if due:
            await self._send(schedule, due)
            await self._set_mark(schedule, due[-1])
        self._next[schedule] = self._next_of(schedule, zone, due, now)

    def _next_of(self, schedule: Schedule, zone: ZoneInfo, due: Sequence[int], now: int) -> int | None:
        after = due[-1] if len(due) == BATCH else now
        return next(cron.times(schedule.cron, zone, after), None)

    async def _send(self, schedule: Schedule, due: list[int]) -> None:
        tasks = [_task_at(schedule, at) for at in due]
        try:
            await patiently(lambda: self._ingest(tasks))
        except KeyConflict:
            for task in tasks:
                try:
                    await patiently(lambda task=task: self._ingest([task]))  # type: ignore[misc]
                except KeyConflict as error:
                    log.error("schedule.refused", schedule=schedule.name, problem=error.message)
        self._counters["schedule_fired"] += len(due)
        self._sent[schedule.name] = due[-1]
        log.info(
            "schedule.fired", schedule=schedule.name, task=schedule.task, times=len(due), last=clocks.text(due[-1])
        )

    async def _set_mark(self, schedule: Schedule, at: int) -> Mark:
        mark = Mark(schedule.name, schedule.spec, at)
        await self._submit(Change(marks=[mark]))
        self._marks[schedule.name] = mark
        return mark


def _of_rules(rules: Rules, timezone: str) -> list[Schedule]:
    return [
        Schedule(f"schedule/{rule}", scheduled_task(rule), facts.schedule.cron, timezone, facts.schedule.catch_up)
        for rule, facts in rules.facts.items()
        if facts.schedule is not None and facts.enabled and rule in rules.active
    ]


def _task_at(schedule: Schedule, at: int) -> Accepted:
    data = msgspec.json.decode(schedule.data) | {"scheduled_at": clocks.text(at)}
    return schedule.task, msgspec.json.encode(data), f"{schedule.name}/{clocks.text(at)}"
