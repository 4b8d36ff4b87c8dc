"""Finds for a run that waits in `receive` the task that it gets.

The store makes the run's wake due when there may be one. Whether there is, is read here, outside its transactions:
the first that has arrived since the run's own task, fits, and was not given to the run before. An earlier one that is
being matched may still be held, so the order of arrival is kept by waiting for what becomes of it.
"""

from __future__ import annotations

import msgspec

from scriptrules.model import ENTRY_FINAL, Entry, Task, TaskState
from scriptrules.sandbox.wire import ReceivedTask
from scriptrules.store.protocol import Store
from scriptrules.store.receiving import fits
from scriptrules.supervisor.arguments import receive_args
from scriptrules.supervisor.entries import received_before

PAGE = 500  # tasks of one look into the store
NEVER = frozenset({TaskState.HELD, TaskState.DROPPED, TaskState.CANCELLED})  # states in which nobody receives a task


def is_receiving(entries: list[Entry], seq: int) -> bool:
    """Whether the entry waits for the arrival of a task."""
    return len(entries) >= seq and entries[seq - 1].name == "receive" and entries[seq - 1].state not in ENTRY_FINAL


async def find(store: Store, task: str, entries: list[Entry], entry: Entry) -> ReceivedTask | None:
    """The task that an entry receives, if it is there.

    Args:
        task: that of the run.
        entries: of the run.
    """
    args = receive_args(entry.args)
    taken, after = received_before(entries, entry)
    while True:
        page = await store.arrived(task, args.on, after, PAGE)
        for place, one in page:
            if one.id in taken or one.state in NEVER or not fits(one.data, args.match):
                continue
            return None if one.state is TaskState.NEW else _given(one, place)
        if len(page) < PAGE:
            return None
        after = page[-1][0]


def _given(task: Task, place: int) -> ReceivedTask:
    data = msgspec.Raw(task.data)
    return ReceivedTask(task.name, data, task.id, task.root, task.hop, task.created, task.parent, place)
