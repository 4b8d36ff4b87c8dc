"""The timeout of a run: decided once, paused by holds, over with the run; and waiting that can be cancelled."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scriptrules.clock import SECOND
from scriptrules.model import RUN_FINAL, Control, Failure, Run, RunState
from scriptrules.store.protocol import Wake
from scriptrules.supervisor.background import wait_up_to
from scriptrules.supervisor.decision import Decision, begin_timeout, move
from scriptrules.supervisor.interventions import on_retry, on_timeout
from scriptrules.supervisor.states import RUN

TIMEOUT = 600.0
BEGIN = 1000 * SECOND
replace = msgspec.structs.replace


def begun(**more: object) -> Decision:
    run = Run("r1", "work", "t1", "d", RunState.QUEUED, BEGIN, BEGIN, control=Control(timeout=TIMEOUT))
    decision = Decision(replace(run, **more))
    begin_timeout(decision, BEGIN)
    return decision


def rows(before: dict[str, int | None], decision: Decision) -> dict[str, int | None]:
    """The wakes that are in the store after a decision: everything is added before anything is removed."""
    after = dict(before)
    after.update((wake.kind, wake.due) for wake in decision.wakes)
    for wake in decision.done:
        after.pop(wake.kind, None)
    return after


@given(st.lists(st.tuples(st.sampled_from(list(RunState)), st.integers(0, 400)), max_size=30))
def test_a_run_has_its_timeout_in_time_that_is_not_held_whatever_becomes_of_it(
    steps: list[tuple[RunState, int]],
) -> None:
    decision = begun()
    store = rows({}, decision)
    now, used = BEGIN, 0
    for state, pause in steps:
        run = decision.run
        if run.state in RUN_FINAL:
            break
        now += pause * SECOND
        used += 0 if run.state is RunState.HELD else pause * SECOND
        if state not in RUN[run.state]:
            continue
        decision = Decision(run)
        move(decision, state, now)
        store = rows(store, decision)
        run = decision.run
        assert run.deadline is not None
        assert run.deadline - now == TIMEOUT * SECOND - used
        counting = state is not RunState.HELD and state not in RUN_FINAL
        assert store == ({"timeout": run.deadline} if counting else {})


def test_a_timeout_that_has_passed_fails_the_run_once() -> None:
    run = replace(begun().run, state=RunState.WAITING)
    assert run.deadline is not None
    wake = Wake("r1", 0, "timeout", due=run.deadline)
    ended = on_timeout(run, [], wake, run.deadline)
    assert (ended.run.state, ended.ended) == (RunState.FAILED, True)
    assert ended.run.error is not None
    assert (ended.run.error.type, ended.run.error.code) == ("TimeoutError", "SR602")
    assert rows({"timeout": wake.due}, ended) == {}
    assert on_timeout(ended.run, [], wake, run.deadline).run is ended.run


@pytest.mark.parametrize("more", [{"state": RunState.HELD}, {"deadline": BEGIN + 5}, {"deadline": None}])
def test_a_timeout_that_is_not_the_runs_any_more_does_nothing(more: dict[str, object]) -> None:
    run = replace(begun().run, **more)
    assert on_timeout(run, [], Wake("r1", 0, "timeout", due=BEGIN + 600 * SECOND), BEGIN).run is run


def test_a_retried_run_has_all_of_its_time_again_and_that_of_the_newest_source() -> None:
    failed = replace(begun().run, state=RunState.FAILED, error=Failure("ValueError", "no"), ended=BEGIN)
    later = BEGIN + 9999 * SECOND
    again = on_retry(failed, [], "d2", False, later, Control(timeout=5.0))
    assert again.run.deadline == later + 5 * SECOND
    assert rows({}, again) == {"timeout": again.run.deadline}
    without = on_retry(failed, [], "d2", False, later, None)
    assert (without.run.deadline, rows({}, without)) == (None, {})


def test_waiting_for_an_event_that_is_set_meanwhile_can_be_cancelled() -> None:
    async def story() -> None:
        event = asyncio.Event()

        async def wait_for_ever() -> None:
            while True:
                await wait_up_to(60.0, event)
                event.clear()

        task = asyncio.create_task(wait_for_ever())
        await asyncio.sleep(0)
        event.set()
        await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=10)
        assert done, "the cancellation was forgotten"
        assert task.cancelled()

    asyncio.run(story())
