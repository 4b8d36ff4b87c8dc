"""What those who wait for a task are given."""

from __future__ import annotations

import msgspec
import pytest

from scriptrules.model import TASK_FINAL, Failure, Run, RunState, Task, TaskState
from scriptrules.supervisor.answers import answer_of, summary_of


def task(state: TaskState = TaskState.DONE, reason: str | None = None) -> Task:
    return Task("t1", "render", b"{}", state, 0, 0, root="t1", reason=reason)


def run(rule: str, state: RunState = RunState.DONE, value: bytes | None = b"null", **more: object) -> Run:
    return Run(f"r-{rule}", rule, "t1", "d", state, 0, 0, value=value, **more)  # type: ignore[arg-type]


BROKEN = Failure("ValueError", "no such page", line=4, trace='  File "rules/render.py", line 4')


def test_a_summary_has_all_values_and_the_first_that_is_one() -> None:
    summary = msgspec.json.decode(summary_of(task(), [run("audit"), run("render", value=b"[1]"), run("c", value=b"2")]))
    assert summary == {
        "task": "t1", "status": "done", "reason": None, "value": [1], "values": {"audit": None, "render": [1], "c": 2},
    }  # fmt: skip


def test_a_summary_of_a_failed_task_says_which_rule_failed_and_where() -> None:
    runs = [run("audit", value=b"1"), run("render", RunState.FAILED, None, error=BROKEN)]
    summary = msgspec.json.decode(summary_of(task(TaskState.FAILED), runs))
    assert (summary["status"], summary["value"]) == ("failed", 1)
    assert summary["reason"] == "rule render, line 4: ValueError: no such page"


def test_a_task_that_nothing_matched_is_done_and_says_so() -> None:
    summary = msgspec.json.decode(summary_of(task(TaskState.UNMATCHED, "no rule's `on` fits"), []))
    assert summary == {
        "task": "t1", "status": "done", "reason": "no rule's `on` fits", "value": None, "values": {},
    }  # fmt: skip


@pytest.mark.parametrize("state", sorted(TASK_FINAL))
def test_every_way_to_end_has_a_status(state: TaskState) -> None:
    status = msgspec.json.decode(summary_of(task(state), []))["status"]
    assert status == ("done" if state is TaskState.UNMATCHED else state)


def test_a_call_is_answered_with_the_value_of_the_run_that_answers() -> None:
    runs = [run("audit", value=b"1"), run("render", value=b'{"pages":3}', answers=True)]
    assert answer_of(task(), runs) == (b'{"pages":3}', None)
    assert answer_of(task(), [run("render", value=None, answers=True)]) == (b"null", None)


def test_a_failure_comes_back_with_the_remote_trace() -> None:
    answer, failure = answer_of(
        task(TaskState.FAILED), [run("render", RunState.FAILED, None, error=BROKEN, answers=True)]
    )
    assert answer == b"null"
    assert failure == Failure(
        "CallFailed", "render: rule render, line 4: ValueError: no such page", trace='  File "rules/render.py", line 4'
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (task(TaskState.DROPPED), "render: dropped"),
        (task(TaskState.CANCELLED, "by Eva"), "render: by Eva"),
        (task(TaskState.UNMATCHED, "no rule's `on` fits"), "render: no rule's `on` fits"),
        (task(TaskState.HELD, "unresolved"), "render: nobody answers"),
    ],
)
def test_a_call_that_nobody_answers_any_more_says_why(given: Task, says: str) -> None:
    assert answer_of(given, [run("audit")]) == (b"null", Failure("CallFailed", says))


def test_a_cancelled_callee_is_a_failure() -> None:
    _, failure = answer_of(task(TaskState.CANCELLED), [run("render", RunState.CANCELLED, None, answers=True)])
    assert failure == Failure("CallFailed", "render: rule render was cancelled")
