"""What happens next: pure functions from a run and a fact to what is written and what is done.

A decision never acts. It names the run's next state, the records for its journal, new tasks, wakes, and the effects;
the shell commits the first four in one transaction, and only then carries out the effects. `states` has the state
machines as tables.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import msgspec

from scriptrules import clock
from scriptrules.journal import (
    NOTHING,
    AgainRecord,
    CutRecord,
    EndRecord,
    Record,
    SliceRecord,
    StartRecord,
    apply,
)
from scriptrules.model import (
    ENTRY_FINAL,
    RUN_FINAL,
    Entry,
    EntryState,
    Failure,
    LogLine,
    Run,
    RunState,
    Task,
    TaskState,
    Verdict,
    execution_key,
)
from scriptrules.sandbox.wire import Outcome, Slice
from scriptrules.store.protocol import Wake
from scriptrules.supervisor.arguments import (
    GenerateArgs,
    WorkerLied,
    check_json,
    check_object,
    generate_args,
    hold_args,
    run_args,
    sleep_args,
    wait_args,
)
from scriptrules.supervisor.decision import CancelTask, Decision, Effect, Go, Replay, Setting, Start, Stop, move
from scriptrules.supervisor.entries import (
    came_from_outside,
    child_of,
    is_final,
    is_function,
    is_generated,
    is_outstanding,
    outcome_of,
    outstanding,
    task_wakes,
)
from scriptrules.supervisor.states import EXITS

SEQ_MAX = 1 << 31
BACKOFF_FIRST, BACKOFF_MAX = 1.0, 300.0  # seconds before a failed execution's next attempt


# ---- facts from the worker


def on_slice(run: Run, entries: Sequence[Entry], task: Task, piece: Slice, now: int, setting: Setting) -> Decision:
    """A slice has ended.

    Raises:
        WorkerLied: the slice cannot have come from an honest worker.
    """
    decision = Decision(run)
    if piece.end in ("blocked", "returned", "failed"):
        _take_entries(decision, entries, task, piece, now, setting)
    _check_logs(piece)
    known = _updated(entries, decision.records)
    if piece.end == "blocked":
        _block(decision, known, piece, now, setting)
    elif piece.end == "returned":
        check_json(piece.value)
        _end_main(decision, known, piece.value, None, now)
    elif piece.end == "diverged":
        move(decision, RunState.HELD, now, reason="divergence", error=piece.error)
    elif piece.end in ("raised", "failed", "limit"):
        _end_main(decision, known, None, piece.error or Failure("RuntimeError", "no reason was given"), now)
    else:
        raise WorkerLied(f"a slice cannot end by {piece.end!r}")
    return decision


def _check_logs(piece: Slice) -> None:
    for line in piece.logs:
        if not 0 <= line.seq < SEQ_MAX:
            raise WorkerLied("a line of the log that can belong to no entry")
        if line.fields is not None:
            check_json(line.fields)


def _take_entries(
    decision: Decision, entries: Sequence[Entry], task: Task, piece: Slice, now: int, setting: Setting
) -> None:
    """Turn what the slice did into a record, new tasks, wakes and effects."""
    if not piece.entries:
        return
    results: dict[int, msgspec.Raw] = {}
    waited = any(came_from_outside(entry, entries) for entry in entries)
    last = len(piece.entries) - 1
    rows = []
    for at, intent in enumerate(piece.entries):
        seq = len(entries) + at + 1
        blocks = intent.name in setting.blocking
        if blocks != (at == last and piece.end == "blocked"):
            raise WorkerLied(f"entry {seq} ({intent.name}) cannot stand where it does")
        try:
            child = _carry_out(decision, task, intent.name, intent.args, seq, now, waited, setting)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise WorkerLied(f"arguments of {intent.name}: {error}") from None
        if child is not None:
            results[seq] = msgspec.Raw(msgspec.json.encode({"task": child.id}))
        rows.append((intent.name, msgspec.Raw(intent.args), intent.line))
    decision.records.append(SliceRecord(now, rows, results))


def _carry_out(
    decision: Decision, task: Task, name: str, args: bytes, seq: int, now: int, waited: bool, setting: Setting
) -> Task | None:
    run = decision.run
    match name:
        case "emit" | "return" | "call":
            given = generate_args(args)
            child = _child(run, task, given, seq if name == "call" else None, now, waited, setting)
            decision.tasks.append(child)
            if name == "call":
                decision.wakes.append(Wake(run.id, seq, "call", child.id))
            return child
        case "run":
            run_args(args)
            decision.wakes.append(Wake(run.id, seq, "execution", execution_key(run, seq, 1)))
            decision.effects.append(Start(seq))
        case "sleep":
            due = now + int(sleep_args(args).seconds * clock.SECOND)
            decision.wakes.append(Wake(run.id, seq, "timer", due=due))
        case "wait":
            timeout = wait_args(args).timeout
            if timeout is not None:
                decision.wakes.append(Wake(run.id, seq, "timer", due=now + int(timeout * clock.SECOND)))
        case "hold":
            hold_args(args)
        case _:
            if name not in setting.retries:
                raise WorkerLied(f"there is no function {name!r}")
            check_json(args, an_object=True)
            decision.wakes.append(Wake(run.id, seq, "function", execution_key(run, seq, 1)))
            decision.effects.append(Start(seq))
    return None


def _child(
    run: Run, task: Task, given: GenerateArgs, reply: int | None, now: int, waited: bool, setting: Setting
) -> Task:
    data = bytes(given.data)
    check_object(data)
    hop = 1 if waited else task.hop + 1
    depth = task.depth + 1 if reply is not None else 0
    looping = hop > setting.hop_max
    too_deep = depth > setting.call_depth_max
    return Task(
        id=setting.new_id("t"),
        name=given.name,
        data=data,
        state=TaskState.HELD if looping or too_deep else TaskState.NEW,
        since=now,
        created=now,
        root=task.root,
        parent=run.id,
        by=run.rule,
        hop=0 if looping else hop,  # resumed, it may go as far again
        depth=depth,
        reply=reply,
        reason="loop" if looping else "depth" if too_deep else None,
    )


def _block(decision: Decision, known: Sequence[Entry], piece: Slice, now: int, setting: Setting) -> None:
    """The script waits at the last entry."""
    if not known or known[-1].name not in setting.blocking:
        raise WorkerLied("the last entry is none that a run can wait at")
    entry = known[-1]
    if entry.state in ENTRY_FINAL:
        if piece.entries:
            raise WorkerLied("the script waits for what it has been given")
        decision.effects.append(Go(outcome_of(entry, known)))  # it came while the script was being replayed
        move(decision, RunState.RUNNING, now)
        return
    if entry.name == "wait":
        _watch_tasks(decision, entry, known)
        fulfilled = _fulfilled(entry, known)
        if fulfilled is not None:
            _finish_wait(decision, entry, known, fulfilled, now)
            return
    if entry.name == "hold":
        move(decision, RunState.HELD, now, reason=f"hold: {hold_args(entry.args).reason}")
    else:
        move(decision, RunState.WAITING, now, reason=entry.name if entry.name in EXITS else "wait")


def _watch_tasks(decision: Decision, entry: Entry, known: Sequence[Entry]) -> None:
    """Ask to be woken by the tasks among what a new `wait` entry waits for."""
    for seq in wait_args(entry.args).what:
        if not 0 < seq < entry.seq:
            raise WorkerLied("a wait for what does not exist")
        target = known[seq - 1]
        if is_generated(target) and not is_final(target):
            decision.wakes.append(Wake(decision.run.id, entry.seq, "task", child_of(target)))


# ---- facts from outside


def on_started(run: Run, entries: Sequence[Entry], seq: int, now: int) -> Decision | None:
    """An executor has acknowledged the start of an entry's execution."""
    if entries[seq - 1].state is not EntryState.PENDING:
        return None
    return Decision(run, [StartRecord(now, seq)])


