"""What a breakpoint would have caught: it is tried on what has happened, and holds nothing."""

from __future__ import annotations

import msgspec

from scriptrules.model import Breakpoint, Task
from scriptrules.rulebook.breakpoints import TASK
from scriptrules.rulebook.index import matches
from scriptrules.sandbox import wire
from scriptrules.store.protocol import Filter, Store
from scriptrules.supervisor.breakpoints import Breakpoints
from scriptrules.supervisor.shapes import entries_of

LOOKED_AT = 1000  # the newest tasks
SHOWN = 50


class Caught(msgspec.Struct, frozen=True):
    """A task, or an entry of a run, that the breakpoint would have held; or why it could not be said."""

    task: str
    name: str
    run: str | None = None
    seq: int | None = None
    error: str | None = None


class Preview(msgspec.Struct, frozen=True):
    looked_at: int  # tasks
    caught: int
    items: list[Caught]  # the newest fifty


async def preview(breakpoints: Breakpoints, store: Store, breakpoint: Breakpoint) -> Preview:
    """Try a breakpoint on the newest tasks and what their runs did."""
    tasks = await store.tasks(Filter(limit=LOOKED_AT))
    caught: list[Caught] = []
    for task in tasks:
        if any(pattern == task.name or matches(pattern, task.name) for pattern in breakpoint.on):
            caught += await _of_task(breakpoints, store, breakpoint, task)
    return Preview(len(tasks), len(caught), caught[:SHOWN])


async def _of_task(breakpoints: Breakpoints, store: Store, breakpoint: Breakpoint, task: Task) -> list[Caught]:
    if breakpoint.at == TASK:
        reason = await breakpoints.evaluate(breakpoint, task, None)
        return [] if reason is None else [Caught(task.id, task.name, error=_error(reason))]
    when, _, function = breakpoint.at.partition(":")
    caught = []
    for run in await store.runs(Filter(task=task.id, limit=LOOKED_AT)):
        for entry in await entries_of(store, run.id):
            if entry.name != function:
                continue
            result = entry.result if when == "after" else None
            subject = wire.EntrySubject(run.rule, run.id, entry.seq, entry.name, entry.effective, entry.line, result)
            reason = await breakpoints.evaluate(breakpoint, task, subject)
            if reason is not None:
                caught.append(Caught(task.id, task.name, run.id, entry.seq, _error(reason)))
    return caught


def _error(reason: str) -> str | None:
    kind, _, rest = reason.partition(":")
    return rest if kind == "breakpoint_error" else None
