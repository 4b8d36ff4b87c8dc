"""What a commit has changed, as transitions: the log that watchers follow, and how many things have ended how.

A transition is written as a tuple of its fields, because there are tens of thousands of them a second. What it is
about is looked up by who reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain

from scriptrules.model import TASK_FINAL, Task, TaskState
from scriptrules.store.protocol import Change

EVENTS_KEPT = 1_000_000  # transitions; whoever is further behind has to begin anew
Written = tuple[str, str, int, str | None]  # the fields of a `Transition`
Ended = tuple[str, str, str | None]  # a task, its state, its reason


def arrivals_of(tasks: Iterable[Task]) -> list[Written]:
    return [(task.id, task.state, task.since, task.reason) for task in tasks]


def transitions_of(change: Change, ended: Iterable[Ended]) -> list[Written]:
    """What a change has brought about: tasks that are new, then runs, then what becomes of tasks by them."""
    found = arrivals_of(change.tasks)
    found += [(run.id, run.state, run.since, run.reason) for run in change.runs]
    found += [(move.id, move.state, move.since, move.reason) for move in change.moves]
    found += [(id, TaskState.RUNNING, since, None) for id, since in change.reopened]
    found += [(id, "edited", 0, None) for id, _ in change.edits]
    found += [(id, state, change.ends[-1].since, reason) for id, state, reason in ended]
    if change.breakpoints:
        found.append(("", "breakpoints.changed", 0, None))
    found += [("", notice, 0, None) for notice in change.notices]
    return found


def finals_of(change: Change, ended: Iterable[Ended], before: Mapping[str, str]) -> Counter[tuple[str, str]]:
    """By how much a change alters the number of tasks and runs in each final state.

    Args:
        before: the states of the tasks that `left_by` names, before the change.
    """
    finals: Counter[tuple[str, str]] = Counter()
    finals.update(("tasks", task.state) for task in change.tasks if task.state in TASK_FINAL)
    finals.update(("tasks", move.state) for move in change.moves if move.state in TASK_FINAL)
    finals.update(("tasks", state) for _, state, _ in ended)
    finals.subtract(("tasks", state) for state in before.values() if state in TASK_FINAL)
    for state, number in change.finals:
        finals["runs", state] += number
    return finals


def left_by(change: Change) -> list[str]:
    """The tasks that may leave a final state by a change."""
    released = (move.id for move in change.moves if move.state is TaskState.NEW)
    return list(dict.fromkeys(chain((id for id, _ in change.reopened), released)))


def name_of(id: str, state: str) -> str:
    """What a transition is called: "task.done", "run.held", "rules.changed"."""
    return f"{'task' if id[0] == 't' else 'run'}.{state}" if id else state
