"""What the API can do, as data: one declaration of an operation serves requests and is its documentation.

A module of the API (`tasks`, `runs`, `verbs`, …) is a function from the `Site` to its operations. Handlers get the
request and give the answer; who may ask, what a query may hold and what comes back stands in the declaration.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scriptrules.supervisor.supervisor import Supervisor
from scriptrules.tokens import Role
from scriptrules.web.access import demand

Handler = Callable[[Request], Awaitable[Response]]


class Site(msgspec.Struct, frozen=True):
    """What operations work on."""

    supervisor: Supervisor
    requests: Counter[tuple[str, ...]] = msgspec.field(default_factory=Counter)  # by method and status


class Operation(msgspec.Struct, frozen=True):
    """One method of one path."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str  # "/api/tasks/{id}"
    handler: Handler
    summary: str
    answer: Any = None  # the type of the JSON that a success answers; None: no JSON
    items: Any = None  # what the items of a `Page` are
    status: int = 200
    query: type[msgspec.Struct] | None = None  # what stands behind the ?; fields by name, text or numbers
    body: Any = None  # the type of the JSON body
    takes: tuple[str, ...] = ("application/json",)  # kinds of bodies
    media: str = "application/json"  # of the answer
    or_media: str | None = None  # of the answer, where it is asked for as text a line at a time
    role: Role = "viewer"  # who may ask


def routes_of(operations: Iterable[Operation]) -> list[Route]:
    """The routes that serve operations: one for each path, so that it knows all of its methods."""
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    literal_first = sorted(by_path.items(), key=lambda item: "{" in item[0])
    return [_route_of(path, methods) for path, methods in literal_first]


def _route_of(path: str, methods: dict[str, Operation]) -> Route:
    async def serve(request: Request) -> Response:
        operation = methods["GET" if request.method == "HEAD" else request.method]
        demand(request, operation.role)
        return await operation.handler(request)

    return Route(path, serve, methods=list(methods))
