"""Times of schedules: cron expressions as Debian's cron reads them, also where the clocks change.

`cronsim` does the work. Where the clock skips an hour, a time in it happens once it is over; where an hour comes twice,
a fixed time in it happens once, and one of every so many minutes goes on.

Tried and rejected: computing the next time from the last one only. In the hours around a change of clocks two fixed
times may fall on one moment, or on one that is past, so moments that do not grow are left out here.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, takewhile
from typing import Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from scriptrules.clock import SECOND, micros, moment

CatchUp = Literal["last", "all", "none"]
GRACE = 60  # seconds that a time may be late by and still count as on time
LENGTH_MAX = 200  # characters of an expression
_SOME_DAY = moment(0)


def problem_of(cron: str) -> str | None:
    """What is wrong with an expression: it is none, or its time never comes."""
    if len(cron) > LENGTH_MAX:
        return f"is longer than {LENGTH_MAX} characters"
    try:
        return None if next(CronSim(cron, _SOME_DAY), None) is not None else "never fires: there is no such day"
    except CronSimError as error:
        reason = str(error)
    fields = cron.split()
    if len(fields) in (5, 6):
        fields[-2] = "*"
        try:
            CronSim(" ".join(fields), _SOME_DAY)
        except CronSimError:
            pass
        else:
            return "never fires: there is no such day"
    return f"is no cron expression: {reason[:1].lower()}{reason[1:]}"


def zone_of(name: str) -> ZoneInfo | None:
    """The time zone of this name, such as Europe/Berlin; None where there is none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not found; not a name; a folder of them
        return None


def times(cron: str, zone: ZoneInfo, after: int) -> Iterator[int]:
    """The moments of a schedule after `after` (both microseconds since 1970), without end.

    Args:
        cron: one that `problem_of` finds nothing wrong with.
    """
    last = after
    for at in CronSim(cron, moment(after).astimezone(zone)):
        found = micros(at)
        if found > last:
            last = found
            yield found


def due(cron: str, zone: ZoneInfo, after: int, now: int, catch_up: CatchUp, most: int) -> list[int]:
    """The times of a schedule that have come since `after` and that something is to happen for, oldest first.

    Times that are late, because no server was there, count as `catch_up` says: all of them, the last one where none
    is on time, or none.

    Args:
        most: how many there may be; the rest is asked for after the last of them.
    """
    late = now - GRACE * SECOND
    if catch_up == "all" or after >= late:
        return list(islice(takewhile(lambda at: at <= now, times(cron, zone, after)), most))
    found = list(islice(takewhile(lambda at: at <= now, times(cron, zone, late)), most))
    if not found and catch_up == "last":
        last = _last(cron, zone, after, late)
        found = [] if last is None else [last]
    return found


def _last(cron: str, zone: ZoneInfo, after: int, until: int) -> int | None:
    """The last time of a schedule in a span, which may be long, and its times many."""
    for days in (1 / 24, 1, 32, 400, 40_000):
        begin = max(after, until - int(days * 86_400) * SECOND)
        last = max(takewhile(lambda at: at <= until, times(cron, zone, begin)), default=None)
        if last is not None or begin == after:
            return last
    return None
