"""What people do to tasks and runs, over HTTP: one at a time, or all that a filter selects."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from scriptrules import clock, errors, intake
from scriptrules.supervisor import bulk, shapes
from scriptrules.supervisor.exclusive import Exclusive
from scriptrules.supervisor.verbs import Ask
from scriptrules.web.answers import Page, answer
from scriptrules.web.operations import Operation, Site
from scriptrules.web.requests import (
    ANONYMOUS,
    Limit,
    Position,
    check_whole,
    decode_body,
    read_body,
    read_moment,
    read_query,
    who_of,
)

Json = msgspec.Raw
Fields = dict[str, object]


class VerbIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a verb. A repeated `request_id` changes nothing more."""

    request_id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    who: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] = ANONYMOUS


class RetryIn(VerbIn, frozen=True, forbid_unknown_fields=True):
    pinned: bool = False  # with the source that it began with, not the newest
    from_start: bool = False  # forget what succeeded


class EditIn(VerbIn, frozen=True, forbid_unknown_fields=True):
    data: Fields | None = None  # instead of what is there
    set: Fields | None = None  # only these fields change


class AnswerIn(VerbIn, frozen=True, forbid_unknown_fields=True, kw_only=True):
    result: Json
    seq: int | None = None  # of the entry, where the script is about to get several results


class ForkIn(VerbIn, frozen=True, forbid_unknown_fields=True, kw_only=True):
    seq: Annotated[int, msgspec.Meta(ge=1)]  # the entry that gets another result
    result: Json
    pinned: bool = False  # with the source that it began with, not the newest


class BulkIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which, and what else the verb needs. Without a filter it has to say `all`. `dry_run` only counts."""

    all: bool = False  # everything that the verb is for
    name: str | None = None
    rule: str | None = None
    reason: str | None = None
    since: str | None = None
    until: str | None = None
    dry_run: bool = False
    request_id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    who: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] = ANONYMOUS
    pinned: bool = False
    from_start: bool = False
    data: Fields | None = None
    set: Fields | None = None
    result: Json = msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))


class AuditQuery(msgspec.Struct, frozen=True):
    thing: str | None = None  # a task, a run, a breakpoint
    cursor: Position | None = None
    limit: Limit = 50


class AuditShape(msgspec.Struct, frozen=True):
    id: int
    at: str
    who: str
    verb: str
    thing: str
    request_id: str | None
    detail: Json


_BODIES: dict[str, tuple[type[VerbIn], str]] = {
    "cancel": (VerbIn, "Cancel it, with what it has called."),
    "hold": (VerbIn, "Have it stop at its next entry."),
    "resume": (VerbIn, "Let it go on where it is held."),
    "step": (VerbIn, "Let it go on to its next entry, or the next task that it generates."),
    "edit": (EditIn, "Give it other data, or the entry that it is held before other arguments."),
    "answer": (AnswerIn, "Supply the result that it is held at, instead of doing it."),
    "drop": (VerbIn, "End it where it is held."),
    "retry": (RetryIn, "Do what has failed again."),
}


def operations(site: Site) -> list[Operation]:
    """The verbs, for tasks, for runs, and for many."""
    verbs = _Verbs(site)
    found = [
        Operation("GET", "/api/audit", verbs.audit, "Who did what.", answer=Page, items=AuditShape, query=AuditQuery)
    ]
    fork = "A new run that goes on from an entry of this one with another result; this one stays as it is."
    path = "/api/runs/{id}/fork"
    found.append(Operation("POST", path, verbs.fork, fork, answer=shapes.RunShape, body=ForkIn, role="operator"))
    for verb, (body, summary) in _BODIES.items():
        for kind, shape in (("tasks", shapes.TaskShape), ("runs", shapes.RunShape)):
            path = f"/api/{kind}/{{id}}/{verb}"
            found.append(Operation("POST", path, verbs.one, summary, answer=shape, body=body, role="operator"))
        found.append(
            Operation(
                "POST",
                f"/api/bulk/{verb}",
                verbs.many,
                f"{summary} All that the filter selects.",
                answer=bulk.Outcome,
                body=BulkIn,
                role="operator",
            )
        )
    return found


class _Verbs:
    def __init__(self, site: Site) -> None:
        self._supervisor = site.supervisor
        self._verbs = site.supervisor.verbs
        self._store = site.supervisor.store
        self._requests = Exclusive()
        config = site.supervisor.config
        self._body_max = config.server.body_max
        self._payload_max, self._depth_max = config.sandbox.payload_max, config.sandbox.depth_max

    async def one(self, request: Request) -> Response:
        kind, verb = request.url.path.split("/")[-3], request.url.path.split("/")[-1]
        id = str(request.path_params["id"])
        if not id.startswith(kind[0]):
            raise errors.NotFound(f"{id[:60]} is not the id of one of the {kind}.")
        settings = decode_body(await read_body(request, self._body_max), _BODIES[verb][0])
        ask = Ask(verb, who_of(request, settings.who), settings.request_id)
        async with self._once(ask):
            if not await self._verbs.was_done(ask, id):
                await self._do(id, ask, settings)
        return await self._shown(id)

    async def _do(self, id: str, ask: Ask, settings: VerbIn | BulkIn) -> None:
        match ask.verb:
            case "cancel":
                await self._verbs.cancel(id, ask)
            case "hold":
                await self._verbs.hold(id, ask)
            case "resume" | "step":
                await self._verbs.resume(id, ask, step=ask.verb == "step")
            case "drop":
                await self._verbs.drop(id, ask)
            case "retry":
                assert isinstance(settings, (RetryIn, BulkIn))
                await self._verbs.retry(id, ask, settings.pinned, settings.from_start)
            case "edit":
                assert isinstance(settings, (EditIn, BulkIn))
                if (settings.data is None) == (settings.set is None):
                    raise errors.BadTask('Give either "data", all of it anew, or "set", the fields that change.')
                fields = settings.data if settings.set is None else settings.set
                _, checked, _ = intake.check("edit", fields, None, self._payload_max, self._depth_max)
                await self._verbs.edit(id, checked, settings.set is not None, ask)
            case "answer":
                assert isinstance(settings, (AnswerIn, BulkIn))
                seq = settings.seq if isinstance(settings, AnswerIn) else None
                await self._verbs.answer(id, bytes(settings.result), seq, ask)

    async def fork(self, request: Request) -> Response:
        settings = decode_body(await read_body(request, self._body_max), ForkIn)
        ask = Ask("fork", who_of(request, settings.who), settings.request_id)
        run, result = str(request.path_params["id"]), bytes(settings.result)
        async with self._once(ask):
            fork = await self._verbs.fork(run, settings.seq, result, settings.pinned, ask)
        return await self._shown(fork)

    async def many(self, request: Request) -> Response:
        verb = request.url.path.split("/")[-1]
        settings = decode_body(await read_body(request, self._body_max), BulkIn)
        check_whole(name=settings.name, rule=settings.rule)
        filters = (settings.name, settings.rule, settings.reason, settings.since, settings.until)
        if settings.all != (filters == (None,) * len(filters)):
            raise errors.BadTask(
                f'{verb} of what? Give a filter (name, rule, reason, since, until), or "all": true without one.'
            )
        selection = bulk.Selection(
            settings.name,
            settings.rule,
            settings.reason,
            read_moment("since", settings.since),
            read_moment("until", settings.until),
        )
        if settings.dry_run:
            return answer(await bulk.count(self._store, verb, selection))
        asked = Ask(verb, who_of(request, settings.who), settings.request_id)
        async with self._once(asked):
            outcome = await bulk.carry_out(
                self._store,
                self._verbs,
                selection,
                asked,
                lambda id, ask: self._do(id, ask, settings),
                self._supervisor.driver.submit,
                self._supervisor.clock(),
            )
        return answer(outcome)

    def _once(self, ask: Ask) -> AbstractAsyncContextManager[None]:
        """A request that is repeated while it is being carried out waits for the first one."""
        return nullcontext() if ask.request is None else self._requests(ask.request)

    async def audit(self, request: Request) -> Response:
        query = read_query(request, AuditQuery)
        found = await self._store.audit(query.thing, query.cursor, query.limit)
        items = [
            AuditShape(id, clock.text(one.at), one.who, one.verb, one.thing, one.request, Json(one.detail or b"null"))
            for id, one in found
        ]
        return answer(Page(items, str(items[-1].id) if len(items) == query.limit else None))

    async def _shown(self, id: str) -> Response:
        """What it is like now."""
        if id.startswith("t"):
            task = await self._store.task(id)
            return answer(task and shapes.task_shape(task))
        run = await self._store.run(id)
        return answer(run and shapes.run_shape(run))
