"""From a worker's answer about a task to its state and its runs."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from scriptrules.journal import Intent
from scriptrules.model import Control, Failure, Limit, RunState, Task, TaskState
from scriptrules.sandbox.wire import Slice, Started, Taken
from scriptrules.store.protocol import TaskMove
from scriptrules.supervisor.arguments import WorkerLied
from scriptrules.supervisor.decision import Cancel, Replay
from scriptrules.supervisor.limits import Admission
from scriptrules.supervisor.matching import Matched, on_taken, view_of
from scriptrules.supervisor.states import exit_of
from scriptrules.supervisor.transitions import Setting

TASK = Task("t1", "render", b'{"page":1}', TaskState.NEW, 5, 5, root="t0", parent="r0", by="main", hop=2, depth=1)
CALLED = msgspec.structs.replace(TASK, reply=3)
RETURNED = Slice(1, "returned", value=b"7")
RAISED = Slice(1, "raised", error=Failure("ValueError", "no"))
SLEEPS = Slice(1, "blocked", [Intent("sleep", b'{"seconds":1.0}', 2)])


def started(rule: str, piece: Slice | None = RETURNED, answers: bool = False, priority: int = 0) -> Started:
    return Started(rule, f"digest of {rule}", answers, priority, piece)


def matched(task: Task, *runs: Started, reasons: dict[str, str] | None = None, **condemned: Failure) -> Matched:
    numbers = itertools.count(1)
    setting = Setting(lambda letter: f"{letter}{next(numbers)}", frozenset({"sleep"}), {}, 100, 64)
    return on_taken(task, Taken(1, 1, list(runs), None, reasons or {}), condemned, 9, "3.11", 4, setting)


def test_a_task_that_no_pattern_fits_is_unmatched() -> None:
    assert matched(TASK).move == TaskMove("t1", TaskState.UNMATCHED, 9, "no rule's `on` fits")


def test_an_unmatched_task_says_what_came_near_but_not_without_end() -> None:
    reasons = {f"rule{number}": "its filter does not hold" for number in range(20)}
    reason = matched(TASK, reasons=reasons).move.reason
    assert reason is not None
    assert reason.startswith("rule0: its filter does not hold; rule1: ")
    assert reason.count(";") == 4


def test_each_match_is_a_run_pinned_to_its_source() -> None:
    found = matched(TASK, started("a"), started("b", SLEEPS), reasons={"c": "no"})
    first, second = (decision.run for decision, _ in found.runs)
    assert (first.id, first.rule, first.task, first.digest, first.created) == ("r1", "a", "t1", "digest of a", 9)
    assert (first.python, first.policy, first.reasons, first.answers) == ("3.11", 4, b'{"c":"no"}', False)
    assert (first.state, first.value, second.state) == (RunState.DONE, b"7", RunState.WAITING)


@pytest.mark.parametrize(
    ("pieces", "state", "open"),
    [
        ([RETURNED], TaskState.DONE, 0),
        ([RETURNED, RAISED], TaskState.FAILED, 0),
        ([RETURNED, SLEEPS], TaskState.RUNNING, 1),
        ([RAISED, SLEEPS, SLEEPS], TaskState.RUNNING, 2),
    ],
)
def test_a_task_ends_at_once_where_all_its_runs_do(pieces: list[Slice], state: TaskState, open: int) -> None:
    found = matched(TASK, *(started(str(number), piece) for number, piece in enumerate(pieces)))
    reason = "rule 1: ValueError: no" if state is TaskState.FAILED else None
    assert found.move == TaskMove("t1", state, 9, reason, open)


def test_a_call_is_answered_by_the_rule_that_names_it_and_others_run_too() -> None:
    found = matched(CALLED, started("audit"), started("render", answers=True))
    assert [decision.run.answers for decision, _ in found.runs] == [False, True]


def test_of_several_that_answer_the_highest_priority_does() -> None:
    found = matched(CALLED, started("a", answers=True, priority=1), started("b", answers=True, priority=2))
    assert [decision.run.answers for decision, _ in found.runs] == [False, True]


def test_a_task_that_nobody_waits_for_is_answered_by_nobody() -> None:
    assert [decision.run.answers for decision, _ in matched(TASK, started("a", answers=True)).runs] == [False]


@pytest.mark.parametrize(
    ("runs", "reason"),
    [
        ([], "unresolved"),
        ([started("audit")], "unresolved"),
        ([started("a", answers=True), started("b", answers=True)], "ambiguous"),
    ],
)
def test_a_call_that_cannot_be_answered_is_held_and_nothing_runs(runs: list[Started], reason: str) -> None:
    found = matched(CALLED, *runs)
    assert (found.move, found.runs) == (TaskMove("t1", TaskState.HELD, 9, reason), [])
    assert exit_of("held", reason)


def test_a_rule_that_killed_its_worker_fails_without_being_executed_again() -> None:
    failure = Failure("LimitExceeded", "the worker was killed", code="SR601")
    found = matched(TASK, started("bad", None), started("good"), bad=failure)
    assert [decision.run.state for decision, _ in found.runs] == [RunState.FAILED, RunState.DONE]
    assert found.runs[0][0].run.error == failure


def test_a_worker_that_skips_what_it_was_not_told_to_is_found_out() -> None:
    with pytest.raises((WorkerLied, KeyError)):
        matched(TASK, started("good", None))


def test_a_worker_that_lies_about_a_slice_is_found_out() -> None:
    with pytest.raises(WorkerLied):
        matched(TASK, started("a", Slice(1, "blocked")))


def test_rules_see_of_a_task_what_belongs_to_them() -> None:
    view = view_of(CALLED)
    assert (view.id, view.name, view.data, view.root, view.hop, view.created, view.parent, view.by) == (
        "t1", "render", b'{"page":1}', "t0", 2, 5, "r0", "main",
    )  # fmt: skip


def test_a_rule_with_a_limit_is_not_executed_before_it_has_a_slot() -> None:
    def with_limit(answer: str, piece: Slice | None = None, *more: Started) -> Matched:
        admissions = {"a": Admission("a", answer, ["r0"] if answer == "queue" else [])}
        taken = Taken(1, 1, [started("a", piece), *more], None, {})
        setting = Setting(lambda letter: f"{letter}1", frozenset({"sleep"}), {}, 100, 64)
        return on_taken(TASK, taken, {}, 9, "3.11", 4, setting, {"a": Control(limit=Limit(1))}, admissions)

    found = with_limit("start")
    ((decision, piece),) = found.runs
    assert (piece, decision.run.state, decision.run.reason) == (None, RunState.QUEUED, None)
    assert decision.effects == [Replay()]
    assert found.move == TaskMove("t1", TaskState.RUNNING, 9, open=1)
    ((decision, _),) = with_limit("queue").runs
    assert (decision.run.reason, decision.effects) == ("limit", [Cancel("r0")])
    assert (
        exit_of(decision.run.state, decision.run.reason)
        == "the end of another run of this rule; or `scriptrules cancel ID`"
    )
    assert with_limit("drop").move == TaskMove("t1", TaskState.DROPPED, 9, "limit: dropped by a")
    both = with_limit("drop", None, started("b"))
    assert (both.move.state, [decision.run.rule for decision, _ in both.runs]) == (TaskState.DONE, ["b"])
    with pytest.raises(WorkerLied, match="before it might be"):
        with_limit("start", RETURNED)
