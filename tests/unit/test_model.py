"""Ids sort by time and never repeat; names and keys of executions are fit for where they go."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakeclock import FakeClock
from scriptrules.clock import SECOND
from scriptrules.model import (
    ENTRY_FINAL,
    NAME,
    RUN_FINAL,
    TASK_FINAL,
    EntryState,
    Ids,
    Run,
    RunState,
    TaskState,
    execution_key,
    parse_key,
)


def test_ids_sort_by_time_and_never_repeat() -> None:
    clock = FakeClock()
    new_id = Ids(clock)
    made = []
    for _ in range(50):
        made += [new_id("t") for _ in range(1000)]
        clock.jump(0.001)
    assert made == sorted(set(made))


def test_ids_neither_repeat_nor_go_back_where_the_clock_does() -> None:
    clock = FakeClock()
    new_id = Ids(clock)
    made = [new_id("t")]
    clock.jump(-3600)
    made += [new_id("t") for _ in range(1000)]
    assert made == sorted(set(made))


def test_a_millisecond_that_is_used_up_borrows_the_next() -> None:
    new_id = Ids(FakeClock())
    made = [new_id("t") for _ in range((1 << 20) + 10)]
    assert len(set(made)) == len(made)
    assert made[-1] == max(made)


def test_ids_of_a_later_process_sort_after_those_of_an_earlier_one() -> None:
    clock = FakeClock()
    before = Ids(clock)("t")
    clock.jump(0.001)
    assert before < Ids(clock)("t")


def test_ids_last_for_a_thousand_years() -> None:
    late = FakeClock(1_000 * 366 * 86_400 * SECOND)
    assert Ids(FakeClock())("t") < Ids(late)("t")
    assert re.fullmatch(r"t[0-9a-v]{13}", Ids(late)("t"))


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 10**4))
def test_the_key_of_an_execution_says_whose_it_is_and_fits_everywhere(seq: int, attempt: int, again: int) -> None:
    run = Run(Ids(FakeClock())("r"), "a", "t", "d", RunState.RUNNING, 0, 0, attempt=again)
    key = execution_key(run, seq, attempt)
    assert re.fullmatch(r"[a-z0-9-]{1,63}", key)
    assert parse_key(key) == (run.id, again, seq, attempt)


@pytest.mark.parametrize("key", ["", "x", "r-1-2", "r-1-2-3-4", "r-a-1-1"])
def test_what_is_no_key_is_a_value_error(key: str) -> None:
    with pytest.raises(ValueError):
        parse_key(key)


@pytest.mark.parametrize("name", ["a", "a.b", "upload-2.finished_x", "9"])
def test_names_are_segments_with_dots_between(name: str) -> None:
    assert NAME.match(name)


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a..b", "a b", "a\n", "ä", "a/b", "a*"])
def test_what_is_no_name_is_refused(name: str) -> None:
    assert not NAME.match(name)


def test_final_states_are_states() -> None:
    assert TASK_FINAL.issubset(TaskState)
    assert RUN_FINAL.issubset(RunState)
    assert ENTRY_FINAL.issubset(EntryState)
