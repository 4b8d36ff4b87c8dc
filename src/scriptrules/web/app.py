"""The HTTP application: every operation of the API behind one gate.

The gate (`gate`) finds out who asks, and keeps out what was not meant for this server; each operation says who may.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

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
    pages,
    runs,
    tasks,
    tokens,
    variables,
)
from scriptrules.web.answers import on_bug, on_http_error, on_scriptrules_error
from scriptrules.web.gate import Gate
from scriptrules.web.openapi import describe
from scriptrules.web.operations import Operation, Site, routes_of

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
    tokens.operations,
]


def all_operations(site: Site) -> list[Operation]:
    """What the API can do, but for describing itself."""
    return [operation for group in GROUPS for operation in group(site)]


def make_app(supervisor: Supervisor) -> ASGIApp:
    """The application that serves one supervisor."""
    site = Site(supervisor)
    operations = all_operations(site)
    app = Starlette(
        routes=[*routes_of([*operations, describe(operations)]), *pages.routes()],
        exception_handlers={
            errors.ScriptrulesError: on_scriptrules_error,
            HTTPException: on_http_error,
            Exception: on_bug,
        },
    )
    return Gate(app, site)
