"""How entries, waits and runs end: the part of decisions that facts of every kind share. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from scriptrules.journal import (
    NOTHING,
    EndRecord,
    Record,
    apply,
)
from scriptrules.model import (
    ENTRY_FINAL,
    RUN_FINAL,
    Entry,
    EntryState,
    Failure,
    Run,
    RunState,
)
from scriptrules.store.protocol import Wake
from scriptrules.supervisor.arguments import (
    run_args,
    wait_args,
)
from scriptrules.supervisor.decision import Decision, Go, Setting, move
from scriptrules.supervisor.entries import (
    is_final,
    is_outstanding,
    task_wakes,
)

TIMED_OUT = "SR602"  # the code of the failure of a run whose rule's timeout has passed


def after_end(decision: Decision, entries: Sequence[Entry], seq: int, now: int, setting: Setting) -> None:
    """An entry has ended: does it end a wait, or the run?"""
    run = decision.run
    known = updated(entries, decision.records)
    if is_over(run):
        if run.state not in RUN_FINAL:
            end_main(decision, known, run.value, run.error, now)
        return
    if run.state is not RunState.WAITING:
        return  # it is held, or on its way: what has ended is found when it comes to wait for it
    waiting = known[-1]
    if waiting.seq == seq and waiting.name in setting.blocking:
        decision.effects.append(Go())
        move(decision, RunState.RUNNING, now)
    elif waiting.name == "wait" and waiting.state not in ENTRY_FINAL:
        ready = fulfilled(waiting, known)
        if ready is not None:
            finish_wait(decision, waiting, known, ready, now)


def finish_wait(decision: Decision, entry: Entry, known: Sequence[Entry], ready: list[int], now: int) -> None:
    args = wait_args(entry.args)
    if args.timeout is not None:
        decision.done.append(Wake(decision.run.id, entry.seq, "timer"))
    decision.done += task_wakes(decision.run.id, entry, known)
    result = msgspec.json.encode({"ready": ready})
    decision.records.append(EndRecord(now, entry.seq, EntryState.DONE, msgspec.Raw(result)))
    decision.effects.append(Go())
    move(decision, RunState.RUNNING, now)


def finish_entry(
    decision: Decision, entry: Entry, state: EntryState, result: bytes | None, error: Failure | None, now: int
) -> None:
    raw = NOTHING if result is None else msgspec.Raw(result)
    decision.records.append(EndRecord(now, entry.seq, state, raw, error))
    if decision.run.state is RunState.WAITING or entry.name == "hold":
        decision.effects.append(Go())
        move(decision, RunState.RUNNING, now)


def fulfilled(entry: Entry, known: Sequence[Entry]) -> list[int] | None:
    """What a wait gives its script, if it can end now."""
    args = wait_args(entry.args)
    ended = [seq for seq in args.what if is_final(known[seq - 1], args.tree)]
    if args.any and ended:
        return [min(ended, key=lambda seq: (known[seq - 1].ended or 0, seq))]
    return args.what if len(ended) == len(args.what) else None


def end_main(decision: Decision, known: Sequence[Entry], value: bytes | None, error: Failure | None, now: int) -> None:
    """`main` is over: the run ends now, or with its last execution."""
    if any(is_outstanding(entry) for entry in known):
        stopped = error is not None and (error.type == "Cancelled" or error.code == TIMED_OUT)
        reason = "cancelling" if stopped else "executions"
        move(decision, RunState.WAITING, now, reason=reason, value=value, error=error)
        return
    if error is None:
        error = _nobody_waited(known)
    state = RunState.DONE if error is None else RunState.FAILED
    if error is not None and error.type == "Cancelled":
        state = RunState.CANCELLED
    move(decision, state, now, value=value, error=error, ended=now)
    decision.ended = True


def _nobody_waited(entries: Sequence[Entry]) -> Failure | None:
    """The failure of an execution that nobody waited for, which fails the run."""
    failed = [entry for entry in entries if entry.state is EntryState.FAILED and entry.name == "run"]
    if not failed:
        return None
    waited = {seq for entry in entries if entry.name == "wait" for seq in wait_args(entry.args).what}
    for entry in failed:
        if entry.seq not in waited:
            result = msgspec.json.decode(entry.result) if entry.result else {}
            reason = entry.error.message if entry.error else result.get("reason")
            name = run_args(entry.args).name
            return Failure("ExecutionFailed", f"{name}: {reason} (nobody waited for it)", line=entry.line)
    return None


def updated(entries: Sequence[Entry], records: Iterable[Record]) -> list[Entry]:
    known = list(entries)
    for record in records:
        apply(known, record)
    return known


def is_over(run: Run) -> bool:
    """Whether `main` has ended, if only its executions have not. The error of a held run is why it is held."""
    return run.state in RUN_FINAL or (run.state is RunState.WAITING and (run.value or run.error) is not None)
