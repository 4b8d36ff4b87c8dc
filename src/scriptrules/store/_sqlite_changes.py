"""What a change does within an SQLite transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

import msgspec

from scriptrules.model import TASK_FINAL, Task, TaskState
from scriptrules.store._sqlite_arrivals import Arrivals
from scriptrules.store._sqlite_events import EventLog
from scriptrules.store._sqlite_queries import QUERIES, insert
from scriptrules.store._sqlite_rows import run_row, task_row
from scriptrules.store._sqlite_sightings import Sightings
from scriptrules.store._sqlite_trees import Awaited, grow
from scriptrules.store.events import Ended, arrivals_of, finals_of, left_by, transitions_of
from scriptrules.store.protocol import (
    ON_TASKS,
    Audit,
    Change,
    Committed,
    Ingested,
    SecretVersion,
    Variable,
    Wake,
    decide_keys,
)
from scriptrules.tokens import Token


def ingest_tasks(
    connection: sqlite3.Connection, tasks: list[Task], arrivals: Arrivals, events: EventLog
) -> list[Ingested]:
    keyed = [task for task in tasks if task.key is not None]
    known: dict[str, tuple[str, str, bytes]] = {}
    if keyed:
        rows = connection.execute(QUERIES["known_keys"], (json.dumps([task.key for task in keyed]),))
        known = {row[0]: row[1:] for row in rows}
    ingested, fresh = decide_keys(tasks, known)
    _insert_tasks(connection, fresh, arrivals)
    events.note(arrivals_of(fresh))
    return ingested


def _insert_tasks(connection: sqlite3.Connection, tasks: list[Task], arrivals: Arrivals) -> None:
    insert(connection, "insert_tasks", [(*task_row(task), arrivals.place(connection, task)) for task in tasks])
    arrivals.save(connection)


def apply_change(
    connection: sqlite3.Connection,
    change: Change,
    arrivals: Arrivals,
    sightings: Sightings,
    events: EventLog,
    awaited: Awaited,
) -> Committed:
    many = connection.executemany
    before = _states(connection, left_by(change))
    if change.tasks:
        _insert_tasks(connection, change.tasks, arrivals)
    if change.runs:
        insert(connection, "put_runs", [run_row(run) for run in change.runs])
    if change.journal:
        insert(connection, "append_journal", change.journal)
    if change.logs:
        many(QUERIES["append_logs"], ((run, *msgspec.structs.astuple(line)) for run, line in change.logs))
    if change.wakes:
        many(QUERIES["put_wakes"], map(msgspec.structs.astuple, change.wakes))
    if change.done:
        many(QUERIES["remove_wakes"], ((wake.run, wake.seq, wake.kind, wake.key) for wake in change.done))
        many(QUERIES["remove_branches"], ((wake.run, wake.seq) for wake in change.done if wake.kind == "tree"))
    if change.marks:
        many(QUERIES["put_marks"], map(msgspec.structs.astuple, change.marks))
    if change.moves:
        moves = ((str(move.state), move.since, move.reason, move.open, move.id) for move in change.moves)
        many(QUERIES["move_tasks"], moves)
    if change.reopened:
        many(QUERIES["reopen_tasks"], change.reopened)
    if change.generated or change.ran:
        sightings.write(connection, change)
    if change.variables:
        put_variables(connection, change.variables, [])
    if change.uses:
        many(QUERIES["put_uses"], map(msgspec.structs.astuple, change.uses))
    if change.edits:
        many(QUERIES["edit_tasks"], ((data, id) for id, data in change.edits))
    if change.breakpoints or change.passes or change.stepping or change.audit:
        _apply_breakpoints(connection, change)
    ended = _end_tasks(connection, change) if change.ends else []
    events.note(transitions_of(change, ended), finals_of(change, ended, before))
    states = [(id, TaskState(state)) for id, state, _ in ended]
    awake = _awake(connection, change, states) if awaited.by(change) else []
    return Committed(states, awake, arrivals.apply(connection, change))


def _states(connection: sqlite3.Connection, tasks: list[str]) -> dict[str, str]:
    return dict(connection.execute(QUERIES["states"], (json.dumps(tasks),)).fetchall()) if tasks else {}


def put_variables(
    connection: sqlite3.Connection, variables: Iterable[Variable], secrets: Iterable[SecretVersion]
) -> None:
    """Set and remove one after the other: the same name may be there twice."""
    connection.executemany(QUERIES["put_secrets"], map(msgspec.structs.astuple, secrets))
    for variable in variables:
        if variable.value is None and variable.version is None:
            connection.execute(QUERIES["remove_variable"], (variable.root, variable.name))
            if not variable.root:
                connection.execute(QUERIES["forget_unused"], (variable.name,))
        else:
            connection.execute(QUERIES["put_variable"], msgspec.structs.astuple(variable))


def prune_variables(connection: sqlite3.Connection, before: int) -> None:
    connection.execute(QUERIES["prune_variables"])
    connection.execute(QUERIES["prune_uses"])
    connection.execute(QUERIES["prune_secrets"], (before,))


def put_token(connection: sqlite3.Connection, token: Token, audit: Audit) -> None:
    connection.execute(QUERIES["put_token"], msgspec.structs.astuple(token))
    connection.execute(QUERIES["append_audit"], msgspec.structs.astuple(audit))


def remove_token(connection: sqlite3.Connection, name: str, audit: Audit) -> None:
    connection.execute(QUERIES["remove_token"], (name,))
    connection.execute(QUERIES["append_audit"], msgspec.structs.astuple(audit))


def _apply_breakpoints(connection: sqlite3.Connection, change: Change) -> None:
    for name, breakpoint in change.breakpoints:
        if breakpoint is None:
            connection.execute(QUERIES["remove_breakpoint"], (name,))
            connection.execute(QUERIES["remove_passes"], (name,))
        else:
            connection.execute(QUERIES["put_breakpoint"], (name, msgspec.json.encode(breakpoint)))
    connection.executemany(QUERIES["put_passes"], map(msgspec.structs.astuple, change.passes))
    for thing, steps in change.stepping:
        connection.execute(QUERIES["put_stepping" if steps else "remove_stepping"], (thing,))
    connection.executemany(QUERIES["append_audit"], map(msgspec.structs.astuple, change.audit))


def _end_tasks(connection: sqlite3.Connection, change: Change) -> list[Ended]:
    connection.executemany(QUERIES["count_end"], ((end.task,) for end in change.ends))
    tasks = json.dumps(list({end.task for end in change.ends}))
    return connection.execute(QUERIES["end_tasks"], (tasks, change.ends[-1].since)).fetchall()


def _awake(connection: sqlite3.Connection, change: Change, ended: Iterable[tuple[str, TaskState]]) -> list[Wake]:
    """The waits for tasks that this change fulfils, whichever of the two came first."""
    finals = [id for id, _ in ended]
    finals += [move.id for move in change.moves if move.state in TASK_FINAL]
    watched = [wake.key for wake in change.wakes if wake.kind in ON_TASKS]
    if watched:
        finals += [row[0] for row in connection.execute(QUERIES["ended_among"], (json.dumps(watched),))]
    found: dict[Wake, None] = {}
    for keys, query in ((finals, "wakes_on_ended_tasks"), (change.answered, "wakes_on_answers")):
        if keys:
            rows = connection.execute(QUERIES[query], (json.dumps(keys),))
            found.update((Wake(*row), None) for row in rows)
    found.update((wake, None) for wake in grow(connection, finals))
    return list(found)
