"""The HTTP API: a thin layer that checks what comes in and shows what the store has.

Errors are ``application/problem+json`` with a stable code and what to do next. Beyond loopback the server does not
listen in this version, because it has no tokens yet; Host and Origin are checked, so that no web page can reach it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from scriptrules import __version__, clock, errors
from scriptrules.config import ServerConfig
from scriptrules.store.protocol import Filter
from scriptrules.supervisor import shapes
from scriptrules.supervisor.supervisor import Supervisor
from scriptrules.web import intake

log = structlog.get_logger(__name__)

LIMIT_DEFAULT, LIMIT_MAX = 50, 1000
FOLLOW_INTERVAL = 0.2  # seconds between two looks at a log that is followed
JSON = "application/json"
NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl")

_STATUS: list[tuple[type[errors.ScriptrulesError], int]] = [
    (errors.TooLarge, 413),
    (errors.BadTask, 400),
    (errors.KeyConflict, 409),
    (errors.NotFound, 404),
    (errors.NotPossible, 409),
    (errors.StoreUnavailable, 503),
]


class Problem(msgspec.Struct, omit_defaults=True):
    """RFC 9457."""

    title: str
    status: int
    detail: str
    code: str = ""
    lines: list[int] = []


class ManyIds(msgspec.Struct):
    ids: list[str]


class OneId(msgspec.Struct):
    id: str


class Page(msgspec.Struct):
    items: list[Any]
    next: str | None


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a verb."""

    request_id: str | None = None
    pinned: bool = False
    from_start: bool = False


def make_app(supervisor: Supervisor) -> ASGIApp:
    """The application that serves one supervisor."""
    api = _Api(supervisor)
    routes = [
        Route("/api/tasks", api.post_tasks, methods=["POST"]),
        Route("/api/tasks", api.tasks),
        Route("/api/tasks/{id}", api.task),
        Route("/api/tasks/{id}/tree", api.tree),
        Route("/api/runs", api.runs),
        Route("/api/runs/{id}", api.run),
        Route("/api/runs/{id}/journal", api.journal),
        Route("/api/runs/{id}/logs", api.logs),
        Route("/api/rules", api.rules),
        Route("/api/held", api.held),
        Route("/api/{kind}/{id}/{verb}", api.verb, methods=["POST"]),
        Route("/api/counts", api.counts),
        Route("/healthz", api.health),
        Route("/readyz", api.readiness),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={
            errors.ScriptrulesError: _scriptrules_error,
            HTTPException: _http_error,
            Exception: _unexpected,
        },
    )
    return _Gate(app, supervisor.config.server)


class _Gate:
    """Lets only those requests through that were meant for this server: no page of another site, no rebound name."""

    def __init__(self, app: ASGIApp, config: ServerConfig) -> None:
        self._app = app
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            problem = _refused(headers)
            if problem is not None:
                await _respond(Problem("Forbidden", 403, problem, "SR822"))(scope, receive, send)
                return
        await self._app(scope, receive, send)


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


