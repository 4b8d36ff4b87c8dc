"""From a worker's answer about a task to runs, states and effects: pure, like `transitions`."""

from __future__ import annotations

import msgspec

from scriptrules.model import RUN_FINAL, Failure, Run, RunState, Task, TaskState
from scriptrules.sandbox.wire import Slice, Started, Taken, TaskView
from scriptrules.store.protocol import TaskMove
from scriptrules.supervisor.arguments import WorkerLied
from scriptrules.supervisor.decision import Decision, Setting
from scriptrules.supervisor.transitions import on_slice

REASONS_SHOWN = 5  # near misses that the reason of an unmatched task names


class Matched(msgspec.Struct):
    """What becomes of a task that was matched. `runs` has a decision, and the slot it stands in, for each run."""

    move: TaskMove
    runs: list[tuple[Decision, Slice]] = []


def view_of(task: Task) -> TaskView:
    """A task as it is sent to a worker."""
    return TaskView(task.id, task.name, task.data, task.root, task.hop, task.created, task.parent, task.by)


def on_taken(
    task: Task,
    taken: Taken,
    condemned: dict[str, Failure],
    now: int,
    python: str,
    policy: int,
    setting: Setting,
) -> Matched:
    """A task was matched, and the first slice of each of its runs has ended.

    Args:
        condemned: rules whose run has killed a worker, with what is known of it; they were not executed again.
        now: when the slices began: the `created` of the runs, and their `now()`.

    Raises:
        WorkerLied: a slice cannot have come from an honest worker.
    """
    if not taken.runs and task.reply is None:
        near = [f"{rule}: {why}" for rule, why in list(taken.reasons.items())[:REASONS_SHOWN]]
        return Matched(TaskMove(task.id, TaskState.UNMATCHED, now, "; ".join(near) or "no rule's `on` fits"))
    answering: Started | None = None
    if task.reply is not None:
        best = max((started.priority for started in taken.runs if started.answers), default=None)
        answers = [started for started in taken.runs if started.answers and started.priority == best]
        if not answers:
            return Matched(TaskMove(task.id, TaskState.HELD, now, "unresolved"))
        if len(answers) > 1:
            return Matched(TaskMove(task.id, TaskState.HELD, now, "ambiguous"))
        answering = answers[0]
    matched = Matched(TaskMove(task.id, TaskState.RUNNING, now))
    for started in taken.runs:
        run = Run(
            id=setting.new_id("r"),
            rule=started.rule,
            task=task.id,
            digest=started.digest,
            state=RunState.QUEUED,
            since=now,
            created=now,
            answers=started is answering,
            python=python,
            policy=policy,
            reasons=msgspec.json.encode(taken.reasons) if taken.reasons else None,
        )
        if started.slice is None and started.rule not in condemned:
            raise WorkerLied(f"rule {started.rule} was not executed")
        piece = started.slice or Slice(0, "limit", error=condemned[started.rule])
        matched.runs.append((on_slice(run, [], task, piece, now, setting), piece))
    states = [decision.run.state for decision, _ in matched.runs]
    unfinished = sum(state not in RUN_FINAL for state in states)
    if unfinished:
        matched.move = TaskMove(task.id, TaskState.RUNNING, now, open=unfinished)
    else:
        state = TaskState.FAILED if RunState.FAILED in states else TaskState.DONE
        matched.move = TaskMove(task.id, state, now)
    return matched
