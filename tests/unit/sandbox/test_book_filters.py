"""A filter that a worker keeps for the next task cannot remember the last one."""

from __future__ import annotations

import pytest

from scriptrules.sandbox import wire
from scriptrules.sandbox.book import Book
from scriptrules.sandbox.builtins import make_builtins

LIBRARY = "seen = []\ndef fresh(task):\n    seen.append(1)\n    return len(seen) == 1\n"
LATE = "def late(task):\n    from lib.memory import fresh\n    return fresh(task)\n"
FILTERS = {
    "a default": "lambda task, seen=[]: seen.append(1) or len(seen) == 1",
    "a default by keyword": "lambda task, *, seen=[]: seen.append(1) or len(seen) == 1",
    "a global": "lambda task: KEPT.append(1) or len(KEPT) == 1",
    "a closure": "(lambda seen: lambda task: seen.append(1) or len(seen) == 1)([])",
    "a library": "fresh",
    "a library, called": "lambda task: fresh(task)",
    "a library, imported late": "late",
    "nothing": "lambda task: len([1]) == 1",
}


def _book(filter: str) -> Book:
    table = f'on = "a"\nrules = [("n", {filter}, lambda task: [])]\n'
    source = f"from lib.memory import fresh\nKEPT = []\n{LATE}{table}"
    book = Book(make_builtins(), wire.Budget(), lambda rule: None)
    loaded, problems = book.load(wire.Load(1, "digest", "r", "rules/r.py", source, {"memory": LIBRARY}))
    assert loaded is not None, problems
    book.change(1, {"r": "digest"}, [])
    return book


@pytest.mark.parametrize("how", FILTERS)
def test_a_filter_says_the_same_of_the_same_task_every_time(how: str) -> None:
    book = _book(FILTERS[how])
    matches = [book.match(wire.TaskView(f"t{n}", "a", b"{}", f"t{n}", 0, 0)) for n in range(3)]
    assert [len(match.plans) for match in matches] == [1, 1, 1], matches


def test_the_text_of_a_filters_error_has_no_address() -> None:
    book = _book("lambda task: task[(fresh, 1)]")
    assert book.match(wire.TaskView("t", "a", b"{}", "t", 0, 0)).reasons == {
        "r:n": "the task has no field (<function fresh>, 1)"
    }
