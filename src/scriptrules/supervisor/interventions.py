"""What happens next when somebody intervenes in a run: cancels, resumes or retries it. Pure, like `transitions`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from scriptrules.errors import BadTask, NotPossible
from scriptrules.journal import (
    DONE_AT_ONCE,
    NOTHING,
    AgainRecord,
    CutRecord,
    EditRecord,
    EndRecord,
    HoldRecord,
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
    Task,
    TaskState,
    Verdict,
    execution_key,
)
from scriptrules.sandbox.wire import ReceivedTask
from scriptrules.store.protocol import Wake
from scriptrules.supervisor.arguments import WorkerLied, run_args, wait_args
from scriptrules.supervisor.decision import (
    Cancel,
    Decision,
    Effect,
    Replay,
    Setting,
    Start,
    Stop,
    move,
)
from scriptrules.supervisor.ending import TIMED_OUT, end_main, finish_entry, updated
from scriptrules.supervisor.entries import (
    about_to_be_given,
    came_from_outside,
    child_of,
    is_begun,
    is_final,
    is_function,
    is_generated,
    is_outstanding,
    name_of,
    outcome_of,
    outstanding,
    ready_of,
    went_well,
)
from scriptrules.supervisor.limits import Admission, occupy
from scriptrules.supervisor.references import secrets_in
from scriptrules.supervisor.transitions import carry_out, generated, refusal_of

RESULTLESS = frozenset({"sleep", "sleep_until", "hold", "save"})  # functions that give a script nothing


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
        if is_begun(entry) and entry.name == "call":
            effects.append(Cancel(child_of(entry)))
        elif is_outstanding(entry):
            effects.append(Stop(execution_key(run, entry.seq, entry.attempt)))
    return effects


def on_break(run: Run, reason: str, now: int) -> Decision:
    """A breakpoint holds the run before its script gets a result."""
    decision = Decision(run)
    move(decision, RunState.HELD, now, reason=reason)
    return decision


def on_held_again(run: Run, held: Entry, reason: str, now: int) -> Decision:
    """Another breakpoint holds the entry that somebody lets go on."""
    decision = Decision(run, [HoldRecord(now, held.seq, reason)])
    move(decision, RunState.HELD, now, reason=reason)
    return decision


def on_resume(
    run: Run, entries: Sequence[Entry], task: Task, now: int, setting: Setting, step: bool = False
) -> Decision:
    """Somebody lets a held run go on; an entry that it is held before is carried out.

    Args:
        step: tasks that the entry generates are held.
    """
    decision = Decision(run)
    last = entries[-1] if entries else None
    if last is not None and last.state is EntryState.HELD:
        if last.name == "load":
            decision.records.append(CutRecord(now, last.seq))  # it is read anew, within the slice
        else:
            _carry_out_held(decision, entries, task, last, now, setting, step)
        move(decision, RunState.QUEUED, now)
        decision.effects.append(Replay())
        return decision
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
    occupy(decision, admission, now)
    return decision


def _undo_failure(decision: Decision, entries: Sequence[Entry], now: int) -> None:
    """Have done again what the script fell over, the last thing that it waited for, and what it is yet to hear of."""
    if not entries:
        return
    run, last = decision.run, entries[-1]
    if last.state is EntryState.HELD:
        decision.records.append(CutRecord(now, last.seq))  # it was never carried out: the script comes to it again
        return
    again = [last.seq] if last.state is EntryState.FAILED and is_function(last) else []
    unwell: list[Entry] = []  # tasks that may have been retried since
    if last.name == "wait":
        args = wait_args(last.args)
        targets = [entries[seq - 1] for seq in args.what]
        again = [target.seq for target in targets if target.state is EntryState.FAILED]
        ended = [target for target in targets if is_generated(target) and is_final(target, args.tree)]
        unwell = [target for target in ended if not went_well(target, args.tree)]
    anew = last.name == "wait" and (again or unwell or last.state is not EntryState.DONE)
    anew = anew or last.state is EntryState.CANCELLED  # the rule's timeout has passed meanwhile
    _keep_given(decision, entries, {*again, *(target.seq for target in unwell)})
    for target in unwell:
        unknown = msgspec.json.encode({"task": child_of(target)})
        decision.records.append(EndRecord(now, target.seq, EntryState.DONE, msgspec.Raw(unknown)))
    if anew or (last.name in ("call", "receive", "load") and last.state is EntryState.FAILED):
        decision.done = outstanding(run, [last], entries=entries)
        decision.records.append(CutRecord(now, last.seq))  # the script comes to it again, and waits anew
    again = sorted({*again, *_untold(entries)})
    if again:
        decision.records.append(AgainRecord(now, again))
    for seq in again:
        kind = "execution" if entries[seq - 1].name == "run" else "function"
        decision.wakes.append(Wake(run.id, seq, kind, execution_key(run, seq, entries[seq - 1].attempt + 1)))
        decision.effects.append(Start(seq))


def _keep_given(decision: Decision, entries: Sequence[Entry], seqs: set[int]) -> None:
    """Write down what earlier waits have given of these entries: what becomes of them now, the script saw otherwise."""
    for entry in entries[:-1]:
        if entry.name == "wait" and seqs.intersection(ready_of(entry)):
            given = b'{"given":' + outcome_of(entry, entries).value + b"}"
            record = EndRecord(entry.ended or entry.since, entry.seq, EntryState.DONE, msgspec.Raw(given))
            decision.records.append(record)


def _untold(entries: Sequence[Entry]) -> list[int]:
    """The failed executions that no wait has told the script of: nobody waited, or a timeout has stopped them."""
    told: set[int] = set()
    for entry in entries:
        if entry.name == "wait" and entry.result is not None:
            result = msgspec.json.decode(entry.result)
            told.update(result.get("ready", ()), (one["seq"] for one in result.get("given", ())))
    failed = (entry.seq for entry in entries if entry.name == "run" and entry.state is EntryState.FAILED)
    return [seq for seq in failed if seq not in told]


# ---- entries that a breakpoint holds


def _carry_out_held(
    decision: Decision, entries: Sequence[Entry], task: Task, held: Entry, now: int, setting: Setting, step: bool
) -> None:
    """Do what an entry says that the run was held before; raises NotPossible where that must not be."""
    refused = refusal_of(held.name, held.effective, setting)
    if refused is not None:
        raise NotPossible(f"{refused} Edit it, or drop the run.")
    waited = any(came_from_outside(entry, entries) for entry in entries[:-1])
    child = carry_out(decision, task, held.name, held.effective, held.seq, now, waited, setting)
    known = generated(child) if child is not None else NOTHING
    decision.records.append(HoldRecord(now, held.seq, result=known))
    if held.name in DONE_AT_ONCE:
        decision.records.append(EndRecord(now, held.seq, EntryState.DONE, known))
    if step and child is not None and child.state is TaskState.NEW:
        decision.tasks[-1] = msgspec.structs.replace(child, state=TaskState.HELD, reason="step")


def on_edit(run: Run, entries: Sequence[Entry], task: Task, args: bytes, now: int, setting: Setting) -> Decision:
    """Somebody gives other arguments to the entry that a run is held before.

    Raises:
        NotPossible: it is held before none, or before one that has no arguments to change.
        BadTask: the entry cannot have these.
    """
    held = _held_entry(run, entries)
    if held.name in ("wait", "load"):
        raise NotPossible(f"A {held.name} cannot be edited. Answer it, or what it is about.")
    try:
        carry_out(Decision(run), task, held.name, args, held.seq, now, False, setting)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, WorkerLied) as error:
        own = ", ".join(msgspec.json.decode(held.args, type=dict[str, msgspec.Raw]))
        raise BadTask(f"{held.name}() cannot have these arguments: {error}. It has {own}.") from None
    refused = refusal_of(held.name, args, setting)
    if refused is not None:
        raise BadTask(refused)
    known = {entry.secret for entry in entries if entry.secret is not None}
    if not secrets_in(held.name, args, setting.secrets) <= known:
        raise BadTask("An edit cannot bring in a secret. Have the rule load it.")
    if held.name == "run" and run_args(args).name != run_args(held.args).name:
        raise BadTask("The name of an execution is what the rule waits for; it stays as it is.")
    return Decision(run, [EditRecord(now, held.seq, msgspec.Raw(args))])


def on_answer(
    run: Run, entries: Sequence[Entry], value: bytes, seq: int | None, now: int, setting: Setting
) -> Decision:
    """Somebody supplies the result of the entry that a run is held at, before it was carried out or after.

    Args:
        value: JSON. For an execution its `output`, or an object with `status`; for an emitted task its value, or such
            an object; for a wait a list of these.
        seq: which entry, where the run is held before it gets the results of several.

    Raises:
        NotPossible: the run is held at no such entry.
        BadTask: this cannot be a result of it.
    """
    entry = _answerable(run, entries, seq, setting)
    result = result_of(entry, entries, msgspec.json.decode(value))
    decision = Decision(run, done=outstanding(run, [entry], entries))
    if is_begun(entry) and entry.name == "call":
        decision.effects.append(Cancel(child_of(entry)))  # nobody waits for it any more
    raw = msgspec.Raw(msgspec.json.encode(result))
    decision.records.append(EndRecord(now, entry.seq, EntryState.DONE, raw))
    move(decision, RunState.QUEUED, now, error=None)
    decision.effects.append(Replay())
    return decision


def on_call_answered(run: Run, entries: Sequence[Entry], seq: int, value: bytes, now: int) -> Decision:
    """Somebody answers a call in place of the procedure.

    Raises:
        NotPossible: the run does not wait for it any more.
    """
    entry = entries[seq - 1] if seq <= len(entries) else None
    if entry is None or entry.name != "call" or not is_begun(entry) or run.state in RUN_FINAL:
        raise NotPossible(f"Run {run.id} does not wait for this call any more.")
    decision = Decision(run, done=[Wake(run.id, seq, "call", child_of(entry))])
    finish_entry(decision, entry, EntryState.DONE, value, None, now)
    return decision


def _answerable(run: Run, entries: Sequence[Entry], seq: int | None, setting: Setting) -> Entry:
    last = entries[-1] if entries else None
    candidates: list[Entry] = []
    if run.state is RunState.HELD and last is not None:
        given = about_to_be_given(entries, setting.blocking)
        known = {one.seq for entry in entries[:-1] for one in about_to_be_given(entries[: entry.seq], setting.blocking)}
        fresh = [entry for entry in given[1:] if entry.seq not in known]  # others cannot be undone: the script has them
        candidates = [last] if last.state not in ENTRY_FINAL else fresh or given[:1]
    if seq is not None:
        candidates = [entry for entry in candidates if entry.seq == seq]
    if not candidates:
        raise NotPossible(f"Run {run.id} is held at nothing that could be answered. See `scriptrules show {run.id}`.")
    if len(candidates) > 1:
        listed = ", ".join(str(entry.seq) for entry in candidates)
        raise NotPossible(f"The script is about to get several results. Say which one to answer, by seq: {listed}.")
    return candidates[0]


def result_of(entry: Entry, entries: Sequence[Entry], given: object) -> object:
    """What somebody gives as the result of an entry, as the journal keeps it; raises BadTask where it can be none."""
    if entry.name == "wait":
        return {"given": _given_to_wait(entry, entries, given)}
    if entry.name == "run":
        return _complete(entry, given)
    if is_generated(entry):
        result = _complete(entry, given)
        whole = {"status": result["status"], "reason": result.get("reason")}
        return {**result, "task": child_of(entry), "tree": whole}
    if entry.name in RESULTLESS and given is not None:
        raise BadTask(f"{entry.name}() gives nothing, so its result is null. Choose an entry that gives something.")
    if entry.name == "receive":
        taken = msgspec.json.decode(entry.result, type=ReceivedTask) if entry.result else None
        try:
            made = msgspec.json.decode(msgspec.json.encode(given), type=ReceivedTask)
            msgspec.json.decode(made.data, type=dict[str, object])
            return made if taken is None else msgspec.structs.replace(taken, name=made.name, data=made.data)
        except msgspec.ValidationError as error:
            raise BadTask(f'receive() gives a task: {error}. Write {{"name": …, "data": {{…}}}}.') from None
    return given


def _given_to_wait(entry: Entry, entries: Sequence[Entry], given: object) -> list[dict[str, object]]:
    """What somebody answers in place of everything that a wait waits for."""
    args = wait_args(entry.args)
    results = given if isinstance(given, list) else [given]
    targets = args.what[:1] if args.any else args.what
    if len(results) != len(targets):
        raise BadTask(f"This wait gives {len(targets)} results, and the answer has {len(results)}. Give a list.")
    completed = []
    for seq, result in zip(targets, results, strict=True):
        target = entries[seq - 1]
        completed.append({**_complete(target, result), "seq": seq, "name": name_of(target)})
    return completed


class _Whole(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An answer that is a whole result, as `show` prints it, and no output or value."""

    name: object = None
    seq: object = None
    reason: str | None = None


