"""`Job(...)` in scripts: what a declarative rule says in YAML, made by a constructor, so that no data can pose as one.

A job does nothing where it is made; `main` returns it, or a list of them. They are then started together, waited for,
and what their `then` names is generated, by the same functions that a rule uses itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from scriptrules.jobs import OUTCOMES, JobType, elsewhere, mistakes, unknown_type
from scriptrules.model import NAME, NAME_MAX
from scriptrules.sandbox import signals
from scriptrules.sandbox.formatting import to_repr
from scriptrules.sandbox.guards import Opaque
from scriptrules.sandbox.handles import ExecutionFailed, NewTask, Result
from scriptrules.sandbox.intrinsics import emit, run, wait
from scriptrules.sandbox.script import Script

Tasks = list[str | NewTask]


class NewJob(Opaque):
    """A job that a rule returns: ``return Job("Docker", {"host": …})``."""

    __slots__ = ("body", "failed", "line", "ok", "type")
    visible = frozenset({"type"})

    def __init__(self, type: str, body: dict[str, Any], ok: Tasks, failed: Tasks | None, line: int) -> None:
        self.type = type
        self.body = body
        self.ok = ok
        self.failed = failed  # None: its failure fails the run
        self.line = line

    def __repr__(self) -> str:
        return f"Job({self.type!r})"


NewJob.__name__ = NewJob.__qualname__ = "Job"  # errors name the type of a value


def constructor(types: Iterable[JobType]) -> Callable[..., NewJob]:
    """What scripts call `Job`, for the job types that plugins have."""
    known = {one.name: one for one in types}

    def job(type: str, body: dict[str, Any], then: Any = None) -> NewJob:
        """Define a job, which is done once `main` has returned it.

        Args:
            type: a job type, such as "Docker".
            body: host, name, image, args, env, timeout, retries, and the options of the executor.
            then: the tasks that follow: a name, a `Task(...)`, a list of them, or
                {"branch": {"ok": …, "failed": …}}. Without "failed", a failure fails the run.
        """
        kind = known.get(type) if type.__class__ is str else None
        if kind is None:
            raise ValueError(" ".join(unknown_type(type if type.__class__ is str else to_repr(type)[:80], known)))
        if body.__class__ is not dict or not all(key.__class__ is str for key in body):
            raise TypeError(f"the body of Job() is a dict with text as keys, not {to_repr(body)[:200]}")
        for mistake in mistakes(kind, body):
            raise ValueError(f"Job(): {mistake.message} {mistake.hint}".rstrip())
        if body["host"] in kind.elsewhere:
            raise ValueError(f"Job(): {elsewhere(type, kind.executor, body['host'], kind.elsewhere[body['host']])}")
        ok, failed = _branches(then)
        script = signals.current
        line = script.line() if isinstance(script, Script) else 0
        return NewJob(type, dict(body), ok, failed, line)

    job.__name__ = job.__qualname__ = "Job"
    return job


def perform(value: Any) -> Any:
    """What `main` has given, after the jobs in it were done: their outputs, in their order; other values as they are.

    Raises:
        ExecutionFailed: a job failed for which no branch provides; all of them have ended.
    """
    if isinstance(value, NewJob):
        return _perform([value])[0]
    if type(value) not in (list, tuple) or not any(isinstance(item, NewJob) for item in value):
        return value
    if not all(isinstance(item, NewJob) for item in value):
        raise TypeError("main returned a list of jobs and other things; return jobs only")
    return _perform(list(value))


def _perform(jobs: list[NewJob]) -> list[Any]:
    script = signals.current
    assert isinstance(script, Script)
    handles = []
    for job in jobs:
        script.returned_at = job.line
        handles.append(run(**{key: value for key, value in job.body.items() if key != "action"}))
    found = wait(*handles, check=False)
    results: list[Result] = found if isinstance(found, list) else [found]
    for job, result in zip(jobs, results, strict=True):
        script.returned_at = job.line
        if not result.ok and job.failed is None:
            raise ExecutionFailed(f"{result.name}: {result.reason or result.status}", results)
        for task in job.ok if result.ok else job.failed or ():
            if isinstance(task, NewTask):
                emit(task.name, **task.data)
            else:
                emit(task, **fields_of(result.output))
    return [result.output for result in results]


def fields_of(output: Any) -> dict[str, Any]:
    """The data that a task gets from an output: an object's own fields, any other value as `value`."""
    if type(output) is dict:
        return output
    return {} if output is None else {"value": output}


def _branches(then: Any) -> tuple[Tasks, Tasks | None]:
    """The tasks after a good end, and those after a failure."""
    ok: Tasks = []
    failed: Tasks | None = None
    for item in then if type(then) is list else [] if then is None else [then]:
        if type(item) is dict:
            branch = item.get("branch")
            if type(branch) is not dict or set(item) != {"branch"} or not branch or not set(branch) <= set(OUTCOMES):
                raise ValueError('a branch in `then` of Job() is {"branch": {"ok": …, "failed": …}}')
            ok += _tasks(branch.get("ok", []))
            if "failed" in branch:
                failed = (failed or []) + _tasks(branch["failed"])
        else:
            ok += _tasks(item)
    return ok, failed


def _tasks(value: Any) -> Tasks:
    tasks = value if type(value) is list else [value]
    for task in tasks:
        if isinstance(task, NewTask):
            continue
        if type(task) is not str or not NAME.match(task) or len(task) > NAME_MAX:
            raise ValueError(f"{to_repr(task)[:80]} in `then` of Job() is neither the name of a task nor Task(…)")
    return list(tasks)
