"""An example of a plugin: a function that rules may call, and an observer of what becomes of tasks.

Notices are lines of JSON in the file that the variable NOTICES names (default: .scriptrules/notices.ndjson).
"""

import asyncio
import json
import os
from pathlib import Path

import structlog

from scriptrules import function, hookimpl

log = structlog.get_logger("notices")


@function(retries=2, timeout=5.0)
async def notify(channel: str, text: str, key: str = "") -> dict:
    """Leave a notice for people on a channel; returns {"channel", "number"}: which notice of the file it is."""
    number = await asyncio.to_thread(_append, {"channel": channel, "text": text, "key": key})
    return {"channel": channel, "number": number}


def _append(notice: dict) -> int:
    """Functions are called at least once, so a notice whose key is there already is not left again."""
    file = Path(os.environ.get("NOTICES", ".scriptrules/notices.ndjson"))
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+", encoding="utf-8") as stream:
        stream.seek(0)
        keys = [json.loads(line)["key"] for line in stream]
        if notice["key"] in keys:
            return keys.index(notice["key"]) + 1
        stream.write(json.dumps(notice) + "\n")
    return len(keys) + 1


@hookimpl
def scriptrules_functions() -> list:
    return [notify]


@hookimpl
def scriptrules_task_changed(task) -> None:
    if task.state in ("failed", "held"):
        log.warning("notices.attention", task=task.id, name=task.name, state=str(task.state), reason=task.reason)
