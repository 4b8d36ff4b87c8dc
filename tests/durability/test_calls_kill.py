"""Calls on a stack: as deep as it may be, killed at every depth, cancelled from the top."""

from __future__ import annotations

from typing import Any

from invariants import checked_project
from serving import Server, eventually

DEPTH = 64

DOWN = """
on = "down"

def main(n, bottom):
    if n == bottom:
        receive("go.on")
        return [n]
    return call("down", n=n + 1, bottom=bottom) + [n]
"""

START = """
on = "start"

def main(bottom):
    try:
        return call("down", n=1, bottom=bottom)
    except CallFailed as error:
        return {"error": str(error), "trace": error.trace}
"""


def stack_of(server: Server, run: str) -> list[dict[str, Any]]:
    return list(server.get(f"/api/runs/{run}")["stack"])


def bottom_of(server: Server, root: str, depth: int) -> dict[str, Any]:
    """The run at the bottom of the stack, once it waits there."""

    def look() -> dict[str, Any] | None:
        tasks = [task for task in server.all("tasks", root=root, name="down") if task["data"]["n"] == depth]
        runs = server.all("runs", task=tasks[0]["id"]) if tasks else []
        return runs[0] if runs and runs[0]["state"] == "waiting" else None

    return dict(eventually(look, f"depth {depth} is reached"))


def begin(server: Server) -> None:
    server.config("")
    server.rule("down", DOWN)
    server.rule("start", START)
    server.start()


def test_sixty_four_calls_deep_a_value_comes_back_and_the_stack_is_shown_and_one_more_is_held() -> None:
    with checked_project() as server:
        begin(server)
        task = server.send("start", bottom=DEPTH)
        bottom = bottom_of(server, task, DEPTH)
        stack = stack_of(server, bottom["id"])
        assert [frame["rule"] for frame in stack] == ["start"] + ["down"] * DEPTH
        assert [frame["line"] for frame in stack] == [6] + [8] * (DEPTH - 1) + [6]
        assert stack[-1] == {
            "run": bottom["id"],
            "rule": "down",
            "task": bottom["task"],
            "name": "down",
            "seq": 1,
            "line": 6,
        }
        server.kill()
        server.start()
        assert stack_of(server, bottom["id"]) == stack
        server.send("go.on")
        server.wait_task(task)
        assert server.run_of(task)["value"] == list(range(DEPTH, 0, -1))

        deeper = server.send("start", bottom=DEPTH + 1)
        held = eventually(lambda: server.all("tasks", root=deeper, state="held"), "the deepest is held")[0]
        assert (held["reason"], held["data"]["n"]) == ("depth", DEPTH + 1)
        server.request("POST", f"/api/tasks/{held['id']}/cancel")
        server.wait_task(deeper)
        said = server.run_of(deeper)["value"]
        assert said["error"].startswith("down: rule down, line 8: CallFailed: down: rule down, line 8: CallFailed:")
        assert 'File "rules/down.py", line 8, in main' in said["trace"]


def test_a_stack_survives_a_kill_at_every_depth_on_the_way_down_and_up() -> None:
    depth = 8
    with checked_project() as server:
        server.config("")
        server.rule("start", START)
        server.rule(
            "down",
            'on = "down"\ndef main(n, bottom):\n    receive("down.go", {"n": n})\n'
            '    below = call("down", n=n + 1, bottom=bottom) if n < bottom else []\n'
            '    receive("up.go", {"n": n})\n    emit("passed", n=n)\n    return below + [n]\n',
        )
        server.start()
        task = server.send("start", bottom=depth)
        for way in ("down.go", "up.go"):
            for n in range(1, depth + 1) if way == "down.go" else range(depth, 0, -1):
                if way == "down.go":
                    bottom_of(server, task, n)
                server.send(way, n=n)
                server.kill()
                server.start()
        server.wait_task(task)
        assert server.run_of(task)["value"] == list(range(depth, 0, -1))
        assert sorted(one["data"]["n"] for one in server.all("tasks", name="passed")) == list(range(1, depth + 1))
        runs = server.all("runs", rule="down")
        assert len(runs) == depth
        assert {run["state"] for run in runs} == {"done"}


def test_cancelling_the_caller_cancels_its_callees_at_every_depth_though_the_server_is_killed() -> None:
    depth = 12
    with checked_project() as server:
        begin(server)
        tasks = [server.send("start", bottom=depth) for _ in range(4)]
        for task in tasks:
            bottom_of(server, task, depth)
        for task in tasks:
            server.request("POST", f"/api/runs/{server.run_of(task)['id']}/cancel")
            server.kill()
            server.start()
        for task in tasks:
            states = eventually(
                lambda task=task: all_ended(server, task), f"all of {task} are cancelled, at every depth"
            )
            assert states == {"cancelled"}


def all_ended(server: Server, root: str) -> set[str] | None:
    states = {one["state"] for one in server.all("tasks", root=root)}
    return states if states <= {"cancelled", "done", "failed"} else None


def test_recursion_and_several_calls_at_once_give_their_values() -> None:
    with checked_project() as server:
        server.config("")
        server.rule(
            "fib",
            'on = "fib"\ndef main(n):\n    if n < 2: return n\n'
            '    parts = wait(*[emit("fib", n=n - k) for k in (1, 2)])\n'
            '    return sum([part.values["fib"] for part in parts])\n',
        )
        server.rule("ask", 'on = "ask"\ndef main(n): return call("fib", n=n) + call("fib", n=n - 1)\n')
        server.rule("all", 'on = "**"\npriority = 9\ndef main(**k): return "an audit does not answer"\n')
        server.rule("rest", 'on = "fib"\nnomatch = True\ndef main(**k): return "a fallback does not answer"\n')
        server.start()
        task = server.send("ask", n=8)
        server.wait_task(task)
        assert server.run_of(task, "ask")["value"] == 34
