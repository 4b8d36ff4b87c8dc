"""How soon a server with a thousand rules is ready, how soon a saved rule holds, and how soon `--help` is there."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from pathlib import Path

from common import Result, Server, folder, median, write_rules

from scriptrules import clock

RULES = 1_000
LOOK_INTERVAL = 0.01  # seconds


def _rule(number: int, threshold: int = 0) -> str:
    return f'''"""Bill the orders of branch {number}."""

from datetime import timedelta

on = "branch.b{number}.order"
when = lambda task: task["size"] > {threshold} and task.get("country", "de") == "de"
LIMITS = {{"small": 10, "middle": 100}}


def kind_of(size):
    for name, limit in LIMITS.items():
        if size <= limit:
            return name
    return "large"


def main(size, customer="nobody", **rest):
    due = now() + timedelta(days=14)
    emit("bill.created", customer=customer, kind=kind_of(size), due=due.isoformat())
    if size > 100:
        sleep(60)
        emit("bill.checked", customer=customer, more=len(rest))
'''


def rules(rounds: int) -> list[Result]:
    """A thousand rules of twenty lines each: read, compiled and described in workers, active."""
    ready: list[float] = []
    again: list[float] = []
    few: list[float] = []
    changed: list[float] = []
    for _ in range(rounds):
        with folder() as base:
            write_rules(base, {"group/r0": _rule(0)})
            with Server(base) as server:
                few.append(server.seconds_to_ready)
        with folder() as base:
            write_rules(base, {f"group/r{number}": _rule(number) for number in range(RULES)})
            with Server(base) as server:
                ready.append(server.seconds_to_ready)
                active = server.http.request("GET", "/readyz")["rules"]
                if active != RULES:
                    raise RuntimeError(f"{active} of {RULES} rules are active")
                changed += [_change(server, base, attempt) for attempt in range(3)]
            with Server(base) as server:
                again.append(server.seconds_to_ready)
    return [
        Result(
            "rules", f"ready with {RULES:,} rules, new store", median(ready), "s", ready,
            baseline="with one rule, s", baseline_value=median(few), ratio=median(ready) / median(few), reach=5, aim=2,
        ),
        Result("rules", f"ready with {RULES:,} rules that the store knows", median(again), "s", again, reach=5, aim=2),
        Result(
            "rules", f"a changed rule among {RULES:,} is active", median(changed), "s", changed, reach=1, aim=0.3,
            note="from the write until the API shows it",
        ),
    ]  # fmt: skip


def _change(server: Server, base: Path, attempt: int) -> float:
    """Seconds from saving a rule until its new version is the active one."""
    rule = f"group/r{attempt}"
    before = _digest(server, rule)
    time.sleep(0.5)
    began = clock.monotonic()
    write_rules(base, {rule: _rule(attempt, threshold=7)})
    while _digest(server, rule) == before:
        time.sleep(LOOK_INTERVAL)
    return clock.monotonic() - began


def _digest(server: Server, rule: str) -> str:
    listed = server.http.request("GET", "/api/rules")["items"]
    return next(str(item["digest"]) for item in listed if item["rule"] == rule)


def help(rounds: int) -> list[Result]:
    """`scriptrules --help` as a process, beside an interpreter that does nothing."""
    if importlib.util.find_spec("scriptrules.__main__") is None:
        return [Result("help", "`scriptrules --help`", float("nan"), "s", note="there is no command line yet")]
    ours: list[float] = []
    nothing: list[float] = []
    script = Path(sys.executable).with_name("scriptrules")
    command = [str(script)] if script.exists() else [sys.executable, "-m", "scriptrules"]
    for _ in range(rounds * 5):
        ours.append(_seconds([*command, "--help"]))
        nothing.append(_seconds([sys.executable, "-c", "pass"]))
    return [
        Result(
            "help", "`scriptrules --help`", median(ours), "s", ours, baseline="python -c pass, s",
            baseline_value=median(nothing), ratio=median(ours) / median(nothing), reach=0.25, aim=0.12,
        )
    ]  # fmt: skip


def _seconds(command: list[str]) -> float:
    began = clock.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return clock.monotonic() - began
