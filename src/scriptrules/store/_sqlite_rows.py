"""How tasks and runs are rows of an SQLite store."""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

from scriptrules.model import Control, Failure, Run, RunState, Task, TaskState

# Without an adapter each None and each bytes of a row costs a search for one that fails, two thirds of a microsecond.
sqlite3.register_adapter(bytes, bytes)
sqlite3.register_adapter(type(None), dict[None, None]().get)


def task_row(task: Task) -> tuple[Any, ...]:
    return (
        task.id, task.name, task.data, str(task.state), task.since, task.created, task.root, task.parent, task.by,
        task.hop, task.depth, task.key, task.reply, task.reason,
    )  # fmt: skip


def task_of(row: tuple[Any, ...]) -> Task:
    id, name, data, state, since, created, root, parent, by, hop, depth, key, reply, reason = row
    return Task(id, name, data, TaskState(state), since, created, root, parent, by, hop, depth, key, reply, reason)


def run_row(run: Run) -> tuple[Any, ...]:
    error = None if run.error is None else msgspec.json.encode(run.error)
    return (
        run.id, run.rule, run.task, run.digest, str(run.state), run.since, run.created, run.reason, run.ended,
        run.value, error, run.attempt, run.answers, run.python, run.policy, run.reasons,
        None if run.control is None else msgspec.json.encode(run.control), run.deadline, run.slot,
    )  # fmt: skip


def run_of(row: tuple[Any, ...]) -> Run:
    fields = list(row)
    fields[4] = RunState(fields[4])
    fields[10] = None if fields[10] is None else msgspec.json.decode(fields[10], type=Failure)
    fields[12] = bool(fields[12])
    fields[16] = None if fields[16] is None else msgspec.json.decode(fields[16], type=Control)
    return Run(*fields)