def on_outcome(
    run: Run,
    entries: Sequence[Entry],
    seq: int,
    attempt: int,
    result: bytes | None,
    error: Failure | None,
    verdict: Verdict | None,
    now: int,
    setting: Setting,
) -> Decision | None:
    """An execution or a plugin's function has ended; None where it was over before, or belongs to an older attempt."""
    entry = entries[seq - 1]
    if entry.state in ENTRY_FINAL or entry.attempt != attempt:
        return None
    decision = Decision(run)
    kind = "execution" if entry.name == "run" else "function"
    decision.done.append(Wake(run.id, seq, kind, execution_key(run, seq, attempt)))
    if error is not None and attempt <= _retries(entry, setting) and not _is_over(run):
        due = now + int(backoff(attempt, run.id) * clock.SECOND)
        decision.records.append(AgainRecord(now, [seq], due))
        decision.wakes.append(Wake(run.id, seq, "again", due=due))
        decision.wakes.append(Wake(run.id, seq, kind, execution_key(run, seq, attempt + 1)))
        return decision
    if attempt > 1:
        decision.done.append(Wake(run.id, seq, "again"))
    state = EntryState.DONE if error is None else EntryState.FAILED
    raw = NOTHING if result is None else msgspec.Raw(result)
    decision.records.append(EndRecord(now, seq, state, raw, error, verdict))
    _after_end(decision, entries, seq, now, setting)
    return decision


