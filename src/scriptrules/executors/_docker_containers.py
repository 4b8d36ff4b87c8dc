"""The containers of one store on one engine, by the keys of their executions: made, found, known again, removed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import msgspec

from scriptrules.errors import InvalidRequest
from scriptrules.executors import _docker_marks as marks
from scriptrules.executors import _docker_policy as policy
from scriptrules.executors._docker_engine import Engine, EngineError
from scriptrules.executors._docker_pull import Pulls
from scriptrules.executors._docker_result import input_archive, secret_archive
from scriptrules.model import ExecutionRequest
from scriptrules.plugins.executor import ExecutorContext, Placed

RELEASED = "-released"  # ends the name of a container that is only kept for a while
LIVE = frozenset({"running", "paused", "restarting", "removing"})


class Containers(marks.Marks):
    """What one supervisor does with containers, each under the name that its execution's key gives it."""

    def __init__(self, engine: Engine, table: policy.HostTable, context: ExecutorContext) -> None:
        super().__init__("container", lambda found: found["Config"]["Labels"], context)
        self._engine = engine
        self._table = table
        self._pulls = Pulls(engine, table, context)

    async def create(self, request: ExecutionRequest, stopped: asyncio.Event) -> str | None:
        """The id of a new container; None where its name is taken.

        Args:
            stopped: set where it is not wanted any more; a pull is given up then.

        Raises:
            PullStopped: it was.
            InvalidRequest: the engine refuses it, or its image cannot be had.
            HostUnavailable: the engine cannot be reached; the container may exist or not.
        """
        options = policy.read_options(request)
        labels = self.labels_of(request, options)
        body = policy.container_body(self._table, request, options, labels)
        name = self.name_of(request.key)
        if self._table.pull == "always":
            await self._pull(request, options, stopped)
        for may_pull in (self._table.pull == "missing", False):
            try:
                made = await self._engine.request(
                    lambda client: client.create_container_from_config(body, name, options.platform)
                )
                return str(made["Id"])
            except EngineError as error:
                if error.status == 409:
                    return None
                missing = error.status == 404 and "no such image" in error.message.lower()
                if missing and may_pull:
                    await self._pull(request, options, stopped)
                elif missing:
                    raise InvalidRequest(
                        f"the image {request.image!r} is not on host {self._context.host!r}, which is configured with "
                        f'pull = "{self._table.pull}". Load the image there, or correct its name.'
                    ) from None
                else:
                    raise InvalidRequest(f"the engine refused: {error.message}. Correct run()'s arguments.") from None
        raise AssertionError("the second attempt returns or raises")

    async def _pull(self, request: ExecutionRequest, options: policy.Options, stopped: asyncio.Event) -> None:
        def tell(sentence: str) -> None:
            self._context.report(request.key, sentence)

        try:
            await self._pulls.pull(request.image, options.platform, tell, stopped)
        finally:
            self._context.report(request.key, None)

    async def fill(self, container: str, request: ExecutionRequest) -> None:
        """Put into a container that was never started what it finds: its input, and files with secrets."""
        folders: list[str] = []
        for path in request.secret_files:
            for parent in reversed(PurePosixPath(path).parents):
                known = str(parent) in (*folders, "/", policy.FOLDER)
                if not known and not await self._engine.exists(container, str(parent)):
                    folders.append(str(parent))
        with_hosts = policy.is_without_network(self._table, policy.read_options(request))
        now = self._context.clock()
        archive = input_archive(request.input, request.secret_files, folders, now, with_hosts=with_hosts)
        await self._put(container, archive)

    async def _put(self, container: str, archive: bytes) -> None:
        await self._engine.command("PUT", f"/containers/{container}/archive", {"path": "/"}, archive)

    async def start(self, container: str) -> None:
        await self._engine.command("POST", f"/containers/{container}/start")

    async def wipe(self, container: str, labels: Mapping[str, str]) -> None:
        """Empty the files with secrets of an ended container."""
        paths = msgspec.json.decode(labels.get(marks.LABEL_SECRETS, "[]"), type=list[str])
        if paths:
            archive = secret_archive(dict.fromkeys(paths, ""), [], self._context.clock())
            await self._put(container, archive)

    async def find(self, key: str) -> dict[str, Any] | None:
        """What the engine says of the container under the name of `key`, whosever it is; None where there is none."""
        name = self.name_of(key)
        try:
            return await self._engine.inspect(name)
        except EngineError as error:
            if error.status == 404:
                return None
            raise self._engine.unavailable(error.message) from None

    async def listed(self) -> list[dict[str, Any]]:
        """All containers of this store, as the engine lists them."""
        listed: list[dict[str, Any]] = await self._engine.request(
            lambda client: client.containers(all=True, filters=self.filters)
        )
        return listed

    async def inventory(self) -> list[Placed]:
        """The containers that any store has made on this engine.

        Raises:
            HostUnavailable: the engine cannot be reached.
        """
        filters = {"label": marks.LABEL_STORE}
        try:
            listed = await self._engine.request(lambda client: client.containers(all=True, filters=filters))
        except EngineError as error:
            raise self._engine.unavailable(error.message) from None
        return [_placed(container) for container in listed]

    async def is_live(self, key: str) -> bool:
        found = await self.find(key)
        return found is not None and found["State"]["Status"] in LIVE

    async def close(self) -> None:
        await self._pulls.close()

    async def remove(self, container: str) -> None:
        try:
            await self._engine.command("DELETE", f"/containers/{container}", {"v": "1", "force": "1"})
        except EngineError as error:
            if error.status not in (404, 409):  # gone, or just being removed
                raise


def _placed(listed: Mapping[str, Any]) -> Placed:
    labels = listed["Labels"]
    name = str(listed["Names"][0]).lstrip("/")
    running = listed["State"] in LIVE
    kept = name.endswith(RELEASED) or (labels.get(marks.LABEL_KEEP) == "1" and not running)
    started = listed["State"] != "created"
    return Placed(labels.get(marks.LABEL_KEY, ""), labels[marks.LABEL_STORE], name, started, running, kept)
