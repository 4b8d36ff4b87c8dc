"""What a commit has changed, as transitions: the log that watchers follow, and how many things have ended how.

A transition is written as a tuple of its fields, because there are tens of thousands of them a second. What it is
about is looked up by who reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import itemgetter

from scriptrules.model import TASK_FINAL, Task, TaskState
from scriptrules.store.protocol import Change

EVENTS_KEPT = 1_000_000  # transitions; whoever is further behind has to begin anew
_CALLED = {"t": "task.", "": ""}  # by the letter that an id begins with; others are runs
_letter = itemgetter(slice(1))
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
    states = [task.state for task in change.tasks] + [move.state for move in change.moves]
    now = Counter(chain(states, (state for _, state, _ in ended)))
    now.subtract(before.values())
    finals = Counter({("tasks", state): number for state, number in now.items() if state in TASK_FINAL})
    for state, number in change.finals:
        finals["runs", state] += number
    return finals


def left_by(change: Change) -> list[str]:
    """The tasks that may leave a final state by a change."""
    released = (move.id for move in change.moves if move.state is TaskState.NEW)
    return list(dict.fromkeys(chain((id for id, _ in change.reopened), released)))


def count(transitions: Sequence[Written]) -> dict[str, int]:
    """How many there are of each, by what it is called: "task.done", "run.held", "rules.changed"."""
    letters, states = map(_letter, map(itemgetter(0), transitions)), map(itemgetter(1), transitions)
    kinds = Counter(zip(letters, states, strict=True))
    return {_CALLED.get(letter, "run.") + state: number for (letter, state), number in kinds.items()}