def on_timer(run: Run, entries: Sequence[Entry], wake: Wake, now: int) -> Decision:
    """A timer is due: the end of a sleep, the timeout of a wait, or the next attempt of an execution."""
    decision = Decision(run, done=[wake])
    entry = entries[wake.seq - 1]
    if wake.kind == "again":
        if entry.state is EntryState.PENDING and run.state not in RUN_FINAL:
            decision.effects.append(Start(wake.seq))
        return decision
    if entry.state in ENTRY_FINAL or _is_over(run):
        return decision
    if entry.name == "wait":
        failure = Failure("TimeoutError", f"wait() timed out after {wait_args(entry.args).timeout:g} s")
        decision.done += task_wakes(run.id, entry, entries)
        _finish_entry(decision, entry, EntryState.FAILED, None, failure, now)
    else:
        _finish_entry(decision, entry, EntryState.DONE, b"null", None, now)
    return decision


def on_task_ended(
    run: Run, entries: Sequence[Entry], wake: Wake, summary: bytes, error: Failure | None, now: int, setting: Setting
) -> Decision:
    """A task that the run waits for has ended, or its answer is there.

    Args:
        wake: of kind "task" (its entry is a wait) or "call".
        summary: for a task, ``{"task", "status", "reason", "value", "values"}``; for a call, the value. JSON.
        error: for a call, why there is no value.
    """
    decision = Decision(run, done=[wake])
    entry = entries[wake.seq - 1]
    if entry.state in ENTRY_FINAL or _is_over(run):
        return decision
    if wake.kind == "call":
        if child_of(entry) != wake.key:
            return decision  # the run has begun again since
        state = EntryState.DONE if error is None else EntryState.FAILED
        _finish_entry(decision, entry, state, summary if error is None else None, error, now)
        return decision
    target = next((one for one in entries if is_generated(one) and child_of(one) == wake.key), None)
    if target is None:
        return decision
    decision.records.append(EndRecord(now, target.seq, EntryState.DONE, msgspec.Raw(summary)))
    _after_end(decision, entries, target.seq, now, setting)
    return decision


