"""Time that stands still until a test lets it go on."""

from __future__ import annotations

from scriptrules.clock import SECOND


class FakeClock:
    """A clock that stands still until it is told to jump."""

    def __init__(self, start: int = 1_700_000_000 * SECOND) -> None:
        self.at = start

    def __call__(self) -> int:
        return self.at

    def jump(self, seconds: float) -> None:
        """Move `seconds` ahead (or back)."""
        self.at += int(seconds * SECOND)
