"""Tasks over HTTP: they come in here, and can be looked at."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from scriptrules import errors, intake
from scriptrules.model import Task
from scriptrules.supervisor import shapes
from scriptrules.web.answers import JSON, NDJSON, Page, answer, page
from scriptrules.web.operations import Operation, Site
from scriptrules.web.requests import ListQuery, filter_of, read_body, read_query

_NDJSON = (NDJSON, "application/ndjson", "application/jsonl")


class TasksQuery(ListQuery, frozen=True):
    state: str | None = None
    name: str | None = None
    parent: str | None = None
    root: str | None = None
    reason: str | None = None


class HeldQuery(ListQuery, frozen=True):
    name: str | None = None
    rule: str | None = None
    reason: str | None = None


class OneId(msgspec.Struct):
    id: str


class ManyIds(msgspec.Struct):
    ids: list[str]


def operations(site: Site) -> list[Operation]:
    """What can be done with tasks."""
    tasks = _Tasks(site)
    return [
        Operation(
            "POST",
            "/api/tasks",
            tasks.post,
            "Send a task, or many as NDJSON: stored whole, or not at all.",
            answer=OneId | ManyIds,
            status=202,
            body=intake.TaskIn,
            takes=(JSON, NDJSON),
            role="operator",
        ),
        Operation(
            "GET",
            "/api/tasks",
            tasks.many,
            "Tasks, newest first.",
            answer=Page,
            items=shapes.TaskShape,
            query=TasksQuery,
        ),
        Operation("GET", "/api/tasks/{id}", tasks.one, "One task.", answer=shapes.TaskShape),
        Operation("GET", "/api/tasks/{id}/tree", tasks.tree, "A task and all that followed.", answer=shapes.TreeShape),
        Operation(
            "GET",
            "/api/tasks/{id}/next",
            tasks.next,
            "What is likely to follow now.",
            answer=Page,
            items=shapes.NextShape,
        ),
        Operation(
            "GET",
            "/api/held",
            tasks.held,
            "Held tasks and runs.",
            answer=Page,
            items=shapes.TaskShape | shapes.RunShape,
            query=HeldQuery,
        ),
    ]


class _Tasks:
    def __init__(self, site: Site) -> None:
        self._supervisor = site.supervisor
        self._store = site.supervisor.store
        config = site.supervisor.config
        self._body_max = config.server.body_max
        self._payload_max, self._depth_max = config.sandbox.payload_max, config.sandbox.depth_max

    async def post(self, request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        body = await read_body(request, self._body_max)
        if kind in _NDJSON:
            many = intake.lines(body, self._payload_max, self._depth_max)
            ingested = await self._supervisor.ingest(many)
            return answer(ManyIds([result.id for result in ingested]), 202)
        task = intake.one(body, self._payload_max, self._depth_max)
        (result,) = await self._supervisor.ingest([task])
        return answer(OneId(result.id), 202)

    async def many(self, request: Request) -> Response:
        filter = filter_of(read_query(request, TasksQuery))
        return page([shapes.task_shape(task) for task in await self._store.tasks(filter)], filter.limit)

    async def one(self, request: Request) -> Response:
        return answer(shapes.task_shape(await self._task(request)))

    async def tree(self, request: Request) -> Response:
        return answer(await shapes.tree_of(self._store, await self._task(request)))

    async def next(self, request: Request) -> Response:
        return answer(Page(await self._supervisor.foresight.next_of(await self._task(request))))

    async def held(self, request: Request) -> Response:
        """Tasks and runs in one order, that of what follows the letter of their ids: when they were made."""
        filter = msgspec.structs.replace(filter_of(read_query(request, HeldQuery)), state="held")
        place = filter.cursor[1:] if filter.cursor else None
        of_tasks, of_runs = (
            msgspec.structs.replace(filter, cursor=place and f"{letter}{place}") for letter in ("t", "r")
        )
        items: list[shapes.TaskShape | shapes.RunShape] = []
        if filter.rule is None:
            items += [shapes.task_shape(task) for task in await self._store.tasks(of_tasks)]
        items += [shapes.run_shape(run) for run in await self._store.runs(of_runs)]
        items.sort(key=lambda item: item.id[1:], reverse=True)
        return page(items[: filter.limit], filter.limit)

    async def _task(self, request: Request) -> Task:
        id = request.path_params["id"]
        task = await self._store.task(id)
        if task is None:
            raise errors.NotFound(f"There is no task {id[:60]}. List them with `scriptrules tasks`.")
        return task
