"""What brings tasks in by itself, over HTTP: schedules and sources."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from scriptrules.supervisor.schedules import ScheduleShape
from scriptrules.supervisor.sources import SourceShape
from scriptrules.web.answers import Page, answer
from scriptrules.web.operations import Operation, Site


def operations(site: Site) -> list[Operation]:
    """What is to be seen of it."""
    incoming = _Incoming(site)
    return [
        Operation(
            "GET", "/api/schedules", incoming.schedules, "Schedules, soonest first.", answer=Page, items=ScheduleShape
        ),
        Operation(
            "GET",
            "/api/sources",
            incoming.sources,
            "Sources of tasks, and how they are.",
            answer=Page,
            items=SourceShape,
        ),
    ]


class _Incoming:
    def __init__(self, site: Site) -> None:
        self._supervisor = site.supervisor

    async def schedules(self, _: Request) -> Response:
        return answer(Page(self._supervisor.schedules.shapes()))

    async def sources(self, _: Request) -> Response:
        return answer(Page(self._supervisor.sources.shapes()))
