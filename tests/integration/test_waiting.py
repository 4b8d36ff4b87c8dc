"""Everything that a run can wait for: tasks that arrive, moments, the first of several, whole trees, people."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from serving import Server, eventually, project

PAY = """
on = "order.placed"

def main(order, timeout=None):
    emit("order.accepted", order=order)
    paid = receive("order.paid", {"order": order}, timeout=timeout)
    return [paid.name, paid["amount"], paid.get("note"), "order" in paid]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with project() as server:
        server.config("")
        server.start()
        yield server


def value(server: Server, task: str, rule: str | None = None) -> Any:
    run = server.wait_run(task, {"done", "failed"}, rule)
    assert run["state"] == "done", run
    return run["value"]


def asleep(server: Server, task: str, rule: str | None = None) -> dict[str, Any]:
    return server.wait_run(task, {"waiting"}, rule)


# ---- receive


def test_a_run_receives_the_task_whose_fields_are_equal_and_no_other(server: Server) -> None:
    server.drop_in(pay=PAY)
    first, second = server.send("order.placed", order=1), server.send("order.placed", order=2)
    run = asleep(server, first)
    assert (run["reason"], run["exit"][:11]) == ("receive", "the arrival")
    asleep(server, second)
    server.send("order.paid", order=2, amount=20)
    assert value(server, second) == ["order.paid", 20, None, True]
    assert server.run_of(first)["state"] == "waiting"
    server.send("order.paid", order=1, amount=10, note="late")
    assert value(server, first) == ["order.paid", 10, "late", True]


def test_what_has_arrived_before_the_run_came_to_wait_is_received_and_what_came_before_it_is_not(
    server: Server,
) -> None:
    server.drop_in(
        late="""
on = "late.start"

def main(**k):
    emit("late.begun")
    sleep(0.3)
    found = [receive("late.news")["n"], receive("late.*", {"n": 3})["n"]]
    try:
        receive("late.news", timeout=0.3)
    except TimeoutError as error:
        return [*found, str(error)]
""",
    )
    server.wait_task(server.send("late.news", n=1))
    task = server.send("late.start")
    asleep(server, task)
    server.send("late.news", n=2)
    server.send("late.news", n=3)
    assert value(server, task) == [2, 3, "receive() timed out after 0.3 s"]


def test_each_task_is_received_once_a_run_in_the_order_of_arrival(server: Server) -> None:
    server.drop_in(
        many='on = "many.start"\ndef main(count):\n    return [receive("many.item")["n"] for _ in range(count)]\n',
        twice='on = "many.start"\ndef main(count):\n'
        '    return [receive(["many.item", "many.*"])["n"] for _ in range(count)]\n',
    )
    task = server.send("many.start", count=40)
    server.send_many([{"name": "many.item", "data": {"n": n}} for n in range(20)])
    for n in range(20, 40):
        server.send("many.item", n=n)
    assert value(server, task, "many") == list(range(40))
    assert value(server, task, "twice") == list(range(40))


def test_fields_are_equal_as_json_is(server: Server) -> None:
    server.drop_in(
        equal="""
on = "equal.start"

def main(match):
    return receive("equal.item", match)["n"]
""",
    )
    cases = [
        ({"v": 1}, [({"v": True}, 0), ({"v": "1"}, 0), ({}, 0), ({"v": 1.0}, 1)]),
        ({"v": {"a": [1], "b": True}}, [({"v": {"a": [1], "b": 1}}, 0), ({"v": {"b": True, "a": [1.0]}}, 1)]),
        ({"v": None}, [({"w": None}, 0), ({"v": None}, 1)]),
        ({"v": False, "w": 0}, [({"v": 0, "w": 0}, 0), ({"v": False, "w": -0.0}, 1)]),
    ]  # fmt: skip
    for match, items in cases:
        task = server.send("equal.start", match=match)
        asleep(server, task)
        for data, n in items:
            server.wait_task(server.send("equal.item", n=n, **data))
        assert value(server, task) == 1


def test_a_held_task_is_received_when_it_is_released_and_a_dropped_one_never(server: Server) -> None:
    server.drop_in(
        loops='on = "turn"\ndef main(n): emit("turn", n=n + 1)\n',
        waits='on = "turns.start"\ndef main(**k): return receive("turn", {"n": 101})["n"]\n',
    )
    task = server.send("turns.start")
    asleep(server, task)
    first = server.send("turn", n=0)
    held = eventually(lambda: server.all("tasks", root=first, state="held"), "the loop is held")[0]
    assert held["data"]["n"] == 101
    time.sleep(0.3)
    assert server.run_of(task)["state"] == "waiting"
    server.request("POST", f"/api/tasks/{held['id']}/resume")
    assert value(server, task) == 101


