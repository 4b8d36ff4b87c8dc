"""Times of schedules, through both changes of the clocks."""

from __future__ import annotations

from itertools import islice

import pytest

from scriptrules import clock
from scriptrules.rulebook.cron import problem_of, times, zone_of

BERLIN = zone_of("Europe/Berlin")
SPRING, AUTUMN = "2026-03-28T12:00:00Z", "2026-10-24T12:00:00Z"  # the days before clocks go ahead and back


def first(cron: str, after: str, count: int, zone: str = "Europe/Berlin") -> list[str]:
    found = zone_of(zone)
    assert found is not None
    return [clock.text(at)[5:16] for at in islice(times(cron, found, clock.parse(after)), count)]


@pytest.mark.parametrize(
    ("cron", "problem"),
    [
        ("0 2 * * *", None),
        ("*/5 * * * * *", None),
        ("0 0 29 2 *", None),
        ("0 0 L * *", None),
        ("0 0 30 2 *", "never fires: there is no such day"),
        ("0 0 31 4,6,9,11 *", "never fires: there is no such day"),
        ("0 0 30 2 1", None),  # the thirtieth, or a Monday
        ("", "is no cron expression"),
        ("hello", "is no cron expression"),
        ("60 0 * * *", "is no cron expression"),
        ("@daily", "is no cron expression"),
        ("0 " * 200, "is longer than"),
    ],
)
def test_what_is_wrong_with_an_expression_is_said_before_anything_waits_for_it(cron: str, problem: str | None) -> None:
    found = problem_of(cron)
    assert found == problem or (problem is not None and found is not None and found.startswith(problem))


def test_a_time_that_the_clocks_skip_happens_when_the_hour_is_over() -> None:
    assert first("30 2 * * *", SPRING, 3) == ["03-29T01:00", "03-30T00:30", "03-31T00:30"]
    assert first("0 2,3 * * *", SPRING, 3) == ["03-29T01:00", "03-30T00:00", "03-30T01:00"]  # both are 3:00: once


def test_a_time_that_comes_twice_happens_once_and_an_interval_goes_on() -> None:
    assert first("30 2 * * *", AUTUMN, 2) == ["10-25T00:30", "10-26T01:30"]
    assert first("*/30 * * * *", "2026-10-24T23:40:00Z", 6) == [
        f"10-25T{time}" for time in ("00:00", "00:30", "01:00", "01:30", "02:00", "02:30")
    ]


@pytest.mark.parametrize("after", ["2026-10-25T00:15:00Z", "2026-10-25T01:15:00Z", "2026-10-25T01:40:00Z"])
def test_times_are_always_in_the_future_also_when_asked_within_the_hour_that_comes_twice(after: str) -> None:
    found = [clock.parse(f"2026-{one}:00Z") for one in first("30 2 * * *", after, 3)]
    assert all(one > clock.parse(after) for one in found)
    assert found == sorted(set(found))


def test_asking_again_from_any_time_gives_the_same_times() -> None:
    zone = zone_of("Europe/Berlin")
    assert zone is not None
    for cron in ("30 2 * * *", "15 */2 * * *", "0 0,2,3 * * *"):
        for begin in (SPRING, AUTUMN):
            together = list(islice(times(cron, zone, clock.parse(begin)), 8))
            one_by_one = [clock.parse(begin)]
            for _ in together:
                one_by_one.append(next(times(cron, zone, one_by_one[-1])))
            assert one_by_one[1:] == together


def test_a_zone_that_does_not_exist_is_none() -> None:
    assert BERLIN is not None
    assert [zone_of(name) for name in ("Europe/Berlim", "", "../etc", "Europe", "/etc/passwd")] == [None] * 5
