"""The store's variables over HTTP. The value of a secret comes in, and never goes out."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from scriptrules import clock
from scriptrules.store.protocol import Variable
from scriptrules.web.answers import Page, answer
from scriptrules.web.operations import Operation, Site
from scriptrules.web.requests import decode_body, read_body, read_query

PAGE = 1000  # variables of one page


class VariableShape(msgspec.Struct, frozen=True):
    """A variable as it looks from outside: a contract. The value of a secret is null."""

    name: str
    value: msgspec.Raw
    secret: bool
    version: int | None  # of a secret: which of its values
    since: str
    by: str | None  # the run that saved it; null: people did


class VariableIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    value: Any
    secret: bool = False


class VariableQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cursor: str = ""


class RotationShape(msgspec.Struct, frozen=True):
    values: int  # that are sealed with the new key


def operations(site: Site) -> list[Operation]:
    """What concerns variables."""
    these = _Variables(site)
    path = "/api/variables/{name}"
    rotate = "Seal all secrets with a new key."
    return [
        Operation(
            "GET",
            "/api/variables",
            these.many,
            "Variables by name.",
            answer=Page,
            items=VariableShape,
            query=VariableQuery,
        ),
        Operation("GET", path, these.one, "A variable.", answer=VariableShape),
        Operation("PUT", path, these.put, "Set a variable.", answer=VariableShape, body=VariableIn, role="admin"),
        Operation("DELETE", path, these.remove, "Remove a variable.", answer=VariableShape, role="admin"),
        Operation("POST", "/api/variables/rotate-key", these.rotate, rotate, answer=RotationShape, role="admin"),
    ]


class _Variables:
    def __init__(self, site: Site) -> None:
        self._variables = site.supervisor.variables
        self._body_max = site.supervisor.config.server.body_max

    async def many(self, request: Request) -> Response:
        found = await self._variables.all(read_query(request, VariableQuery).cursor, PAGE)
        return answer(Page([shape_of(variable) for variable in found], found[-1].name if len(found) == PAGE else None))

    async def one(self, request: Request) -> Response:
        return answer(shape_of(await self._variables.get(request.path_params["name"])))

    async def put(self, request: Request) -> Response:
        given = decode_body(await read_body(request, self._body_max), VariableIn)
        return answer(shape_of(await self._variables.set(request.path_params["name"], given.value, given.secret)))

    async def remove(self, request: Request) -> Response:
        return answer(shape_of(await self._variables.remove(request.path_params["name"])))

    async def rotate(self, _: Request) -> Response:
        return answer(RotationShape(await self._variables.rotate_key()))


def shape_of(variable: Variable) -> VariableShape:
    return VariableShape(
        variable.name,
        msgspec.Raw(variable.value or b"null"),
        variable.version is not None,
        variable.version,
        clock.text(variable.since),
        variable.by,
    )
