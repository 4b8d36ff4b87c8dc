"""What a task gives to those who wait for it: its runs' values, or why there are none."""

from __future__ import annotations

import msgspec

from scriptrules.model import TASK_FINAL, Failure, Run, RunState, Task, TaskState, why_failed


def summary_of(task: Task, runs: list[Run]) -> bytes:
    """What `wait(handle)` of an emitted task is answered with, JSON.

    `value` is that of the first run, in the order in which they were started, that returned something.
    """
    values = {run.rule: msgspec.Raw(run.value) for run in runs if run.value is not None}
    first = next((run.value for run in runs if run.value not in (None, b"null")), b"null")
    reason = next((why_failed(run) for run in runs if run.state is RunState.FAILED), task.reason)
    return msgspec.json.encode(
        {
            "task": task.id,
            "status": "done" if task.state in (TaskState.DONE, TaskState.UNMATCHED) else str(task.state),
            "reason": reason if task.state is not TaskState.DONE else None,
            "value": msgspec.Raw(first or b"null"),
            "values": values,
        }
    )


def answer_of(task: Task, runs: list[Run]) -> tuple[bytes, Failure | None]:
    """What a `call()` is answered with: the value of the run that answers, or why there is none."""
    run = next((run for run in runs if run.answers), None)
    if run is not None and run.state is RunState.DONE:
        return run.value or b"null", None
    if run is not None:
        trace = run.error.trace if run.error else None
        return b"null", Failure("CallFailed", f"{task.name}: {why_failed(run)}", trace=trace)
    why = task.reason or str(task.state) if task.state in TASK_FINAL else "nobody answers"
    return b"null", Failure("CallFailed", f"{task.name}: {why}")
