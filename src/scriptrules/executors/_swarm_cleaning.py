"""What becomes of services whose results are committed: kept for a while, then removed.

The keys are notes in the executor's folder, because a service cannot be marked without being run again.
"""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

from scriptrules import clock
from scriptrules.errors import HostUnavailable
from scriptrules.executors._docker_engine import EngineError
from scriptrules.executors._swarm_services import Services
from scriptrules.plugins.executor import ExecutorContext


class Cleaning:
    """Removes released services when they have been kept for long enough.

    Args:
        keep_for: seconds from the release to the removal.
    """

    def __init__(self, services: Services, keep_for: float, context: ExecutorContext) -> None:
        self._services = services
        self._keep_for = keep_for
        self._now = context.clock
        self._notes = context.state_dir / "release"
        self._due = {note.name: int(note.read_text() or 0) for note in self._found()}

    @property
    def pending(self) -> Set[str]:
        """The keys of what is still to be removed."""
        return self._due.keys()

    async def release(self, key: str) -> None:
        """Remove the service of `key` now or later; where the swarm is away, when it is back."""
        due = self._now() + int(self._keep_for * clock.SECOND)
        if self._keep_for or not await self._removed(key):
            self._due[key] = due
            self._notes.mkdir(parents=True, exist_ok=True)
            (self._notes / key).write_text(str(due))

    async def redo(self) -> None:
        """Remove what is due."""
        for key, due in list(self._due.items()):
            if due <= self._now() and await self._removed(key):
                del self._due[key]
                (self._notes / key).unlink(missing_ok=True)

    async def _removed(self, key: str) -> bool:
        try:
            await self._services.remove(key)
        except (HostUnavailable, EngineError):
            return False
        return True

    def _found(self) -> list[Path]:
        return sorted(self._notes.iterdir()) if self._notes.is_dir() else []
