"""What happens next when somebody intervenes in a run: cancels, resumes or retries it. Pure, like `transitions`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from scriptrules.journal import (
    AgainRecord,
    CutRecord,
    EndRecord,
)
from scriptrules.model import (
    ENTRY_FINAL,
    RUN_FINAL,
    Control,
    Entry,
    EntryState,
    Failure,
    Run,
    RunState,
    execution_key,
)
from scriptrules.store.protocol import Wake
from scriptrules.supervisor.arguments import (
    wait_args,
)
from scriptrules.supervisor.decision import Cancel, Decision, Effect, Replay, Start, Stop, begin_timeout, move
from scriptrules.supervisor.ending import TIMED_OUT, end_main, finish_entry, updated
from scriptrules.supervisor.entries import (
    child_of,
    is_final,
    is_function,
    is_generated,
    is_outstanding,
    outstanding,
    went_well,
)
from scriptrules.supervisor.limits import Admission, occupy


def on_cancel(run: Run, entries: Sequence[Entry], now: int) -> Decision:
    """Somebody cancels the run. Its executions and callees are stopped; the script gets no chance to act."""
    return _end_at_once(run, entries, Failure("Cancelled", "cancelled"), now)


def on_timeout(run: Run, entries: Sequence[Entry], wake: Wake, now: int) -> Decision:
    """The timeout of the run's rule has passed; a run that is held, or was, has another one now."""
    if run.deadline != wake.due or run.state is RunState.HELD:
        return Decision(run)
    if run.state in RUN_FINAL or run.reason == "cancelling":
        return Decision(run, done=[wake])
    timeout = run.control.timeout if run.control and run.control.timeout else 0.0
    message = f"the rule's timeout of {timeout:g} s has passed"
    if run.error is not None:
        message += f"; before that: {run.error.type}: {run.error.message}"
    line = entries[-1].line if entries else None
    decision = _end_at_once(run, entries, Failure("TimeoutError", message, line=line, code=TIMED_OUT), now)
    decision.done.append(wake)
    return decision


def _end_at_once(run: Run, entries: Sequence[Entry], failure: Failure, now: int) -> Decision:
    """Whatever the run was about to do does not happen; what it has started is stopped."""
    decision = Decision(run, effects=_let_go(run, entries))
    decision.done = outstanding(run, entries, kinds=frozenset({"timer", "task", "tree", "call", "receive", "again"}))
    for entry in entries:
        if entry.state not in ENTRY_FINAL and not is_outstanding(entry):
            decision.records.append(EndRecord(now, entry.seq, EntryState.CANCELLED))
    end_main(decision, updated(entries, decision.records), None, failure, now)
    return decision


def _let_go(run: Run, entries: Sequence[Entry]) -> list[Effect]:
    """Stop the executions of a run, and cancel the tasks that only it waits for."""
    effects: list[Effect] = []
    for entry in entries:
        if entry.state not in ENTRY_FINAL and entry.name == "call":
            effects.append(Cancel(child_of(entry)))
        elif is_outstanding(entry):
            effects.append(Stop(execution_key(run, entry.seq, entry.attempt)))
    return effects


def on_resume(run: Run, entries: Sequence[Entry], now: int) -> Decision:
    """Somebody lets a held run go on."""
    decision = Decision(run)
    last = entries[-1] if entries else None
    held_itself = (run.reason or "").startswith("hold:")
    if held_itself and last is not None and last.name == "hold" and last.state not in ENTRY_FINAL:
        finish_entry(decision, last, EntryState.DONE, b"null", None, now)
    else:
        move(decision, RunState.QUEUED, now, error=None)
        decision.effects.append(Replay())
    return decision


def on_retry(
    run: Run,
    entries: Sequence[Entry],
    digest: str,
    from_start: bool,
    now: int,
    control: Control | None = None,
    admission: Admission | None = None,
) -> Decision:
    """Somebody wants a failed or held run to be done again.

    What succeeded is kept, what failed is done anew: where the script fell over the failure of something it had waited
    for, that is started again as its next attempt. A run that failed by itself is executed again from its last slice.
    Its timeout begins anew.

    Args:
        digest, control: of the source that it is executed against.
        admission: where its rule has a limit, and the run holds no slot any more.
    """
    decision = Decision(run)
    attempt = run.attempt
    if from_start:
        attempt += 1
        decision.done = outstanding(run, entries)
        decision.effects += _let_go(run, entries)
        if entries:
            decision.records.append(CutRecord(now, 1))
    else:
        _undo_failure(decision, entries, now)
    slot = run.slot if run.state is RunState.HELD else None
    decision.run = msgspec.structs.replace(run, digest=digest, control=control, slot=slot, attempt=attempt)
    move(decision, RunState.QUEUED, now, value=None, error=None, ended=None, deadline=None)
    decision.effects.append(Replay())
    if admission is None:
        begin_timeout(decision, now)
    else:
        occupy(decision, admission, now)
    return decision


def _undo_failure(decision: Decision, entries: Sequence[Entry], now: int) -> None:
    """Have done again what the script fell over: the last thing that it waited for, if that failed."""
    if not entries:
        return
    run, last = decision.run, entries[-1]
    again: list[int] = []
    if last.name == "wait":
        args = wait_args(last.args)
        targets = [entries[seq - 1] for seq in args.what]
        again = [target.seq for target in targets if target.state is EntryState.FAILED]
        for target in targets:
            if is_generated(target) and is_final(target, args.tree) and not went_well(target, args.tree):
                unknown = msgspec.json.encode({"task": child_of(target)})  # it may have been retried since
                decision.records.append(EndRecord(now, target.seq, EntryState.DONE, msgspec.Raw(unknown)))
    elif last.state is EntryState.FAILED and is_function(last):
        again = [last.seq]
    anew = last.name == "wait" and (again or decision.records or last.state is not EntryState.DONE)
    if anew or (last.name in ("call", "receive", "load") and last.state is EntryState.FAILED):
        decision.done = outstanding(run, [last], entries=entries)
        decision.records.append(CutRecord(now, last.seq))  # the script comes to it again, and waits anew
    if again:
        decision.records.append(AgainRecord(now, again))
    for seq in again:
        kind = "execution" if entries[seq - 1].name == "run" else "function"
        decision.wakes.append(Wake(run.id, seq, kind, execution_key(run, seq, entries[seq - 1].attempt + 1)))
        decision.effects.append(Start(seq))