def test_receive_says_what_is_wrong_with_its_arguments(server: Server) -> None:
    server.drop_in(
        wrong="""
on = "wrong.start"

def attempt(*args, **named):
    try:
        receive(*args, **named)
    except (TypeError, ValueError) as error:
        return str(error)

def main(**k):
    return [attempt("no good"), attempt([]), attempt("a", [1]), attempt("a", timeout=-1), attempt("a", {1: 2})]
""",
    )
    said = value(server, server.send("wrong.start"))
    hints = ["is no pattern", "a list of names", "a dict as match", "number of seconds", "str"]
    assert all(hint in text for hint, text in zip(hints, said, strict=True)), said


def test_a_run_that_failed_by_a_timeout_waits_anew_when_it_is_retried(server: Server) -> None:
    server.drop_in(pay=PAY)
    task = server.send("order.placed", order=77, timeout=0.2)
    run = server.wait_run(task, {"failed"})
    assert (run["error"]["type"], run["error"]["line"]) == ("TimeoutError", 6)
    server.request("POST", f"/api/runs/{run['id']}/retry")
    server.send("order.paid", order=77, amount=1)
    assert value(server, task)[1] == 1
    assert len(server.all("tasks", name="order.accepted", root=task)) == 1


# ---- moments


def test_sleep_until_ends_at_its_time_and_at_once_where_that_has_passed(server: Server) -> None:
    server.drop_in(
        until="""
from datetime import datetime, timedelta, timezone
on = "until.start"

def main(at):
    sleep_until(datetime(2001, 1, 1, tzinfo=timezone(timedelta(hours=2))))
    sleep_until(at)
    return now().isoformat()
""",
        naive='on = "naive.start"\nfrom datetime import datetime\ndef main(at):\n'
        "    sleep_until(at if at else datetime(2030, 1, 1))\n",
    )
    at = datetime.now(UTC) + timedelta(seconds=1.5)
    task = server.send("until.start", at=at.isoformat())
    assert datetime.fromisoformat(value(server, task)) >= at
    for given, hint in (
        (None, "has no time zone"),
        ("2030-01-01T00:00:00", "has no time zone"),
        ("soon", "is no time"),
    ):
        task = server.send("naive.start", at=given)
        assert server.wait_task(task)["state"] == "failed"
        assert hint in server.run_of(task)["error"]["message"]


# ---- whole trees


TREE = {
    "top": 'on = "tree.start"\ndef main(depth, fail=-1):\n'
    '    handle = emit("tree.node", depth=depth, fail=fail)\n'
    "    alone = wait(handle)\n"
    "    whole = wait(handle, tree=True, check=False)\n"
    "    return [alone.status, alone.value, whole.status, whole.value, whole.reason]\n",
    "node": 'on = "tree.node"\ndef main(depth, fail):\n'
    "    if depth == 2: sleep(0.2)\n"
    "    if depth == fail: raise ValueError('a leaf')\n"
    "    if depth: [emit('tree.node', depth=depth - 1, fail=fail) for _ in range(2)]\n"
    "    return depth\n",
}


def test_a_tree_is_waited_for_to_its_last_leaf_and_one_that_failed_is_named(server: Server) -> None:
    server.drop_in(**TREE)
    task = server.send("tree.start", depth=4)
    assert value(server, task) == ["done", 4, "done", 4, None]
    run = server.run_of(task)
    nodes = server.all("tasks", name="tree.node", root=task)
    assert len(nodes) == 31
    assert all(node["state"] == "done" and node["since"] <= run["ended"] for node in nodes)
    failing = value(server, server.send("tree.start", depth=3, fail=0))
    assert failing[:4] == ["done", 3, "failed", 3]
    assert failing[4].startswith("tree.node (t")


def test_a_tree_that_grows_later_is_waited_for_and_a_timeout_or_any_ends_the_wait(server: Server) -> None:
    server.drop_in(
        grower="""
on = "grow.start"

def main(**k):
    quick, slow = emit("grow.now", later=0), emit("grow.now", later=30)
    first = wait(slow, quick, any=True, tree=True)
    try:
        wait(slow, tree=True, timeout=0.2)
    except TimeoutError:
        pass
    own = wait(slow)
    try:
        wait(slow, tree=True, timeout=0.2)
    except TimeoutError as error:
        return [first.value, own.status, str(error)]
""",
        now='on = "grow.now"\ndef main(later):\n    emit("grow.later", later=later)\n    return later\n',
        later='on = "grow.later"\ndef main(later): sleep(later)\n',
    )
    assert value(server, server.send("grow.start")) == [0, "done", "wait() timed out after 0.2 s"]
