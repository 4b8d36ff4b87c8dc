"""Runs that wait for one another are held with the circle named; runs that can go on never are."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from scriptrules.model import Run, RunState
from scriptrules.supervisor.deadlocks import Needs, Standing, circle, stuck
from serving import Server, eventually, project

SELF = """
on = "self"
limit = {"max": 1}

def main(n, **how):
    if n == 0:
        return "bottom"
    if how.get("timeout"):
        try:
            return wait(emit("self", n=n - 1), timeout=how["timeout"]).value
        except TimeoutError:
            return "in time"
    return call("self", n=n - 1)
"""

SIDE = """
on = "{name}"
limit = {{"max": 1, "key": "place"}}

def main(place, other, go):
    emit("{name}.has", place=place)
    if go:
        receive("go.on")
        result = wait(emit("{other}", place=other, other=place, go=False), tree=True)
        return result.value
    return "got it"
"""


def standing(needs: dict[str, Needs]) -> dict[str, Standing]:
    return {id: Standing(Run(id, "rule", "t", "d", RunState.WAITING, 1, 1), ways) for id, ways in needs.items() if ways}


@pytest.mark.parametrize(
    ("needs", "expected"),
    [
        ({"a": [["b"]], "b": [["a"]]}, {"a", "b"}),
        ({"a": [["b"]], "b": []}, set()),
        ({"a": [["b", "c"]], "b": [["a"]], "c": []}, {"a", "b"}),  # all are needed, and b never ends
        ({"a": [["b"], ["c"]], "b": [["a"]], "c": []}, set()),  # any will do, and c ends
        ({"a": [["b"], ["c"]], "b": [["a"]], "c": [["b"]]}, {"a", "b", "c"}),
        ({"a": [["b"]], "b": [["c"]], "c": [["b"]]}, {"a", "b", "c"}),
        ({"a": [["a"]]}, {"a"}),
    ],
)
def test_a_run_is_stuck_if_each_of_its_ways_needs_one_that_is(needs: dict[str, Needs], expected: set[str]) -> None:
    assert stuck(standing(needs)) == expected


def test_the_circle_is_what_the_start_leads_into() -> None:
    found = standing({"a": [["b"]], "b": [["c"]], "c": [["b"]]})
    assert circle("a", found, stuck(found)) == ["b", "c"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with project() as server:
        server.config("")
        server.rule("self", SELF)
        for name, other in (("left", "right"), ("right", "left")):
            server.rule(name, SIDE.format(name=name, other=other))
        server.rule("many", SELF.replace('"self"', '"many"').replace('"max": 1', '"max": 2'))
        server.start()
        yield server


def test_a_callee_that_waits_for_the_slot_of_its_caller_is_a_deadlock_that_can_be_answered_or_cancelled(
    server: Server,
) -> None:
    task = server.send("self", n=1)
    run = server.wait_run(task, {"held"})
    assert run["reason"] == "deadlock"
    callee = server.all("runs", rule="self", state="queued")[0]
    circle = f"self ({run['id']}) waits for self ({callee['id']}) waits for self ({run['id']})"
    assert run["error"]["message"] == circle
    assert "cancel" in run["exit"]
    server.request("POST", f"/api/runs/{run['id']}/resume")
    eventually(lambda: server.run_of(task)["since"] > run["since"] and server.run_of(task)["state"] == "held", "again")
    server.kill()
    server.start()
    assert server.run_of(task)["reason"] == "deadlock"
    server.request("POST", f"/api/runs/{run['id']}/answer", b'{"result": "from a person"}')
    server.wait_run(task, {"done"})
    assert server.run_of(task)["value"] == "from a person"
    second = server.send("self", n=1)
    server.wait_run(second, {"held"})
    server.request("POST", f"/api/tasks/{second}/cancel")
    server.wait_task(second, {"cancelled"})
    eventually(lambda: not server.all("runs", rule="self", state="queued"), "the callee is cancelled, or has ended")


def test_two_that_hold_what_the_other_waits_for_are_found(server: Server) -> None:
    tasks = [server.send("left", place=1, other=2, go=True), server.send("right", place=2, other=1, go=True)]
    for task in tasks:
        server.wait_run(task, {"waiting"})
    server.send("go.on")

    def held() -> list[dict[str, object]]:
        return [run for task in tasks for run in server.all("runs", task=task) if run["reason"] == "deadlock"]

    run = eventually(held, "one of them is held")[0]
    assert run["error"]["message"].count(" waits for ") == 4  # type: ignore[index]
    server.request("POST", f"/api/runs/{run['id']}/cancel")
    for task in tasks:
        server.wait_run(task, {"done", "cancelled"})
    assert sorted(server.run_of(task)["state"] for task in tasks) == ["cancelled", "done"]


def test_what_can_go_on_is_not_held(server: Server) -> None:
    timed = server.send("self", n=1, timeout=0.7)
    free = server.send("many", n=1)
    queued = [server.send("self", n=0) for _ in range(5)]
    server.wait_task(free)
    assert server.run_of(free)["value"] == "bottom"
    for task in [timed, *queued]:
        assert server.wait_task(task)["state"] == "done"
    assert server.run_of(timed)["value"] == "in time"
    time.sleep(0.2)
    assert [run for run in server.all("runs", state="held") if run["task"] in (timed, free, *queued)] == []
    deep = server.send("many", n=2)
    assert server.wait_run(deep, {"held", "waiting", "done"})
    eventually(lambda: [one for one in server.all("runs", rule="many") if one["reason"] == "deadlock"], "found")
