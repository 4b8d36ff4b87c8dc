"""How many tasks a second are executed durably, how many are taken in, and how long one takes on an idle server."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import venv
from pathlib import Path

from common import HERE, Result, Server, client, folder, median, write_rules

from scriptrules import clock

REQUIREMENTS = ["dbos==3.4.*", "pysqlite3-binary"]
IN_FLIGHT = 100
TASKS = 10_000  # sent in a round; as many are generated
WORKFLOWS = 400  # of the baseline in a round
CONNECTIONS = 64
POST_SECONDS = 4.0
SENDS = 200  # one at a time, of which the median is taken
PAUSE = 0.02  # seconds between two of them

ORDER = '''"""Note each order."""

on = "order.placed"
when = lambda task: task["size"] > 0


def main(size, customer):
    emit("order.noted", customer=customer, size=size)
'''
LOGGED = 'on = "probe"\n\n\ndef main(sent):\n    log("entered")\n'


def stream(rounds: int) -> list[Result]:
    """Tasks sent as NDJSON, each matched, executed in the sandbox and generating one; beside DBOS, round by round."""
    python = _baseline_python()
    ours: list[float] = []
    stock: list[float] = []
    wal: list[float] = []
    in_flight: list[float] = []
    with folder() as base:
        write_rules(base, {"order": ORDER})
        for _ in range(rounds):
            with Server(base) as server:
                measured = client("stream", server.address, base, TASKS, IN_FLIGHT)
                _check_all_ended(server, at_least=TASKS)
            ours.append(TASKS / measured["seconds"])
            in_flight.append(measured["in_flight"])
            stock.append(_workflows(python, "stock"))
            wal.append(_workflows(python, "wal"))
    value = median(ours)
    return [
        Result(
            name="stream",
            what=f"tasks a second, durable, matched, sandboxed, one emitted, {IN_FLIGHT} in flight",
            value=value,
            unit="/s",
            rounds=ours,
            baseline="one-step DBOS workflows a second as it ships",
            baseline_value=median(stock),
            ratio=value / median(stock),
            by_ratio=True,
            reach=20,
            aim=50,
            more_is_better=True,
            note=f"{median(in_flight):.0f} in flight on average; the generated tasks are matched too",
        ),
        Result(
            name="stream",
            what="the same, beside DBOS with its file put into WAL mode",
            value=value,
            unit="/s",
            rounds=ours,
            baseline="one-step DBOS workflows a second, WAL",
            baseline_value=median(wal),
            ratio=value / median(wal),
        ),
    ]


def _check_all_ended(server: Server, at_least: int) -> None:
    counts = dict(server.store().execute("SELECT name || ' ' || state, count(*) FROM tasks GROUP BY name, state"))
    done, generated = counts.pop("order.placed done"), counts.pop("order.noted unmatched")
    if counts or done != generated or done < at_least:
        raise RuntimeError(f"not all tasks have ended as they should: {counts}, {done} done, {generated} generated")


def _workflows(python: Path, journal: str) -> float:
    with folder() as base:
        command = [str(python), str(HERE / "dbos_baseline.py"), str(base), str(WORKFLOWS), str(IN_FLIGHT), journal]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    measured = json.loads(printed)
    if measured["synchronous"] != [2]:
        raise RuntimeError(f"the baseline is not fully durable: {measured}")
    return WORKFLOWS / float(measured["seconds"])


def _baseline_python() -> Path:
    """The interpreter of a virtualenv that has DBOS, made on the first use."""
    home = HERE / ".venv"
    python = home / "bin" / "python"
    wanted = "\n".join([sys.version, *REQUIREMENTS])
    ready = home / "ready"
    if not ready.is_file() or ready.read_text() != wanted:
        print("benchmarks: installing the baseline, DBOS, into benchmarks/.venv", file=sys.stderr)
        venv.create(home, clear=True, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input", *REQUIREMENTS]
        subprocess.run(pip, check=True, stdout=sys.stderr)
        ready.write_text(wanted)
    return python


def post(rounds: int) -> list[Result]:
    """One task a request over 64 connections, each sent when the last one is acknowledged; each executed as well."""
    executed: list[float] = []
    unmatched: list[float] = []
    left: list[float] = []
    for _ in range(rounds):
        with folder() as base:
            write_rules(base, {"order": ORDER})
            with Server(base) as server:
                measured = client("post", server.address, CONNECTIONS, POST_SECONDS, "order.placed")
                executed.append(measured["answers"] / measured["seconds"])
                left.append(_unfinished(server))
                _drain(server)
                _check_all_ended(server, at_least=int(measured["answers"]))
                measured = client("post", server.address, CONNECTIONS, POST_SECONDS, "nobody.handles.this")
                unmatched.append(measured["answers"] / measured["seconds"])
                _drain(server)
    what = f"POST /api/tasks one at a time, {CONNECTIONS} connections, acknowledged after the commit"
    return [
        Result(
            "post", f"{what}; a rule is executed for each meanwhile", median(executed), "/s", executed,
            reach=2_500, aim=5_000, more_is_better=True, note=f"{median(left):.0f} tasks unfinished at the end",
        ),
        Result("post", "the same with tasks that no rule is for", median(unmatched), "/s", unmatched),
    ]  # fmt: skip


def _drain(server: Server) -> None:
    while _unfinished(server):
        time.sleep(0.05)


def _unfinished(server: Server) -> int:
    return int(server.store().execute("SELECT count(*) FROM tasks WHERE state = 'new'").fetchone()[0])


def latency(rounds: int) -> list[Result]:
    """From just before a task is sent until its rule's first line has been executed, on a server that is idle."""
    entered: list[float] = []
    acknowledged: list[float] = []
    with folder() as base:
        write_rules(base, {"probe": LOGGED})
        with Server(base) as server:
            for _ in range(rounds):
                took = _sends(server)
                entered.append(median([main for main, _ in took]))
                acknowledged.append(median([answer for _, answer in took]))
    return [
        Result(
            "latency", "send → `main` entered, idle, p50", median(entered), "ms", entered,
            baseline="send → acknowledged", baseline_value=median(acknowledged),
            ratio=median(entered) / median(acknowledged), reach=10, aim=3,
            note="until the server has heard of the rule's first line",
        )
    ]  # fmt: skip


def _sends(server: Server) -> list[tuple[float, float]]:
    """Milliseconds until `main` was entered, and until the answer, of each."""
    sent: dict[str, int] = {}
    answered: dict[str, float] = {}
    for number in range(SENDS):
        body = json.dumps({"name": "probe", "data": {"sent": number}}).encode()
        time.sleep(PAUSE)
        began = clock.now()
        id = server.http.request("POST", "/api/tasks", body)["id"]
        answered[id] = (clock.now() - began) / 1000
        sent[id] = began
    time.sleep(0.2)
    rows = dict(server.store().execute("SELECT r.task, l.at FROM logs l JOIN runs r ON r.id = l.run"))
    return [((rows[id] - began) / 1000, answered[id]) for id, began in sent.items()]
