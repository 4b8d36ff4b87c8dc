"""From a worker's answer about a task to runs, states and effects: pure, like `transitions`."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from scriptrules.model import RUN_FINAL, Control, Failure, Run, RunState, Task, TaskState, why_failed
from scriptrules.sandbox.wire import Slice, Started, Taken, TaskView
from scriptrules.store.protocol import TaskMove
from scriptrules.supervisor.arguments import WorkerLied
from scriptrules.supervisor.decision import Cancel, Decision, Replay, Setting, begin_timeout
from scriptrules.supervisor.limits import Admission, occupy
from scriptrules.supervisor.transitions import Cut, on_slice

REASONS_SHOWN = 5  # near misses that the reason of an unmatched task names


class Matched(msgspec.Struct):
    """What becomes of a task that was matched. `runs` has a decision for each run, and the slice that it has had."""

    move: TaskMove
    runs: list[tuple[Decision, Slice | None]] = []
    dropped: list[str] = []  # rules whose limit was full, which therefore have no run


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
    controls: Mapping[str, Control] = {},
    admissions: Mapping[str, Admission] = {},
    cuts: Mapping[str, Cut] = {},
) -> Matched:
    """A task was matched, and the first slice of each of its runs has ended.

    Args:
        condemned: rules whose run has killed a worker, with what is known of it; they were not executed again.
        cuts: where a breakpoint stops a slice, by rule.
        now: when the slices began: the `created` of the runs, and their `now()`.
        controls: what runs keep to, by the name of their rule, where it says anything.
        admissions: whether a run may begin, by the name of its rule, where that has a limit; it was not executed.

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
        admission = admissions.get(started.rule)
        if (started.slice is None) != (admission is not None or started.rule in condemned):
            raise WorkerLied(f"rule {started.rule} was not executed, or was before it might be")
        if admission is not None and admission.answer == "drop":
            matched.dropped.append(started.rule)
            continue
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
            control=controls.get(started.rule),
        )
        if admission is not None:
            decision = Decision(run, effects=[Replay()])
            occupy(decision, admission, now)
            decision.effects += [Cancel(other) for other in admission.cancel]
            matched.runs.append((decision, None))
            continue
        piece = started.slice or Slice(0, "limit", error=condemned[started.rule])
        decision = on_slice(run, [], task, piece, now, setting, cut=cuts.get(started.rule))
        begin_timeout(decision, now)
        matched.runs.append((decision, piece))
    states = [decision.run.state for decision, _ in matched.runs]
    unfinished = sum(state not in RUN_FINAL for state in states)
    full = f"limit: dropped by {', '.join(matched.dropped)}" if matched.dropped else None
    if unfinished:
        matched.move = TaskMove(task.id, TaskState.RUNNING, now, full, unfinished)
    elif not states:
        matched.move = TaskMove(task.id, TaskState.DROPPED, now, full)
    else:
        failed = next((decision.run for decision, _ in matched.runs if decision.run.state is RunState.FAILED), None)
        state = TaskState.FAILED if failed else TaskState.DONE
        matched.move = TaskMove(task.id, state, now, why_failed(failed) if failed else None)
    return matched
