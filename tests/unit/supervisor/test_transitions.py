"""Each decision on a run, as a pure function; and that no sequence of facts can bring the state machine to grief."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from scriptrules import journal
from scriptrules.clock import SECOND
from scriptrules.journal import AgainRecord, CutRecord, EndRecord, Intent, SliceRecord, StartRecord
from scriptrules.model import (
    ENTRY_FINAL,
    RUN_FINAL,
    TASK_FINAL,
    Entry,
    EntryState,
    Failure,
    Retries,
    Run,
    RunState,
    Task,
    TaskState,
    Verdict,
    execution_key,
)
from scriptrules.sandbox.wire import Outcome, ReceivedTask, Slice
from scriptrules.store.protocol import Wake
from scriptrules.store.receiving import key_of
from scriptrules.supervisor import interventions, states, transitions
from scriptrules.supervisor.arguments import WorkerLied
from scriptrules.supervisor.decision import Cancel, Decision, Go, Replay, Setting, Start, Stop
from scriptrules.supervisor.entries import child_of, is_final, outcome_of, past_of

TASK = Task("t0", "upload.finished", b"{}", TaskState.RUNNING, 0, 0, root="t0", hop=4, depth=2)
BROKEN = Failure("ExecutionFailed", "exit code 3")
NOW = 1000 * SECOND
replace = msgspec.structs.replace
encode = msgspec.json.encode


def make_setting(**more: object) -> Setting:
    numbers = itertools.count(1)
    fields = {
        "new_id": lambda letter: f"{letter}{next(numbers)}",
        "blocking": frozenset({"wait", "call", "receive", "sleep", "sleep_until", "hold", "fetch"}),
        "retries": {"fetch": 1, "post": 0},
        "hop_max": 100,
        "call_depth_max": 64,
        **more,
    }
    return Setting(**fields)  # type: ignore[arg-type]


SETTING = make_setting()


def intent(function: str, /, **args: object) -> Intent:
    return Intent(function, encode(args), 1)


def started(name: str = "job", retries: int = 0) -> Intent:
    return intent("run", host="local", name=name, image="i", args=[], env={}, timeout=None, retries=retries, options={})


def wait(*what: int, timeout: float | None = None, any: bool = False, tree: bool = False) -> Intent:
    more = {"tree": True} if tree else {}
    return intent("wait", what=list(what), timeout=timeout, any=any, check=True, **more)


def receive(timeout: float | None = None) -> Intent:
    return intent("receive", on=["order.paid", "order.*"], match={"order": 1}, timeout=timeout)


def emit(name: str = "report.ready", **data: object) -> Intent:
    return intent("emit", name=name, data=data)


def call(name: str = "render") -> Intent:
    return intent("call", name=name, data={})


def sleep(seconds: float = 60.0) -> Intent:
    return intent("sleep", seconds=seconds)


class Taken(Decision):
    """A decision with the entries that there are after it."""

    known: list[Entry] = []


class Live:
    """A run as the supervisor has it in memory, with what the store would have: records and wakes."""

    def __init__(self, setting: Setting = SETTING, task: Task = TASK) -> None:
        self.run = Run("r1", "audit", task.id, "d1", RunState.QUEUED, 0, 0)
        self.setting = setting
        self.task = task
        self.entries: list[Entry] = []
        self.stored: list[bytes] = []
        self.wakes: dict[tuple[int, str, str], Wake] = {}
        self.now = NOW

    def take(self, decision: Decision | None) -> Decision:
        """Do what the supervisor does with a decision."""
        assert decision is not None
        for record in decision.records:
            journal.apply(self.entries, record)
            self.stored.append(journal.encode(record))
        self.run = decision.run
        for wake in decision.wakes:
            self.wakes[wake.seq, wake.kind, wake.key] = wake
        for wake in decision.done:
            self.wakes.pop((wake.seq, wake.kind, wake.key), None)
        return Taken(**msgspec.structs.asdict(decision), known=list(self.entries))

    def slice(self, *intents: Intent, end: str = "blocked", **more: object) -> Decision:
        piece = Slice(1, end, list(intents), **more)  # type: ignore[arg-type]
        return self.take(transitions.on_slice(self.run, self.entries, self.task, piece, self.now, self.setting))

    def outcome(
        self, seq: int, result: object = None, error: Failure | None = None, attempt: int = 1
    ) -> Decision | None:
        return transitions.on_outcome(
            self.run, self.entries, seq, attempt, encode(result), error, Verdict.ONCE, self.now, self.setting
        )

    def ended(self, seq: int, result: object = None, error: Failure | None = None, attempt: int = 1) -> Decision:
        return self.take(self.outcome(seq, result, error, attempt))

    def timer(self, seq: int, kind: str = "timer") -> Decision:
        wake = self.wakes[seq, kind, ""]
        assert wake.due is not None
        self.now = wake.due
        return self.take(transitions.on_timer(self.run, self.entries, wake, self.now))

    def task_ended(self, seq: int, kind: str, child: str, summary: object, error: Failure | None = None) -> Decision:
        wake = Wake("r1", seq, kind, child)
        return self.take(
            transitions.on_task_ended(self.run, self.entries, wake, encode(summary), error, self.now, self.setting)
        )

    def received(self, seq: int, task: str = "t9") -> Decision:
        found = ReceivedTask("order.paid", msgspec.Raw(b'{"order":1}'), task, place=7)
        return self.take(transitions.on_received(self.run, self.entries, seq, found, self.now))

    def tree_ended(self, seq: int, child: str, unwell: Sequence[Task] = ()) -> Decision:
        wake, summary = Wake("r1", seq, "tree", child), encode({"task": child, "status": "done", "value": 5})
        return self.take(
            transitions.on_tree_ended(self.run, self.entries, wake, summary, unwell, self.now, self.setting)
        )

    def cancel(self) -> Decision:
        return self.take(interventions.on_cancel(self.run, self.entries, self.now))

    def retry(self, from_start: bool = False) -> Decision:
        return self.take(interventions.on_retry(self.run, self.entries, "d2", from_start, self.now))

    def resume(self) -> Decision:
        return self.take(interventions.on_resume(self.run, self.entries, TASK, self.now, SETTING))

    def hold(self) -> Decision:
        return self.take(transitions.on_hold(self.run, "policy", Failure("Refused", "no"), self.now))

    @property
    def kinds(self) -> set[tuple[int, str]]:
        return {(seq, kind) for seq, kind, _ in self.wakes}


def outcomes(decision: Decision) -> list[Outcome]:
    assert isinstance(decision, Taken)
    return [outcome_of(decision.known[-1], decision.known) for effect in decision.effects if isinstance(effect, Go)]


def given_to(decision: Decision) -> object:
    (outcome,) = outcomes(decision)
    assert outcome.error is None
    return msgspec.json.decode(outcome.value)


# ---- the tables


def test_every_state_has_a_row_and_a_way_out() -> None:
    assert set(states.RUN) == set(RunState)
    assert set(states.TASK) == set(TaskState)
    for state in set(RunState) - RUN_FINAL:
        assert states.RUN[state] & RUN_FINAL, state
    for task_state in set(TaskState) - TASK_FINAL:
        assert states.TASK[task_state] & TASK_FINAL, task_state


def test_what_is_over_is_over_but_for_what_people_take_up_again() -> None:
    assert {state: states.RUN[state] for state in RUN_FINAL if states.RUN[state]} == {
        RunState.FAILED: frozenset({RunState.QUEUED})
    }
    assert {state for state in TASK_FINAL if not states.TASK[state]} == {TaskState.DROPPED}


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        *((state, state) for state in ("new", "queued", "running")),
        *(("waiting", reason) for reason in ("sleep", "wait", "call", "executions", "cancelling")),
        *(("held", reason) for reason in ("hold: ask Eva", "divergence", "policy", "loop", "depth")),
        *(("held", reason) for reason in ("unresolved", "ambiguous", "match_error: rule a", "match_limit: rule a")),
    ],
)
def test_every_state_that_is_not_final_says_what_ends_it(state: str, reason: str) -> None:
    assert states.exit_of(state, reason)


def test_a_transition_that_is_not_in_the_table_is_a_bug() -> None:
    live = Live()
    live.slice(end="returned")
    with pytest.raises(AssertionError, match="cannot go from done to held"):
        live.hold()


# ---- slices


def test_a_slice_that_emits_and_returns_ends_the_run_in_one_decision() -> None:
    live = Live(make_setting())
    decision = live.slice(emit("a", x=1), emit("b"), end="returned", value=b"[2]")
    assert (live.run.state, live.run.value, live.run.ended, decision.ended) == (RunState.DONE, b"[2]", NOW, True)
    assert [(child.id, child.name, child.data, child.parent, child.by) for child in decision.tasks] == [
        ("t1", "a", b'{"x":1}', "r1", "audit"),
        ("t2", "b", b"{}", "r1", "audit"),
    ]
    assert [entry.state for entry in live.entries] == [EntryState.DONE] * 2
    assert decision.effects == []


def test_a_slice_that_raises_has_no_effect_at_all() -> None:
    live = Live()
    decision = live.slice(end="raised", error=Failure("ValueError", "no", 3))
    assert (live.run.state, live.run.error, decision.ended) == (RunState.FAILED, Failure("ValueError", "no", 3), True)
    assert (decision.records, decision.tasks, decision.effects) == ([], [], [])


@pytest.mark.parametrize("end", ["raised", "limit"])
def test_entries_of_a_slice_that_did_not_come_to_its_end_do_not_count(end: str) -> None:
    live = Live()
    decision = live.slice(emit(), started(), end=end)
    assert (decision.records, decision.tasks, decision.wakes, decision.effects) == ([], [], [], [])
    assert live.run.state is RunState.FAILED


def test_fail_keeps_what_the_slice_did() -> None:
    live = Live()
    decision = live.slice(emit(), end="failed", error=Failure("Failed", "no stock"))
    assert len(decision.tasks) == 1
    assert live.run.state is RunState.FAILED


def test_a_divergence_holds_the_run_and_never_fails_it() -> None:
    live = Live()
    live.slice(sleep())
    live.timer(1)
    live.slice(end="diverged", error=Failure("Divergence", "expected sleep"))
    assert (live.run.state, live.run.reason) == (RunState.HELD, "divergence")
    assert live.run.error == Failure("Divergence", "expected sleep")


def test_an_execution_is_started_after_the_commit_and_leaves_a_wake() -> None:
    live = Live()
    decision = live.slice(started(), wait(1))
    assert decision.effects == [Start(1)]
    assert live.kinds == {(1, "execution")}
    assert (live.run.state, live.run.reason) == (RunState.WAITING, "wait")
    live.take(transitions.on_started(live.run, live.entries, 1, NOW))
    assert live.entries[0].state is EntryState.STARTED
    assert transitions.on_started(live.run, live.entries, 1, NOW) is None


def test_a_function_of_a_plugin_is_called_and_its_result_given_to_the_script() -> None:
    live = Live()
    assert live.slice(intent("fetch", url="u")).effects == [Start(1)]
    assert live.kinds == {(1, "function")}
    assert given_to(live.ended(1, {"status": 200})) == {"status": 200}
    assert live.run.state is RunState.RUNNING


def test_what_ended_while_the_script_was_replayed_is_given_to_it_at_once() -> None:
    live = Live()
    live.slice(intent("fetch"))
    live.hold()
    live.resume()
    assert outcomes(live.ended(1, 5)) == []
    assert given_to(live.slice()) == 5


# ---- wait


def test_a_wait_for_names_gives_results_in_the_order_of_its_arguments() -> None:
    live = Live()
    live.slice(started("a"), started("b"), wait(2, 1))
    assert outcomes(live.ended(2, {"status": "done", "exit_code": 0})) == []
    results = given_to(live.ended(1, {"status": "done", "exit_code": 0}))
    assert [(one["name"], one["seq"]) for one in results] == [("b", 2), ("a", 1)]  # type: ignore[index, attr-defined]
    assert live.kinds == set()


def test_a_wait_for_any_gives_what_ended_first_by_the_record() -> None:
    live = Live()
    live.slice(started("a"), started("b"), started("c"), sleep())
    for seq in (3, 2, 1):
        live.now += 1
        live.ended(seq, {"status": "done"})
    live.timer(4)
    results = given_to(live.slice(wait(1, 2, 3, any=True)))
    assert [one["name"] for one in results] == ["c"]  # type: ignore[index, attr-defined]


def test_a_wait_for_what_has_ended_goes_on_in_the_same_decision() -> None:
    live = Live()
    live.slice(started(), sleep())
    live.ended(1, {"status": "done"})
    live.timer(2)
    decision = live.slice(wait(1, timeout=5))
    assert len(outcomes(decision)) == 1
    assert live.run.state is RunState.RUNNING
    assert live.kinds == set()


def test_a_wait_that_times_out_raises_and_leaves_its_execution_running() -> None:
    live = Live()
    live.slice(started(), wait(1, timeout=5))
    assert live.wakes[2, "timer", ""].due == NOW + 5 * SECOND
    (outcome,) = outcomes(live.timer(2))
    assert outcome.error == Failure("TimeoutError", "wait() timed out after 5 s")
    assert live.kinds == {(1, "execution")}
    assert outcomes(live.ended(1, {"status": "done"})) == []


def test_a_wait_for_a_task_that_times_out_is_not_woken_by_it_any_more() -> None:
    live = Live(make_setting())
    live.slice(emit("a"), wait(1, timeout=5))
    live.timer(2)
    assert live.kinds == set()


def test_a_failed_execution_is_a_result_and_all_are_waited_for_first() -> None:
    live = Live()
    live.slice(started("a"), started("b"), wait(1, 2))
    assert outcomes(live.ended(1, {"status": "failed", "reason": "exit code 3"}, BROKEN)) == []
    results = given_to(live.ended(2, {"status": "done"}))
    assert [one["status"] for one in results] == ["failed", "done"]  # type: ignore[index, attr-defined]


def test_a_wait_for_a_task_asks_to_be_woken_by_its_end() -> None:
    live = Live(make_setting())
    live.slice(emit("a"), wait(1))
    assert set(live.wakes) == {(2, "task", "t1")}
    decision = live.task_ended(2, "task", "t1", {"task": "t1", "status": "done", "value": 7})
    assert given_to(decision) == [{"task": "t1", "status": "done", "value": 7, "name": "a", "seq": 1}]
    assert live.kinds == set()


def test_a_wait_for_any_task_gives_up_the_others() -> None:
    live = Live(make_setting())
    live.slice(emit("a"), emit("b"), wait(1, 2, any=True, timeout=9))
    live.task_ended(3, "task", "t2", {"status": "failed"})
    assert (live.run.state, live.kinds) == (RunState.RUNNING, set())


# ---- sleep, hold, call


def test_a_receive_is_decided_once_by_what_comes_first() -> None:
    live = Live()
    live.slice(receive(timeout=5))
    assert live.kinds == {(1, "timer"), (1, "receive")}
    assert len(live.wakes) == 3  # a key for each pattern
    timer = live.wakes[1, "timer", ""]
    assert given_to(live.received(1))["id"] == "t9"  # type: ignore[index]
    assert live.kinds == set()
    late = live.take(transitions.on_timer(live.run, live.entries, timer, NOW + 9))
    assert (late.records, outcomes(late)) == ([], [])

    other = Live()
    other.slice(receive(timeout=5))
    (outcome,) = outcomes(other.timer(1))
    assert outcome.error == Failure("TimeoutError", "receive() timed out after 5 s")
    assert other.kinds == set()
    assert outcomes(other.received(1)) == []


def test_sleep_until_ends_at_its_moment() -> None:
    live = Live()
    live.slice(intent("sleep_until", time="1970-01-01T00:30:00.000001Z"))
    assert (live.run.reason, live.wakes[1, "timer", ""].due) == ("sleep_until", 1800 * SECOND + 1)
    assert given_to(live.timer(1)) is None


def test_a_tree_keeps_what_its_task_gave_and_says_what_failed() -> None:
    live = Live(make_setting())
    live.slice(emit("a"), wait(1, tree=True))
    child = child_of(live.entries[0])
    assert live.kinds == {(1, "tree")}
    open_again = replace(TASK, id="t5", state=TaskState.RUNNING)
    decision = live.tree_ended(1, child, [open_again])
    assert (decision.wakes, outcomes(decision)) == ([Wake("r1", 1, "tree", child)], [])
    failed = replace(TASK, id="t5", state=TaskState.FAILED)
    (result,) = given_to(live.tree_ended(1, child, [failed]))  # type: ignore[misc]
    assert (result["status"], result["value"]) == ("failed", 5)
    assert result["reason"] == "upload.finished (t5): failed"
    (again,) = given_to(live.slice(wait(1)))  # type: ignore[misc]
    assert (again["status"], again["value"]) == ("done", 5)


def test_a_sleep_ends_by_its_timer() -> None:
    live = Live()
    live.slice(sleep(60))
    assert (live.run.reason, live.wakes[1, "timer", ""].due) == ("sleep", NOW + 60 * SECOND)
    assert given_to(live.timer(1)) is None
    assert (live.run.state, live.kinds) == (RunState.RUNNING, set())


def test_a_hold_stands_until_somebody_resumes_it() -> None:
    live = Live()
    live.slice(intent("hold", reason="ask Eva"))
    assert (live.run.state, live.run.reason) == (RunState.HELD, "hold: ask Eva")
    assert given_to(live.resume()) is None
    assert live.run.state is RunState.RUNNING


def test_a_call_is_a_task_with_a_return_address() -> None:
    live = Live(make_setting())
    decision = live.slice(call("render"))
    (child,) = decision.tasks
    assert (child.name, child.parent, child.reply, child.depth) == ("render", "r1", 1, TASK.depth + 1)
    assert (live.run.reason, set(live.wakes)) == ("call", {(1, "call", child.id)})
    assert given_to(live.task_ended(1, "call", child.id, {"pages": 3})) == {"pages": 3}
    assert live.kinds == set()


def test_the_failure_of_a_call_is_raised_in_the_script() -> None:
    live = Live(make_setting())
    live.slice(call())
    (outcome,) = outcomes(live.task_ended(1, "call", "t1", None, Failure("CallFailed", "render: no")))
    assert outcome.error == Failure("CallFailed", "render: no")
    assert live.entries[0].state is EntryState.FAILED


def test_an_answer_to_a_call_of_an_earlier_attempt_is_not_given_to_the_newer_one() -> None:
    live = Live(make_setting())
    live.slice(call())
    live.hold()
    live.retry(from_start=True)
    live.slice(call())
    decision = live.task_ended(1, "call", "t1", "old")
    assert outcomes(decision) == []
    assert set(live.wakes) == {(1, "call", "t2")}


def test_the_end_of_a_task_of_an_earlier_attempt_changes_nothing() -> None:
    live = Live(make_setting())
    live.slice(emit(), wait(1))
    live.hold()
    live.retry(from_start=True)
    live.slice(emit(), wait(1))
    assert live.task_ended(2, "task", "t1", {"status": "done"}).records == []
    assert set(live.wakes) == {(2, "task", "t2")}


def test_a_call_too_deep_and_a_generation_too_many_are_held() -> None:
    live = Live(make_setting(call_depth_max=2))
    (child,) = live.slice(call()).tasks
    assert (child.state, child.reason) == (TaskState.HELD, "depth")
    live = Live(make_setting(hop_max=4))
    (child,) = live.slice(emit(), end="returned").tasks
    assert (child.state, child.reason, child.hop) == (TaskState.HELD, "loop", 0)
    live = Live(make_setting(hop_max=5, call_depth_max=3))
    assert [child.state for child in live.slice(emit(), call()).tasks] == [TaskState.NEW] * 2


def test_hops_count_generations_and_begin_again_after_an_outside_wait() -> None:
    live = Live(make_setting())
    (before,) = live.slice(emit(), sleep()).tasks
    live.timer(2)
    (after,) = live.slice(emit(), end="returned").tasks
    assert (before.hop, after.hop) == (TASK.hop + 1, 1)


def test_a_wait_for_an_execution_is_an_outside_wait() -> None:
    live = Live(make_setting())
    live.slice(started(), wait(1))
    live.ended(1, {"status": "done"})
    (child,) = live.slice(emit(), end="returned").tasks
    assert child.hop == 1


def test_a_wait_for_a_task_is_no_outside_wait_so_a_circle_of_them_is_found() -> None:
    live = Live(make_setting())
    live.slice(emit(), wait(1))
    live.task_ended(2, "task", "t1", {"status": "done"})
    (child,) = live.slice(emit(), end="returned").tasks
    assert child.hop == TASK.hop + 1


# ---- retries by themselves


def test_a_failed_execution_is_started_again_as_its_next_attempt_after_a_pause() -> None:
    live = Live()
    live.slice(started(retries=1), wait(1))
    decision = live.ended(1, {"status": "failed"}, BROKEN)
    assert isinstance(decision.records[0], AgainRecord)
    assert decision.effects == []
    due = live.wakes[1, "again", ""].due
    assert due is not None
    assert NOW + SECOND // 2 <= due <= NOW + SECOND
    assert (1, "execution", execution_key(live.run, 1, 2)) in live.wakes
    assert (1, "execution", execution_key(live.run, 1, 1)) not in live.wakes
    assert live.outcome(1, {}, BROKEN, attempt=1) is None  # told twice
    assert live.timer(1, "again").effects == [Start(1)]
    (outcome,) = outcomes(live.ended(1, {"status": "failed", "reason": "exit code 3"}, BROKEN, attempt=2))
    assert msgspec.json.decode(outcome.value)[0]["status"] == "failed"
    assert live.entries[0].attempt == 2


def test_an_attempt_that_ended_before_its_timer_leaves_none_behind() -> None:
    live = Live()
    live.slice(started(retries=1), sleep())
    live.ended(1, {"status": "failed"}, BROKEN)
    live.ended(1, error=Failure("Cancelled", "cancelled before it was started"), attempt=2)
    assert live.kinds == {(2, "timer")}


def test_a_function_is_tried_as_often_as_its_plugin_says() -> None:
    live = Live()
    live.slice(intent("fetch"))
    live.ended(1, error=BROKEN)
    live.timer(1, "again")
    (outcome,) = outcomes(live.ended(1, error=BROKEN, attempt=2))
    assert outcome.error == BROKEN


def test_pauses_double_up_to_a_bound_and_are_the_same_for_the_same_run() -> None:
    pauses = [transitions.backoff(Retries(), attempt, "r1") for attempt in range(1, 2000)]
    for attempt, pause in enumerate(pauses[:8]):
        assert 0.5 * 2**attempt <= pause <= 2**attempt
    assert max(pauses) <= Retries().backoff_max
    assert pauses[:3] == [transitions.backoff(Retries(), attempt, "r1") for attempt in (1, 2, 3)]
    assert pauses[0] != transitions.backoff(Retries(), 1, "r2")


# ---- the end of main


def test_a_run_ends_only_after_its_executions_have() -> None:
    live = Live()
    live.slice(started("a"), started("b"), end="returned", value=b"1")
    assert (live.run.state, live.run.reason) == (RunState.WAITING, "executions")
    live.ended(1, {"status": "done"})
    assert live.run.state is RunState.WAITING
    decision = live.ended(2, {"status": "done"})
    assert (live.run.state, live.run.value, decision.ended) == (RunState.DONE, b"1", True)


def test_the_failure_of_an_execution_that_nobody_waited_for_fails_the_run() -> None:
    live = Live()
    live.slice(started("mid-mf"), end="returned")
    live.ended(1, {"status": "failed"}, BROKEN)
    assert live.run.state is RunState.FAILED
    assert live.run.error is not None
    assert live.run.error.message == "mid-mf: exit code 3 (nobody waited for it)"


def test_a_failure_that_was_waited_for_is_the_scripts_business() -> None:
    live = Live()
    live.slice(started(), wait(1))
    live.ended(1, {"status": "failed"}, BROKEN)
    live.slice(end="returned")
    assert live.run.state is RunState.DONE


def test_a_script_that_failed_stays_failed_whatever_its_executions_do() -> None:
    live = Live()
    live.slice(started(), sleep())
    live.timer(2)
    live.slice(end="raised", error=Failure("ValueError", "no"))
    assert (live.run.state, live.run.reason) == (RunState.WAITING, "executions")
    live.ended(1, {"status": "done"})
    assert (live.run.state, live.run.error) == (RunState.FAILED, Failure("ValueError", "no"))


# ---- held runs


def test_what_ends_while_a_run_is_held_by_the_engine_is_kept_for_it() -> None:
    live = Live(make_setting())
    live.slice(started(), sleep())
    live.hold()
    live.ended(1, {"status": "done"})
    live.timer(2)
    assert live.run.state is RunState.HELD
    assert [entry.state for entry in live.entries] == [EntryState.DONE] * 2
    assert live.resume().effects == [Replay()]
    assert (live.run.state, live.run.error) == (RunState.QUEUED, None)
    assert given_to(live.slice()) is None


def test_an_answer_that_comes_while_the_caller_is_held_is_kept_for_it() -> None:
    live = Live(make_setting())
    live.slice(call())
    live.hold()
    live.task_ended(1, "call", "t1", 5)
    live.resume()
    assert given_to(live.slice()) == 5


def test_a_run_that_diverged_at_its_hold_is_replayed_when_it_is_resumed() -> None:
    live = Live()
    live.slice(intent("hold", reason="ask Eva"))
    live.retry()
    live.slice(end="diverged", error=Failure("Divergence", "x"))
    assert live.resume().effects == [Replay()]
    live.slice()
    assert (live.run.state, live.run.reason, live.run.error) == (RunState.HELD, "hold: ask Eva", None)


# ---- cancel


def test_cancelling_stops_executions_and_callees_and_ends_with_them() -> None:
    live = Live(make_setting())
    live.slice(started(), intent("post"), call())
    decision = live.cancel()
    assert set(decision.effects) == {Stop("r1-1-1-1"), Stop("r1-1-2-1"), Cancel("t1")}
    assert (live.run.state, live.run.reason) == (RunState.WAITING, "cancelling")
    assert live.kinds == {(1, "execution"), (2, "function")}
    assert live.entries[2].state is EntryState.CANCELLED
    live.ended(1, {"status": "failed"}, BROKEN)
    decision = live.ended(2, error=BROKEN)
    assert (live.run.state, decision.ended, live.kinds) == (RunState.CANCELLED, True, set())


def test_cancelling_a_run_without_executions_ends_it_at_once() -> None:
    live = Live()
    live.slice(sleep())
    assert live.cancel().ended
    assert (live.run.state, live.kinds) == (RunState.CANCELLED, set())


def test_a_held_run_with_executions_can_be_cancelled() -> None:
    live = Live()
    live.slice(started(), intent("hold", reason="x"))
    live.cancel()
    assert (live.run.state, live.run.reason) == (RunState.WAITING, "cancelling")
    live.ended(1, {}, BROKEN)
    assert live.run.state is RunState.CANCELLED


def test_what_is_cancelled_is_not_tried_again() -> None:
    live = Live()
    live.slice(started(retries=5), wait(1))
    live.ended(1, {}, BROKEN)
    decision = live.cancel()
    assert decision.effects == [Stop("r1-1-1-2")]
    assert (1, "again") not in live.kinds
    live.ended(1, {}, BROKEN, attempt=2)
    assert live.run.state is RunState.CANCELLED


# ---- retry


def test_a_retry_does_the_failed_execution_anew_and_keeps_the_others() -> None:
    live = Live()
    live.slice(started("a"), started("b"), wait(1, 2))
    live.ended(1, {"status": "done"})
    live.ended(2, {"status": "failed"}, BROKEN)
    live.slice(end="raised", error=BROKEN)
    decision = live.retry()
    assert [type(record) for record in decision.records] == [CutRecord, AgainRecord]
    assert [(entry.name, entry.state, entry.attempt) for entry in live.entries] == [
        ("run", EntryState.DONE, 1),
        ("run", EntryState.PENDING, 2),
    ]
    assert decision.effects == [Start(2), Replay()]
    assert (live.run.state, live.run.digest, live.run.error, live.run.attempt) == (RunState.QUEUED, "d2", None, 1)
    assert set(live.wakes) == {(2, "execution", execution_key(live.run, 2, 2))}
    live.slice(wait(1, 2))
    assert len(outcomes(live.ended(2, {"status": "done"}, attempt=2))) == 1


def test_what_an_earlier_wait_has_given_stays_so_when_it_is_retried() -> None:
    live = Live()
    live.slice(started("a"), started("b"), wait(1, 2, any=True))
    live.ended(2, {"status": "failed"}, BROKEN)
    live.slice(emit(), wait(1))
    live.ended(1, {"status": "done"})
    live.slice(emit(), wait(1, 2))
    live.slice(end="raised", error=BROKEN)
    before = [past.outcome for past in past_of(live.entries, SETTING.blocking, 0)][:6]
    moments = [past.at for past in past_of(live.entries, SETTING.blocking, 0)][2]
    live.now += SECOND
    live.retry()
    assert [past.outcome for past in past_of(live.entries, SETTING.blocking, 0)] == before
    live.slice(wait(1, 2))
    live.ended(2, {"status": "done"}, attempt=2)
    after = past_of(live.entries, SETTING.blocking, 0)
    assert [past.outcome for past in after][:6] == before
    assert after[2].at == moments, "the script's clock stands where it stood"


def test_a_run_whose_receive_was_edited_waits_for_what_the_edit_says() -> None:
    live = Live()
    piece = Slice(1, "blocked", [receive()])
    cut = transitions.Cut(0, "breakpoint:b")
    live.take(transitions.on_slice(live.run, live.entries, live.task, piece, live.now, live.setting, cut=cut))
    other = encode({"on": ["order.sent"], "match": {}, "timeout": None})
    live.take(interventions.on_edit(live.run, live.entries, TASK, other, live.now, live.setting))
    live.resume()
    live.slice()
    assert {key for _, kind, key in live.wakes if kind == "receive"} == {key_of("order.sent", {})}
    assert past_of(live.entries, SETTING.blocking, 0)[0].args == receive().args, "a replay compares what the rule says"


def test_a_retry_calls_the_failed_function_again() -> None:
    live = Live(make_setting(retries={"fetch": 0}))
    live.slice(intent("fetch"))
    live.ended(1, error=BROKEN)
    live.slice(end="raised", error=BROKEN)
    assert live.retry().effects == [Start(1), Replay()]
    assert live.entries[0].attempt == 2


def test_a_retry_calls_again_what_failed_and_never_what_succeeded() -> None:
    live = Live(make_setting())
    live.slice(call())
    live.task_ended(1, "call", "t1", None, Failure("CallFailed", "no"))
    live.slice(end="raised", error=BROKEN)
    assert live.retry().records == [CutRecord(NOW, 1)]
    live.slice(call())
    live.task_ended(1, "call", "t2", 5)
    live.slice(end="raised", error=Failure("ValueError", "a bug of the script"))
    assert live.retry().records == []
    assert live.entries[0].result == b"5"


def test_a_retry_of_a_held_run_goes_on_waiting_for_the_answer_that_is_under_way() -> None:
    live = Live(make_setting())
    live.slice(call())
    live.hold()
    live.retry()
    assert set(live.wakes) == {(1, "call", "t1")}
    live.slice()
    assert given_to(live.task_ended(1, "call", "t1", 5)) == 5


def test_a_retry_waits_anew_where_a_wait_had_timed_out() -> None:
    live = Live()
    live.slice(started(), wait(1, timeout=5))
    live.timer(2)
    live.ended(1, {"status": "done"})
    live.slice(end="raised", error=Failure("TimeoutError", "x"))
    live.retry()
    assert [entry.name for entry in live.entries] == ["run"]


def test_a_retry_of_a_bug_only_executes_the_script_again() -> None:
    live = Live()
    live.slice(emit(), sleep())
    live.timer(2)
    live.slice(end="raised", error=Failure("ValueError", "no"))
    decision = live.retry()
    assert (decision.records, decision.effects, len(live.entries)) == ([], [Replay()], 2)


def test_a_retry_from_the_start_forgets_the_journal_but_keeps_its_rows() -> None:
    live = Live()
    live.slice(started(), wait(1, timeout=60))
    live.hold()
    live.retry(from_start=True)
    assert (live.entries, live.run.attempt, live.kinds) == ([], 2, set())
    assert len(live.stored) == 2
    live.slice(started(), wait(1))
    assert set(live.wakes) == {(1, "execution", "r1-2-1-1")}  # a name of its own, so it is started once more


# ---- replay


def test_a_replay_gets_the_outcomes_of_blocking_entries_and_nothing_else() -> None:
    live = Live()
    live.slice(emit(), started(), sleep())
    live.timer(3)
    live.ended(2, {"status": "done"})
    live.slice(wait(2))
    live.slice(intent("fetch"))
    past = past_of(live.entries, SETTING.blocking, 7)
    assert [one.name for one in past] == ["emit", "run", "sleep", "wait", "fetch"]
    assert [one.outcome is not None for one in past] == [False, False, True, True, False]
    assert past[2].at == live.entries[2].ended
    assert past[4].at == 7
    assert [one.args for one in past] == [entry.args for entry in live.entries]


# ---- workers that lie


LIES: dict[str, tuple[Sequence[Intent], str, dict[str, object]]] = {
    "an end that there is not": ([], "exploded", {}),
    "a wait before anything was done": ([], "blocked", {}),
    "a wait at what does not block": ([emit()], "blocked", {}),
    "going on after what blocks": ([sleep(), emit()], "returned", {}),
    "returning at what blocks": ([sleep()], "returned", {}),
    "two that block": ([sleep(), sleep()], "blocked", {}),
    "a function that there is not": ([intent("launch")], "returned", {}),
    "arguments that are no JSON": ([Intent("post", b"{", 1)], "returned", {}),
    "arguments that are no object": ([Intent("post", b"[1]", 1)], "returned", {}),
    "arguments of other names": ([intent("emit", nom="x", data={})], "returned", {}),
    "arguments too many": ([intent("sleep", seconds=1.0, x=1)], "blocked", {}),
    "data that is no object": ([intent("emit", name="x", data=[1])], "returned", {}),
    "a name that is none": ([emit("../etc")], "returned", {}),
    "a name that ends in a line break": ([emit("x\n")], "returned", {}),
    "a name too long": ([emit("x" * 201)], "returned", {}),
    "an execution without a name": ([intent("run", host="x")], "returned", {}),
    "a sleep beyond all time": ([sleep(1e300)], "blocked", {}),
    "a sleep backwards": ([sleep(-1.0)], "blocked", {}),
    "a timeout beyond all time": ([started(), wait(1, timeout=1e300)], "blocked", {}),
    "a wait for itself": ([wait(1)], "blocked", {}),
    "a wait for nothing known": ([wait(0)], "blocked", {}),
    "a hold without a reason": ([intent("hold")], "blocked", {}),
    "a value that is no JSON": ([], "returned", {"value": b"{1"}),
    "a value nested too deep": ([], "returned", {"value": b"[" * 100_000}),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_worker_that_lies_is_found_out(lie: str) -> None:
    intents, end, more = LIES[lie]
    live = Live()
    with pytest.raises(WorkerLied):
        live.slice(*intents, end=end, **more)
    assert (live.run.state, live.entries, live.wakes) == (RunState.QUEUED, [], {})


def test_a_worker_that_says_it_waits_where_nothing_blocks_is_found_out() -> None:
    live = Live()
    live.slice(started(), sleep())
    live.timer(2)
    live.entries = live.entries[:1]
    with pytest.raises(WorkerLied):
        live.slice()


# ---- any sequence of facts


def is_waited_for(live: Live) -> bool:
    """Whether something is outstanding that lets a waiting run go on."""
    owed = [entry for entry in live.entries if entry.state not in ENTRY_FINAL]
    own = {(entry.seq, kind) for entry in owed for kind in ("execution", "function") if (entry.seq, kind) in live.kinds}
    if live.run.reason in ("executions", "cancelling"):
        working = {entry.seq for entry in owed if entry.name in ("run", "post", "fetch")}
        return bool(working) and working == {seq for seq, _ in own}
    last = live.entries[-1]
    if last.name != "wait":
        return any(seq == last.seq for seq, _ in live.kinds)
    args = msgspec.json.decode(last.args)
    for seq in args["what"]:
        target = live.entries[seq - 1]
        if target.name == "emit":
            awaited = (seq, "tree", child_of(target)) if args.get("tree") else (last.seq, "task", child_of(target))
            if not is_final(target, bool(args.get("tree"))) and awaited not in live.wakes:
                return False
        elif target.state not in ENTRY_FINAL and seq not in {one for one, _ in own}:
            return False
    return True


def any_slice(live: Live, data: st.DataObject) -> Decision:
    last = live.entries[-1] if live.entries else None
    waits = last is not None and last.name in SETTING.blocking and last.state not in ENTRY_FINAL
    ends = ["raised", "limit", "diverged", "blocked"] + ([] if waits else ["returned", "failed", "blocked", "blocked"])
    end = data.draw(st.sampled_from(ends), "end")
    failure = None if end in ("blocked", "returned") else Failure("ValueError", "no")
    if waits or end in ("raised", "limit", "diverged"):
        return live.slice(end=end, error=failure)
    intents = data.draw(
        st.lists(st.sampled_from([emit(), started("a"), started("b", retries=2), intent("post")]), max_size=3), "does"
    )
    if end == "blocked":
        names = [*(entry.name for entry in live.entries), *(one.name for one in intents)]
        targets = [seq for seq, name in enumerate(names, 1) if name in ("emit", "run", "post")]
        blocking = [sleep(), call(), intent("hold", reason="x"), intent("fetch"), receive(), receive(5.0)]
        if targets:
            what = data.draw(st.lists(st.sampled_from(targets), min_size=1, max_size=3, unique=True), "waits for")
            timeout = data.draw(st.sampled_from([None, 5.0]), "timeout")
            tree = "emit" in {names[seq - 1] for seq in what} and data.draw(st.booleans(), "tree")
            blocking.append(wait(*what, timeout=timeout, any=data.draw(st.booleans(), "any"), tree=tree))
        intents = [*intents, data.draw(st.sampled_from(blocking), "blocks by")]
    return live.slice(*intents, end=end, error=failure)


def any_fact(live: Live, data: st.DataObject) -> Decision | None:
    run, entries = live.run, live.entries
    choices = []
    if run.state in (RunState.QUEUED, RunState.RUNNING):
        choices += ["slice"] * 3 + ["hold"]
    if live.wakes:
        choices += ["wake"] * 3
    if any(entry.name in ("run", "post", "fetch") for entry in entries):
        choices += ["stray", "started"]
    if run.state not in RUN_FINAL:
        choices.append("cancel")
    if run.state is RunState.HELD:
        choices += ["resume"] * 2
    if run.state in (RunState.HELD, RunState.FAILED):
        choices += ["retry", "retry from start"]
    if not choices:
        return None
    live.now += 1
    match data.draw(st.sampled_from(choices), "fact"):
        case "slice":
            return any_slice(live, data)
        case "hold":
            return live.hold()
        case "cancel":
            return live.cancel()
        case "resume":
            return live.resume()
        case "retry":
            return live.retry()
        case "retry from start":
            return live.retry(from_start=True)
        case "wake":
            wake = data.draw(st.sampled_from(sorted(live.wakes.values(), key=str)), "wake")
            failed = data.draw(st.booleans(), "failed")
            if wake.due is not None:
                return live.take(transitions.on_timer(run, entries, wake, live.now))
            if wake.kind == "receive":
                return live.received(wake.seq)
            if wake.kind == "tree":
                return live.tree_ended(wake.seq, wake.key, [replace(TASK, state=TaskState.FAILED)] * failed)
            if wake.kind in ("task", "call"):
                summary = {"task": wake.key, "status": "failed" if failed else "done"}
                return live.task_ended(wake.seq, wake.kind, wake.key, summary, BROKEN if failed else None)
            attempt = int(wake.key.rpartition("-")[2])
            return live.ended(wake.seq, {"status": "x"}, BROKEN if failed else None, attempt)
    working = [entry for entry in entries if entry.name in ("run", "post", "fetch")]
    entry = data.draw(st.sampled_from(working), "entry")
    decision = transitions.on_started(run, entries, entry.seq, live.now)
    if entry.state in ENTRY_FINAL or data.draw(st.booleans(), "told again"):
        decision = live.outcome(entry.seq, {}, None, data.draw(st.integers(1, entry.attempt), "attempt"))
    return None if decision is None else live.take(decision)


@given(st.data())
@hypothesis_settings(max_examples=300, deadline=None)
def test_no_sequence_of_facts_breaks_a_run_or_leaves_it_waiting_for_nothing(data: st.DataObject) -> None:
    live = Live(make_setting())
    for _ in range(data.draw(st.integers(1, 30), "facts")):
        before = live.run
        entries = list(live.entries)
        decision = any_fact(live, data)
        if decision is None:
            continue
        if before.state in RUN_FINAL and live.run.state is not before.state:
            assert (before.state, live.run.state) == (RunState.FAILED, RunState.QUEUED)
            assert Replay() in decision.effects
        assert decision.ended == (live.run.state in RUN_FINAL and before.state not in RUN_FINAL)
        assert journal.fold(map(journal.decode, live.stored)) == live.entries
        if live.run.state is RunState.WAITING:
            assert is_waited_for(live), (live.run, live.entries, live.wakes)
        if live.run.state is RunState.RUNNING and before.state is not RunState.RUNNING:
            assert len(outcomes(decision)) == 1
        if live.run.state is RunState.HELD:
            assert states.exit_of("held", live.run.reason)
        for effect in decision.effects:
            if isinstance(effect, Start):
                assert live.entries[effect.seq - 1].state is EntryState.PENDING
        assert [entry.args for entry in entries][: len(live.entries)] == [
            entry.args for entry in live.entries[: len(entries)]
        ]


def test_records_are_what_a_slice_was_and_not_what_it_means() -> None:
    live = Live(make_setting())
    (record,) = live.slice(started(), emit("a"), sleep()).records
    assert isinstance(record, SliceRecord)
    assert [name for name, _, _ in record.entries] == ["run", "emit", "sleep"]
    assert list(record.results) == [2]
    live.take(transitions.on_started(live.run, live.entries, 1, NOW))
    live.ended(1, {"status": "done"})
    assert [type(journal.decode(body)) for body in live.stored] == [SliceRecord, StartRecord, EndRecord]
