"""What a decision is: a run's next state, what is written with it, and the effects that follow the commit."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from scriptrules.clock import SECOND
from scriptrules.journal import Record
from scriptrules.model import RUN_FINAL, Run, RunState, Task
from scriptrules.store.protocol import SecretUse, Variable, Wake
from scriptrules.supervisor.states import RUN


class Go(msgspec.Struct, frozen=True):
    """Let the script go on with what it has waited for."""


class Start(msgspec.Struct, frozen=True):
    """Start the execution, or call the plugin's function, of this entry."""

    seq: int


class Stop(msgspec.Struct, frozen=True):
    """Stop the execution, or the call of a plugin's function, of this key."""

    key: str


class Cancel(msgspec.Struct, frozen=True):
    """Cancel a task that only this run waited for (a callee), or a run that makes way for this one."""

    id: str


class Replay(msgspec.Struct, frozen=True):
    """Execute the script again from the top."""


Effect = Go | Start | Stop | Cancel | Replay


class Decision(msgspec.Struct):
    run: Run
    records: list[Record] = []
    tasks: list[Task] = []
    ways: list[str] = []  # the function that generates each of `tasks`
    wakes: list[Wake] = []
    done: list[Wake] = []
    variables: list[Variable] = []
    uses: list[SecretUse] = []
    effects: list[Effect] = []
    ended: bool = False  # the run has reached a final state by this


class Setting(msgspec.Struct, frozen=True):
    """What decisions need to know of the installation."""

    new_id: Callable[[str], str]
    blocking: frozenset[str]  # functions that block
    retries: dict[str, int]  # of plugin functions
    hop_max: int
    call_depth_max: int
    secrets: dict[str, list[str]] = {}  # of plugin functions: the parameters that accept secrets
    is_secret: Callable[[str], bool] = lambda _: False  # whether the store's variable of this name is one now


def move(decision: Decision, state: RunState, now: int, reason: str | None = None, **changes: object) -> None:
    """Give the run of a decision its next state; one that the table does not have is a bug."""
    run = decision.run
    if state not in RUN[run.state]:
        raise AssertionError(f"a run cannot go from {run.state} to {state}")
    if run.deadline is not None and "deadline" not in changes:
        changes = _keep_time(decision, state, now) | changes
    decision.run = msgspec.structs.replace(run, state=state, since=now, reason=reason, **changes)


def begin_timeout(decision: Decision, now: int) -> None:
    """From now on the run's timeout counts, if its rule has one and the run has not ended."""
    run = decision.run
    if run.control is None or run.control.timeout is None or run.state in RUN_FINAL:
        return
    due = now + int(run.control.timeout * SECOND)
    decision.run = msgspec.structs.replace(run, deadline=due)
    if run.state is not RunState.HELD:
        decision.wakes.append(Wake(run.id, 0, "timeout", due=due))


def _keep_time(decision: Decision, state: RunState, now: int) -> dict[str, object]:
    """Stop the time while a run is held, and for good when it has ended."""
    run, due = decision.run, decision.run.deadline or 0
    if run.state is RunState.HELD:
        due += now - run.since
    wake = Wake(run.id, 0, "timeout", due=due)
    if state in RUN_FINAL or state is RunState.HELD:
        decision.done.append(wake)
    elif run.state is RunState.HELD:
        decision.wakes.append(wake)
    return {"deadline": due}
