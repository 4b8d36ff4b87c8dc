"""Finds for a run that waits in `receive` the task that it gets.

The store makes the run's wake due when there may be one. Whether there is, is read here, outside its transactions:
the first that has arrived since the run's own task, fits, and was not given to the run before. An earlier one that is
being matched may still be held, so the order of arrival is kept by waiting for what becomes of it.
"""

from __future__ import annotations

import msgspec

from scriptrules.model import ENTRY_FINAL, Entry, Run, Task, TaskState
from scriptrules.sandbox.wire import ReceivedTask
from scriptrules.store.protocol import Store
from scriptrules.store.receiving import fits, shape_of
from scriptrules.supervisor.arguments import receive_args
from scriptrules.supervisor.entries import receive_wakes, received_before

PASSED_MAX = 50  # tasks that one look may pass over before their shape is remembered
PAGE = 500  # tasks of one look into the store
NEVER = frozenset({TaskState.HELD, TaskState.DROPPED, TaskState.CANCELLED})  # states in which nobody receives a task


class Found(msgspec.Struct):
    """What a look has found. `dear` are the shapes that it has passed over too many for."""

    task: ReceivedTask | None
    dear: list[str]


def is_receiving(entries: list[Entry], seq: int) -> bool:
    """Whether the entry waits for the arrival of a task."""
    return len(entries) >= seq and entries[seq - 1].name == "receive" and entries[seq - 1].state not in ENTRY_FINAL


async def find(store: Store, run: Run, entries: list[Entry], entry: Entry) -> Found:
    """The task that an entry receives, if it is there.

    Args:
        run: that waits.
        entries: of the run.
    """
    args = receive_args(entry.effective)
    keys = [wake.key for wake in receive_wakes(run.id, entry)]
    passed = 0
    taken, after = received_before(entries, entry)
    while True:
        page = await store.arrived(run.task, keys, after, PAGE)
        for place, one in page:
            if one.id in taken or one.state in NEVER or not fits(one.data, args.match):
                passed += 1
                continue
            return Found(None if one.state is TaskState.NEW else _given(one, place), _dear(keys, passed))
        if len(page) < PAGE:
            return Found(None, _dear(keys, passed))
        after = page[-1][0]


def _dear(keys: list[str], passed: int) -> list[str]:
    return list(map(shape_of, keys)) if passed > PASSED_MAX else []


def _given(task: Task, place: int) -> ReceivedTask:
    data = msgspec.Raw(task.data)
    return ReceivedTask(task.name, data, task.id, task.root, task.hop, task.created, task.parent, place)
