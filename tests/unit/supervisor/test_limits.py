"""Slots of rules with a limit: who may run, who is next, and that no slot is ever lost or given twice."""

from __future__ import annotations

from collections import Counter

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from scriptrules.clock import SECOND
from scriptrules.model import Control, Limit, Run, RunState, Task, TaskState
from scriptrules.store.protocol import Wake
from scriptrules.supervisor.decision import Decision, Replay, Start
from scriptrules.supervisor.limits import Admission, RunLimits, admit, occupy, on_slot, slot_of, wakes_of

TASK = Task("t1", "order.new", b'{"customer":{"b":1,"a":2},"n":1}', TaskState.NEW, 0, 0, root="t1")


def run(id: str, **more: object) -> Run:
    return Run(id, "work", "t1", "d", RunState.QUEUED, 0, 0, **more)  # type: ignore[arg-type]


def test_the_slot_is_the_rule_and_the_value_of_the_key() -> None:
    assert slot_of("work", Limit(1), TASK) == "work"
    assert slot_of("work", Limit(1, "n"), TASK) == "work n=1"
    assert slot_of("work", Limit(1, "customer"), TASK) == 'work customer={"a":2,"b":1}'
    assert slot_of("work", Limit(1, "missing"), TASK) == "work missing=null"
    long = msgspec.structs.replace(TASK, data=msgspec.json.encode({"n": "x" * 1000}))
    assert len(slot_of("work", Limit(1, "n"), long)) < 100
    assert slot_of("work", Limit(1, "n"), long) != slot_of("work", Limit(1, "n"), TASK)


def test_one_too_many_is_queued_or_dropped_or_the_oldest_makes_way() -> None:
    def answer(full: str, held: list[str], queued: list[str], leaving: set[str]) -> tuple[str, list[str]]:
        found = admit("s", held, queued, leaving, Limit(2, full=full))
        return found.answer, found.cancel

    assert answer("queue", ["a"], [], set()) == ("start", [])
    assert answer("queue", ["a", "b"], [], set()) == ("queue", [])
    assert answer("queue", ["a"], ["c"], set()) == ("queue", [])  # nobody overtakes
    assert answer("drop", ["a", "b"], [], set()) == ("drop", [])
    assert answer("cancel_oldest", ["a"], [], set()) == ("start", [])
    assert answer("cancel_oldest", ["a", "b"], [], set()) == ("queue", ["a"])
    assert answer("cancel_oldest", ["a", "b"], ["c"], {"a"}) == ("queue", ["b"])
    assert answer("cancel_oldest", ["a", "b"], ["c", "d"], {"a", "b"}) == ("queue", ["c"])


def test_a_queued_run_starts_nothing_before_it_has_its_slot() -> None:
    control = Control(timeout=60.0, limit=Limit(1))
    decision = Decision(run("r1", control=control), effects=[Start(3), Replay()])
    occupy(decision, Admission("work", "queue"), 5)
    assert (decision.run.reason, decision.run.slot, decision.run.deadline) == ("limit", "work", None)
    assert decision.effects == []
    assert decision.wakes == [Wake("r1", 0, "limit", "work")]

    begun = on_slot(decision.run, [], 7)
    assert begun is not None
    assert (begun.run.state, begun.run.reason, begun.run.deadline) == (RunState.QUEUED, None, 7 + 60 * SECOND)
    assert begun.effects == [Replay()]
    assert begun.done == [Wake("r1", 0, "limit", "work")]
    assert begun.wakes == [Wake("r1", 0, "slot", "work"), Wake("r1", 0, "timeout", due=7 + 60 * SECOND)]
    assert on_slot(begun.run, [], 8) is None


def test_a_run_that_gets_a_slot_after_it_was_cancelled_does_not_begin() -> None:
    cancelled = msgspec.structs.replace(run("r1", slot="work"), state=RunState.CANCELLED)
    assert on_slot(cancelled, [], 1) is None
    assert wakes_of(cancelled) == [Wake("r1", 0, "slot", "work"), Wake("r1", 0, "limit", "work")]
    assert wakes_of(run("r2")) == []


class World:
    """An engine around `RunLimits`: what is durable, what runs, and how much may."""

    def __init__(self, limit: Limit) -> None:
        self.limit: Limit | None = limit
        self.wakes: dict[str, Wake] = {}  # as the store has them
        self.order: list[str] = []  # of starts
        self.fresh()

    def fresh(self) -> None:
        """A supervisor begins: all it knows are the wakes."""
        self.limits = RunLimits(lambda _: self.limit, lambda _: True, Counter())
        self.limits.start = self.start
        self.limits.recover([self.wakes[id] for id in sorted(self.wakes)])
        for id in self.limits.surplus():
            self.end(id)
        self.limits.review()

    def start(self, id: str) -> None:
        assert self.wakes[id].kind == "limit", "started twice"
        self.wakes[id] = msgspec.structs.replace(self.wakes[id], kind="slot")
        self.order.append(id)

    def arrive(self, id: str) -> None:
        if self.limit is None:
            return
        admission = self.limits.ask("work", self.limit, TASK)
        if admission.answer == "drop":
            return
        self.wakes[id] = Wake(id, 0, "limit", admission.slot)
        self.limits.enter(run(id, slot=admission.slot), admission)
        if admission.answer == "start":
            self.start(id)
        for other in admission.cancel:
            self.end(other)

    def end(self, id: str) -> None:
        if id in self.wakes:
            slot = self.wakes.pop(id).key
            self.limits.leave(run(id, slot=slot))

    @property
    def running(self) -> list[str]:
        return [id for id, wake in self.wakes.items() if wake.kind == "slot"]

    @property
    def queued(self) -> list[str]:
        return sorted(id for id, wake in self.wakes.items() if wake.kind == "limit")


STEPS = st.lists(
    st.one_of(
        st.just("arrive"),
        st.just("crash"),
        st.tuples(st.sampled_from(["end running", "cancel queued"]), st.integers(0, 20)),
        st.tuples(st.just("edit"), st.one_of(st.none(), st.integers(1, 4))),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.integers(1, 4), st.sampled_from(["queue", "drop", "cancel_oldest"]))
def test_whatever_happens_no_slot_is_lost_or_given_twice_and_nobody_overtakes(
    steps: list[object], most: int, full: str
) -> None:
    world = World(Limit(most, full=full))
    count, edited = 0, False
    for step in steps:
        if step == "arrive":
            count += 1
            world.arrive(f"r{count:04}")
        elif step == "crash":
            world.fresh()
        else:
            assert isinstance(step, tuple)
            what, number = step
            if what == "edit":
                world.limit = None if number is None else Limit(number, full=full)
                edited = True
                world.limits.review()
            else:
                some = world.running if what == "end running" else world.queued
                if some:
                    world.end(some[number % len(some)])
        if not edited:
            assert len(world.running) <= most, "a slot was given twice"
            assert full == "queue" or len(world.wakes) <= most
        if world.limit is None:
            assert world.queued == []
        elif world.queued:
            assert len(world.running) >= world.limit.max, "a slot was lost"
    assert world.order == sorted(world.order), "one was overtaken"
    for id in sorted(world.wakes):
        world.end(id)
    assert world.limits.queued() == 0
    assert world.wakes == {}
    assert world.limits._slots == {}