class _WholeExecution(_Whole, kw_only=True):
    status: Literal["done", "failed"]
    exit_code: int | None = None
    output: object = None
    stdout: str = ""
    stderr: str = ""
    started: object = None
    ended: object = None
    host: str = ""
    verdict: Verdict = Verdict.UNKNOWN


class _WholeTask(_Whole, kw_only=True):
    status: Literal["done", "failed", "cancelled", "dropped"]
    task: object = None
    value: object = None
    values: dict[str, object] = {}
    tree: object = None


def _complete(entry: Entry, given: object) -> dict[str, object]:
    """A result as an entry of this kind keeps it."""
    execution = entry.name == "run"
    own = "output" if execution else "value"
    if not isinstance(given, dict) or "status" not in given:
        return {"status": "done", "exit_code": 0, own: given} if execution else {"status": "done", own: given}
    try:
        msgspec.convert(given, _WholeExecution if execution else _WholeTask)
    except msgspec.ValidationError as error:
        raise BadTask(
            f"An object with `status` is a whole result, and this is none: {error}. "
            f'To give it as the {own}, write {{"status": "done", "{own}": {{"status": …}}}}.'
        ) from None
    lacking: dict[str, object] = {"exit_code": 0} if execution and given["status"] == "done" else {}
    return {own: None, **lacking, **given}


def _held_entry(run: Run, entries: Sequence[Entry]) -> Entry:
    last = entries[-1] if entries else None
    if last is None or run.state is not RunState.HELD or last.state is not EntryState.HELD:
        raise NotPossible(f"Run {run.id} is not held before an entry, so there are no arguments to edit.")
    return last
