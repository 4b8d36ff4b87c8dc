"""Finds plugins and asks them what they add: built-ins by string, entry points, and every file in ``plugins/``.

Plugins are trusted code, but a broken one must not take the others along: it is named, left out, and listed by
`scriptrules plugins` with what is wrong.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.metadata
import importlib.util
import keyword
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import msgspec
import pluggy
import structlog

from scriptrules.errors import ConfigError, PluginError, nearest
from scriptrules.function import Function
from scriptrules.jobs import JobType, check_type
from scriptrules.plugins import spec
from scriptrules.plugins.executor import Executor, ExecutorContext, ExecutorFactory
from scriptrules.plugins.task_sources import TaskSource, TaskSourceContext, TaskSourceFactory
from scriptrules.plugins.variables import SourceContext, SourceFactory, VariableSource

log = structlog.get_logger(__name__)

PROJECT = "scriptrules"
BUILT_IN = (
    "scriptrules.plugins.builtin",
    "scriptrules.plugins.sources",
    "scriptrules.executors.process",
    "scriptrules.executors.docker",
    "scriptrules.executors.swarm",
)


Factory = TypeVar("Factory")


class PluginInfo(msgspec.Struct, frozen=True):
    """A plugin as `scriptrules plugins` lists it."""

    name: str
    origin: str  # "built-in", a file, or a package
    functions: list[str] = []
    executors: list[str] = []
    job_types: list[str] = []
    sources: list[str] = []
    task_sources: list[str] = []
    problem: str | None = None


class Plugins:
    """The plugins of an installation, found once at start."""

    def __init__(self, folder: Path | None) -> None:
        self.manager = pluggy.PluginManager(PROJECT)
        self.manager.add_hookspecs(spec)
        self.functions: dict[str, Function] = {}
        self.executors: dict[str, ExecutorFactory] = {}
        self.job_types: dict[str, JobType] = {}
        self.sources: dict[str, SourceFactory] = {}
        self.task_sources: dict[str, TaskSourceFactory] = {}
        self._owner: dict[tuple[str, str], str] = {}  # what, and its name
        self._found: list[PluginInfo] = []
        for module in BUILT_IN:
            self._add(module.rpartition(".")[2], "built-in", partial(importlib.import_module, module))
        for point in importlib.metadata.entry_points(group=PROJECT):
            origin = point.dist.name if point.dist else "an installed package"
            self._add(point.name, origin, point.load)
        for file in sorted(folder.glob("*.py")) if folder and folder.is_dir() else []:
            if not file.name.startswith(("_", ".")):
                self._add(file.stem, str(file), partial(_import_file, file))

    @property
    def hook(self) -> Any:
        return self.manager.hook

    def found(self) -> list[PluginInfo]:
        """Every plugin that was found, with what is wrong with it if anything."""
        return self._found

    def make_executor(self, kind: str, table: Mapping[str, Any], context: ExecutorContext) -> Executor:
        """The executor of a host.

        Raises:
            ConfigError: no plugin has this kind, or the table cannot be used.
        """
        factory = _known(self.executors, kind, f"[hosts.{context.host}]: there is no executor")
        return factory(_without(table, "executor"), context)

    def make_source(self, kind: str, table: Mapping[str, Any], context: SourceContext) -> VariableSource:
        """A source of variables.

        Raises:
            ConfigError: no plugin has this kind, or the table cannot be used.
        """
        factory = _known(self.sources, kind, f"[variables.{context.name}]: there is no source")
        return factory(_without(table, "source"), context)

    def make_task_source(self, kind: str, table: Mapping[str, Any], context: TaskSourceContext) -> TaskSource:
        """A source of tasks.

        Raises:
            ConfigError: no plugin has this kind, or the table cannot be used.
        """
        factory = _known(self.task_sources, kind, f"[sources.{context.name}]: there is no source of tasks")
        return factory(_without(table, "source"), context)

    def _add(self, name: str, origin: str, load: Callable[[], ModuleType]) -> None:
        try:
            module = load()
            self.manager.register(module, name=f"{origin}:{name}")
            info = self._ask(module, PluginInfo(name, origin))
        except Exception as error:
            where = _where(error, origin)
            log.error("plugin.broken", plugin=name, problem=f"{type(error).__name__}: {error}", where=where)
            problem = f"{type(error).__name__}: {error}" + (f" ({where})" if where else "")
            if self.manager.has_plugin(f"{origin}:{name}"):
                self.manager.unregister(name=f"{origin}:{name}")  # so that its observers are left out as well
            self._found.append(PluginInfo(name, origin, problem=problem))
            return
        self._found.append(info)

    def _ask(self, module: ModuleType, info: PluginInfo) -> PluginInfo:
        """Take up what one plugin adds; all of it or nothing."""
        functions: dict[str, Function] = {}
        for function in _call(module, "scriptrules_functions") or ():
            if not isinstance(function, Function):
                raise PluginError(f"scriptrules_functions gave {function!r}. Declare it with @scriptrules.function.")
            functions[function.spec.name] = function
            self._check_name(function.spec.name, function.spec.intrinsic)
        executors: dict[str, ExecutorFactory] = dict(_call(module, "scriptrules_executors") or {})
        job_types = {one.name: one for one in map(check_type, _call(module, "scriptrules_job_types") or ())}
        sources: dict[str, SourceFactory] = dict(_call(module, "scriptrules_variable_sources") or {})
        task_sources: dict[str, TaskSourceFactory] = dict(_call(module, "scriptrules_task_sources") or {})
        added = [("function", name) for name in functions]
        added += [("executor", name) for name in executors]
        added += [("job type", name) for name in job_types]
        added += [("source of variables", name) for name in sources]
        added += [("source of tasks", name) for name in task_sources]
        for what, name in added:
            if (what, name) in self._owner:
                owner = self._owner[what, name]
                raise PluginError(f"the {what} {name!r} is that of plugin {owner!r}. Rename one of them.")
        self.functions.update(functions)
        self.executors.update(executors)
        self.job_types.update(job_types)
        self.sources.update(sources)
        self.task_sources.update(task_sources)
        self._owner.update(dict.fromkeys(added, info.name))
        return msgspec.structs.replace(
            info,
            functions=sorted(functions),
            executors=sorted(executors),
            job_types=sorted(job_types),
            sources=sorted(sources),
            task_sources=sorted(task_sources),
        )

    @staticmethod
    def _check_name(name: str, intrinsic: bool) -> None:
        taken = keyword.iskeyword(name) or name.startswith("_") or (hasattr(builtins, name) and not intrinsic)
        if taken or not name.isidentifier():
            raise PluginError(f"{name!r} cannot be the name of a function for rules. Choose another one.")


def _known(factories: Mapping[str, Factory], kind: str, problem: str) -> Factory:
    """The factory of a kind that a table names, or an error that names the nearest."""
    factory = factories.get(kind)
    if factory is None:
        known = ", ".join(sorted(factories)) or "none"
        raise ConfigError(f"{problem} {kind!r}{nearest(kind, factories)} Known: {known}.")
    return factory


def _without(table: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name != key}


def _call(module: ModuleType, hook: str) -> Any:
    implementation = getattr(module, hook, None)
    return implementation() if implementation is not None else None


def _import_file(file: Path) -> ModuleType:
    name = f"scriptrules_plugin_{file.stem}"
    module_spec = importlib.util.spec_from_file_location(name, file)
    if module_spec is None or module_spec.loader is None:
        raise PluginError(f"{file} cannot be imported. Make it a Python file.")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    try:
        module_spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _where(error: Exception, origin: str) -> str:
    """File and line of the plugin where it failed."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename == origin:
            return f"{frame.filename}:{frame.lineno}"
    return ""
