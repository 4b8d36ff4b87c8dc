"""Breakpoints over HTTP: set, listed, tried out, removed."""

from __future__ import annotations

from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from scriptrules import clock
from scriptrules.supervisor.preview import Preview, preview
from scriptrules.supervisor.verbs import Ask
from scriptrules.web.answers import Page, answer
from scriptrules.web.operations import Operation, Site
from scriptrules.web.requests import ANONYMOUS, decode_body, read_body, who_of

Pattern = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}$")]


class PreviewIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    on: Annotated[list[Pattern], msgspec.Meta(min_length=1, max_length=100)]
    at: Annotated[str, msgspec.Meta(pattern=r"^(task|(before|after):[A-Za-z]\w*)$")] = "task"
    when: Annotated[str, msgspec.Meta(max_length=10_000)] | None = None  # an expression of `task`, or of `entry`


class BreakpointIn(PreviewIn, frozen=True, forbid_unknown_fields=True):
    name: Name | None = None  # given one where it is missing
    who: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] = ANONYMOUS


class BreakpointShape(msgspec.Struct, frozen=True):
    name: str
    on: list[str]
    at: str
    when: str | None
    created: str | None
    by: str  # who set it, or its file
    file: bool
    problems: list[str]


def operations(site: Site) -> list[Operation]:
    """What can be done with breakpoints."""
    breakpoints = _Breakpoints(site)
    path = "/api/breakpoints"
    return [
        Operation(
            "GET", path, breakpoints.many, "Breakpoints in force, and broken files.", answer=Page, items=BreakpointShape
        ),
        Operation(
            "POST",
            path,
            breakpoints.put,
            "Set a breakpoint: it catches what is committed from now on.",
            answer=BreakpointShape,
            status=201,
            body=BreakpointIn,
            role="operator",
        ),
        Operation(
            "POST",
            f"{path}/preview",
            breakpoints.preview,
            "What it would have caught among the newest thousand tasks.",
            answer=Preview,
            body=PreviewIn,
            role="operator",
        ),
        Operation(
            "DELETE",
            f"{path}/{{name}}",
            breakpoints.remove,
            "Remove it; what it holds stays held.",
            answer=Page,
            items=BreakpointShape,
            role="operator",
        ),
    ]


class _Breakpoints:
    def __init__(self, site: Site) -> None:
        self._supervisor = site.supervisor
        self._breakpoints = site.supervisor.breakpoints
        self._body_max = site.supervisor.config.server.body_max

    async def many(self, _: Request) -> Response:
        return answer(Page(self._shapes()))

    async def put(self, request: Request) -> Response:
        given = decode_body(await read_body(request, self._body_max), BreakpointIn)
        name = given.name or self._supervisor.new_id("b")
        ask = Ask("break", who_of(request, given.who))
        await self._supervisor.verbs.set_breakpoint(name, given.on, given.at, given.when, ask)
        return answer(next(shape for shape in self._shapes() if shape.name == name), 201)

    async def preview(self, request: Request) -> Response:
        given = decode_body(await read_body(request, self._body_max), PreviewIn)
        name = self._supervisor.new_id("b")
        breakpoint = await self._breakpoints.make(name, given.on, given.at, given.when, "")
        return answer(await preview(self._breakpoints, self._supervisor.store, breakpoint))

    async def remove(self, request: Request) -> Response:
        who = request.query_params.get("who", ANONYMOUS)
        await self._supervisor.verbs.remove_breakpoint(
            request.path_params["name"], Ask("unbreak", who_of(request, who))
        )
        return answer(Page(self._shapes()))

    def _shapes(self) -> list[BreakpointShape]:
        return [
            BreakpointShape(
                info.name,
                info.on,
                info.at,
                info.when,
                clock.text(info.created) if info.created else None,
                info.by,
                info.file,
                info.problems,
            )
            for info in self._breakpoints.infos()
        ]
