"""Hosts over HTTP: how each is, and letting their executions end."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from scriptrules.supervisor.executions import DrainShape
from scriptrules.supervisor.hosts import HostShape
from scriptrules.web.answers import Page, answer
from scriptrules.web.operations import Operation, Site
from scriptrules.web.requests import decode_body, read_body


class DrainIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    on: bool = True  # false: take tasks and start executions again


def operations(site: Site) -> list[Operation]:
    """What concerns hosts."""
    hosts = _Hosts(site)
    begin = "Refuse tasks and start no executions, or end that; running ones are waited for by looking again."
    return [
        Operation(
            "GET",
            "/api/hosts",
            hosts.many,
            "Hosts: reachable, version, running, free slots.",
            answer=Page,
            items=HostShape,
        ),
        Operation("GET", "/api/drain", hosts.drained, "How far draining is.", answer=DrainShape),
        Operation("POST", "/api/drain", hosts.drain, begin, answer=DrainShape, body=DrainIn, role="admin"),
    ]


class _Hosts:
    def __init__(self, site: Site) -> None:
        self._supervisor = site.supervisor
        self._body_max = site.supervisor.config.server.body_max

    async def many(self, _: Request) -> Response:
        return answer(Page(await self._supervisor.look_at_hosts()))

    async def drained(self, _: Request) -> Response:
        return answer(self._supervisor.drained())

    async def drain(self, request: Request) -> Response:
        self._supervisor.drain(decode_body(await read_body(request, self._body_max), DrainIn).on)
        return answer(self._supervisor.drained())
