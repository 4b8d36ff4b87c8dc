"""The hooks a plugin may implement, grouped by lifecycle. This module holds specifications and no logic.

A plugin is a module (a file in ``plugins/``, or an installed package with an entry point in the group ``scriptrules``)
with functions marked ``@hookimpl``. Any hook may leave out parameters it does not need.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import click

    from scriptrules.function import Function
    from scriptrules.jobs import JobType
    from scriptrules.model import Run, Task
    from scriptrules.plugins.executor import ExecutorFactory
    from scriptrules.plugins.task_sources import TaskSourceFactory
    from scriptrules.plugins.variables import SourceFactory

hookspec = pluggy.HookspecMarker("scriptrules")
hookimpl = pluggy.HookimplMarker("scriptrules")


# ---- at start: what a plugin adds


@hookspec
def scriptrules_functions() -> list[Function] | None:
    """Functions that rules may call.

    Called once at start by the plugin manager, before workers are made.

    Returns:
        Functions declared with ``@scriptrules.function``; None means none. A name that another plugin has already
        declared is an error at start that names both.
    """


@hookspec
def scriptrules_executors() -> Mapping[str, ExecutorFactory] | None:
    """Kinds of executors that hosts can be configured with.

    Called once at start by the plugin manager.

    Returns:
        Factories by the name that a host's ``executor = "…"`` gives; None means none. See
        `scriptrules.plugins.executor` for the contract.
    """


@hookspec
def scriptrules_job_types() -> list[JobType] | None:
    """Types of jobs for declarative rules and `Job(...)`.

    Called once at start by the plugin manager, before workers are made.

    Returns:
        Types, such as ``scriptrules.jobs.job_type("Docker", "docker", …)``; None means none. A name that another plugin
        has already declared is an error at start that names both.
    """


@hookspec
def scriptrules_variable_sources() -> Mapping[str, SourceFactory] | None:
    """Kinds of sources that variables can be configured to come from.

    Called once at start by the plugin manager.

    Returns:
        Factories by the name that ``source = "…"`` under ``[variables.NAME]`` gives; None means none. See
        `scriptrules.plugins.variables` for the contract: a source's ``async find(name)`` is awaited by the supervisor
        for each `load` that neither the tree of tasks nor the store can answer.
    """


@hookspec
def scriptrules_task_sources() -> Mapping[str, TaskSourceFactory] | None:
    """Kinds of sources that tasks can be configured to come from.

    Called once at start by the plugin manager.

    Returns:
        Factories by the name that ``source = "…"`` under ``[sources.NAME]`` gives; None means none. See
        `scriptrules.plugins.task_sources` for the contract: a source is an async generator that yields tasks, and is
        resumed when they are durable. One that fails is begun again, with a pause that grows.
    """


@hookspec
def scriptrules_commands() -> list[click.Command] | None:
    """Commands for the command line.

    Called by the CLI when a command is looked up that is not built in, and for ``--help`` within a project.

    Returns:
        click commands; None means none.
    """


# ---- while serving: what a plugin observes


@hookspec
def scriptrules_task_changed(task: Task) -> None:
    """A task has reached another state, and that is committed.

    Called by the supervisor in its event loop, after the commit, in the order of commits. It must not block.

    Args:
        task: as it is now.
    """


@hookspec
def scriptrules_run_changed(run: Run) -> None:
    """A run has reached another state, and that is committed.

    Called by the supervisor in its event loop, after the commit, in the order of commits. It must not block.

    Args:
        run: as it is now.
    """


@hookspec
def scriptrules_unpredicted(rule: str, task: str, via: str) -> None:
    """A rule has generated a task that the analysis of its source did not foresee, and that is committed.

    Called by the supervisor in its event loop, once for each (rule, task, via) of a source. It must not block.

    Args:
        rule: the rule's name.
        task: the name of the task.
        via: how it was generated: "emit", "call" or "return".
    """


# ---- at the end


@hookspec
def scriptrules_stopping(config: Any) -> None:
    """The supervisor is about to stop; nothing is committed after this.

    Called once by the supervisor.

    Args:
        config: the `scriptrules.config.Config` in force.
    """
