"""The docker executor on a real engine, as successive supervisors of one store would use it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from engine import IMAGE, PrivateEngine
from scriptrules.errors import InvalidRequest
from scriptrules.executors import docker as docker_executor
from scriptrules.model import ExecutionRequest, ExecutionResult
from scriptrules.plugins.executor import Executor, ExecutorContext

PATIENCE = 60.0  # seconds until a test that waits has failed


class Site:
    """One store on one host: makes executors as successive supervisors would."""

    def __init__(self, engine: PrivateEngine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        self.store_id = uuid.uuid4().hex

    def executor(self, **table: Any) -> Executor:
        context = ExecutorContext(
            host="locust", store_id=self.store_id, state_dir=self.folder / "state", base_dir=self.folder
        )
        return docker_executor.make({"url": self.engine.url, "images": [IMAGE], **table}, context)

    def name(self, key: str) -> str:
        return f"scriptrules-{self.store_id[:8]}-{key}"

    def names(self) -> list[str]:
        with self.engine.client() as client:
            found = client.containers(all=True, filters={"label": f"scriptrules.store={self.store_id}"})
            return [container["Names"][0].lstrip("/") for container in found]

    def inspect(self, key: str) -> dict[str, Any]:
        with self.engine.client() as client:
            return client.inspect_container(self.name(key))


def request(script: str, key: str = "r1-1-1", **fields: Any) -> ExecutionRequest:
    return ExecutionRequest(
        key=key, host="locust", name="job", image=fields.pop("image", IMAGE), args=["sh", "-c", script], **fields
    )


async def next_result(executor: Executor) -> tuple[str, ExecutionResult]:
    async with asyncio.timeout(PATIENCE):
        return await anext(aiter(executor.results()))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.02)


def with_executor(site: Site, work: Callable[[Executor], Awaitable[Any]], **table: Any) -> Any:
    async def main() -> Any:
        executor = site.executor(**table)
        try:
            return await work(executor)
        finally:
            await executor.close()

    return asyncio.run(main())


def outcome(site: Site, asked: ExecutionRequest, **table: Any) -> ExecutionResult:
    async def work(executor: Executor) -> ExecutionResult:
        await executor.ensure(asked, may_create=True)
        key, result = await next_result(executor)
        assert key == asked.key
        return result

    return with_executor(site, work, **table)


def refusal(site: Site, asked: ExecutionRequest, **table: Any) -> InvalidRequest:
    async def work(executor: Executor) -> InvalidRequest:
        with pytest.raises(InvalidRequest) as caught:
            await executor.ensure(asked, may_create=True)
        return caught.value

    return with_executor(site, work, **table)


def run_inside(site: Site, key: str, command: list[str]) -> None:
    with site.engine.client() as client:
        made = client.exec_create(site.name(key), command)
        client.exec_start(made["Id"])