class _Api:
    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._store = supervisor.store
        sandbox = supervisor.config.sandbox
        self._payload_max, self._depth_max = sandbox.payload_max, sandbox.depth_max
        self._body_max = supervisor.config.server.body_max

    # ---- tasks

    async def post_tasks(self, request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        body = await self._body(request)
        if kind in NDJSON:
            many = intake.lines(body, self._payload_max, self._depth_max)
            ingested = await self._supervisor.ingest(many)
            return _json(ManyIds([result.id for result in ingested]), 202)
        task = intake.one(body, self._payload_max, self._depth_max)
        (result,) = await self._supervisor.ingest([task])
        return _json(OneId(result.id), 202)

    async def tasks(self, request: Request) -> Response:
        filter = _filter(request, ("state", "name", "parent", "root", "reason"))
        items = await self._store.tasks(filter)
        return _page([shapes.task_shape(task) for task in items], filter)

    async def task(self, request: Request) -> Response:
        return _json(shapes.task_shape(await self._task(request.path_params["id"])))

    async def tree(self, request: Request) -> Response:
        return _json(await shapes.tree_of(self._store, await self._task(request.path_params["id"])))

    async def held(self, request: Request) -> Response:
        filter = msgspec.structs.replace(_filter(request, ("name", "rule", "reason")), state="held")
        items: list[shapes.TaskShape | shapes.RunShape] = []
        items += [shapes.task_shape(task) for task in await self._store.tasks(filter)]
        items += [shapes.run_shape(run) for run in await self._store.runs(filter)]
        items.sort(key=lambda item: item.since, reverse=True)
        return _json(Page(items[: filter.limit], None))

    # ---- runs

    async def runs(self, request: Request) -> Response:
        filter = _filter(request, ("state", "name", "rule", "task", "reason"))
        items = await self._store.runs(filter)
        return _page([shapes.run_shape(run) for run in items], filter)

    async def run(self, request: Request) -> Response:
        return _json(shapes.run_shape(await self._run(request.path_params["id"])))

    async def journal(self, request: Request) -> Response:
        run = await self._run(request.path_params["id"])
        entries = await shapes.entries_of(self._store, run.id)
        return _json(Page([shapes.entry_shape(entry) for entry in entries], None))

    async def logs(self, request: Request) -> Response:
        run = await self._run(request.path_params["id"])
        if request.query_params.get("follow") in ("1", "true"):
            return StreamingResponse(self._follow(run.id), media_type=NDJSON[0])
        limit = _number(request, "limit", LIMIT_MAX, LIMIT_MAX)
        after = _number(request, "after", 0, None)
        lines, last = await shapes.logs_of(self._store, run.id, after, limit)
        output = shapes.output_of(await shapes.entries_of(self._store, run.id)) if after == 0 else []
        return _json({"items": [*lines, *output], "next": str(last) if len(lines) == limit else None})

    async def _follow(self, run: str) -> AsyncIterator[bytes]:
        """Lines as they come, one JSON object each, until the run has ended."""
        after = 0
        told: set[int] = set()
        while True:
            current = await self._store.run(run)
            lines, after = await shapes.logs_of(self._store, run, after, LIMIT_MAX)
            for line in lines:
                yield msgspec.json.encode(line) + b"\n"
            entries = await shapes.entries_of(self._store, run)
            fresh = [entry for entry in entries if entry.ended and entry.seq not in told]
            for line in shapes.output_of(fresh):
                yield msgspec.json.encode(line) + b"\n"
            told.update(entry.seq for entry in fresh)
            if current is None or current.ended is not None:
                return
            await asyncio.sleep(FOLLOW_INTERVAL)

    # ---- verbs

    async def verb(self, request: Request) -> Response:
        kind, id, verb = (request.path_params[part] for part in ("kind", "id", "verb"))
        if kind not in ("tasks", "runs") or verb not in ("cancel", "resume", "retry"):
            raise HTTPException(404)
        if not id.startswith(kind[0]):
            raise errors.NotFound(f"{id} is not the id of one of the {kind}.")
        body = await self._body(request)
        try:
            settings = msgspec.json.decode(body, type=Settings) if body else Settings()
        except msgspec.MsgspecError as error:
            raise errors.BadTask(f'{error}. The body of a verb is JSON: {{"pinned": false}}.') from None
        if verb == "cancel":
            await self._supervisor.verbs.cancel(id)
        elif verb == "resume":
            await self._supervisor.verbs.resume(id)
        else:
            await self._supervisor.verbs.retry(id, settings.pinned, settings.from_start)
        return await (self.task if kind == "tasks" else self.run)(request)

    # ---- the rest

    async def rules(self, _: Request) -> Response:
        return _json(Page(self._supervisor.rules.infos(), None))

    async def counts(self, _: Request) -> Response:
        """How many tasks and runs are in each state. Its cost grows with the store, so no probe should ask for it."""
        return _json(await self._store.counts())

    async def health(self, _: Request) -> Response:
        return _json({"status": "ok", "version": __version__})

    async def readiness(self, _: Request) -> Response:
        failing = getattr(self._store, "failing", None)
        if failing or not self._supervisor.ready or not self._supervisor.pool.workers:
            why = failing or ("no worker is running" if self._supervisor.ready else "the server is starting")
            return _respond(Problem("Not ready", 503, f"{why}.", "SR830" if failing else "SR840"))
        pool = self._supervisor.pool
        return _json(
            {
                "status": "ready",
                "version": __version__,
                "rules": len(self._supervisor.rules.active),
                "workers": len(pool.workers),
                "worker_restarts": pool.restarts,
                "walls": pool.walls,
            }
        )

    async def _body(self, request: Request) -> bytes:
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self._body_max:
            raise self._too_large()
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > self._body_max:
                raise self._too_large()
            parts.append(part)
        return b"".join(parts)

    def _too_large(self) -> errors.TooLarge:
        return errors.TooLarge(
            f"The body is over {self._body_max} bytes. Send it in parts, or raise body_max under [server]."
        )

    async def _task(self, id: str) -> Any:
        task = await self._store.task(id)
        if task is None:
            raise errors.NotFound(f"There is no task {id[:60]}. List them with `scriptrules tasks`.")
        return task

    async def _run(self, id: str) -> Any:
        run = await self._store.run(id)
        if run is None:
            raise errors.NotFound(f"There is no run {id[:60]}. List them with `scriptrules runs`.")
        return run


# ---- requests and answers


def _filter(request: Request, names: tuple[str, ...]) -> Filter:
    query = request.query_params
    known = {*names, "since", "until", "limit", "cursor"}
    for name in query:
        if name not in known:
            raise errors.BadTask(f"Unknown parameter {name!r}{errors.nearest(name, known)} Known: {sorted(known)}.")
    return Filter(
        **{name: query[name] for name in names if name in query},
        since=_time(request, "since"),
        until=_time(request, "until"),
        limit=_number(request, "limit", LIMIT_DEFAULT, LIMIT_MAX),
        cursor=query.get("cursor"),
    )


def _time(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        return clock.parse(text.replace(" ", "+"))
    except ValueError:
        raise errors.BadTask(f"{name}={text!r} is not a time. Write 2026-01-31T12:00:00Z.") from None


def _number(request: Request, name: str, default: int, most: int | None) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 18 or (most is not None and not 0 < int(text) <= most):
        raise errors.BadTask(f"{name}={text[:40]!r} is not a number from 1 to {most or 10**18}.")
    return int(text)


def _page(items: list[Any], filter: Filter) -> Response:
    return _json(Page(items, items[-1].id if len(items) == filter.limit else None))


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type=JSON)


def _respond(problem: Problem) -> Response:
    return Response(msgspec.json.encode(problem), problem.status, media_type="application/problem+json")


def _scriptrules_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, errors.ScriptrulesError)
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    lines = [number for number, _ in error.problems] if isinstance(error, intake.BadLines) else []
    return _respond(Problem(type(error).__name__, status, error.message, error.code, lines))


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    hint = {404: f"There is nothing at {request.url.path}.", 405: f"{request.method} is not possible here."}
    return _respond(Problem(error.detail, error.status_code, hint.get(error.status_code, error.detail)))


def _unexpected(_: Request, error: Exception) -> Response:
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)
    log.error("http.bug", problem=repr(error), exc_info=error)
    return _respond(Problem("Internal error", 500, "This is a bug of scriptrules; the server's log has the details."))
