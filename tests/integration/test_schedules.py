"""Tasks at times: rules with a schedule, [[schedules]], and what happens to times at which nobody was there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fakeclock import FakeClock
from scriptrules import clock, config
from scriptrules.errors import ConfigError
from scriptrules.model import Task
from scriptrules.plugins.manager import Plugins
from scriptrules.store.memory import MemoryStore
from scriptrules.store.protocol import Filter
from scriptrules.supervisor.supervisor import Supervisor
from serving import eventually, project

BEGIN = "2026-03-28T10:00:00Z"  # the day before the clocks go ahead in Berlin
RULE = "schedule = {schedule!r}\ndef main(scheduled_at, task):\n    return [scheduled_at, task.name]\n"


class Life:
    """A supervisor whose clock jumps, on a store that outlives it."""

    def __init__(self, folder: Path, settings: str = "", **rules: str) -> None:
        (folder / "scriptrules.toml").write_text(settings)
        (folder / "rules").mkdir(exist_ok=True)
        for name, text in rules.items():
            (folder / "rules" / f"{name}.py").write_text(text)
        self.config = config.load(folder, {"sandbox.workers": 1}, {})
        self.store = MemoryStore()
        self.clock = FakeClock(clock.parse(BEGIN))
        self.folder = folder
        self.supervisor: Supervisor | None = None

    async def begin(self) -> None:
        self.supervisor = Supervisor(self.config, self.store, Plugins(None), self.clock)
        await self.supervisor.start()

    async def end(self) -> None:
        if self.supervisor is not None:
            await self.supervisor.close()
            self.supervisor = None

    async def jump(self, until: str) -> None:
        """Time passes, second by second as far as anybody can tell: no time is late."""
        assert self.supervisor is not None
        end = clock.parse(until)
        while self.clock.at < end:
            await self.settle()
            soonest = min((at for at in self.supervisor.schedules._next.values() if at), default=end)
            self.clock.at = min(max(soonest, self.clock.at + 1), end)
            self.supervisor.schedules.look()
        await self.settle()

    async def settle(self) -> None:
        """Wait until every schedule has been looked at, and what was sent has ended."""
        assert self.supervisor is not None
        schedules = self.supervisor.schedules

        def quiet() -> bool:
            return set(schedules.all()) == set(schedules._next) and all(
                at is None or at > self.clock.at for at in schedules._next.values()
            )

        for _ in range(2000):
            if quiet() and not await self.store.tasks(Filter(state="new")):
                return
            await asyncio.sleep(0.005)
        raise AssertionError(f"schedules did not settle: {schedules._next}")

    async def sent(self) -> list[Task]:
        return sorted(await self.store.tasks(Filter(limit=10_000)), key=lambda task: task.id)

    async def times(self) -> list[str]:
        return [str(msgspec.json.decode(task.data)["scheduled_at"])[5:16] for task in await self.sent()]


def live(life: Life, story: Callable[[Life], Awaitable[None]]) -> None:
    async def whole() -> None:
        await life.begin()
        try:
            await story(life)
        finally:
            await life.end()

    asyncio.run(whole())


def test_a_rule_runs_on_its_schedule_in_the_configured_zone_through_a_change_of_clocks(tmp_path: Path) -> None:
    async def story(life: Life) -> None:
        await life.settle()
        await life.jump("2026-03-31T00:45:00Z")
        assert await life.times() == ["03-29T01:00", "03-30T00:30", "03-31T00:30"]
        tasks = await life.sent()
        assert {task.name for task in tasks} == {"schedule.nightly"}
        assert tasks[0].key == "schedule/nightly/2026-03-29T01:00:00.000000Z"
        runs = await life.store.runs(Filter(task=tasks[0].id))
        assert [run.value for run in runs] == [b'["2026-03-29T01:00:00.000000Z","schedule.nightly"]']

    live(Life(tmp_path, '[flow]\ntimezone = "Europe/Berlin"\n', nightly=RULE.format(schedule="30 2 * * *")), story)


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        ("all", ["03-28T10:30", "03-28T11:00", "03-28T11:30", "03-28T12:00", "03-28T12:30"]),
        ("last", ["03-28T10:30", "03-28T12:00", "03-28T12:30"]),
        ("none", ["03-28T10:30", "03-28T12:30"]),
    ],
)
def test_times_at_which_nobody_was_there_are_made_up_for_once(
    tmp_path: Path, catch_up: str, expected: list[str]
) -> None:
    async def story(life: Life) -> None:
        await life.settle()
        await life.jump("2026-03-28T10:40:00Z")
        await life.end()
        life.clock.at = clock.parse("2026-03-28T12:10:00Z")
        for _ in range(2):  # a second restart makes up for nothing again
            await life.begin()
            await life.settle()
            await life.end()
        await life.begin()
        await life.jump("2026-03-28T12:30:00Z")
        assert await life.times() == expected

    live(Life(tmp_path, often=RULE.format(schedule={"cron": "*/30 * * * *", "catch_up": catch_up})), story)


def test_a_task_whose_mark_was_not_kept_is_not_sent_twice(tmp_path: Path) -> None:
    async def story(life: Life) -> None:
        await life.settle()
        marks = dict(life.store._marks)
        await life.jump("2026-03-28T10:30:00Z")
        await life.end()
        life.store._marks = marks  # killed between the task and its mark
        await life.begin()
        await life.settle()
        assert await life.times() == ["03-28T10:30"]

    live(Life(tmp_path, often=RULE.format(schedule="*/30 * * * *")), story)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_clock_that_was_years_ahead_leaves_no_schedule_silent_once_it_is_right(
    tmp_path: Path, restarted: bool
) -> None:
    async def story(life: Life) -> None:
        await life.settle()
        await life.jump("2026-03-28T10:30:00Z")
        life.clock.at = clock.parse("2031-01-01T00:00:00Z")
        assert life.supervisor is not None
        life.supervisor.schedules.look()
        await life.settle()
        if restarted:
            await life.end()
        life.clock.at = clock.parse("2026-03-28T10:10:00Z")
        if restarted:
            await life.begin()
        schedules = life.supervisor.schedules
        schedules.look()
        soon = clock.parse("2026-03-28T10:30:00Z")
        for _ in range(2000):
            if soon in schedules._next.values():
                break
            await asyncio.sleep(0.005)
        await life.jump("2026-03-28T11:00:00Z")
        assert sorted(await life.times()) == ["01-01T00:00", "03-28T10:30", "03-28T11:00"], "10:30 was sent before"

    live(Life(tmp_path, often=RULE.format(schedule="*/30 * * * *")), story)


def test_schedules_of_the_configuration_send_their_data_in_their_zone(tmp_path: Path) -> None:
    settings = """
