"""The HTTP application: every operation of the API behind one gate.

Beyond loopback the server does not listen in this version, because it has no tokens yet; Host and Origin are checked,
so that no web page can reach it.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scriptrules import errors
from scriptrules.supervisor.supervisor import Supervisor
from scriptrules.web import (
    breakpoints,
    events,
    explaining,
    hooks,
    hosts,
    incoming,
    interventions,
    metrics,
    overview,
    runs,
    tasks,
    variables,
)
from scriptrules.web.answers import Problem, on_bug, on_http_error, on_scriptrules_error, refuse
from scriptrules.web.operations import Operation, Site, route_of

GROUPS: list[Callable[[Site], list[Operation]]] = [
    tasks.operations,
    runs.operations,
    interventions.operations,
    breakpoints.operations,
    explaining.operations,
    hosts.operations,
    hooks.operations,
    incoming.operations,
    variables.operations,
    overview.operations,
    events.operations,
    metrics.operations,
]


def make_app(supervisor: Supervisor) -> ASGIApp:
    """The application that serves one supervisor."""
    site = Site(supervisor)
    app = Starlette(
        routes=[route_of(operation) for group in GROUPS for operation in group(site)],
        exception_handlers={
            errors.ScriptrulesError: on_scriptrules_error,
            HTTPException: on_http_error,
            Exception: on_bug,
        },
    )
    return _Gate(app, site)


class _Gate:
    """Lets only those requests through that were meant for this server: no page of another site, no rebound name."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app = app
        self._requests = site.requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._requests[scope["method"], str(message["status"])] += 1
            await send(message)

        if not scope["path"].startswith(hooks.PREFIX):  # no page of another site can sign
            problem = _refused(dict(scope["headers"]))
            if problem is not None:
                await refuse(Problem("Forbidden", 403, problem, "SR822"))(scope, receive, count)
                return
        await self._app(scope, receive, count)


def _refused(headers: dict[bytes, bytes]) -> str | None:
    host = headers.get(b"host", b"").decode("latin-1")
    name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    if not _is_loopback(name.strip("[]")):
        return f"The Host header names {name!r}. Use the address that the server listens on."
    origin = headers.get(b"origin")
    if origin is not None and origin.decode("latin-1").partition("://")[2] != host:
        return "Requests from pages of other sites are refused."
    return None


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name).is_loopback
    return False
