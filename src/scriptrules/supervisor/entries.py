"""What the entries of a run mean: which have ended, what they wait for, and what they give to the script."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from scriptrules.model import ENTRY_FINAL, Entry, EntryState, ExecutionResult, Run, execution_key
from scriptrules.sandbox.wire import Outcome, Past, ReceivedTask
from scriptrules.store.protocol import Wake
from scriptrules.store.receiving import key_of
from scriptrules.supervisor.arguments import generate_args, receive_args, run_args, wait_args

ENGINE = frozenset(
    {"run", "wait", "emit", "return", "call", "receive", "sleep", "sleep_until", "hold", "load", "save"}
)  # carried out by the engine itself
AT_ONCE = frozenset({"load", "save"})  # what gives a script something within its slice
OUTSIDE = frozenset({"wait", "sleep", "receive", "sleep_until", "hold"})  # what begins a new count of hops


class _Known(msgspec.Struct):
    """What the result of an entry says of the task that it has generated, as far as it has ended."""

    task: str = ""  # none where somebody has answered before it was generated
    status: str | None = None
    tree: dict[str, str | None] = {}


def outcome_of(entry: Entry, known: Sequence[Entry]) -> Outcome:
    """What a blocking entry that has ended gives its script."""
    if entry.error is not None:
        return Outcome(error=entry.error)
    if entry.secret is not None:
        return Outcome(secret=entry.secret)
    if entry.name != "wait" or entry.result is None:
        return Outcome(entry.result or b"null")
    decoded = msgspec.json.decode(entry.result)
    if "given" in decoded:  # by somebody, in place of what was waited for
        return Outcome(msgspec.json.encode(decoded["given"]))
    tree = wait_args(entry.args).tree
    return Outcome(msgspec.json.encode([_result_of(known[seq - 1], tree) for seq in decoded["ready"]]))


def name_of(entry: Entry) -> str:
    """What a script calls the thing that an entry began."""
    if entry.name == "run":
        return run_args(entry.args).name
    return generate_args(entry.args).name if is_generated(entry) else entry.name


def _result_of(entry: Entry, tree: bool) -> dict[str, object]:
    decoded = msgspec.json.decode(entry.result) if entry.result else None
    if entry.name == "run":
        fields = decoded or {"status": "failed", "reason": entry.error.message if entry.error else "cancelled"}
        return {**fields, "name": name_of(entry), "seq": entry.seq}
    if is_generated(entry):
        known = decoded or {}
        whole = known.get("tree", {}) if tree else {}
        return {**known, **whole, "name": name_of(entry), "seq": entry.seq}
    status = "done" if entry.error is None else "failed"
    reason = entry.error.message if entry.error else None
    return {"status": status, "value": decoded, "reason": reason, "name": entry.name, "seq": entry.seq}


def past_of(entries: Sequence[Entry], blocking: frozenset[str], began: int) -> list[Past]:
    """The journal as a replay needs it."""
    given = blocking | {"load"}
    return [
        Past(
            entry.name,
            entry.args,
            outcome_of(entry, entries) if entry.name in given and entry.state in ENTRY_FINAL else None,
            entry.ended or began,
        )
        for entry in entries
    ]


def effective_of(entries: Sequence[Entry]) -> bytes:
    """The arguments of the last entry, as they would be carried out; none: an empty object."""
    return entries[-1].effective if entries else b"{}"


def about_to_be_given(entries: Sequence[Entry], blocking: frozenset[str]) -> list[Entry]:
    """The entries whose results the script gets when it goes on: the last one, and what that has waited for."""
    if not entries or entries[-1].name not in blocking | AT_ONCE or entries[-1].state not in ENTRY_FINAL:
        return []
    last = entries[-1]
    return [last, *(entries[seq - 1] for seq in ready_of(last))]


def ready_of(entry: Entry) -> list[int]:
    """The entries whose results a `wait` has given, or is about to give; none where somebody has answered it."""
    if entry.name != "wait" or entry.result is None:
        return []
    return list(msgspec.json.decode(entry.result).get("ready", []))


def failed_result(host: str, reason: str) -> bytes:
    """The result of an execution that was never started."""
    return msgspec.json.encode(ExecutionResult("failed", reason=reason, host=host))


def child_of(entry: Entry) -> str:
    """The id of the task that an entry has generated."""
    return str(msgspec.json.decode(entry.result or b"{}").get("task", "")) if entry.result else ""


def outstanding(
    run: Run, some: Sequence[Entry], entries: Sequence[Entry] | None = None, kinds: frozenset[str] | None = None
) -> list[Wake]:
    """The wakes that unfinished entries of a run have: `some` of its `entries` (default: all of them)."""
    wakes = []
    for entry in some:
        if not is_begun(entry):
            continue
        if entry.name == "run" or is_function(entry):
            kind = "execution" if entry.name == "run" else "function"
            wakes.append(Wake(run.id, entry.seq, kind, execution_key(run, entry.seq, entry.attempt)))
            wakes.append(Wake(run.id, entry.seq, "again"))
        elif entry.name == "call":
            wakes.append(Wake(run.id, entry.seq, "call", child_of(entry)))
        else:
            wakes.append(Wake(run.id, entry.seq, "timer"))
            if entry.name == "wait":
                wakes += task_wakes(run.id, entry, entries or some)
            elif entry.name == "receive":
                wakes += receive_wakes(run.id, entry)
    return [wake for wake in wakes if kinds is None or wake.kind in kinds]


def is_generated(entry: Entry) -> bool:
    """Whether the entry has generated a task that nobody has to answer."""
    return entry.name in ("emit", "return")


def is_function(entry: Entry) -> bool:
    return entry.name not in ENGINE


def is_outstanding(entry: Entry) -> bool:
    return (entry.name == "run" or is_function(entry)) and is_begun(entry)


def is_begun(entry: Entry) -> bool:
    """Whether something is under way: it has not ended, and nothing holds it before it begins."""
    return entry.state not in ENTRY_FINAL and entry.state is not EntryState.HELD


def came_from_outside(entry: Entry, entries: Sequence[Entry]) -> bool:
    """Whether the run has waited here for something that is not itself a task."""
    if entry.name != "wait":
        return entry.name in OUTSIDE
    tasks_only = all(is_generated(entries[seq - 1]) for seq in wait_args(entry.args).what)
    return not tasks_only or entry.error is not None


def is_final(entry: Entry, tree: bool = False) -> bool:
    """Whether what a `wait` may wait for has ended. An emitted task has once its status was written to its entry.

    Args:
        tree: whether all that follows from an emitted task counts.
    """
    if is_generated(entry):
        return _status_of(entry, tree) is not None
    return entry.state in ENTRY_FINAL


def went_well(entry: Entry, tree: bool) -> bool:
    """Whether the emitted task of an entry (and its `tree`) has ended without a failure."""
    return _status_of(entry, tree) == "done"


def _status_of(entry: Entry, tree: bool) -> str | None:
    known = msgspec.json.decode(entry.result, type=_Known) if entry.result else _Known()
    return known.tree.get("status") if tree and known.task else known.status


def task_wakes(run: str, entry: Entry, known: Sequence[Entry]) -> list[Wake]:
    """The wakes of a wait's emitted tasks; those of trees belong to the entries that have emitted them."""
    args = wait_args(entry.args)
    targets = [known[seq - 1] for seq in args.what if is_generated(known[seq - 1])]
    if args.tree:
        return [Wake(run, target.seq, "tree", child_of(target)) for target in targets]
    return [Wake(run, entry.seq, "task", child_of(target)) for target in targets]


def receive_wakes(run: str, entry: Entry) -> list[Wake]:
    args = receive_args(entry.effective)
    return [Wake(run, entry.seq, "receive", key_of(pattern, args.match)) for pattern in dict.fromkeys(args.on)]


def received_before(entries: Sequence[Entry], entry: Entry) -> tuple[set[str], int | None]:
    """The tasks that a run has taken, and the place of the last that it took by the same arguments as `entry`."""
    wanted = receive_args(entry.effective)
    taken: set[str] = set()
    after: int | None = None
    for one in entries:
        if one.name == "receive" and one.result is not None:
            task = msgspec.json.decode(one.result, type=ReceivedTask)
            taken.add(task.id)
            args = receive_args(one.effective)
            if (args.on, args.match) == (wanted.on, wanted.match) and task.place:
                after = max(after or 0, task.place)
    return taken, after
