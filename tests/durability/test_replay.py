"""Runs that were forgotten go on as if they had not been: by replay, in another worker, after another edit."""

from __future__ import annotations

import threading
import time
from collections import Counter

from serving import eventually, project

WANDERER = """
on = "wander"

def main(n):
    seen = []
    for step in range(4):
        seen.append([step, random(), uuid(), now().isoformat()])
        emit("step", n=n, step=step, seen=seen[-1])
        sleep(0.05 + 0.1 * random())
    handles = [emit("part", n=n, k=k) for k in range(3)]
    parts = [result.value for result in wait(*handles)]
    return {"seen": seen, "parts": parts, "sum": call("add", values=parts)}
"""

PART = 'on = "part"\ndef main(n, k):\n    sleep(0.05 * k)\n    return n * 10 + k\n'
ADD = 'on = "add"\ndef main(values): return sum(values)\n'


def test_runs_that_are_evicted_at_once_end_as_those_that_are_kept() -> None:
    with project() as server:
        server.config("[sandbox]\nwarm_runs = 1\nworkers = 2\n")
        for name, text in (("wander", WANDERER), ("part", PART), ("add", ADD)):
            server.rule(name, text)
        server.start()
        ids = server.send_many([{"name": "wander", "data": {"n": n}} for n in range(40)])
        for n, id in enumerate(ids):
            assert server.wait_task(id)["state"] == "done"
            run = server.run_of(id)
            assert run["value"]["parts"] == [n * 10, n * 10 + 1, n * 10 + 2]
            assert run["value"]["sum"] == 30 * n + 3
            steps = [
                entry["args"]["data"]["seen"]
                for entry in server.entries(run["id"])
                if entry["name"] == "emit" and entry["args"]["name"] == "step"
            ]
            assert run["value"]["seen"] == steps, "what was emitted before a replay differs from what came after"
        assert Counter(task["name"] for task in server.all("tasks")) == {
            "wander": 40,
            "step": 160,
            "part": 120,
            "add": 40,
        }


def test_rules_that_are_edited_while_tasks_flow_lose_and_repeat_none() -> None:
    """Each reply of a worker carries the epoch it matched against; a stale one is matched again."""
    with project() as server:
        server.config("")
        server.rule("flow", 'on = "flow"\ndef main(n): emit("flowed", n=n, version=0)\n')
        server.start()
        stop = threading.Event()

        def edit() -> None:
            version = 0
            while not stop.is_set():
                version += 1
                server.rule("flow", f'on = "flow"\ndef main(n): emit("flowed", n=n, version={version})\n')
                server.rule(f"other{version % 5}", f'on = "other"\ndef main(**k): return {version}\n')
                stop.wait(0.02)

        editor = threading.Thread(target=edit)
        editor.start()
        try:
            ids = []
            for start in range(0, 3000, 100):
                ids += server.send_many([{"name": "flow", "data": {"n": n}} for n in range(start, start + 100)])
                time.sleep(0.05)
            eventually(lambda: set(server.get("/api/counts")["tasks"]) == {"done", "unmatched"}, "all tasks have ended")
        finally:
            stop.set()
            editor.join()
        flowed = server.all("tasks", name="flowed")
        assert Counter(task["data"]["n"] for task in flowed) == Counter(range(3000))
        assert len({task["data"]["version"] for task in flowed}) > 3, "the edits came too late to show anything"


def test_a_flood_of_tasks_waits_in_the_store_and_not_in_memory() -> None:
    with project() as server:
        server.config("")
        server.rule("flood", 'on = "flood"\ndef main(n): return n\n')
        server.start()
        for start in range(0, 30_000, 5_000):
            server.send_many([{"name": "flood", "data": {"n": n}} for n in range(start, start + 5_000)])
        server.kill()
        server.start()
        eventually(lambda: server.get("/api/counts")["tasks"] == {"done": 30_000}, "all tasks have ended")
        assert server.get("/api/counts")["runs"] == {"done": 30_000}
