"""The functions that every rule has. Each is declared once, here: its signature and docstring serve the worker, the
checker, the editor stub and the docs.

An intrinsic turns its arguments into an entry of the journal (`Script.use`); what the entry means is decided by the
supervisor (`scriptrules.supervisor.transitions`) after the slice has ended.
"""

from __future__ import annotations

import builtins
import uuid as _uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from scriptrules.clock import moment, text
from scriptrules.function import Function, FunctionSpec
from scriptrules.model import NAME, NAME_MAX
from scriptrules.rulebook.index import PATTERN
from scriptrules.sandbox import signals
from scriptrules.sandbox.formatting import to_repr, to_text
from scriptrules.sandbox.handles import (
    CallFailed,
    ExecutionFailed,
    ExecutionHandle,
    NewTask,
    Result,
    TaskHandle,
    raised,
    results_of,
)
from scriptrules.sandbox.script import FailSignal, Script
from scriptrules.sandbox.secret import Secret, mark
from scriptrules.sandbox.tasks import TaskMapping, received

SLEEP_MAX = 10 * 366 * 86_400.0  # seconds
INTRINSICS: dict[str, Function] = {}


def _intrinsic(*, blocks: bool = False, entry: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def declare(call: Callable[..., Any]) -> Callable[..., Any]:
        INTRINSICS[call.__name__] = Function(call, blocks=blocks, entry=entry, retries=0, timeout=0.0, intrinsic=True)
        return call

    return declare


def _script(name: str) -> Script:
    script = signals.current
    if not isinstance(script, Script):
        raise RuntimeError(f"{name}() can be used inside main only, not in a filter")
    return script


@_intrinsic()
def run(
    host: str,
    name: str,
    image: str,
    args: Sequence[str | int | float | Secret] = (),
    *,
    env: Mapping[str, str | int | float | Secret] = {},
    secret_files: Mapping[str, str | Secret] = {},
    timeout: float | None = None,
    retries: int = 0,
    **options: Any,
) -> ExecutionHandle:
    """Start an execution on a configured host and return its handle at once.

    Args:
        host: a host of scriptrules.toml.
        name: unique in the run; `wait(name)` waits for it.
        image: the image to start; on a host with the process executor, the program.
        args: one argument each, literally; numbers become text.
        env: further environment variables.
        secret_files: files with secrets by their path in the execution, such as "/run/secrets/token"; only it can read
            them, and no inspection of the host shows their content, unlike that of args and env.
        timeout: seconds after which it is stopped and counts as failed.
        retries: how many further attempts a failed execution gets.
        options: the executor's own, such as cpus or memory.

    A refusal by the host's policy is raised at `wait()`.
    """
    script = _script("run")
    for what, value in (("host", host), ("name", name), ("image", image)):
        if type(value) is not str or not value:
            raise TypeError(f"run() wants text as {what}, not {to_repr(value)[:200]}")
    if name in script.executions:
        raise ValueError(f"this run has started an execution {name!r} before; each needs a name of its own")
    if type(args) not in (list, tuple):
        raise TypeError(f"run() wants a list as args, not {type(args).__name__}")
    mappings: dict[str, Any] = {"env": env, "secret_files": secret_files}
    for what, mapping in mappings.items():
        if type(mapping) is not dict:
            raise TypeError(f"run() wants a dict as {what}, not {type(mapping).__name__}")
    if type(retries) is not int or not 0 <= retries <= 1000:
        raise ValueError("run() wants retries between 0 and 1000")
    arguments: dict[str, Any] = {
        "host": host,
        "name": name,
        "image": image,
        "args": [_text("args", value) for value in args],
        "env": {_plain_text("env", key): _text("env", value) for key, value in env.items()},
        "timeout": _seconds("timeout", timeout),
        "retries": retries,
        "options": options,
    }
    if secret_files:
        files = {
            _plain_text("secret_files", path): _text("secret_files", value) for path, value in secret_files.items()
        }
        arguments["secret_files"] = files
    script.use("run", script.encode(arguments, f"run(…, {name!r})"), blocks=False)
    handle = ExecutionHandle(script.seq, name)
    script.executions[name] = script.unwaited[script.seq] = handle
    return handle


@_intrinsic(blocks=True)
def wait(
    *what: str | ExecutionHandle | TaskHandle,
    timeout: float | None = None,
    any: bool = False,
    check: bool = True,
    tree: bool = False,
) -> Result | list[Result]:
    """Wait for finalisation.

    Args:
        what: names or handles of executions, handles of tasks. Nothing, or "": every execution that this run has
            started and not yet waited for.
        timeout: seconds after which TimeoutError is raised.
        any: return as soon as one has ended, with the one that ended first.
        check: raise ExecutionFailed (CallFailed for tasks) where one has failed; all are waited for first.
        tree: wait until all that follows from the tasks has ended too; one has failed where anything of that has.

    Returns:
        One result for one thing, otherwise a list in the order of the arguments. A result has status, exit_code,
        output, stdout, stderr, started, ended, host and verdict; that of a task status, value and values.
    """
    script = _script("wait")
    single = len(what) == 1 and what[0] != ""
    handles: list[ExecutionHandle | TaskHandle] = []
    for item in what or ("",):
        handles += _handles(script, item)
    if not handles:
        script.check_alive("wait")
        return []
    arguments: dict[str, Any] = {
        "what": [handle.seq for handle in handles],
        "timeout": _seconds("timeout", timeout),
        "any": bool(any),
        "check": bool(check),
    }
    if tree:  # journals from before it was there have none
        if not builtins.any(isinstance(handle, TaskHandle) for handle in handles):
            raise TypeError("wait(…, tree=True) wants the handle of an emitted task")
        arguments["tree"] = True
    outcome = script.use("wait", script.encode(arguments, "wait()"), blocks=True)
    assert outcome is not None
    if outcome.error is not None:
        raise raised(outcome.error)
    results = results_of(outcome.value)
    by_seq = {handle.seq: handle for handle in handles}
    for handle in handles if not any else [by_seq[results[0].seq]]:
        script.unwaited.pop(handle.seq, None)
    failed = [result for result in results if not result.ok]
    if failed and check:
        tasks = isinstance(by_seq[failed[0].seq], TaskHandle)
        raise (CallFailed if tasks else ExecutionFailed)(_explain(failed), results)
    return results[0] if single or any else results


@_intrinsic()
def emit(name: str, /, **data: Any) -> TaskHandle:
    """Generate a task, exactly once, when this slice is committed; `wait(handle)` waits for what its rules do.

    Args:
        name: the task's name, such as "report.ready".
        data: its fields.
    """
    return _script("emit").generate("emit", _task_name("emit", name), data)


@_intrinsic(blocks=True)
def call(name: str, /, **data: Any) -> Any:
    """Call a procedure: generate a task, and wait for the value of the rule whose `on` names it literally.

    Raises:
        CallFailed: the rule failed, or nobody will answer any more.
    """
    script = _script("call")
    encoded = script.encode({"name": _task_name("call", name), "data": data}, f"call({name!r})")
    return _value(script.use("call", encoded, blocks=True))


@_intrinsic()
def load(name: str, default: Any = ...) -> Any:
    """The value of a variable: what this tree of tasks has saved, else the store's, else what a source knows.

    It never comes from the task's data. A secret comes as an opaque object, which can be passed to
    `run(env=, args=, secret_files=)` and to functions that accept secrets; "Bearer " + load("token") is one too.

    Args:
        name: the variable's, such as "quarter" or "db.host".
        default: what to return where there is none.

    Raises:
        LookupError: there is none, and no default.
        RuntimeError: a source of variables failed.
    """
    script = _script("load")
    arguments = {"name": _variable("load", name)}
    if default is not ...:
        arguments["default"] = default
    outcome = script.read(name, script.encode(arguments, f"load({name!r})"))
    return Secret((outcome.secret,)) if outcome.secret is not None else _value(outcome)


@_intrinsic()
def save(name: str, value: Any, scope: str = "tree") -> None:
    """Give a variable a value, when this slice is committed; later reads of this slice see it.

    Args:
        name: the variable's.
        value: any JSON value.
        scope: "tree": for the rules of this tree of tasks; "store": for all, as `scriptrules var set` does.
    """
    script = _script("save")
    if type(scope) is not str or scope not in ("tree", "store"):
        raise ValueError(f'save() wants scope="tree" or scope="store", not {to_repr(scope)[:200]}')
    arguments = {"name": _variable("save", name), "value": value, "scope": scope}
    script.save(name, scope, script.encode(arguments, f"save({name!r})"))


@_intrinsic(blocks=True)
def receive(on: str | Sequence[str], match: Mapping[str, Any] = {}, timeout: float | None = None) -> TaskMapping:
    """Wait for a task, whoever sends it; one that has arrived since this run's own task counts as well.

    Args:
        on: the task's name, a pattern, or a list of them.
        match: fields that it must have, with these values; 1 and 1.0 are equal, 1 and True are not.
        timeout: seconds after which TimeoutError is raised.

    Returns:
        The task, read-only: `task["field"]`, `.name`, `.id`, `.created`. Each is given to a run once, in the order in
        which they arrived; one that is held arrives when it is released. Rules match it all the same.
    """
    script = _script("receive")
    patterns = [on] if type(on) is str else on
    if type(patterns) not in (list, tuple) or not patterns:
        raise TypeError(f"receive() wants the name of a task or a list of names, not {to_repr(on)[:200]}")
    for pattern in patterns:
        if type(pattern) is not str or not PATTERN.match(pattern) or len(pattern) > NAME_MAX:
            raise ValueError(f'{to_repr(pattern)[:200]} is no pattern; write "order.paid", "order.*" or "order.**"')
    if type(match) is not dict:
        raise TypeError(f"receive() wants a dict as match, not {type(match).__name__}")
    given = {"on": list(patterns), "match": match, "timeout": _seconds("timeout", timeout)}
    outcome = script.use("receive", script.encode(given, "receive()"), blocks=True)
    assert outcome is not None
    if outcome.error is not None:
        raise raised(outcome.error)
    return received(outcome.value)


@_intrinsic(blocks=True)
def sleep(seconds: float) -> None:
    """Wait durably for `seconds`; a restart does not lengthen it."""
    script = _script("sleep")
    checked = _seconds("seconds", seconds)
    if checked is None:
        raise TypeError("sleep() wants seconds as a number")
    _value(script.use("sleep", script.encode({"seconds": checked}, "sleep()"), blocks=True))


@_intrinsic(blocks=True)
def sleep_until(time: datetime | str) -> None:
    """Wait durably until `time`; not at all where that has passed.

    Args:
        time: an aware datetime, such as `now() + timedelta(days=1)`, or RFC 3339 text with its offset:
            "2026-01-31T12:00:00Z".
    """
    script = _script("sleep_until")
    encoded = script.encode({"time": text(_moment(time))}, "sleep_until()")
    _value(script.use("sleep_until", encoded, blocks=True))


@_intrinsic(entry=False)
def now() -> datetime:
    """The current time, aware and UTC; the same throughout a slice, and on every replay of it."""
    return moment(_script("now").now)


@_intrinsic(entry=False)
def random() -> float:
    """A random number from 0 to 1; the same on every replay."""
    return _script("random").random().random()


@_intrinsic(entry=False)
def uuid() -> str:
    """A random UUID as text; the same on every replay."""
    return str(_uuid.UUID(int=_script("uuid").random().getrandbits(128), version=4))


@_intrinsic(entry=False)
def log(message: Any, **fields: Any) -> None:
    """Add a line to the run's log. It is kept even if the slice fails, and silent on replay."""
    script = _script("log")
    script.log(to_text(message), script.encode(fields, "log()") if fields else None)


@_intrinsic(blocks=True)
def hold(reason: str) -> None:
    """Stop here until somebody resumes the run."""
    script = _script("hold")
    _value(script.use("hold", script.encode({"reason": to_text(reason)[:500]}, "hold()"), blocks=True))


@_intrinsic(entry=False)
def fail(reason: str) -> None:
    """End the run as failed and keep what it did."""
    _script("fail").check_alive("fail")
    raise FailSignal(to_text(reason)[:2000])


# ---- making the injected functions of a worker


def injected(functions: Sequence[FunctionSpec]) -> dict[str, Any]:
    """The names that a worker adds to the builtins of scripts: intrinsics, stubs of plugin functions, their errors."""
    names: dict[str, Any] = {
        "Task": _new_task,
        "ExecutionFailed": ExecutionFailed,
        "CallFailed": CallFailed,
    }
    for spec in functions:
        names[spec.name] = INTRINSICS[spec.name].call if spec.intrinsic else _stub(spec)
    return names


def _new_task(name: str, /, **data: Any) -> NewTask:
    return NewTask(_task_name("Task", name), data)


def _stub(spec: FunctionSpec) -> Callable[..., Any]:
    """A function with the declared signature whose use is an entry; made once a worker, so binding costs nothing."""
    listed = ", ".join(
        f"**{parameter.name}" if parameter.kind == "kwargs" else f"{parameter.name!r}: {parameter.name}"
        for parameter in spec.parameters
    )
    source = f"def {spec.name}{_plain(spec).signature}:\n    return _use({{{listed}}})\n"

    def use(arguments: dict[str, Any]) -> Any:
        script = _script(spec.name)
        for parameter in spec.secrets:
            arguments[parameter] = mark(arguments[parameter], script.budget.depth_max)
        outcome = script.use(spec.name, script.encode(arguments, f"{spec.name}()"), spec.blocks)
        if spec.blocks:
            return _value(outcome)
        handle = ExecutionHandle(script.seq, f"{spec.name}-{script.seq}")
        script.unwaited[script.seq] = handle
        return handle

    names: dict[str, Any] = {"_use": use}
    exec(source, names)  # text of our own making, from a declaration that the plugin manager has checked
    return names[spec.name]  # type: ignore[no-any-return]


def _plain(spec: FunctionSpec) -> FunctionSpec:
    """`spec` without annotations, whose names need not exist here."""
    parameters = [msgspec.structs.replace(parameter, annotation="") for parameter in spec.parameters]
    return msgspec.structs.replace(spec, parameters=parameters, returns="")


# ---- arguments


def _handles(script: Script, item: Any) -> list[ExecutionHandle | TaskHandle]:
    if isinstance(item, (ExecutionHandle, TaskHandle)):
        return [item]
    if type(item) is not str:
        hint = "; write wait(*handles)" if type(item) in (list, tuple) else ""
        raise TypeError(f"wait() wants names and handles, not {type(item).__name__}{hint}")
    if item == "":
        return list(script.unwaited.values())
    if item not in script.executions:
        known = ", ".join(repr(name) for name in script.executions) or "none"
        raise ValueError(f"this run has no execution {item!r}; it has {known}")
    return [script.executions[item]]


def _variable(how: str, name: Any) -> str:
    if type(name) is not str:
        raise TypeError(f"{how}() wants the variable's name as text, not {type(name).__name__}")
    if not NAME.match(name) or len(name) > NAME_MAX:
        raise ValueError(
            f"{name[:80]!r} is no name of a variable; write segments of letters, digits, _ and - with dots"
        )
    return name


def _task_name(how: str, name: Any) -> str:
    if type(name) is not str:
        raise TypeError(f"{how}() wants the task's name as text, not {type(name).__name__}")
    if not NAME.match(name) or len(name) > 200:
        raise ValueError(f"{name[:80]!r} is no name of a task; write segments of letters, digits, _ and - with dots")
    return name


def _text(what: str, value: Any) -> str | dict[str, Any]:
    return value.marked() if type(value) is Secret else _plain_text(what, value)


def _plain_text(what: str, value: Any) -> str:
    if type(value) is str:
        return value
    if type(value) in (int, float):
        return str(value)
    raise TypeError(f"run() wants text or numbers in {what}, not {type(value).__name__}")


def _seconds(what: str, value: Any) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value <= SLEEP_MAX:
        raise ValueError(f"{what} is {to_repr(value)[:200]}; it must be a number of seconds from 0 to {SLEEP_MAX:.0f}")
    return float(value)


def _moment(time: Any) -> int:
    """Microseconds since 1970."""
    at = time
    if type(time) is str:
        try:
            at = datetime.fromisoformat(time)
        except ValueError:
            raise ValueError(f"{time[:80]!r} is no time; write 2026-01-31T12:00:00Z") from None
    if type(at) is not datetime:
        raise TypeError(f"sleep_until() wants a datetime or text like 2026-01-31T12:00:00Z, not {to_repr(time)[:60]}")
    if at.tzinfo is None:
        raise ValueError(f"{at.isoformat()} has no time zone; write {at.isoformat()}Z, or a datetime with a tzinfo")
    return max((at - moment(0)) // timedelta(microseconds=1), 0)


def _value(outcome: Any) -> Any:
    if outcome.error is not None:
        raise raised(outcome.error)
    return msgspec.json.decode(outcome.value)


def _explain(failed: list[Result]) -> str:
    return "; ".join(f"{result.name}: {result.reason or result.status}" for result in failed[:5])
