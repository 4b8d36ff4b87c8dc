"""What a decision is: a run's next state, what is written with it, and the effects that follow the commit."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from scriptrules.journal import Record
from scriptrules.model import Run, RunState, Task
from scriptrules.sandbox.wire import Outcome
from scriptrules.store.protocol import Wake
from scriptrules.supervisor.states import RUN


class Go(msgspec.Struct, frozen=True):
    """Let the script go on with this outcome."""

    outcome: Outcome


class Start(msgspec.Struct, frozen=True):
    """Start the execution, or call the plugin's function, of this entry."""

    seq: int


class Stop(msgspec.Struct, frozen=True):
    """Stop the execution, or the call of a plugin's function, of this key."""

    key: str


class CancelTask(msgspec.Struct, frozen=True):
    """Cancel a task that only this run waited for: a callee."""

    id: str


class Replay(msgspec.Struct, frozen=True):
    """Execute the script again from the top."""


Effect = Go | Start | Stop | CancelTask | Replay


class Decision(msgspec.Struct):
    run: Run
    records: list[Record] = []
    tasks: list[Task] = []
    wakes: list[Wake] = []
    done: list[Wake] = []
    effects: list[Effect] = []
    ended: bool = False  # the run has reached a final state by this


class Setting(msgspec.Struct, frozen=True):
    """What decisions need to know of the installation."""

    new_id: Callable[[str], str]
    blocking: frozenset[str]  # functions that block
    retries: dict[str, int]  # of plugin functions
    hop_max: int
    call_depth_max: int


def move(decision: Decision, state: RunState, now: int, reason: str | None = None, **changes: object) -> None:
    """Give the run of a decision its next state; one that the table does not have is a bug."""
    run = decision.run
    if state not in RUN[run.state]:
        raise AssertionError(f"a run cannot go from {run.state} to {state}")
    decision.run = msgspec.structs.replace(run, state=state, since=now, reason=reason, **changes)
