"""What a tree says of itself: whether it goes on, and how it looks. The trees have the shapes of the HTTP API."""

from __future__ import annotations

import re
from typing import Any

import pytest

from scriptrules.cli import tree as trees
from scriptrules.cli.common import STATES
from scriptrules.model import ENTRY_FINAL, RUN_FINAL, TASK_FINAL, EntryState, RunState, TaskState

T = "2026-01-31T12:00:00.000000Z"


def task(state: str, *branches: Any, id: str = "t0", name: str = "a.task", reason: str | None = None) -> Any:
    shape = {"id": id, "name": name, "data": {}, "state": state, "since": T, "reason": reason, "exit": "`do ID`"}
    return {"task": {**shape, "created": T}, "runs": list(branches)}


def branch(state: str, *entries: Any, tasks: tuple[Any, ...] = (), reason: str | None = None, **more: Any) -> Any:
    run = {"id": "r0", "rule": "some/rule", "task": "t0", "state": state, "since": T, "reason": reason}
    run |= {"exit": "`do ID`", "value": None, "error": None, "attempt": 1, "created": T}
    run |= {"ended": T if state in RUN_FINAL else None, **more}
    return {"run": run, "entries": [{**one, "seq": at} for at, one in enumerate(entries, 1)], "tasks": [*tasks]}


def entry(function: str, state: str = "done", result: Any = None, /, **args: Any) -> Any:
    shape = {"name": function, "args": args, "state": state, "since": T, "reason": None, "result": result}
    shape |= {"error": None, "line": 1, "started": T, "ended": T if state == "done" else None}
    return {**shape, "attempt": 1, "verdict": None}


def emit(id: str) -> Any:
    return entry("emit", "done", {"task": id}, name="child", data={})


def wait(*what: int, any: bool = False, timeout: float | None = None) -> Any:
    return entry("wait", "pending", what=list(what), any=any, timeout=timeout, check=True)


def call(id: str) -> Any:
    return entry("call", "pending", {"task": id}, name="child", data={})


HELD = task("held", id="t1", reason="loop")
DONE = task("done", id="t2")
ANY = wait(1, 2, any=True)
RUN = entry("run", "started", name="x", host="h", image="i", args=[])


@pytest.mark.parametrize(
    ("tree", "outlook"),
    [
        (task("new"), "active"),
        (task("held"), "held"),
        (task("unmatched"), "ended"),
        (task("running"), "active"),
        (task("running", branch("done")), "active"),
        (task("done", branch("done")), "ended"),
        (task("running", branch("queued")), "active"),
        (task("running", branch("running", entry("sleep", seconds=1))), "active"),
        (task("running", branch("held")), "held"),
        (task("running", branch("held"), branch("running")), "active"),
        (task("running", branch("waiting", entry("sleep", "pending", seconds=9))), "active"),
        (task("running", branch("waiting", RUN, wait(1))), "active"),
        (task("running", branch("waiting", entry("http_get", "started", url="x"))), "active"),
        (task("running", branch("waiting", emit("t1"), wait(1), tasks=(HELD,))), "held"),
        (task("running", branch("waiting", emit("t1"), wait(1, timeout=5), tasks=(HELD,))), "active"),
        (task("running", branch("waiting", emit("t1"), RUN, wait(1, 2), tasks=(HELD,))), "active"),
        (task("running", branch("waiting", emit("t1"), emit("t2"), wait(1, 2), tasks=(HELD, DONE))), "held"),
        (
            task("running", branch("waiting", emit("t1"), emit("t2"), wait(1, 2, any=True), tasks=(HELD, DONE))),
            "active",
        ),
        (task("running", branch("waiting", emit("t2"), wait(1), tasks=(DONE,))), "active"),
        (task("running", branch("waiting", call("t1"), tasks=(HELD,))), "held"),
        (
            task("running", branch("waiting", call("t2"), tasks=(DONE,))),
            "active",
        ),
        (task("done", branch("done", emit("t1"), tasks=(HELD,))), "held"),
    ],
)
def test_a_tree_is_held_only_where_nothing_in_it_goes_on_by_itself(tree: Any, outlook: str) -> None:
    assert trees.outlook(tree) == outlook


def test_every_state_has_a_symbol_and_the_final_ones_are_those_of_the_engine() -> None:
    assert set(STATES) == {*TaskState, *RunState, *EntryState}
    assert (set(trees.TASK_FINAL), set(trees.RUN_FINAL), set(trees.ENTRY_FINAL)) == (TASK_FINAL, RUN_FINAL, ENTRY_FINAL)


def test_what_is_held_is_told_with_its_own_id_in_the_way_out() -> None:
    tree = task("running", branch("held", reason="hold: look"))
    assert list(trees.held_in(tree)) == ["run some/rule: hold: look. Way out: `do r0`"]


def text_of(tree: Any, width: int = 100) -> list[str]:
    return ["".join(text for text, _ in line) for line in trees.lines_of(tree, width)]


def test_generated_tasks_stand_below_the_entry_that_generated_them_and_others_below_the_run() -> None:
    child = [task("done", id=f"t{at}", name=name) for at, name in enumerate(("one", "two", "three", "old"))]
    made = branch(
        "done",
        entry("call", "done", {"task": "is data of its own"}, name="two", data={}),
        emit("t0"),
        entry("return", "done", {"task": "t2", "status": "done"}, name="three", data={}),
        tasks=tuple(child),
    )
    lines = [re.sub(r"[└├│─]", " ", line).rstrip() for line in text_of(task("done", made))]
    assert lines[2].strip().startswith("✓ call two → ")
    assert lines[3].strip() == "✓ two"
    assert lines[4].strip() == "emit ✓ one"
    assert lines[5].strip() == "generate ✓ three"
    assert lines[6].strip() == "✓ old", "of an earlier attempt"


def test_a_run_with_many_entries_shows_the_first_and_whatever_is_not_done() -> None:
    entries = [entry("sleep", seconds=1)] * 500 + [RUN]
    lines = text_of(task("running", branch("running", *entries)))
    assert len(lines) < 20
    assert "… 488 more entries" in lines[-1]
    assert any("run h i (x)  started" in line for line in lines)


def test_the_error_of_a_run_is_wrapped_so_that_all_of_it_can_be_read() -> None:
    message = "word " * 60
    lines = text_of(task("failed", branch("failed", error={"type": "E", "message": message, "line": 3})))
    assert " ".join(lines).count("word") == 60
    assert lines[-1].endswith("(line 3)")


def test_no_line_is_wider_than_asked_for() -> None:
    made = branch("failed", entry("log_it", text="x" * 300), error={"type": "E", "message": "y" * 300, "line": 3})
    assert max(map(len, text_of(task("failed", made, name="n" * 200), 60))) <= 60


def test_an_execution_shows_how_it_ended_and_what_is_not_certain_about_it() -> None:
    result = {"status": "failed", "exit_code": None, "reason": "killed by signal 9", "verdict": "possibly-twice"}
    ran = entry("run", "done", result, name="x", host="h", image="i", args=["-a", "\x1b[2J"])
    line = text_of(task("done", branch("done", ran)))[2]
    assert "run h i -a \\x1b[2J (x) → killed by signal 9  0.00 s  possibly-twice" in line


def test_an_argument_that_is_a_secret_is_shown_as_one() -> None:
    secret = {"$secret": [{"name": "token", "version": 1}]}
    run = entry("run", "started", name="i", host="h", image="i", args=["-p", secret])
    assert any("run h i -p [secret]" in line for line in text_of(task("running", branch("waiting", run))))
