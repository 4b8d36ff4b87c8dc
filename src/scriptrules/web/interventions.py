"""What people do to tasks and runs, over HTTP."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from scriptrules import errors
from scriptrules.supervisor import shapes
from scriptrules.web.answers import answer
from scriptrules.web.operations import Operation, Site
from scriptrules.web.requests import decode_body, read_body


class VerbIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a verb."""

    request_id: str | None = None


class RetryIn(VerbIn, frozen=True, forbid_unknown_fields=True):
    pinned: bool = False  # with the source that it began with, not the newest
    from_start: bool = False  # forget what succeeded


def operations(site: Site) -> list[Operation]:
    """The verbs, for tasks and for runs."""
    verbs = _Verbs(site)
    found = []
    for kind, shape in (("tasks", shapes.TaskShape), ("runs", shapes.RunShape)):
        for verb, handler, body, summary in (
            ("cancel", verbs.cancel, VerbIn, "Cancel it, with what it has called."),
            ("resume", verbs.resume, VerbIn, "Let it go on where it is held."),
            ("retry", verbs.retry, RetryIn, "Do what has failed again."),
        ):
            path = f"/api/{kind}/{{id}}/{verb}"
            found.append(Operation("POST", path, handler, summary, answer=shape, body=body, role="operator"))
    return found


class _Verbs:
    def __init__(self, site: Site) -> None:
        self._verbs = site.supervisor.verbs
        self._store = site.supervisor.store
        self._body_max = site.supervisor.config.server.body_max

    async def cancel(self, request: Request) -> Response:
        decode_body(await self._body(request), VerbIn)
        await self._verbs.cancel(self._id(request))
        return await self._shown(request)

    async def resume(self, request: Request) -> Response:
        decode_body(await self._body(request), VerbIn)
        await self._verbs.resume(self._id(request))
        return await self._shown(request)

    async def retry(self, request: Request) -> Response:
        settings = decode_body(await self._body(request), RetryIn)
        await self._verbs.retry(self._id(request), settings.pinned, settings.from_start)
        return await self._shown(request)

    async def _body(self, request: Request) -> bytes:
        return await read_body(request, self._body_max)

    @staticmethod
    def _id(request: Request) -> str:
        kind, id = request.url.path.split("/")[2], str(request.path_params["id"])
        if not id.startswith(kind[0]):
            raise errors.NotFound(f"{id[:60]} is not the id of one of the {kind}.")
        return id

    async def _shown(self, request: Request) -> Response:
        """What it is like now."""
        id = self._id(request)
        if id.startswith("t"):
            task = await self._store.task(id)
            return answer(task and shapes.task_shape(task))
        run = await self._store.run(id)
        return answer(run and shapes.run_shape(run))
