"""Why rules match a task or do not, over HTTP."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from scriptrules import errors, intake
from scriptrules.model import Task, TaskState
from scriptrules.supervisor.explaining import Explanation, explain
from scriptrules.web.answers import answer
from scriptrules.web.operations import Operation, Site
from scriptrules.web.requests import decode_body, read_body


class ExplainIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A task that might come."""

    name: str
    data: dict[str, Any] = {}


def operations(site: Site) -> list[Operation]:
    """Explanations of tasks that are there, and of others."""
    explaining = _Explaining(site)
    summary = "Why each rule matches it or does not, under the rules of now."
    return [
        Operation("GET", "/api/tasks/{id}/explain", explaining.task, summary, answer=Explanation),
        Operation("POST", "/api/explain", explaining.other, f"A task that might come: {summary}",
                  answer=Explanation, body=ExplainIn),
    ]  # fmt: skip


class _Explaining:
    def __init__(self, site: Site) -> None:
        self._supervisor = site.supervisor
        config = site.supervisor.config
        self._body_max = config.server.body_max
        self._payload_max, self._depth_max = config.sandbox.payload_max, config.sandbox.depth_max

    async def task(self, request: Request) -> Response:
        id = request.path_params["id"]
        task = await self._supervisor.store.task(id)
        if task is None:
            raise errors.NotFound(f"There is no task {id[:60]}. List them with `scriptrules tasks`.")
        return answer(await self._explain(task))

    async def other(self, request: Request) -> Response:
        given = decode_body(await read_body(request, self._body_max), ExplainIn)
        name, data, _ = intake.check(given.name, given.data, None, self._payload_max, self._depth_max)
        now = self._supervisor.clock()
        return answer(await self._explain(Task("t0", name, data, TaskState.NEW, now, now, root="t0")))

    async def _explain(self, task: Task) -> Explanation:
        supervisor = self._supervisor
        return await explain(supervisor.rules, supervisor.breakpoints, supervisor.pool, task)
