"""Job types: what `type: Docker` means in a declarative rule, and in `Job(...)`.

Plugins declare them (`scriptrules_job_types`), as they declare functions; that one declaration serves the compiler of
declarative rules, `Job(...)` in scripts, `check`, and the JSON schema for editors. A job becomes `run()`: the keys of
its body are the parameters of `run()` and the options of the executor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from scriptrules.errors import PluginError, nearest

RUN = "run"
TEXT, NUMBER, INTEGER, BOOLEAN, LIST, OBJECT = "string", "number", "integer", "boolean", "array", "object"
COMMON = {  # what every job has, with the JSON type of its value: the parameters of run(), and the action
    "action": TEXT,
    "host": TEXT,
    "name": TEXT,
    "image": TEXT,
    "args": LIST,
    "env": OBJECT,
    "secret_files": OBJECT,
    "timeout": NUMBER,
    "retries": INTEGER,
}
REQUIRED = ("host", "name", "image")
OUTCOMES = ("ok", "failed")  # of a job, as a branch in `then` names them
TEXTS = frozenset({"args", "env", "secret_files"})  # whose scalars are texts, however they are written
_NAMES: dict[type, str] = {str: TEXT, float: NUMBER, int: INTEGER, bool: BOOLEAN, list: LIST, dict: OBJECT}
_SHOWN = {
    TEXT: "text",
    NUMBER: "a number",
    INTEGER: "a whole number",
    BOOLEAN: "true or false",
    LIST: "a list",
    OBJECT: "a mapping",
}
COMPUTED: Any = object()  # stands for a value that only run time knows


class JobType(msgspec.Struct, frozen=True):
    """A kind of job that declarative rules can start."""

    name: str  # as it is written: "Docker"
    executor: str  # the kind of executor that its host must have: "docker"
    doc: str = ""
    actions: tuple[str, ...] = (RUN,)  # the first is meant where a body names none
    keys: dict[str, str] = msgspec.field(default_factory=lambda: dict(COMMON))  # JSON type by key of the body
    required: tuple[str, ...] = REQUIRED
    elsewhere: dict[str, str] = {}  # configured hosts that have another kind of executor, and which


def elsewhere(type: str, wanted: str, host: str, kind: str) -> str:
    """What is wrong with a job on a host that has another kind of executor."""
    return f"a {type} job needs a host with executor {wanted!r}, and {host!r} has {kind!r}."


class Mistake(msgspec.Struct, frozen=True):
    """What is wrong with a body: the key that it is about, None for the body itself."""

    kind: str  # "unknown" | "missing" | "type" | "action"
    key: str | None
    message: str
    hint: str = ""


def job_type(name: str, executor: str, doc: str, options: Mapping[str, type | tuple[type, ...]]) -> JobType:
    """The type of jobs that are executions.

    Args:
        name: as rules write it.
        executor: the kind of executor.
        doc: a sentence about it.
        options: the executor's own options, with the Python type of each.

    Returns:
        The type, whose body has the parameters of `run()` and these options.
    """
    own = {option: _NAMES[kind[0] if isinstance(kind, tuple) else kind] for option, kind in options.items()}
    return JobType(name, executor, doc, keys={**COMMON, **own})


def check_type(one: object) -> JobType:
    """`one` as a job type that can be used; raises PluginError where it is none."""
    if not isinstance(one, JobType):
        raise PluginError(f"scriptrules_job_types gave {one!r}. Make a scriptrules.jobs.JobType.")
    names = [one.name, *one.keys]
    if not all(name.isidentifier() and not name.startswith("_") for name in names):
        raise PluginError(f"job type {one.name!r}: names of types and of keys are identifiers. Rename what is none.")
    unknown = [key for key in one.required if key not in one.keys] or [key for key in REQUIRED if key not in one.keys]
    if unknown or not one.actions or RUN not in one.actions:
        raise PluginError(f"job type {one.name!r} needs the keys {', '.join(REQUIRED)} and the action {RUN!r}.")
    return one


def unknown_type(name: str, types: Mapping[str, JobType]) -> tuple[str, str]:
    """What to say about a job type that no plugin has, and a hint."""
    return f"there is no job type {name!r}{nearest(name, types)}", _known(sorted(types) or ["none"])


def mistakes(kind: JobType, body: Mapping[str, Any]) -> Iterator[Mistake]:
    """What is wrong with the body of a job of this type.

    Args:
        kind: the type.
        body: value by key; `COMPUTED` for one that only run time knows.
    """
    for key, value in body.items():
        wanted = kind.keys.get(key)
        if wanted is None:
            yield Mistake(
                "unknown", key, f"a {kind.name} job has no key {key!r}{nearest(key, kind.keys)}", _known(kind.keys)
            )
        elif key == "action":
            if value is not COMPUTED and value not in kind.actions:
                near = nearest(str(value), kind.actions)
                yield Mistake("action", key, f"a {kind.name} job has no action {value!r}{near}", _known(kind.actions))
        elif not _fits(value, wanted):
            yield Mistake("type", key, f"`{key}` is not {_SHOWN[wanted]}.", f"Write {_SHOWN[wanted]}.")
    for key in kind.required:
        if key not in body:
            yield Mistake("missing", None, f"the body of a {kind.name} job has no `{key}`.", f"Add `{key}: …`.")


def _known(names: Iterable[str]) -> str:
    return f"Known: {', '.join(names)}."


def _fits(value: Any, wanted: str) -> bool:
    match wanted:
        case _ if value is COMPUTED:
            return True
        case "string":
            return type(value) is str
        case "number":
            return type(value) in (int, float)
        case "integer":
            return type(value) is int
        case "boolean":
            return type(value) is bool
        case "array":
            return type(value) in (list, tuple)
        case "object":
            return type(value) is dict
    return True
