"""The executors of containers on real engines, as successive supervisors of one store would use them."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import docker
import pytest

from dockerparts import PASSWORD, USER, private_registry
from engine import IMAGE, PrivateEngine
from scriptrules.errors import InvalidRequest
from scriptrules.executors import docker as docker_executor
from scriptrules.executors import swarm as swarm_executor
from scriptrules.model import ExecutionRequest, ExecutionResult
from scriptrules.plugins.executor import Executor, ExecutorContext, ExecutorFactory

PATIENCE = 60.0  # seconds until a test that waits has failed


class Site:
    """One store on one host: makes executors as successive supervisors would."""

    factory: ExecutorFactory = staticmethod(docker_executor.make)
    table: Mapping[str, Any] = {"images": [IMAGE]}

    def __init__(self, engine: PrivateEngine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        self.store_id = uuid.uuid4().hex
        self.said: dict[str, str | None] = {}  # what the last executor has told of a start that takes long

    def executor(self, **table: Any) -> Executor:
        context = ExecutorContext(
            host="locust",
            store_id=self.store_id,
            state_dir=self.folder / "state",
            base_dir=self.folder,
            report=self.said.__setitem__,
        )
        return self.factory({"url": self.engine.url, **self.table, **table}, context)

    def name(self, key: str) -> str:
        return f"scriptrules-{self.store_id[:8]}-{key}"

    @property
    def filters(self) -> dict[str, str]:
        """For an engine's lists: all that is this store's."""
        return {"label": f"scriptrules.store={self.store_id}"}

    def names(self) -> list[str]:
        with self.engine.client() as client:
            found = client.containers(all=True, filters=self.filters)
            return [container["Names"][0].lstrip("/") for container in found]

    def inspect(self, key: str) -> dict[str, Any]:
        with self.engine.client() as client:
            return client.inspect_container(self.name(key))


class SwarmSite(Site):
    """One store on one swarm."""

    factory = staticmethod(swarm_executor.make)
    table: Mapping[str, Any] = {"images": [IMAGE], "network": "default"}

    def left(self) -> list[str]:
        """The names of everything that the swarm keeps for this store."""
        with self.engine.client() as client:
            found = [*client.services(filters=self.filters), *client.configs(filters=self.filters)]
            found += client.secrets(filters=self.filters)
            return sorted(each["Spec"]["Name"] for each in found)

    def tasks(self, key: str) -> list[dict[str, Any]]:
        with self.engine.client() as client:
            return list(client.tasks(filters={"label": f"scriptrules.key={key}", "service": self.name(key)}))

    def clear(self) -> None:
        with self.engine.client() as client:
            for service in client.services(filters=self.filters):
                client.remove_service(service["ID"])
            for file in client.configs(filters=self.filters):
                client.remove_config(file["ID"])
            for file in client.secrets(filters=self.filters):
                client.remove_secret(file["ID"])
            for container in client.containers(all=True, filters=self.filters):
                with contextlib.suppress(docker.errors.APIError):  # the swarm is just removing it
                    client.remove_container(container["Id"], force=True)


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


@contextlib.contextmanager
def image_in_registry(engine: PrivateEngine) -> Iterator[str]:
    """An image that a private registry has and the engine has not; gives its name."""
    with private_registry() as name, engine.client() as client:
        image = f"{name}/jobs/report"
        engine.load_image(f"{image}:2")
        said = client.push(image, "2", auth_config={"username": USER, "password": PASSWORD})
        assert "error" not in said
        client.remove_image(f"{image}:2")
        yield f"{image}:2"


def credentials(image: str, **how: str) -> dict[str, Any]:
    """The keys of a host's table for the registry of `image`."""
    return {"registries": {image.partition("/")[0]: {"username": USER, **how}}}
