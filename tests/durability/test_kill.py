"""Nothing is lost: the server is killed at random moments, and everything that was acknowledged happens, once."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter

from invariants import checked_project
from serving import Problem, Server, appending_program, eventually

TASKS = 1000
KILLS = 20

RULE = """
on = "work.start"

def main(n):
    run("local", "append", {program!r}, args=[{record!r}, n])
    result = wait("append")
    emit("work.done", n=result.output["n"])
"""

AUDIT = """
on = "work.**"

def main(task):
    log(task.name)
"""


def _send_all(server: Server, acknowledged: dict[int, str], stop: threading.Event) -> None:
    """Send every task until it is acknowledged; the key makes the repeats harmless."""
    for n in range(TASKS):
        while not stop.is_set():
            try:
                acknowledged[n] = server.send("work.start", key=f"work-{n}", n=n)
                break
            except (OSError, http.client.HTTPException, Problem, ValueError):
                time.sleep(0.02)


def test_a_thousand_tasks_survive_twenty_kills_and_each_execution_is_started_once() -> None:
    with checked_project() as server:
        program, record = appending_program(server)
        server.config(f'[hosts.local]\nexecutor = "process"\nprograms = ["{program}"]\n')
        server.rule("work", RULE.format(program=program, record=str(record)))
        server.rule("audit", AUDIT)
        server.start()
        acknowledged: dict[int, str] = {}
        stop = threading.Event()
        sender = threading.Thread(target=_send_all, args=(server, acknowledged, stop))
        sender.start()
        try:
            for _ in range(KILLS):
                time.sleep(random.uniform(0.1, 1.2))
                server.kill()
                server.start()
            sender.join(300)
            assert not sender.is_alive(), "the sender did not finish"
        finally:
            stop.set()
            sender.join()
        assert len(acknowledged) == TASKS
        eventually(lambda: _all_ended(server), "all tasks ended", patience=300)

        started = server.all("tasks", name="work.start")
        assert Counter(task["state"] for task in started) == {"done": TASKS}
        assert {task["id"] for task in started} == set(acknowledged.values())
        done = server.all("tasks", name="work.done")
        assert Counter(task["data"]["n"] for task in done) == dict.fromkeys(range(TASKS), 1)
        runs = Counter((run["task"], run["rule"]) for run in server.all("runs"))
        assert set(runs.values()) == {1}, "a rule ran twice for a task"
        assert len(runs) == 3 * TASKS
        lines = Counter(int(line) for line in record.read_text().split())
        assert lines == dict.fromkeys(range(TASKS), 1), "an execution was started twice, or not at all"


def _all_ended(server: Server) -> bool:
    tasks = server.get("/api/counts")["tasks"]
    return set(tasks) == {"done"} and tasks["done"] == 2 * TASKS


def test_a_waiting_run_goes_on_after_a_restart_with_the_same_time_and_chance_though_its_file_was_edited() -> None:
    with checked_project() as server:
        server.config("")
        text = """
def main(**kwargs):
    before = [now().isoformat(), random(), uuid(), random()]
    emit("seen.before", values=before)
    sleep(2.5)
    emit("seen.after", values=before, later=[random(), uuid()], at=now().isoformat())
"""
        server.rule("edited", 'on = "begin"\n' + text)
        server.rule("deleted", 'on = "begin"\n' + text)
        server.start()
        task = server.send("begin")
        eventually(lambda: len(server.all("tasks", name="seen.before")) == 2, "both runs wait")
        server.kill()
        server.rule("edited", 'on = "begin"\ndef main(**kwargs):\n    emit("wrong")\n')
        (server.folder / "rules" / "deleted.py").unlink()
        server.start()
        assert server.wait_task(task)["state"] == "done"
        after = {item["parent"]: item["data"]["values"] for item in server.all("tasks", name="seen.after")}
        before = {item["parent"]: item["data"]["values"] for item in server.all("tasks", name="seen.before")}
        assert len(after) == 2
        assert after == before
        assert server.all("tasks", name="wrong") == []


def test_an_execution_that_ends_while_the_server_is_down_is_found_by_the_next_one() -> None:
    with checked_project() as server:
        server.config('[hosts.local]\nexecutor = "process"\nprograms = ["sleep"]\n')
        server.rule(
            "slow",
            'on = "go"\ndef main(**k):\n    run("local", "s", "sleep", args=[1])\n    return wait("s").exit_code\n',
        )
        server.start()
        task = server.send("go")
        run = server.wait_run(task, {"waiting"})
        eventually(lambda: server.entries(run["id"])[0]["state"] == "started", "the execution runs")
        server.kill()
        time.sleep(1.5)
        server.start()
        assert server.wait_task(task)["state"] == "done"
        assert server.run_of(task)["value"] == 0
        assert server.entries(run["id"])[0]["verdict"] == "once"
