"""How the API answers: JSON of typed shapes, and ``application/problem+json`` with a code and what to do next."""

from __future__ import annotations

from typing import Any

import msgspec
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from scriptrules import errors, intake

log = structlog.get_logger(__name__)

JSON = "application/json"
NDJSON = "application/x-ndjson"

_STATUS: list[tuple[type[errors.ScriptrulesError], int]] = [
    (errors.TooLarge, 413),
    (errors.BadTask, 400),
    (errors.KeyConflict, 409),
    (errors.BadSignature, 401),
    (errors.Unauthorized, 401),
    (errors.Forbidden, 403),
    (errors.Misdirected, 403),
    (errors.TooSlow, 408),
    (errors.TooMany, 429),
    (errors.NotFound, 404),
    (errors.NotPossible, 409),
    (errors.StoreUnavailable, 503),
    (errors.SecretsUnavailable, 503),
]


class Problem(msgspec.Struct, omit_defaults=True):
    """RFC 9457."""

    title: str
    status: int
    detail: str
    code: str = ""
    lines: list[int] = []


class Page(msgspec.Struct):
    """A part of a list; `next` is the cursor of the following part. `Operation.items` says what the items are."""

    items: list[Any]
    next: str | None = None


def answer(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type=JSON)


def page(items: list[Any], limit: int) -> Response:
    """A part of a list whose items have ids; a full part has a next one."""
    return answer(Page(items, items[-1].id if len(items) == limit else None))


def refuse(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(problem), problem.status, headers, media_type="application/problem+json")


def refuse_error(error: errors.ScriptrulesError, headers: dict[str, str] | None = None) -> Response:
    """The answer to a request that ended so."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    lines = [number for number, _ in error.problems] if isinstance(error, intake.BadLines) else []
    if isinstance(error, errors.Unauthorized):
        headers = {"www-authenticate": "Bearer"}
    if isinstance(error, errors.TooSlow):
        headers = {"connection": "close"}
    return refuse(Problem(type(error).__name__, status, error.message, error.code, lines), headers)


# ---- errors


def on_scriptrules_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, errors.ScriptrulesError)
    return refuse_error(error)


def on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    hint = {404: f"There is nothing at {request.url.path}.", 405: f"{request.method} is not possible here."}
    detail = hint.get(error.status_code, error.detail)
    return refuse(Problem(error.detail, error.status_code, detail), dict(error.headers or {}))


def on_bug(_: Request, error: Exception) -> Response:
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)
    log.error("http.bug", problem=repr(error), exc_info=error)
    return refuse(Problem("Internal error", 500, "This is a bug of scriptrules; the server's log has the details."))
