"""Images are pulled: with the credentials that are configured, once for all who ask, and one sees how far it is.

What was tried and rejected: the SDK's `pull` (it occupies a thread for as long as the slowest registry takes).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from scriptrules.errors import InvalidRequest
from scriptrules.executors._docker_engine import Engine, EngineError
from scriptrules.executors._docker_policy import MEGABYTE, HostTable
from scriptrules.executors._docker_registries import credentials
from scriptrules.plugins.executor import ExecutorContext

SILENCE_MAX = 600.0  # seconds without a word from the engine after which a pull has failed


class PullStopped(Exception):
    """Whoever wanted the image does so no more."""


Tell = Callable[[str], None]  # how far it is, as a short sentence


class Pulls:
    """The pulls of one engine; those who ask for the same at the same time share one."""

    def __init__(self, engine: Engine, table: HostTable, context: ExecutorContext) -> None:
        self._engine = engine
        self._table = table
        self._context = context
        self._tasks: dict[tuple[str, str | None], asyncio.Task[None]] = {}
        self._listeners: dict[tuple[str, str | None], list[Tell]] = {}

    async def pull(self, image: str, platform: str | None, tell: Tell, stopped: asyncio.Event) -> None:
        """Have the engine pull `image`.

        Raises:
            PullStopped: `stopped` was set meanwhile.
            InvalidRequest: it cannot, with the engine's words.
            HostUnavailable: the engine cannot be reached.
            SecretsUnavailable: the registry's password is a variable that cannot be read.
        """
        key = (image, platform)
        listeners = self._listeners.setdefault(key, [])
        listeners.append(tell)
        tell(progress(image, {}))
        if key not in self._tasks:
            task = self._tasks[key] = asyncio.get_running_loop().create_task(self._pull(image, platform, listeners))
            task.add_done_callback(lambda _: self._forget(key))
        task, stopping = self._tasks[key], asyncio.ensure_future(stopped.wait())
        try:
            await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise PullStopped
            await task
        except EngineError as error:
            where = f"[hosts.{self._context.host}.registries]"
            raise InvalidRequest(
                f"the image {image!r} cannot be pulled on host {self._context.host!r}: {error.message}. "
                f"Correct its name, load it there, or give the registry's credentials under {where}."
            ) from None
        finally:
            stopping.cancel()
            listeners.remove(tell)
            if not listeners:
                task.cancel()

    def _forget(self, key: tuple[str, str | None]) -> None:
        task = self._tasks.pop(key)
        del self._listeners[key]
        if not task.cancelled():
            task.exception()  # whoever asked may have gone meanwhile

    async def _pull(self, image: str, platform: str | None, listeners: list[Tell]) -> None:
        from docker.utils import parse_repository_tag

        repository, tag = parse_repository_tag(image)
        query = {"fromImage": repository, "tag": tag or "latest", **({"platform": platform} if platform else {})}
        headers = await credentials(self._engine, self._table, self._context, image)
        layers: dict[str, tuple[int, int]] = {}
        async with self._engine.stream("/images/create", query, method="POST", headers=headers) as reader:
            while True:
                try:
                    async with asyncio.timeout(SILENCE_MAX):
                        line = await reader.readline()
                except (TimeoutError, OSError, ValueError) as error:
                    raise self._engine.unavailable(f"a pull broke off ({error!r})") from None
                if not line:
                    return
                if line.strip():
                    _note(msgspec.json.decode(line), layers)
                    said = progress(image, layers)
                    for tell in listeners:
                        tell(said)

    async def close(self) -> None:
        """End what is under way; the engine goes on with a pull, or the next one takes up what it has."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


def _note(event: Mapping[str, Any], layers: dict[str, tuple[int, int]]) -> None:
    """Take up what an event of a pull says; EngineError where it has failed."""
    if "error" in event:
        raise EngineError(0, str(event["error"]))
    detail = event.get("progressDetail") or {}
    if event.get("status") == "Downloading" and detail.get("total"):
        layers[str(event.get("id"))] = (detail.get("current", 0), detail["total"])
    elif event.get("status") in ("Download complete", "Pull complete") and event.get("id") in layers:
        total = layers[str(event["id"])][1]
        layers[str(event["id"])] = (total, total)


def progress(image: str, layers: Mapping[str, tuple[int, int]]) -> str:
    """How far a pull is, for people."""
    current, total = (sum(layer[part] for layer in layers.values()) / MEGABYTE for part in (0, 1))
    return f"pulls {image}: {current:.0f} of {total:.0f} MB" if total else f"pulls {image}"
