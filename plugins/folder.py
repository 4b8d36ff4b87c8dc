"""An example of a source of tasks: a folder in which files arrive. Each file becomes one task, however often the server
is restarted.

    [sources.inbox]
    source = "folder"
    path = "inbox"              # is made where it is missing
    task = "file.arrived"       # {"path", "name", "size"}
    taken = "inbox/taken"       # where a file goes once its task is durable: on the same file system
    settle = 0.5                # seconds for which a file must not have changed

A file is moved after the commit. Where the server is killed in between, the file is told of again under the same key,
and moved then: the task was there already, and says where the file is now.
"""

import asyncio
import os
import time
from pathlib import Path

import structlog
from watchfiles import awatch

from scriptrules import hookimpl
from scriptrules.errors import BadTask, ConfigError

log = structlog.get_logger("folder")

DEFAULTS = {"path": "inbox", "task": "file.arrived", "taken": "inbox/taken", "settle": 0.5}
LOOK_INTERVAL = 1000  # milliseconds between two looks: network file systems tell of no changes


def folder(table, context):
    """Checks the table, and begins to watch."""
    unknown = set(table) - set(DEFAULTS)
    if unknown:
        raise ConfigError(f"[sources.{context.name}]: unknown key {min(unknown)!r}. Known: {', '.join(DEFAULTS)}.")
    settings = DEFAULTS | dict(table)
    inbox, taken = (Path(context.base_dir, settings[key]) for key in ("path", "taken"))
    for each in (inbox, taken):
        each.mkdir(parents=True, exist_ok=True)
    return watch(context.name, inbox, taken, settings["task"], settings["settle"])


async def watch(name, inbox, taken, task, settle):
    """Yields a task for each file that has settled, and moves it once the task is durable."""
    async for _ in awatch(inbox, recursive=False, rust_timeout=LOOK_INTERVAL, yield_on_timeout=True):
        for file, status in await asyncio.to_thread(settled, inbox, settle):
            stamp = f"{status.st_mtime_ns}-{file.name[:100]}"
            data = {"path": str(taken / stamp), "name": file.name, "size": status.st_size}
            try:
                yield {"name": task, "data": data, "key": f"folder/{name}/{stamp}"}
            except BadTask as error:  # such as a name that is no text
                log.warning("folder.left", source=name, file=ascii(str(file)), problem=error.message)
            else:
                await asyncio.to_thread(os.replace, file, taken / stamp)


def settled(inbox, settle):
    """The files that nobody is writing any more, oldest first. Hidden ones, and *.part, are somebody's work."""
    found = []
    for file in inbox.iterdir():
        if file.name.startswith(".") or file.name.endswith(".part") or not file.is_file():
            continue
        try:
            status = file.stat()
        except FileNotFoundError:
            continue
        if time.time() - status.st_mtime >= settle:
            found.append((file, status))
    return sorted(found, key=lambda pair: pair[1].st_mtime_ns)


@hookimpl
def scriptrules_task_sources():
    return {"folder": folder}
