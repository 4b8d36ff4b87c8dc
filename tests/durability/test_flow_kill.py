"""Limits and timeouts hold, whenever the server is killed."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

from invariants import checked_project
from serving import Server, eventually

TASKS, CUSTOMERS, MOST, KILLS = 240, 3, 2, 6

WORK = """#!/bin/sh
echo "begin $2 $3" >> "$1"
sleep 0.05
echo "end $2 $3" >> "$1"
"""

RULE = """
on = "work"
limit = {{"max": {most}, "key": "customer"}}

def main(customer, n):
    sleep(0.02)
    run("local", "job", {program!r}, args=[{record!r}, customer, n])
    wait("job")
    return n
"""


def working_program(server: Server) -> tuple[str, Path]:
    """A program that says when it begins and ends, and the file that it says so in."""
    program = server.folder / "work"
    program.write_text(WORK)
    program.chmod(0o755)
    record = server.folder / "record"
    record.touch()
    record.chmod(0o666)
    server.config(f'[hosts.local]\nexecutor = "process"\nprograms = ["{program}"]\n')
    return str(program), record


def most_at_once(record: Path) -> dict[str, int]:
    """How many of each customer's executions were under way together, at most."""
    active: Counter[str] = Counter()
    most: Counter[str] = Counter()
    for line in record.read_text().splitlines():
        what, customer, _ = line.split()
        active[customer] += 1 if what == "begin" else -1
        most[customer] = max(most[customer], active[customer])
    assert not +active
    return dict(most)


def test_a_limit_by_key_holds_through_kills_and_no_slot_is_lost() -> None:
    with checked_project() as server:
        program, record = working_program(server)
        server.rule("work", RULE.format(most=MOST, program=program, record=str(record)))
        server.start()
        ids = server.send_many(
            [{"name": "work", "data": {"customer": f"c{n % CUSTOMERS}", "n": n}} for n in range(TASKS)]
        )
        for _ in range(KILLS):
            time.sleep(random.uniform(0.2, 1.0))
            server.kill()
            server.start()
        eventually(lambda: "running" not in server.get("/api/counts")["tasks"], "all ended", patience=120)
        assert [run for run in server.all("runs") if run["state"] != "done"] == []
        assert most_at_once(record) == {f"c{number}": MOST for number in range(CUSTOMERS)}
        lines = Counter(record.read_text().splitlines())
        assert len(lines) == 2 * TASKS
        assert set(lines.values()) == {1}
        values = {run["task"]: run["value"] for run in server.all("runs")}
        assert [values[id] for id in ids] == list(range(TASKS))
        assert server.get("/api/counts")["runs"] == {"done": TASKS}
