"""What happens next: pure functions from a run and a fact to what is written and what is done.

A decision never acts. It names the run's next state, the records for its journal, new tasks, wakes, and the effects;
the shell commits the first four in one transaction, and only then carries out the effects. `states` has the state
machines as tables.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from scriptrules import clock
from scriptrules.journal import (
    NOTHING,
    AgainRecord,
    EndRecord,
    HoldRecord,
    Intent,
    SliceRecord,
    StartRecord,
)
from scriptrules.model import (
    ENTRY_FINAL,
    RUN_FINAL,
    TASK_FINAL,
    Entry,
    EntryState,
    Failure,
    LogLine,
    Retries,
    Run,
    RunState,
    SecretRef,
    Task,
    TaskState,
    Verdict,
    execution_key,
)
from scriptrules.sandbox.wire import ReceivedTask, Slice
from scriptrules.store.protocol import SecretUse, Variable, Wake
from scriptrules.supervisor.arguments import (
    GenerateArgs,
    WorkerLied,
    check_json,
    check_object,
    generate_args,
    hold_args,
    load_args,
    receive_args,
    run_args,
    save_args,
    sleep_args,
    wait_args,
    wake_moment,
)
from scriptrules.supervisor.decision import Decision, Go, Setting, Start, move
from scriptrules.supervisor.ending import after_end, end_main, finish_entry, finish_wait, fulfilled, is_over, updated
from scriptrules.supervisor.entries import (
    came_from_outside,
    child_of,
    is_final,
    is_generated,
    outstanding,
    receive_wakes,
    task_wakes,
)
from scriptrules.supervisor.references import Answer, answer_to, secrets_in
from scriptrules.supervisor.states import EXITS

SEQ_MAX = 1 << 31
FOR_GOOD = frozenset({"Cancelled", "InvalidRequest", "PolicyRefused"})  # failures that no further attempt can mend


# ---- facts from the worker


class Cut(msgspec.Struct, frozen=True):
    """A breakpoint has stopped a slice: so many of its entries are committed, the rest is not."""

    kept: int
    reason: str  # why the run is held
    before: bool = True  # the entry that comes next; else the result of the last one, which the script has yet to get


def on_slice(
    run: Run,
    entries: Sequence[Entry],
    task: Task,
    piece: Slice,
    now: int,
    setting: Setting,
    answers: Sequence[Answer] = (),
    cut: Cut | None = None,
) -> Decision:
    """A slice has ended, by itself or where a breakpoint holds it, or (as the first) waits for a variable.

    Args:
        answers: what its loads were told, in their order.
        cut: where a breakpoint stops it.

    Raises:
        WorkerLied: the slice cannot have come from an honest worker.
    """
    decision = Decision(run)
    if piece.end == "load":
        move(decision, RunState.RUNNING, now)
        return decision
    for intent in piece.entries:
        refused = refusal_of(intent.name, intent.args, setting)
        if refused is not None:
            _check_logs(piece)
            end_main(decision, entries, None, Failure("RuntimeError", refused, line=intent.line), now)
            return decision
    if cut is not None:
        _cut_slice(decision, entries, task, piece, cut, now, setting, answers)
        return decision
    if piece.end in ("blocked", "returned", "failed"):
        _take_entries(decision, entries, task, piece, now, setting, answers)
    _check_logs(piece)
    known = updated(entries, decision.records)
    if piece.end == "blocked":
        _block(decision, known, piece, now, setting)
    elif piece.end == "returned":
        check_json(piece.value)
        end_main(decision, known, piece.value, None, now)
    elif piece.end == "diverged":
        move(decision, RunState.HELD, now, reason="divergence", error=piece.error)
    elif piece.end in ("raised", "failed", "limit"):
        end_main(decision, known, None, piece.error or Failure("RuntimeError", "no reason was given"), now)
    else:
        raise WorkerLied(f"a slice cannot end by {piece.end!r}")
    return decision


def _cut_slice(
    decision: Decision,
    entries: Sequence[Entry],
    task: Task,
    piece: Slice,
    cut: Cut,
    now: int,
    setting: Setting,
    answers: Sequence[Answer],
) -> None:
    kept = msgspec.structs.replace(piece, end="cut", entries=piece.entries[: cut.kept])
    _take_entries(decision, entries, task, kept, now, setting, answers)
    _check_logs(piece)
    if cut.before:
        held, seq = piece.entries[cut.kept], len(entries) + cut.kept + 1
        _check_intent(decision.run, task, held, seq, now, setting)
        decision.records.append(SliceRecord(now, [(held.name, msgspec.Raw(held.args), held.line)]))
        decision.records.append(HoldRecord(now, seq, cut.reason))
    move(decision, RunState.HELD, now, reason=cut.reason)


def refusal_of(name: str, args: bytes, setting: Setting) -> str | None:
    """Why an entry must not be carried out as things are; the slice that it belongs to has no effect then."""
    if name != "save":
        return None
    try:
        saved = save_args(args)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None  # whoever carries it out finds that out
    if saved.scope == "store" and setting.is_secret(saved.name):
        return f"{saved.name!r} is a secret of the store, which no rule can replace. Save it under another name."
    return None


def _check_intent(run: Run, task: Task, intent: Intent, seq: int, now: int, setting: Setting) -> None:
    """Raises WorkerLied where an entry could not be carried out; it will be later, if at all."""
    try:
        carry_out(Decision(run), task, intent.name, intent.args, seq, now, False, setting)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WorkerLied(f"arguments of {intent.name}: {error}") from None


def _check_logs(piece: Slice) -> None:
    for line in piece.logs:
        if not 0 <= line.seq < SEQ_MAX:
            raise WorkerLied("a line of the log that can belong to no entry")
        if line.fields is not None:
            check_json(line.fields)


def _take_entries(
    decision: Decision,
    entries: Sequence[Entry],
    task: Task,
    piece: Slice,
    now: int,
    setting: Setting,
    answers: Sequence[Answer],
) -> None:
    """Turn what the slice did into a record, new tasks, wakes and effects."""
    if not piece.entries:
        return
    results: dict[int, msgspec.Raw] = {}
    errors: dict[int, Failure] = {}
    secrets: dict[int, SecretRef] = {}
    known = {entry.secret for entry in entries if entry.secret is not None}
    told = iter(answers)
    waited = any(came_from_outside(entry, entries) for entry in entries)
    last = len(piece.entries) - 1
    rows = []
    for at, intent in enumerate(piece.entries):
        seq = len(entries) + at + 1
        blocks = intent.name in setting.blocking
        if blocks != (at == last and piece.end == "blocked"):
            raise WorkerLied(f"entry {seq} ({intent.name}) cannot stand where it does")
        try:
            child = carry_out(decision, task, intent.name, intent.args, seq, now, waited, setting)
            if intent.name == "load":
                outcome = answer_to(intent.args, next(told, None))
                if outcome.error is not None:
                    errors[seq] = outcome.error
                elif outcome.secret is not None:
                    secrets[seq] = outcome.secret
                    known.add(outcome.secret)
                    decision.uses.append(SecretUse(outcome.secret.name, outcome.secret.version, decision.run.id))
                else:
                    results[seq] = msgspec.Raw(outcome.value)
            elif not secrets_in(intent.name, intent.args, setting.secrets) <= known:
                raise WorkerLied(f"entry {seq} ({intent.name}) has a secret that its run has not loaded")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise WorkerLied(f"arguments of {intent.name}: {error}") from None
        if child is not None:
            results[seq] = generated(child)
        rows.append((intent.name, msgspec.Raw(intent.args), intent.line))
    decision.records.append(SliceRecord(now, rows, results, errors, secrets))


def carry_out(
    decision: Decision, task: Task, name: str, args: bytes, seq: int, now: int, waited: bool, setting: Setting
) -> Task | None:
    """Add to a decision what an entry brings about.

    Args:
        task: the run's.
        waited: whether the run has waited for something outside before.

    Returns:
        The task that the entry generates, if it does.

    Raises:
        WorkerLied, MsgspecError: there can be no such entry.
    """
    run = decision.run
    match name:
        case "emit" | "return" | "call":
            given = generate_args(args)
            child = _child(run, task, given, seq if name == "call" else None, now, waited, setting)
            decision.tasks.append(child)
            decision.ways.append(name)
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
        case "sleep_until":
            decision.wakes.append(Wake(run.id, seq, "timer", due=wake_moment(args)))
        case "wait" | "receive":
            timeout = wait_args(args).timeout if name == "wait" else receive_args(args).timeout
            if timeout is not None:
                decision.wakes.append(Wake(run.id, seq, "timer", due=now + int(timeout * clock.SECOND)))
        case "hold":
            hold_args(args)
        case "load":
            load_args(args)
        case "save":
            saved = save_args(args)
            root = task.root if saved.scope == "tree" else ""
            decision.variables.append(Variable(root, saved.name, bytes(saved.value), now, run.id))
        case _:
            if name not in setting.retries:
                raise WorkerLied(f"there is no function {name!r}")
            check_json(args, an_object=True)
            decision.wakes.append(Wake(run.id, seq, "function", execution_key(run, seq, 1)))
            decision.effects.append(Start(seq))
    return None


def generated(child: Task) -> msgspec.Raw:
    """The result of an entry that has generated a task, until that has ended."""
    return msgspec.Raw(msgspec.json.encode({"task": child.id}))


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
        decision.effects.append(Go())  # its result came while the script was being replayed
        move(decision, RunState.RUNNING, now)
        return
    if entry.name == "receive":
        decision.wakes += receive_wakes(decision.run.id, entry)
    if entry.name == "wait":
        _watch_tasks(decision, entry, known)
        ready = fulfilled(entry, known)
        if ready is not None:
            finish_wait(decision, entry, known, ready, now)
            return
    if entry.name == "hold":
        move(decision, RunState.HELD, now, reason=f"hold: {hold_args(entry.args).reason}")
    else:
        move(decision, RunState.WAITING, now, reason=entry.name if entry.name in EXITS else "wait")


def _watch_tasks(decision: Decision, entry: Entry, known: Sequence[Entry]) -> None:
    """Ask to be woken by the tasks among what a new `wait` entry waits for."""
    args = wait_args(entry.args)
    if not all(0 < seq < entry.seq for seq in args.what):
        raise WorkerLied("a wait for what does not exist")
    ended = {child_of(known[seq - 1]) for seq in args.what if is_final(known[seq - 1], args.tree)}
    decision.wakes += [wake for wake in task_wakes(decision.run.id, entry, known) if wake.key not in ended]


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
    retries = _retries(run, entry, setting)
    if error is not None and attempt <= retries.max and error.type not in FOR_GOOD and not is_over(run):
        due = now + int(backoff(retries, attempt, f"{run.id}/{seq}") * clock.SECOND)
        decision.records.append(AgainRecord(now, [seq], due))
        decision.wakes.append(Wake(run.id, seq, "again", due=due))
        decision.wakes.append(Wake(run.id, seq, kind, execution_key(run, seq, attempt + 1)))
        return decision
    if attempt > 1:
        decision.done.append(Wake(run.id, seq, "again"))
    state = EntryState.DONE if error is None else EntryState.FAILED
    raw = NOTHING if result is None else msgspec.Raw(result)
    decision.records.append(EndRecord(now, seq, state, raw, error, verdict))
    after_end(decision, entries, seq, now, setting)
    return decision


def on_timer(run: Run, entries: Sequence[Entry], wake: Wake, now: int) -> Decision:
    """A timer is due: the end of a sleep, the timeout of a wait, or the next attempt of an execution."""
    decision = Decision(run, done=[wake])
    entry = entries[wake.seq - 1]
    if wake.kind == "again":
        if entry.state is EntryState.PENDING and run.state not in RUN_FINAL:
            decision.effects.append(Start(wake.seq))
        return decision
    if entry.state in ENTRY_FINAL or is_over(run):
        return decision
    if entry.name in ("wait", "receive"):
        timeout = wait_args(entry.args).timeout if entry.name == "wait" else receive_args(entry.effective).timeout
        failure = Failure("TimeoutError", f"{entry.name}() timed out after {timeout:g} s")
        decision.done += outstanding(run, [entry], entries)
        finish_entry(decision, entry, EntryState.FAILED, None, failure, now)
    else:
        finish_entry(decision, entry, EntryState.DONE, b"null", None, now)
    return decision


def on_received(run: Run, entries: Sequence[Entry], seq: int, task: ReceivedTask, now: int) -> Decision:
    """A task that the run receives has arrived."""
    entry = entries[seq - 1]
    decision = Decision(run, done=outstanding(run, [entry], entries))
    if entry.state not in ENTRY_FINAL and not is_over(run):
        finish_entry(decision, entry, EntryState.DONE, msgspec.json.encode(task), None, now)
    return decision


def on_tree_ended(
    run: Run, entries: Sequence[Entry], wake: Wake, summary: bytes, unwell: Sequence[Task], now: int, setting: Setting
) -> Decision:
    """A task that the run has emitted has ended, and all that follows from it.

    Args:
        wake: of kind "tree"; its entry is the one that has emitted the task.
        summary: of the task itself, as for `on_task_ended`.
        unwell: those of its tree that have not ended well; one that has not ended, because somebody does it again, is
            waited for.
    """
    decision = Decision(run, done=[wake])
    target = entries[wake.seq - 1]
    if child_of(target) != wake.key or is_over(run) or is_final(target, tree=True):
        return decision
    if unwell and unwell[0].state not in TASK_FINAL:
        return Decision(run, wakes=[wake])
    named = "; ".join(f"{task.name} ({task.id}): {task.reason or task.state}" for task in unwell)
    tree = {"status": "failed" if unwell else "done", "reason": named or None}
    own = target.result if is_final(target) and target.result else summary
    result = msgspec.json.encode({**msgspec.json.decode(own), "tree": tree})
    decision.records.append(EndRecord(now, target.seq, EntryState.DONE, msgspec.Raw(result)))
    after_end(decision, entries, target.seq, now, setting)
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
    if entry.state in ENTRY_FINAL or is_over(run):
        return decision
    if wake.kind == "call":
        if child_of(entry) != wake.key:
            return decision  # the run has begun again since
        state = EntryState.DONE if error is None else EntryState.FAILED
        finish_entry(decision, entry, state, summary if error is None else None, error, now)
        return decision
    target = next((one for one in entries if is_generated(one) and child_of(one) == wake.key), None)
    if target is None:
        return decision
    decision.records.append(EndRecord(now, target.seq, EntryState.DONE, msgspec.Raw(summary)))
    after_end(decision, entries, target.seq, now, setting)
    return decision


def on_hold(run: Run, reason: str, failure: Failure, now: int) -> Decision:
    """The engine cannot go on with the run by itself."""
    decision = Decision(run)
    move(decision, RunState.HELD, now, reason=reason, error=failure)
    return decision


# ---- helpers


def backoff(retries: Retries, attempt: int, salt: str) -> float:
    """Seconds before the next attempt: doubling, with jitter that is the same for the same entry of a run."""
    full = min(retries.backoff * 2.0 ** min(attempt - 1, 40), retries.backoff_max)
    return full * random.Random(f"{salt}/{attempt}").uniform(1.0 - retries.jitter, 1.0)


def log_line(at: int, seq: int, text: str, fields: bytes | None) -> LogLine:
    """A line of a run's log that its script has written."""
    return LogLine(at, seq, "log", text, fields)


def _retries(run: Run, entry: Entry, setting: Setting) -> Retries:
    """What the rule says, or the entry itself where that is more."""
    own = run_args(entry.effective).retries if entry.name == "run" else setting.retries.get(entry.name, 0)
    rule = (run.control.retries if run.control else None) or Retries()
    return msgspec.structs.replace(rule, max=max(rule.max, own))