[[schedules]]
task = "report.start"
cron = "0 12 * * *"
data = {kind = "daily", n = 3}
timezone = "America/New_York"

[[schedules]]
name = "hourly"
task = "report.start"
cron = "0 * * * *"
"""

    async def story(life: Life) -> None:
        await life.settle()
        await life.jump("2026-03-28T16:00:00Z")
        found = {task.key: msgspec.json.decode(task.data) for task in await life.sent()}
        assert len(found) == 7
        at = "2026-03-28T16:00:00.000000Z"
        assert found[f"schedules/report.start/{at}"] == {"kind": "daily", "n": 3, "scheduled_at": at}
        assert found[f"schedules/hourly/{at}"] == {"scheduled_at": at}

    live(Life(tmp_path, settings), story)


def test_an_edited_schedule_begins_anew_and_a_removed_one_ends(tmp_path: Path) -> None:
    async def story(life: Life) -> None:
        assert life.supervisor is not None
        await life.settle()
        await life.jump("2026-03-28T10:30:00Z")
        (tmp_path / "rules" / "often.py").write_text(RULE.format(schedule="15 * * * *"))
        await life.supervisor.rules.reload()
        await life.jump("2026-03-28T11:20:00Z")
        assert await life.times() == ["03-28T10:30", "03-28T11:15"]
        (tmp_path / "rules" / "often.py").unlink()
        await life.supervisor.rules.reload()
        await life.jump("2026-03-28T15:00:00Z")
        assert len(await life.times()) == 2
        assert life.supervisor.schedules.shapes() == []

    live(Life(tmp_path, often=RULE.format(schedule="*/30 * * * *")), story)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ('[flow]\ntimezone = "Europe/Berlim"', "is no time zone"),
        ('[[schedules]]\ntask = "a"\ncron = "0 0 30 2 *"', "never fires: there is no such day"),
        ('[[schedules]]\ntask = "a"\ncron = "hello"', "is no cron expression"),
        ('[[schedules]]\ntask = "a b"\ncron = "0 0 * * *"', "is not the name of a task"),
        ('[[schedules]]\ntask = "a"\ncron = "0 0 * * *"\ntimezone = "Mars"', "is no time zone"),
        ('[[schedules]]\ntask = "a"\ncron = "0 0 * * *"\ncatch_up = "some"', "catch_up"),
        ('[[schedules]]\ntask = "a"\ncron = "0 0 * * *"\ntime_zone = "UTC"', "did you mean 'timezone'"),
        ('[[schedules]]\ncron = "0 0 * * *"', "task"),
        ('[schedules]\ntask = "a"', "schedules"),
        ('[[schedules]]\ntask = "a"\ncron = "0 0 * * *"\n' * 2, "there are two of this name"),
    ],
)
def test_a_schedule_that_cannot_be_is_an_error_when_the_configuration_is_read(
    tmp_path: Path, settings: str, says: str
) -> None:
    (tmp_path / "scriptrules.toml").write_text(settings)
    with pytest.raises(ConfigError, match=says):
        config.load(tmp_path, None, {})


def test_a_schedule_of_each_second_survives_kills_with_each_time_once() -> None:
    with project() as server:
        server.config("")
        text = 'schedule = {"cron": "* * * * * *", "catch_up": "all"}\ndef main(scheduled_at): pass\n'
        server.rule("tick", text)
        server.start()

        def ticks() -> list[dict[str, Any]]:
            return sorted(server.all("tasks", name="schedule.tick"), key=lambda task: str(task["key"]))

        for count in (2, 4, 6):
            eventually(lambda count=count: len(ticks()) >= count, "it ticks")
            server.kill()
            server.start()
        eventually(lambda: len(ticks()) >= 8, "it ticks")
        seconds = [clock.parse(task["data"]["scheduled_at"]) // clock.SECOND for task in ticks()]
        assert seconds == list(range(seconds[0], seconds[0] + len(seconds)))
