"""Times of schedules, through both changes of the clocks."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scriptrules import clock
from scriptrules.cron import CatchUp, due, problem_of, times, zone_of

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


def made_up_for(catch_up: CatchUp, after: str, now: str, cron: str = "*/10 * * * *", most: int = 500) -> list[str]:
    zone = zone_of("UTC")
    assert zone is not None
    found = due(cron, zone, clock.parse(f"2026-05-01T{after}Z"), clock.parse(f"2026-05-01T{now}Z"), catch_up, most)
    return [clock.text(at)[11:16] for at in found]


def test_times_that_are_on_time_all_count() -> None:
    policies: tuple[CatchUp, ...] = ("last", "all", "none")
    for catch_up in policies:
        assert made_up_for(catch_up, "10:00:00", "10:09:59") == []
        assert made_up_for(catch_up, "10:00:00", "10:10:01") == ["10:10"]
        assert made_up_for(catch_up, "10:00:57", "10:01:03", "*/2 * * * * *") == ["10:00", "10:01", "10:01"]
        assert made_up_for(catch_up, "10:00:00", "10:10:59") == ["10:10"]  # a restart takes less than a minute


def test_late_times_are_made_up_for_as_the_policy_says() -> None:
    assert made_up_for("all", "10:00:00", "10:45:00") == ["10:10", "10:20", "10:30", "10:40"]
    assert made_up_for("all", "10:00:00", "10:45:00", most=3) == ["10:10", "10:20", "10:30"]
    assert made_up_for("last", "10:00:00", "10:45:00") == ["10:40"]
    assert made_up_for("none", "10:00:00", "10:45:00") == []
    assert made_up_for("last", "10:00:00", "10:40:30") == ["10:40"]  # one is on time: the late ones are over
    assert made_up_for("none", "10:00:00", "10:40:30") == ["10:40"]
    assert made_up_for("last", "10:41:00", "10:45:00") == []


def test_the_last_of_very_many_times_is_found_without_looking_at_all_of_them() -> None:
    zone = zone_of("UTC")
    assert zone is not None
    ten_years = clock.parse("2016-01-01T00:00:00Z")
    now = clock.parse("2026-05-01T12:00:30.5Z")
    assert due("* * * * * *", zone, ten_years, now, "last", 500)[-1] == clock.parse("2026-05-01T12:00:30Z")
    assert due("0 0 29 2 *", zone, ten_years, now, "last", 500) == [clock.parse("2024-02-29T00:00:00Z")]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["*/7 * * * *", "30 2 * * *", "0 2,3 * * 0", "15 */2 * * *"]),
    st.lists(st.integers(1, 3 * 86_400), min_size=1, max_size=12),
)
def test_with_all_each_time_comes_exactly_once_whenever_one_looks(cron: str, pauses: list[int]) -> None:
    assert BERLIN is not None
    begin = now = mark = clock.parse("2026-10-23T22:13:07Z")
    found = []
    for pause in pauses:
        now += pause * clock.SECOND
        while some := due(cron, BERLIN, mark, now, "all", 5):
            found += some
            mark = some[-1]
    expected = []
    for at in times(cron, BERLIN, begin):
        if at > now:
            break
        expected.append(at)
    assert found == expected
