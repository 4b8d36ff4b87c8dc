"""The same verb for many: which things a filter selects, and what became of each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from scriptrules.errors import ScriptrulesError
from scriptrules.store.protocol import Audit, Change, Filter, Store
from scriptrules.supervisor.verbs import PAGE, Ask, Verbs

BULK = "bulk"  # what stands as the thing in the audit of such a request
FAILED_SHOWN = 100
UNMATCHED = "unmatched"  # the state, as the reason for which such tasks are resumed: only when that is said

HELD_VERBS = frozenset({"resume", "step", "edit", "answer", "drop"})
_STATES = {  # of tasks and of runs that a verb is for
    **dict.fromkeys(HELD_VERBS, (("held",), ("held",))),
    "cancel": (("new", "held", "running"), ()),
    "hold": ((), ("queued", "running", "waiting")),
    "retry": ((), ("failed",)),
}
_STATES_OF_RUNS = {**_STATES, "cancel": ((), ("queued", "running", "waiting", "held"))}  # where a rule is named
_STATES_FOR_A_REASON = {"retry": ((), ("held", "failed"))}  # a divergence is held, and ends by a retry


class Selection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which tasks and runs a verb is meant for, among those in a state that it is for."""

    name: str | None = None  # of the task
    rule: str | None = None  # then runs only
    reason: str | None = None
    since: int | None = None
    until: int | None = None


class Failed(msgspec.Struct, frozen=True):
    id: str
    detail: str


class Outcome(msgspec.Struct, frozen=True):
    """What became of a request for many."""

    matched: int
    changed: int
    failed: list[Failed] = []  # the first hundred


async def select(store: Store, verb: str, selection: Selection, asked: int | None = None) -> AsyncIterator[str]:
    """The ids of all that a verb would be for, oldest last.

    Args:
        asked: when somebody asked for it first: what has come to its state since was not meant.
    """
    tasks, runs = (_STATES_OF_RUNS if selection.rule else _STATES)[verb]
    if selection.reason is not None:
        tasks, runs = _STATES_FOR_A_REASON.get(verb, (tasks, runs))
    fields = {name: getattr(selection, name) for name in ("name", "reason", "since", "until")}
    if verb == "resume" and selection.reason == UNMATCHED:
        tasks, runs, fields["reason"] = (UNMATCHED,), (), None
    for state in () if selection.rule else tasks:
        cursor: str | None = None
        while page := await store.tasks(Filter(state=state, cursor=cursor, limit=PAGE, **fields)):
            for task in page:
                if asked is None or task.since <= asked:
                    yield task.id
            cursor = page[-1].id
    for state in runs:
        cursor = None
        while found := await store.runs(Filter(state=state, rule=selection.rule, cursor=cursor, limit=PAGE, **fields)):
            for run in found:
                if asked is None or run.since <= asked:
                    yield run.id
            cursor = found[-1].id


async def count(store: Store, verb: str, selection: Selection) -> Outcome:
    """What a request would be for; nothing is changed."""
    ids = [id async for id in select(store, verb, selection)]
    return Outcome(len(ids), 0)


async def carry_out(
    store: Store,
    verbs: Verbs,
    selection: Selection,
    ask: Ask,
    do: Callable[[str, Ask], Awaitable[None]],
    commit: Callable[[Change], Awaitable[None]],
    now: int,
) -> Outcome:
    """Do a verb to everything that it is for. One that cannot be done is reported, and stops no other.

    Args:
        ask: where it names a request that was carried out before, that one's outcome is given again.
        do: the verb, with the id of each.
        commit: makes the record of the whole durable.
    """
    asked: int | None = None
    before: set[str] = set()  # what this request has been carried out for already
    if ask.request is not None:
        for audit in await store.requested(ask.request):
            if audit.thing == BULK and audit.detail is not None:
                return msgspec.json.decode(audit.detail, type=Outcome)
            if audit.thing == BULK:
                asked = audit.at
            else:
                before.add(audit.thing)
        if asked is None:
            asked = now
            await commit(Change(audit=[Audit(now, ask.who or "-", ask.verb, BULK, ask.request)]))
    ids = [id async for id in select(store, ask.verb, selection, asked)]
    changed, failed = 0, []
    for id in ids:
        try:
            if not await verbs.was_done(ask, id):
                await do(id, ask)
            changed += 1
        except ScriptrulesError as error:
            failed.append(Failed(id, error.message))
    past = len(before.difference(ids))
    outcome = Outcome(len(ids) + past, changed + past, failed[:FAILED_SHOWN])
    detail = msgspec.json.encode(outcome)
    await commit(Change(audit=[Audit(now, ask.who or "-", ask.verb, BULK, ask.request, detail)]))
    return outcome
