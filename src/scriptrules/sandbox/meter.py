"""CPU time of the slice or filter under way, counted in ticks of a timer: no system call, so no hole in the wall.

A tick that comes while no rule code is executed is nobody's fault.
"""

from __future__ import annotations

import signal
from types import FrameType

from scriptrules.sandbox import signals

TICK = 0.02  # CPU seconds between two looks at the budget


class Meter:
    ticks = 0
    allowed = 50
    running = False


def install() -> None:
    """Start the timer; not possible any more once the process wall is up."""
    signal.signal(signal.SIGPROF, _on_tick)
    signal.setitimer(signal.ITIMER_PROF, TICK, TICK)


def allow(cpu_seconds: float) -> None:
    """Set the budget of a slice."""
    Meter.allowed = max(1, round(cpu_seconds / TICK))


def lap() -> None:
    """A new slice begins, though the script goes on: a replay has come to the end of one."""
    Meter.ticks = 0


def _on_tick(_: int, __: FrameType | None) -> None:
    Meter.ticks += 1
    if Meter.running and Meter.ticks > Meter.allowed:
        raise signals.LimitExceeded("cpu", f"more than {Meter.allowed * TICK:g} s of CPU time")
