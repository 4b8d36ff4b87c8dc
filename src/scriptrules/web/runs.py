"""Runs over HTTP: their state, journal and logs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from scriptrules import errors
from scriptrules.model import Run
from scriptrules.supervisor import shapes
from scriptrules.web.answers import NDJSON, Page, answer, page
from scriptrules.web.lasting import while_allowed
from scriptrules.web.operations import Operation, Site
from scriptrules.web.requests import LIMIT_MAX, Limit, ListQuery, Position, filter_of, read_query


class RunsQuery(ListQuery, frozen=True):
    state: str | None = None
    name: str | None = None
    rule: str | None = None
    task: str | None = None
    by: str | None = None  # the rule whose run has generated the task; empty: it came from outside
    reason: str | None = None


class SourceShape(msgspec.Struct, frozen=True):
    """The source that a run is pinned to."""

    rule: str
    file: str
    digest: str
    text: str
    libraries: dict[str, str]  # by name
    newest: str | None  # digest of the rule's active version; None: it is not active any more


class LogsQuery(msgspec.Struct, frozen=True):
    follow: bool = False  # answer NDJSON, a line at a time, until the run has ended
    whole: bool = False  # answer NDJSON: what there is now, with all that executions have written
    after: Position = 0  # the `next` of the part before
    limit: Limit = LIMIT_MAX


def operations(site: Site) -> list[Operation]:
    """What can be seen of runs."""
    runs = _Runs(site)
    return [
        Operation(
            "GET", "/api/runs", runs.many, "Runs, newest first.", answer=Page, items=shapes.RunShape, query=RunsQuery
        ),
        Operation("GET", "/api/runs/{id}", runs.one, "One run, and who has called it.", answer=shapes.StackedRunShape),
        Operation(
            "GET", "/api/runs/{id}/source", runs.source, "The source that a run is pinned to.", answer=SourceShape
        ),
        Operation(
            "GET", "/api/runs/{id}/journal", runs.journal, "The entries of a run.", answer=Page, items=shapes.EntryShape
        ),
        Operation(
            "GET",
            "/api/runs/{id}/logs",
            runs.logs,
            "What a run has logged.",
            answer=Page,
            items=shapes.LogShape,
            query=LogsQuery,
            or_media=NDJSON,
        ),
    ]


class _Runs:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._supervisor = site.supervisor
        self._store = site.supervisor.store

    async def many(self, request: Request) -> Response:
        filter = filter_of(read_query(request, RunsQuery))
        return page([shapes.run_shape(run) for run in await self._store.runs(filter)], filter.limit)

    async def one(self, request: Request) -> Response:
        run = await self._run(request)
        fields = msgspec.structs.asdict(shapes.run_shape(run))
        return answer(shapes.StackedRunShape(**fields, stack=await shapes.stack_of(self._store, run)))

    async def journal(self, request: Request) -> Response:
        run = await self._run(request)
        entries = await shapes.entries_of(self._store, run.id)
        return answer(Page([shapes.entry_shape(self._supervisor.with_reason(run, entry)) for entry in entries]))

    async def source(self, request: Request) -> Response:
        run = await self._run(request)
        source = await self._store.source(run.digest)
        if source is None:
            raise errors.NotFound(f"The source of run {run.id} is not there any more.")
        newest = self._supervisor.rules.newest(run.rule)
        digest = newest.digest if newest is not None else None
        return answer(SourceShape(run.rule, source.file, run.digest, source.text, source.libraries, digest))

    async def logs(self, request: Request) -> Response:
        run = await self._run(request)
        query = read_query(request, LogsQuery)
        if query.follow or query.whole:
            whole = while_allowed(request, self._site, self._lines(run.id, query.follow))
            return StreamingResponse(whole, media_type=NDJSON)
        lines, last = await shapes.logs_of(self._store, run.id, query.after, query.limit)
        output = shapes.output_of(await shapes.entries_of(self._store, run.id)) if query.after == 0 else []
        return answer(Page([*lines, *output], str(last) if len(lines) == query.limit else None))

    async def _lines(self, run: str, follow: bool) -> AsyncGenerator[bytes, None]:
        """The lines of a run's log and of its executions, one JSON object each."""
        async with contextlib.aclosing(self._supervisor.log_of(run, follow)) as lines:
            async for line in lines:
                yield msgspec.json.encode(line) + b"\n"

    async def _run(self, request: Request) -> Run:
        id = request.path_params["id"]
        run = await self._store.run(id)
        if run is None:
            raise errors.NotFound(f"There is no run {id[:60]}. List them with `scriptrules runs`.")
        return run
