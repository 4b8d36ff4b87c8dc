"""Which task a `receive` gives: fitting, the first to arrive, none twice, none that may still be held."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from scriptrules.model import Entry, EntryState, Run, RunState, Task, TaskState
from scriptrules.store.memory import MemoryStore
from scriptrules.store.protocol import Change, TaskMove
from scriptrules.store.receiving import fits, key_of
from scriptrules.supervisor import receiving

OWN = Task("t0", "start", b"{}", TaskState.RUNNING, 1, 1, "t0")


def arrival(id: str, n: int = 0, state: TaskState = TaskState.NEW, name: str = "item") -> Task:
    return Task(id, name, msgspec.json.encode({"n": n}), state, 1, 1, id)


def entry(seq: int, on: list[str], match: dict[str, Any] | None = None, taken: tuple[str, int] | None = None) -> Entry:
    args = msgspec.json.encode({"on": on, "match": match or {}, "timeout": None})
    state, result = EntryState.PENDING, None
    if taken is not None:
        state = EntryState.DONE
        result = msgspec.json.encode({"id": taken[0], "name": "item", "data": {}, "place": taken[1]})
    return Entry(seq, "receive", args, state, 1, 1, 1, result=result)


def found(tasks: list[Task], moves: dict[str, TaskState], entries: list[Entry]) -> str | None:
    """The id of what the last of `entries` receives, after `tasks` were stored as new and moved on."""

    async def main() -> str | None:
        store = MemoryStore()
        run = Run("r0", "rule", "t0", "d", RunState.WAITING, 1, 1)
        store.submit(Change(tasks=[msgspec.structs.replace(OWN, state=TaskState.NEW), *tasks], runs=[run]), print)
        store.submit(Change(moves=[TaskMove(id, state, 2) for id, state in moves.items()]), print)
        look = await receiving.find(store, run, entries, entries[-1])
        return look.task.id if look.task else None

    return asyncio.run(main())


RUNNING, HELD, DONE = TaskState.RUNNING, TaskState.HELD, TaskState.DONE
TWO = [arrival("t1", 1), arrival("t2", 2)]


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        ({"t1": RUNNING, "t2": RUNNING}, "t1"),
        ({"t1": DONE, "t2": TaskState.UNMATCHED}, "t1"),
        ({"t2": RUNNING}, None),  # the first may still be held
        ({"t1": HELD, "t2": RUNNING}, "t2"),
        ({"t1": TaskState.CANCELLED, "t2": TaskState.FAILED}, "t2"),
        ({"t1": TaskState.DROPPED, "t2": HELD}, None),
    ],
)
def test_the_first_to_arrive_is_received_unless_it_is_held(moves: dict[str, TaskState], expected: str | None) -> None:
    assert found(TWO, moves, [entry(1, ["item"])]) == expected


def test_what_was_taken_by_other_arguments_is_not_taken_again() -> None:
    moves = {"t1": DONE, "t2": DONE}
    assert found(TWO, moves, [entry(1, ["item"], {"n": 1}, ("t1", 2)), entry(2, ["item"])]) == "t2"
    assert found(TWO, moves, [entry(1, ["item"], {"n": 2}, ("t2", 3)), entry(2, ["item"])]) == "t1"
    assert found(TWO, moves, [entry(1, ["item"], {}, ("t1", 2)), entry(2, ["item"])]) == "t2"


def test_what_fits_is_found_behind_any_number_of_others() -> None:
    many = [arrival(f"t{n:05}", n) for n in range(1, 2 * receiving.PAGE)]
    last = 2 * receiving.PAGE - 1
    moves = {task.id: DONE for task in many}
    assert found(many, moves, [entry(1, ["other", "item"], {"n": last})]) == f"t{last:05}"
    assert found(many, moves, [entry(1, ["item.*"], {"n": last})]) is None
    assert found(many, moves, [entry(1, ["**"], {"n": last})]) == f"t{last:05}"


def test_its_own_task_is_not_received() -> None:
    assert found([], {"t0": RUNNING}, [entry(1, ["start"])]) is None


Data = dict[str, Any]
EQUAL: list[tuple[Data, Data]] = [
    ({}, {"a": 1}),
    ({"a": 1}, {"a": 1.0, "b": 2}),
    ({"a": {"x": 1, "y": [2]}}, {"a": {"y": [2], "x": 1}}),
]
UNEQUAL: list[tuple[Data, Data]] = [
    ({"a": 1}, {"a": True}),
    ({"a": None}, {}),
    ({"a": 1}, {"a": "1"}),
    ({"a": 0}, {"a": False}),
    ({"a": [1]}, {"a": 1}),
]


CASES = [(*pair, True) for pair in EQUAL] + [(*pair, False) for pair in UNEQUAL]


@pytest.mark.parametrize(("match", "data", "equal"), CASES)
def test_fields_are_equal_as_json_is_and_keys_agree(match: Data, data: Data, equal: bool) -> None:
    assert fits(msgspec.json.encode(data), match) == equal
    if set(match) <= set(data):
        assert (key_of("p", match) == key_of("p", {field: data[field] for field in match})) == equal
