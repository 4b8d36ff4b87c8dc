"""What a swarm's tasks say of an execution: how far it is, how often it was started, what became of it. No engine.

A replicated job of one completion has one task, which is never restarted. More than one task, or another round of the
job, means that somebody made the swarm start it again. A node that has registered anew since has been away: its engine
may have died between starting the process and remembering it, and then starts it again.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from scriptrules.executors._docker_result import NEVER, Ended, Tail, result_of
from scriptrules.model import ExecutionRequest, ExecutionResult, Verdict

BEFORE_START = frozenset(
    {"new", "allocated", "pending", "assigned", "accepted", "preparing", "ready", "starting"}
)  # the states of a task that has not begun
ENDED = frozenset({"complete", "failed", "rejected", "shutdown", "orphaned", "remove"})

Nodes = Mapping[str, int]  # of each node, which version of its record the swarm has


class Evidence(msgspec.Struct, frozen=True):
    """What is known of how an execution was started."""

    begun: Verdict  # as far as whoever created the service can tell
    before: Nodes  # as they were before it was created


def the_task(tasks: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The newest task of a service; None where there is none."""
    return max(tasks, key=lambda task: (_round(task), task["CreatedAt"]), default=None)


def started_at(task: Mapping[str, Any]) -> str:
    """When it began, as near as the swarm tells: the time it gives to a running task, or when it made the task."""
    status = task["Status"]
    return str(status["Timestamp"] if status["State"] == "running" else task["CreatedAt"])


def verdict_of(evidence: Evidence, tasks: Sequence[Mapping[str, Any]], now: Nodes) -> Verdict:
    """How often the execution was started.

    Args:
        evidence: from when its service was created.
        tasks: every task that the service has had.
        now: the nodes after its end.
    """
    if len({task["ID"] for task in tasks}) > 1 or any(_round(task) for task in tasks):
        return Verdict.POSSIBLY_TWICE
    if evidence.begun is not Verdict.ONCE:
        return evidence.begun
    never_run = all(task["Status"]["State"] in BEFORE_START or not _container(task) for task in tasks)
    steady = all(evidence.before.get(task["NodeID"]) == now.get(task["NodeID"]) for task in tasks if "NodeID" in task)
    return Verdict.ONCE if never_run or steady else Verdict.POSSIBLY_TWICE


def nodes_of(listed: Sequence[Mapping[str, Any]]) -> Nodes:
    """The versions of the nodes' records, from the engine's list of nodes."""
    return {node["ID"]: node["Version"]["Index"] for node in listed}


class Seen(msgspec.Struct, frozen=True):
    """What was gathered of an execution by its end."""

    task: Mapping[str, Any]
    started: str | None
    stdout: Tail
    stderr: Tail
    lost: str | None  # why its output could not be had
    stop_reason: str | None
    timed_out: bool
    memory_mb: int


def result(request: ExecutionRequest, seen: Seen, host: str, verdict: Verdict) -> ExecutionResult:
    """The result of `request`, whose task ended so."""
    status = seen.task["Status"]
    container = status.get("ContainerStatus") or {}
    exit_code = container.get("ExitCode")
    problem = status.get("Err") or status["State"]
    never_ran = not container.get("ContainerID")
    if seen.stop_reason is None and (never_ran or (exit_code == 0 and status["State"] != "complete")):
        return ExecutionResult("failed", reason=_not_run(status["State"], problem), host=host, verdict=verdict)
    state = {
        "StartedAt": NEVER if never_ran else (seen.started or started_at(seen.task)),
        "FinishedAt": status["Timestamp"],
        "ExitCode": exit_code if status["State"] in ("complete", "failed", "shutdown") and not never_ran else None,
    }
    ended = Ended(
        state=state,
        stdout=seen.stdout,
        stderr=seen.stderr,
        file=(None, seen.lost) if seen.lost else None,
        stop_reason=seen.stop_reason,
        timed_out=seen.timed_out,
        lost=False,
        memory_mb=seen.memory_mb,
    )
    made = result_of(request, ended, host, verdict)
    if made.exit_code == 128 + signal.SIGKILL and seen.stop_reason is None:
        reason = f"{made.reason} (a swarm does not say whether memory ran out; it may use {seen.memory_mb} MB)"
        return msgspec.structs.replace(made, reason=reason)
    return made


def _not_run(state: str, problem: str) -> str:
    if state == "orphaned":
        return "its node has left the swarm, and nobody knows what became of it there"
    return f"the swarm could not run it: {problem}. Correct run()'s arguments, or the nodes."


def _round(task: Mapping[str, Any]) -> int:
    return int((task.get("JobIteration") or {}).get("Index", 0))


def _container(task: Mapping[str, Any]) -> str:
    return str((task["Status"].get("ContainerStatus") or {}).get("ContainerID", ""))
