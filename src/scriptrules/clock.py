"""Time enters the engine here and nowhere else.

A moment is an ``int``: microseconds since 1970-01-01 UTC. Integers sort, add and store without surprises, and become
RFC 3339 text (`text`) or aware datetimes (`moment`) only where people or rules look at them.
"""

from __future__ import annotations

import time as _time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

SECOND = 1_000_000  # microseconds
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Clock = Callable[[], int]


def now() -> int:
    """The current time in microseconds since 1970 UTC."""
    return _time.time_ns() // 1000


def monotonic() -> float:
    """Seconds on a clock that never jumps; only differences mean something."""
    return _time.monotonic()


def moment(micros: int) -> datetime:
    """`micros` as an aware UTC datetime."""
    return _EPOCH + timedelta(microseconds=micros)


def micros(moment: datetime) -> int:
    """Microseconds since 1970 of an aware datetime."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def text(micros: int) -> str:
    """`micros` as RFC 3339 UTC text with microseconds, which sorts as the moments do."""
    return (_EPOCH + timedelta(microseconds=micros)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse(stamp: str) -> int:
    """Microseconds since 1970 of an RFC 3339 text; ValueError where it is none."""
    at = datetime.fromisoformat(stamp)
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return micros(at)


def cpu_seconds_of(pid: int) -> float | None:
    """CPU seconds that process `pid` has used so far; None where it is gone or the platform cannot tell.

    Linux numbers a process's CPU clock as ``(~pid << 3) | 2`` (the kernel's ``MAKE_PROCESS_CPUCLOCK``).
    """
    try:
        return _time.clock_gettime((~pid << 3) | 2)
    except (OSError, OverflowError):
        return None
