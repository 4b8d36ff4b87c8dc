"""The state machines of runs and tasks, as tables; a transition that is not in them is a bug.

Every state that is not final has a way out, and `EXITS` says which: nothing is ever stuck without one.
"""

from __future__ import annotations

from scriptrules.model import RunState, TaskState

Q, R, W, H = RunState.QUEUED, RunState.RUNNING, RunState.WAITING, RunState.HELD
D, F, C = RunState.DONE, RunState.FAILED, RunState.CANCELLED

RUN: dict[RunState, frozenset[RunState]] = {  # from: to
    Q: frozenset({Q, R, W, H, D, F, C}),  # new, or retried: it is about to be executed
    R: frozenset({R, W, H, D, F, C}),  # a result is there: it is about to go on
    W: frozenset({W, R, H, D, F, C}),  # for a timer, an execution, a task, an answer
    H: frozenset({H, R, Q, W, C}),  # for somebody to resume, retry or cancel it; W: cancelled, with executions
    D: frozenset(),
    F: frozenset({Q}),  # retry
    C: frozenset(),
}

TASK: dict[TaskState, frozenset[TaskState]] = {
    TaskState.NEW: frozenset(TaskState),  # matching decides
    TaskState.HELD: frozenset({TaskState.HELD, TaskState.NEW, TaskState.DROPPED, TaskState.CANCELLED}),
    TaskState.RUNNING: frozenset({TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED}),  # with its last run
    TaskState.DONE: frozenset({TaskState.RUNNING}),  # a run of it is forked
    TaskState.FAILED: frozenset({TaskState.RUNNING}),  # a run of it is retried, or forked
    TaskState.UNMATCHED: frozenset({TaskState.NEW}),  # resumed after a rule was dropped in
    TaskState.DROPPED: frozenset(),
    TaskState.CANCELLED: frozenset({TaskState.RUNNING}),  # likewise
}

EXITS = {  # reason of what is not final: what ends it
    "new": "matching, as soon as a worker is free",
    "queued": "the next free worker",
    "limit": "the end of another run of this rule; or `scriptrules cancel ID`",
    "running": "the end of its runs",
    "sleep": "its time: nothing to do",
    "wait": "the end of what it waits for; or `scriptrules cancel ID`",
    "deadlock": "`scriptrules cancel ID`, or `scriptrules answer ID` in place of what it waits for; raise the limit",
    "receive": "the arrival of such a task; or `scriptrules cancel ID`",
    "sleep_until": "its time: nothing to do",
    "call": "the answer; or `scriptrules cancel ID`",
    "executions": "the end of its executions; or `scriptrules cancel ID`",
    "cancelling": "the end of its executions, which were told to stop",
    "breakpoint": "`scriptrules resume ID`; or step, edit, answer, drop",
    "breakpoint_error": "correct the breakpoint; `scriptrules resume ID` lets it go on",
    "step": "`scriptrules step ID` again, or `scriptrules resume ID`",
    "hold": "`scriptrules resume ID`; or `scriptrules cancel ID`",
    "loop": "`scriptrules resume ID` lets it go on for as many generations again",
    "divergence": "`scriptrules retry ID --from-start`; or restore the rule and `scriptrules resume ID`",
    "policy": "`scriptrules retry ID` uses the newest source",
    "unresolved": "a rule whose `on` names the task literally; then it goes on by itself",
    "ambiguous": "give the answering rules different priorities; then it goes on by itself",
    "match_error": "correct the rule, then `scriptrules resume ID`",
    "depth": "a call that does not call itself again; `scriptrules cancel ID`",
    "match_limit": "correct the rule, then `scriptrules resume ID`",
}


def exit_of(state: str, reason: str | None) -> str | None:
    """What ends a state that is not final."""
    return EXITS.get((reason or state).partition(":")[0]) or EXITS.get(state)
