"""Who may run: the slots of rules with a `limit`, who holds one, and who is next.

What is durable are two kinds of wakes, in the same transactions as the runs they belong to: "slot" (the run holds one)
and "limit" (the run is queued for one). The rest is here, because a decision cannot wait for the disk; it is read from
the wakes at start. A slot is taken when it is decided that a run begins, and free when it is decided that the run has
ended; the store keeps the order of decisions, so no slot is lost or held twice, wherever a supervisor is killed.

Tried and rejected: taking the next run of a queue from the store. Until the last end is committed, the store does not
know that a slot is free, and the queue would stand still for a commit each time. A queued run costs one id here.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Sequence

import msgspec

from scriptrules.model import Entry, Limit, Run, RunState, Task
from scriptrules.store.protocol import Wake
from scriptrules.supervisor.decision import Decision, Replay, Start, begin_timeout, move
from scriptrules.supervisor.entries import is_outstanding

VALUE_MAX = 200  # characters of a key's value that a slot's name has; a longer one is hashed
QUEUED = "limit"  # the reason of a run that waits for a slot
UNKNOWN_MAX = 1  # of a rule that is not there any more: what is queued goes on, one after the other


class Admission(msgspec.Struct, frozen=True):
    """What becomes of one run more."""

    slot: str
    answer: str  # "start" | "queue" | "drop"
    cancel: list[str] = []  # the runs that make way


def admit(slot: str, held: Collection[str], queued: Collection[str], leaving: set[str], limit: Limit) -> Admission:
    """Whether one run more may begin.

    Args:
        held, queued: the runs that hold a slot and those that wait for one, oldest first.
        leaving: those among them that were told to make way.
    """
    free = len(held) < limit.max and not queued
    if limit.full == "cancel_oldest":
        staying = [run for run in (*held, *queued) if run not in leaving]
        surplus = len(staying) + 1 - limit.max
        return Admission(slot, "start" if free else "queue", staying[: max(surplus, 0)])
    return Admission(slot, "start" if free else limit.full)


def slot_of(rule: str, limit: Limit, task: Task) -> str:
    """The name of what runs of a rule share: the rule, and the value of the key; a missing field counts as null."""
    if limit.key is None:
        return rule
    value = msgspec.json.encode(msgspec.json.decode(task.data).get(limit.key), order="sorted").decode()
    if len(value) > VALUE_MAX:
        value = f"sha256:{hashlib.sha256(value.encode()).hexdigest()}"
    return f"{rule} {limit.key}={value}"


def occupy(decision: Decision, admission: Admission | None, now: int) -> None:
    """Have a run that is about to be executed begin; where its rule has a limit, with its slot, or once it has one."""
    if admission is None:
        begin_timeout(decision, now)
        return
    run = decision.run = msgspec.structs.replace(decision.run, slot=admission.slot)
    if admission.answer == "start":
        decision.wakes.append(Wake(run.id, 0, "slot", admission.slot))
        begin_timeout(decision, now)
        return
    decision.effects = [effect for effect in decision.effects if not isinstance(effect, (Start, Replay))]
    decision.wakes.append(Wake(run.id, 0, "limit", admission.slot))
    decision.run = msgspec.structs.replace(run, reason=QUEUED)


def on_slot(run: Run, entries: Sequence[Entry], now: int) -> Decision | None:
    """A queued run has got its slot; None where it was cancelled meanwhile."""
    if run.state is not RunState.QUEUED or run.reason != QUEUED:
        return None
    decision = Decision(run, wakes=[Wake(run.id, 0, "slot", run.slot or "")])
    decision.done.append(Wake(run.id, 0, "limit", run.slot or ""))
    move(decision, RunState.QUEUED, now)
    begin_timeout(decision, now)
    decision.effects += [Start(entry.seq) for entry in entries if is_outstanding(entry)]  # what a retry begins anew
    decision.effects.append(Replay())
    return decision


def wakes_of(run: Run) -> list[Wake]:
    """What a run with a limit leaves behind when it ends: its slot, or its place in the queue."""
    return [Wake(run.id, 0, kind, run.slot) for kind in ("slot", "limit")] if run.slot else []


class Slots(msgspec.Struct):
    """The runs that share one limit. They keep an order, and lose members at the front and anywhere else at no cost."""

    rule: str
    held: OrderedDict[str, None] = msgspec.field(default_factory=OrderedDict)
    queued: OrderedDict[str, None] = msgspec.field(default_factory=OrderedDict)
    leaving: set[str] = set()


class RunLimits:
    """The slots of all rules.

    Args:
        limit_of: the limit that a rule has now; None where it has none any more, or is not there.
        exists: whether there is such a rule.
    """

    def __init__(
        self, limit_of: Callable[[str], Limit | None], exists: Callable[[str], bool], counters: Counter[str]
    ) -> None:
        self.start: Callable[[str], None] = _nobody  # called with a queued run that has got a slot
        self.counters = counters
        self._limit_of = limit_of
        self._exists = exists
        self._slots: dict[str, Slots] = {}
        self._queued = 0  # runs, over all slots

    def recover(self, wakes: Sequence[Wake]) -> None:
        """Take up what the last supervisor left, oldest run first; nothing is started before `review`."""
        for wake in wakes:
            self._enter(wake.key, wake.run, queued=wake.kind == "limit")

    def ask(self, rule: str, limit: Limit, task: Task) -> Admission:
        """What would become of one run more; it counts once it is entered."""
        slot = slot_of(rule, limit, task)
        slots = self._slots.get(slot) or Slots(rule)
        return admit(slot, slots.held, slots.queued, slots.leaving, limit)

    def enter(self, run: Run, admission: Admission) -> None:
        """It was decided that a run begins, or is queued."""
        self._enter(admission.slot, run.id, queued=admission.answer == "queue")
        self.counters["limit_queued"] += admission.answer == "queue"
        self.counters["limit_cancelled"] += len(admission.cancel)
        self._slots[admission.slot].leaving.update(admission.cancel)

    def leave(self, run: Run) -> None:
        """It was decided that a run has ended: it gives its slot to the next, or its place in the queue up."""
        slots = self._slots.get(run.slot or "")
        if slots is None:
            return
        slots.held.pop(run.id, None)
        self._queued -= run.id in slots.queued
        slots.queued.pop(run.id, None)
        slots.leaving.discard(run.id)
        self._fill(run.slot or "", slots)

    def surplus(self) -> list[str]:
        """The runs that newer ones were to take the place of, in rules that have it so."""
        found: list[str] = []
        for slots in self._slots.values():
            limit = self._limit_of(slots.rule)
            if limit is not None and limit.full == "cancel_oldest":
                staying = [*slots.held, *slots.queued]
                leaving = staying[: max(len(staying) - limit.max, 0)]
                slots.leaving.update(leaving)
                found += leaving
        return found

    def review(self) -> None:
        """Rules have changed, or been read: whatever may begin now does."""
        for slot, slots in list(self._slots.items()):
            self._fill(slot, slots)

    def queued(self) -> int:
        """How many runs wait for a slot."""
        return self._queued

    def waiting(self) -> list[str]:
        """The runs that wait for a slot."""
        return [run for slots in self._slots.values() for run in slots.queued]

    def holders(self, run: Run) -> list[str]:
        """The runs one of which has to end before a queued run gets its slot."""
        slots = self._slots.get(run.slot or "")
        return list(slots.held) if slots else []

    def _enter(self, slot: str, run: str, queued: bool) -> None:
        slots = self._slots.get(slot)
        if slots is None:
            slots = self._slots[slot] = Slots(slot.partition(" ")[0])
        self._queued += queued and run not in slots.queued
        (slots.queued if queued else slots.held)[run] = None

    def _fill(self, slot: str, slots: Slots) -> None:
        limit = self._limit_of(slots.rule)
        most = limit.max if limit else None if self._exists(slots.rule) else UNKNOWN_MAX
        while slots.queued and (most is None or len(slots.held) < most):
            run = next(iter(slots.queued))
            del slots.queued[run]
            self._queued -= 1
            slots.held[run] = None
            self.start(run)
        if not slots.held and not slots.queued:
            del self._slots[slot]


def _nobody(_: str) -> None:
    """Before the driver is there, no run is queued."""
