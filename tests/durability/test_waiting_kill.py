"""Waits survive `kill -9`: what was decided stays decided, what arrives meanwhile is found, nothing is found twice."""

from __future__ import annotations

import http.client
import random
import time

from invariants import checked_project
from serving import Problem, Server, eventually

COLLECT = """
on = "collect"

def main(n):
    found = [receive("item", {"for": n})["i"] for _ in range(4)]
    found.append(receive("item.*", {"for": n})["i"])
    return found
"""

RACES = """
on = "race"

def attempt(*handles, **how):
    try:
        return wait(*handles, **how).value
    except TimeoutError:
        return "too late"

def main(n):
    a, b = emit("nap", s=0.4, name="a"), emit("nap", s=0.4, name="b")
    outcomes = [attempt(b, a, any=True)]
    c = emit("nap", s=0.4, name="c")
    outcomes.append(attempt(c, timeout=0.4))
    try:
        outcomes.append(receive("shot", {"n": n}, timeout=1.0).name)
    except TimeoutError:
        outcomes.append("too late")
    emit("seen", outcomes=outcomes)
    receive("go.on")
    return outcomes
"""

NAP = """
on = "nap"

def main(s, name):
    sleep(s)
    return name
"""

TREE = """
on = "tree"

def main(n):
    handle = emit("node", depth=3)
    result = wait(handle, tree=True)
    return [result.status, result.value]
"""

NODE = """
on = "node"

def main(depth):
    sleep(0.3)
    if depth:
        [emit("node", depth=depth - 1) for _ in range(2)]
    return depth
"""


def send_surely(server: Server, name: str, key: str, **data: object) -> str:
    """Send a task until it is acknowledged; the key makes a repeat harmless."""
    while True:
        try:
            return server.send(name, key=key, **data)
        except (OSError, http.client.HTTPException, Problem, ValueError):
            time.sleep(0.02)


def restart(server: Server) -> None:
    server.kill()
    server.start()


def test_items_sent_around_kills_are_received_once_each_and_in_order() -> None:
    collectors, items = 40, 4
    with checked_project() as server:
        server.config("")
        server.rule("collect", COLLECT)
        server.start()
        tasks = [send_surely(server, "collect", f"c{n}", n=n) for n in range(collectors)]
        for i in range(items):
            for n in range(collectors):
                if random.random() < 0.04:
                    restart(server)
                send_surely(server, "item", f"i{n}/{i}", **{"for": n, "i": i})
            restart(server)
        for n in range(collectors):
            send_surely(server, "item.last", f"l{n}", **{"for": n, "i": items})
        restart(server)
        for task in tasks:
            assert server.wait_task(task)["state"] == "done"
            assert server.run_of(task)["value"] == list(range(items + 1))


def test_a_winner_and_a_timeout_are_decided_once_though_the_result_comes_in_the_same_moment() -> None:
    runs = 20
    with checked_project() as server:
        server.config("")
        for name, text in (("race", RACES), ("nap", NAP)):
            server.rule(name, text)
        server.start()
        tasks = {server.send("race", n=n): n for n in range(runs)}
        time.sleep(1.2)
        for n in range(runs):  # about when the others' time is over
            server.send("shot", n=n)
            if n == runs // 2:
                restart(server)
        eventually(lambda: len(server.all("tasks", name="seen")) == runs, "all have decided")
        seen = {task["root"]: task["data"]["outcomes"] for task in server.all("tasks", name="seen")}
        restart(server)
        server.send("go.on")
        for task in tasks:
            run = server.wait_run(task, {"done", "failed"}, "race")
            assert run["value"] == seen[task]


def test_trees_are_waited_for_to_their_end_though_the_server_is_killed_while_they_grow() -> None:
    with checked_project() as server:
        server.config("")
        for name, text in (("tree", TREE), ("node", NODE)):
            server.rule(name, text)
        server.start()
        tasks = [server.send("tree", n=n) for n in range(10)]
        for _ in range(5):
            time.sleep(random.uniform(0.1, 0.4))
            restart(server)
        for task in tasks:
            run = server.wait_run(task, {"done", "failed"}, "tree")
            assert run["value"] == ["done", 3], run
            nodes = server.all("tasks", name="node", root=task)
            assert len(nodes) == 15
            assert max(node["since"] for node in nodes) <= run["ended"]