def _after_end(decision: Decision, entries: Sequence[Entry], seq: int, now: int, setting: Setting) -> None:
    """An entry has ended: does it end a wait, or the run?"""
    run = decision.run
    known = _updated(entries, decision.records)
    if _is_over(run):
        if run.state not in RUN_FINAL:
            _end_main(decision, known, run.value, run.error, now)
        return
    if run.state is not RunState.WAITING:
        return  # it is held, or on its way: what has ended is found when it comes to wait for it
    waiting = known[-1]
    if waiting.seq == seq and waiting.name in setting.blocking:
        decision.effects.append(Go(outcome_of(waiting, known)))
        move(decision, RunState.RUNNING, now)
    elif waiting.name == "wait" and waiting.state not in ENTRY_FINAL:
        fulfilled = _fulfilled(waiting, known)
        if fulfilled is not None:
            _finish_wait(decision, waiting, known, fulfilled, now)


def _finish_wait(decision: Decision, entry: Entry, known: Sequence[Entry], ready: list[int], now: int) -> None:
    args = wait_args(entry.args)
    if args.timeout is not None:
        decision.done.append(Wake(decision.run.id, entry.seq, "timer"))
    decision.done += task_wakes(decision.run.id, entry, known)
    result = msgspec.json.encode({"ready": ready})
    decision.records.append(EndRecord(now, entry.seq, EntryState.DONE, msgspec.Raw(result)))
    ended = msgspec.structs.replace(entry, state=EntryState.DONE, result=result, ended=now)
    decision.effects.append(Go(outcome_of(ended, known)))
    move(decision, RunState.RUNNING, now)


def _finish_entry(
    decision: Decision, entry: Entry, state: EntryState, result: bytes | None, error: Failure | None, now: int
) -> None:
    raw = NOTHING if result is None else msgspec.Raw(result)
    decision.records.append(EndRecord(now, entry.seq, state, raw, error))
    if decision.run.state is RunState.WAITING or entry.name == "hold":
        decision.effects.append(Go(Outcome(result or b"null", error)))
        move(decision, RunState.RUNNING, now)


def _fulfilled(entry: Entry, known: Sequence[Entry]) -> list[int] | None:
    """What a wait gives its script, if it can end now."""
    args = wait_args(entry.args)
    ended = [seq for seq in args.what if is_final(known[seq - 1])]
    if args.any and ended:
        return [min(ended, key=lambda seq: (known[seq - 1].ended or 0, seq))]
    return args.what if len(ended) == len(args.what) else None


# ---- facts from people


def on_cancel(run: Run, entries: Sequence[Entry], now: int) -> Decision:
    """Somebody cancels the run. Its executions and callees are stopped; the script gets no chance to act."""
    decision = Decision(run, effects=_let_go(run, entries))
    decision.done = outstanding(run, entries, kinds=frozenset({"timer", "task", "call", "again"}))
    for entry in entries:
        if entry.state not in ENTRY_FINAL and not is_outstanding(entry):
            decision.records.append(EndRecord(now, entry.seq, EntryState.CANCELLED))
    _end_main(decision, _updated(entries, decision.records), None, Failure("Cancelled", "cancelled"), now)
    return decision


def _let_go(run: Run, entries: Sequence[Entry]) -> list[Effect]:
    """Stop the executions of a run, and cancel the tasks that only it waits for."""
    effects: list[Effect] = []
    for entry in entries:
        if entry.state not in ENTRY_FINAL and entry.name == "call":
            effects.append(CancelTask(child_of(entry)))
        elif is_outstanding(entry):
            effects.append(Stop(execution_key(run, entry.seq, entry.attempt)))
    return effects


def on_resume(run: Run, entries: Sequence[Entry], now: int) -> Decision:
    """Somebody lets a held run go on."""
    decision = Decision(run)
    last = entries[-1] if entries else None
    held_itself = (run.reason or "").startswith("hold:")
    if held_itself and last is not None and last.name == "hold" and last.state not in ENTRY_FINAL:
        _finish_entry(decision, last, EntryState.DONE, b"null", None, now)
    else:
        move(decision, RunState.QUEUED, now, error=None)
        decision.effects.append(Replay())
    return decision


