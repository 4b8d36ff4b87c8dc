"""The functions that are injected into rules, as far as they matter for what follows."""

from __future__ import annotations

from collections.abc import Callable

from scriptrules.flow.interpreter.elements import cases
from scriptrules.flow.interpreter.generating import EVERY, generate
from scriptrules.flow.interpreter.machine import Arguments, Dead, Machine
from scriptrules.flow.shapes import Via
from scriptrules.flow.values import NONE, Const, NewTask, Text, Value, opaque, pattern_of, text_of

WAITING = frozenset({"wait", "sleep", "sleep_until", "receive", "hold"})
RUN_PARAMETERS = frozenset({"host", "name", "image", "args", "env", "secret_files", "timeout", "retries"})


def injected(machine: Machine, name: str, given: Arguments) -> Value:
    """A function that is an entry of the journal: it takes data and gives data."""
    if name in WAITING or machine.functions[name].blocks:
        machine.waits()
    return opaque(f"what {name}() gives")


def _emit(machine: Machine, given: Arguments) -> Value:
    return generated(machine, given, Via.EMIT)


def _call(machine: Machine, given: Arguments) -> Value:
    result = generated(machine, given, Via.CALL)
    machine.waits()
    return result


def generated(machine: Machine, given: Arguments, via: Via) -> Value:
    """A function that generates a task: its first argument is the name."""
    name = given.args[0] if given.args else given.rest
    if name is None:
        raise Dead
    generate(machine, name, via, given.text(0))
    return opaque(f"what {via}() gives")


def _fail(machine: Machine, given: Arguments) -> Value:
    raise Dead


def _run(machine: Machine, given: Arguments) -> Value:
    host = given.get(0, "host")
    names = [EVERY] if host is None else [_pattern(one) for one in cases(machine, host)]
    options = [name for name, _ in given.keywords if name not in RUN_PARAMETERS]
    for name in names:
        machine.notes.started.setdefault((name, machine.line), options)
    return opaque("what run() gives")


def _receive(machine: Machine, given: Arguments) -> Value:
    machine.waits()
    what = given.get(0, "on")
    if what is not None:
        for value in cases(machine, what):
            items = machine.items(value)
            for one in [value] if items is None else [item for item, _ in items.items]:
                machine.notes.received.setdefault(_pattern(one), machine.line)
    return opaque("what receive() gives")


def _pattern(value: Value) -> str:
    return pattern_of(text_of(value)) if isinstance(value, (Const, Text)) else EVERY


def _task(machine: Machine, given: Arguments) -> Value:
    name = given.args[0] if given.args else given.rest
    if name is None:
        raise Dead
    return NewTask(machine.concrete(name, given.text(0)), machine.line)


def _job(machine: Machine, given: Arguments) -> Value:
    body = machine.table(given.get(1, "body") or NONE)
    if body is not None:
        known = {key.value: one for key, one, _ in body.items if isinstance(key, Const)}
        _run(machine, Arguments(keywords=tuple((name, one) for name, one in known.items() if name != "action")))
    return NewTask(given.get(2, "then") or NONE, machine.line, Via.THEN)


INJECTED: dict[str, Callable[[Machine, Arguments], Value]] = {
    "emit": _emit,
    "call": _call,
    "receive": _receive,
    "run": _run,
    "fail": _fail,
    "Task": _task,
    "Job": _job,
}
