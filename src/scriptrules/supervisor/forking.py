"""A new run that shares the journal of another up to an entry, gets another result there, and goes on by itself. Pure.

The fork begins with the records of the original, so that a replay sees the same results, the same moments and the same
random numbers. What these records have started and generated belongs to the original: it is not done again, and it
does not end with the fork.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from scriptrules.errors import NotFound
from scriptrules.journal import CutRecord, EndRecord, Record
from scriptrules.model import Control, Entry, EntryState, Failure, Run, RunState
from scriptrules.store.protocol import SecretUse
from scriptrules.supervisor.decision import Decision, Replay
from scriptrules.supervisor.entries import is_outstanding
from scriptrules.supervisor.interventions import result_of
from scriptrules.supervisor.limits import Admission, occupy


def on_fork(
    run: Run,
    records: Sequence[Record],
    entries: Sequence[Entry],
    seq: int,
    value: bytes,
    fork: str,
    digest: str,
    control: Control | None,
    admission: Admission | None,
    now: int,
) -> Decision:
    """Somebody wants to know what a run does with another result.

    Args:
        records, entries: of the run.
        seq: the entry that gets the result; later ones do not count.
        value: JSON. For an execution its `output`, or an object with `status`; for an emitted task its value, or such
            an object; for a wait a list of these; for a receive ``{"name", "data"}``; else what the function gives.
        fork: the id of the new run.
        digest, control, admission: as for `on_retry`.

    Raises:
        NotFound: the run has no such entry.
        BadTask: this cannot be a result of it.
    """
    if not 0 < seq <= len(entries):
        raise NotFound(f"Run {run.id} has no entry {seq}; it has {len(entries)}. See `scriptrules show {run.id}`.")
    result = result_of(entries[seq - 1], entries, msgspec.json.decode(value))
    # It is as old as the original: the first slice sees the time at which that began.
    made = Run(
        fork, run.rule, run.task, digest, RunState.QUEUED, now, run.created,
        attempt=run.attempt, python=run.python, policy=run.policy, reasons=run.reasons, control=control,
    )  # fmt: skip
    decision = Decision(made, [*records, CutRecord(now, seq + 1)])
    shared = Failure("ExecutionFailed", f"it belongs to run {run.id}, from which this one was forked")
    for entry in entries[: seq - 1]:
        if is_outstanding(entry):
            decision.records.append(EndRecord(now, entry.seq, EntryState.CANCELLED, error=shared))
    decision.records.append(EndRecord(now, seq, EntryState.DONE, msgspec.Raw(msgspec.json.encode(result))))
    loaded = [entry.secret for entry in entries[: seq - 1] if entry.secret is not None]
    decision.uses += [SecretUse(ref.name, ref.version, fork) for ref in loaded]
    decision.effects.append(Replay())
    occupy(decision, admission, now)
    return decision