def on_retry(run: Run, entries: Sequence[Entry], digest: str, from_start: bool, now: int) -> Decision:
    """Somebody wants a failed or held run to be done again.

    What succeeded is kept, what failed is done anew: where the script fell over the failure of something it had waited
    for, that is started again as its next attempt. A run that failed by itself is executed again from its last slice.
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
    move(decision, RunState.QUEUED, now, digest=digest, value=None, error=None, ended=None, attempt=attempt)
    decision.effects.append(Replay())
    return decision


def _undo_failure(decision: Decision, entries: Sequence[Entry], now: int) -> None:
    """Have done again what the script fell over: the last thing that it waited for, if that failed."""
    if not entries:
        return
    run, last = decision.run, entries[-1]
    again: list[int] = []
    if last.name == "wait":
        targets = [entries[seq - 1] for seq in wait_args(last.args).what]
        again = [target.seq for target in targets if target.state is EntryState.FAILED]
        for target in targets:
            if is_generated(target) and is_final(target) and b'"status":"done"' not in (target.result or b""):
                unknown = msgspec.json.encode({"task": child_of(target)})  # it may have been retried since
                decision.records.append(EndRecord(now, target.seq, EntryState.DONE, msgspec.Raw(unknown)))
    elif last.state is EntryState.FAILED and is_function(last):
        again = [last.seq]
    anew = last.name == "wait" and (again or decision.records or last.state is not EntryState.DONE)
    if anew or (last.name == "call" and last.state is EntryState.FAILED):
        decision.done = outstanding(run, [last], entries=entries)
        decision.records.append(CutRecord(now, last.seq))  # the script comes to it again, and waits anew
    if again:
        decision.records.append(AgainRecord(now, again))
    for seq in again:
        kind = "execution" if entries[seq - 1].name == "run" else "function"
        decision.wakes.append(Wake(run.id, seq, kind, execution_key(run, seq, entries[seq - 1].attempt + 1)))
        decision.effects.append(Start(seq))


def on_hold(run: Run, reason: str, failure: Failure, now: int) -> Decision:
    """The engine cannot go on with the run by itself."""
    decision = Decision(run)
    move(decision, RunState.HELD, now, reason=reason, error=failure)
    return decision


# ---- the end of a run


def _end_main(decision: Decision, known: Sequence[Entry], value: bytes | None, error: Failure | None, now: int) -> None:
    """`main` is over: the run ends now, or with its last execution."""
    if any(is_outstanding(entry) for entry in known):
        reason = "cancelling" if error is not None and error.type == "Cancelled" else "executions"
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
    waited = {seq for entry in entries if entry.name == "wait" for seq in wait_args(entry.args).what}
    for entry in entries:
        if entry.state is EntryState.FAILED and entry.seq not in waited and entry.name == "run":
            result = msgspec.json.decode(entry.result) if entry.result else {}
            reason = entry.error.message if entry.error else result.get("reason")
            name = run_args(entry.args).name
            return Failure("ExecutionFailed", f"{name}: {reason} (nobody waited for it)", line=entry.line)
    return None


# ---- helpers


def backoff(attempt: int, salt: str) -> float:
    """Seconds before the next attempt: doubling, with jitter that is the same for the same run."""
    full = min(BACKOFF_FIRST * 2.0 ** min(attempt - 1, 20), BACKOFF_MAX)
    return full * random.Random(f"{salt}/{attempt}").uniform(0.5, 1.0)


def log_line(at: int, seq: int, text: str, fields: bytes | None) -> LogLine:
    """A line of a run's log that its script has written."""
    return LogLine(at, seq, "log", text, fields)


def _retries(entry: Entry, setting: Setting) -> int:
    return run_args(entry.args).retries if entry.name == "run" else setting.retries.get(entry.name, 0)


def _updated(entries: Sequence[Entry], records: Iterable[Record]) -> list[Entry]:
    known = list(entries)
    for record in records:
        apply(known, record)
    return known


def _is_over(run: Run) -> bool:
    """Whether `main` has ended, if only its executions have not. The error of a held run is why it is held."""
    return run.state in RUN_FINAL or (run.state is RunState.WAITING and (run.value or run.error) is not None)
