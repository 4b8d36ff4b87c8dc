"""The contract of a source of tasks: an async generator that yields tasks, and goes on when they are durable.

    async def watch(table, context):
        async for message in subscribe(table["topic"]):
            yield {"name": "message.came", "data": message.fields, "key": message.id}
            await message.acknowledge()

What stands behind a `yield` happens after the commit, so a source that acknowledges there tells of each thing at least
once; the key makes it exactly once. A list of tasks is stored whole, in one commit. `yield` gives the id of the task,
or the ids. A task that cannot be stored is raised at the `yield`: `BadTask`, `KeyConflict`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

Yielded = Mapping[str, Any] | list[Mapping[str, Any]]  # of the shape {"name", "data", "key"?}


class TaskSourceContext(msgspec.Struct, frozen=True):
    """What a source learns of the installation it works for."""

    name: str  # as it is configured: [sources.NAME]
    base_dir: Path  # relative paths in the configuration are relative to this
    state_dir: Path  # a folder of its own, made on demand, that survives restarts


TaskSource = AsyncGenerator[Yielded, Any]
TaskSourceFactory = Callable[[Mapping[str, Any], TaskSourceContext], TaskSource]
"""Begins a source from its table in scriptrules.toml (without the key `source`).

Called when the server starts, and again after a source has failed. Raises ConfigError for a table that cannot be used,
which keeps the server from starting; an async generator function raises it only once it is asked for its first task.
"""
