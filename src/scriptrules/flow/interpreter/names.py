"""Names: where each is found, what modules and values have under theirs, and imports."""

from __future__ import annotations

import ast

from scriptrules.flow.effects import Falls, ends, together
from scriptrules.flow.interpreter.machine import Dead, Frame, Machine
from scriptrules.flow.values import Choice, Data, Lost, Method, Module, Native, NewTask, TaskView, Value, alternatives

VIEW = frozenset({"name", "id", "parent", "root", "hop", "created", "reasons"})


def home(machine: Machine, name: str) -> int | None:
    """The frame that a name belongs to, seen from here; None: it is one of the language."""
    at: int | None = machine.frame
    while at is not None:
        frame = machine.frames[at]
        if frame.names is None:
            return at if (at, name) in machine.state.cells else None
        if name in frame.names:
            return at
        at = frame.outer
    return None


def read(machine: Machine, name: str) -> Value:
    """The value of a name."""
    at = home(machine, name)
    if at is None:
        return Native(name)
    value = machine.state.cells.get((at, name))
    if value is None:
        raise Dead  # NameError
    return machine.state.narrow(value)


def write(machine: Machine, name: str, value: Value) -> None:
    """Give a name a value."""
    at: int | None = machine.frame
    while at is not None:
        frame = machine.frames[at]
        if frame.names is None or name in frame.names:
            known = machine.state.cells.get((at, name)) if at in machine.shared else None
            machine.state.cells[at, name] = value if known is None else alternatives([known, value])
            return
        at = frame.outer


def attribute(machine: Machine, value: Value, name: str) -> Value:
    """What a value has under a name."""
    value = machine.state.narrow(value)
    match value:
        case Choice():
            return machine.spread([value], lambda one: attribute(machine, one, name))
        case Module():
            return member(machine, value.name, name)
        case TaskView():
            return Data(f"task.{name}", f"the task's {name}") if name in VIEW else Method(value, name)
        case Data():
            return Data(f"{machine.state.key(value)}.{name}", f"in {value.what}")
        case Lost():
            return Lost(value.why)
        case Native():
            return Native(f"{value.name}.{name}")
        case NewTask():
            return value.name
    return Method(value, name)


def member(machine: Machine, module: str, name: str) -> Value:
    """What a module has under a name."""
    kind, _, library = module.partition(".")
    if kind != "lib":
        return Native(f"{module}.{name}")
    if not library:
        return Module(f"lib.{name}")
    if library not in machine.loaded and library in machine.libraries:
        _load(machine, library)
    value = machine.state.cells.get((machine.loaded.get(library), name))
    if value is None:
        raise Dead
    return value  # type: ignore[no-any-return]


def load_libraries(machine: Machine) -> None:
    """Execute the modules of all libraries, before anything depends on where each is imported."""
    for library in machine.libraries:
        if library not in machine.loaded:
            _load(machine, library)


def _load(machine: Machine, library: str) -> None:
    """Execute the module of a library."""
    frame, effects = machine.frame, machine.effects
    machine.frame = machine.loaded[library] = machine.new_id()
    machine.frames[machine.frame] = Frame(None, None, False)
    machine.effects = []
    try:
        path = together(machine.block(machine.libraries[library].body, machine.state))
        for end in ends(path):
            if isinstance(end, Falls):
                machine.state = end.state
    finally:
        machine.frame, machine.effects = frame, effects


def import_(machine: Machine, node: ast.Import) -> None:
    """``import a.b, c as d``."""
    for alias in node.names:
        name = alias.name if alias.asname else alias.name.partition(".")[0]
        write(machine, alias.asname or name, Module(name))


def import_from(machine: Machine, node: ast.ImportFrom) -> None:
    """``from a import b as c``."""
    module = node.module or ""
    for alias in node.names:
        value: Value = Module(f"lib.{alias.name}") if module == "lib" else member(machine, module, alias.name)
        write(machine, alias.asname or alias.name, value)
