"""The command line: which commands there are, and how their errors end.

A command's module is imported when the command is used, and `--help` imports none of them. Commands of plugins are
looked up only for a name that is not built in, and for `--help` where a plugin of the project says that it has some.

Tried and rejected: asking click's commands for their summaries (importing them all takes 0.3 s), so they stand here a
second time, and a test keeps them equal.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from scriptrules import __version__

COMMANDS: dict[str, tuple[str, str]] = {  # name: module, summary
    "new": ("beginning", "Write the first lines of a project, a rule or a plugin."),
    "serve": ("serving", "Serve until Ctrl-C: take tasks by HTTP and run the rules."),
    "run": ("running", "Execute a task and all that follows in this process, without a server."),
    "send": ("sending", "Send a task to the server and print its id."),
    "tasks": ("tasks", "List tasks, newest first."),
    "task": ("tasks", "Show a task, or the tree of all that follows from it."),
    "runs": ("runs", "List runs, newest first."),
    "show": ("runs", "Show a run and its journal, entry by entry."),
    "logs": ("runs", "Print the log of a run and the output of its executions."),
    "held": ("tasks", "List what is held, and what lets it go on."),
    "resume": ("verbs", "Let a held task or run go on."),
    "step": ("verbs", "Let a held task or run go on to its next entry."),
    "edit": ("verbs", "Change the data of a held task, or the arguments of the entry that a run is held before."),
    "answer": ("verbs", "Supply the result that a run is held at, so that it is not carried out."),
    "drop": ("verbs", "End a held task or run where it stands."),
    "break": ("breakpoints", "Hold tasks before their rules, or runs before and after what they call."),
    "hold": ("verbs", "Have a run stop at its next entry."),
    "cancel": ("verbs", "Cancel a run, or a task with all its runs."),
    "retry": ("verbs", "Do a failed or held run again, keeping what succeeded."),
    "fork": ("verbs", "Have a new run go on from an entry of another, with another result."),
    "graph": ("graph", "Show which rules can generate which tasks, and which rules these reach."),
    "matrix": ("matrix", "Show which rules have run which, how often, and for how long."),
    "var": ("variables", "Read and set the variables that rules load; secrets among them."),
    "explain": ("why", "Say for each rule why it matches a task or does not, part by part of its filter."),
    "check": ("checking", "Compile all rules and breakpoints, or PATHS, and report what is wrong."),
    "schema": ("schemas", "Print the JSON schema of declarative rules, for editors."),
    "stubs": ("stubs", "Print the functions that rules have as a stub, for editors."),
    "explain-code": ("explaining", "Explain a code such as SR110; without one, list them all."),
    "schedules": ("incoming", "List schedules, soonest first."),
    "sources": ("incoming", "List sources of tasks, and how they are."),
    "hosts": ("hosts", "List hosts: reachable, version, what runs and waits there, free slots, and what is wrong."),
    "drain": ("hosts", "Let running executions end, and start no more; returns when the last one has ended."),
    "token": ("tokens", "Say who may use the server: add, list and revoke tokens."),
    "plugins": ("installation", "List plugins and what they add."),
    "doctor": ("installation", "Check whether everything that is needed is there."),
}
HOOK = "scriptrules_commands"


def command_name(name: str) -> str:
    """How the module of a command calls it."""
    return f"{name.replace('-', '_')}_command"


class Commands(click.Group):
    """The built-in commands, imported when they are used, and those of plugins."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *sorted(self._advertised())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            module = importlib.import_module(f"scriptrules.cli.{COMMANDS[cmd_name][0]}")
            command: click.Command = getattr(module, command_name(cmd_name))
            return command
        return _plugin_commands().get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            from scriptrules.errors import nearest

            known = [*COMMANDS, *_plugin_commands()]
            ctx.fail(f"There is no command {args[0]!r}{nearest(args[0], known)} `scriptrules --help` lists them all.")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])
        plugins = self._advertised()
        if plugins:
            with formatter.section("Commands of plugins"):
                formatter.write_dl([(name, plugins[name].get_short_help_str(70)) for name in sorted(plugins)])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            from scriptrules.errors import BadTask, ScriptrulesError

            if not isinstance(error, ScriptrulesError):
                raise
            click.echo(f"scriptrules: {error.code} {error.message}", err=True)
            bad_input = isinstance(error, BadTask) or getattr(error, "status", None) in (400, 413)
            ctx.exit(2 if bad_input else 1)

    @staticmethod
    def _advertised() -> dict[str, click.Command]:
        """The commands of plugins, without importing anything where no plugin can have one."""
        return _plugin_commands() if _some_plugin_has_commands() else {}


def _some_plugin_has_commands() -> bool:
    """Whether a file of the project's plugins mentions the hook, or a package is installed as a plugin."""
    project = _project()
    if project is None:
        return False
    if _installed_plugins():
        return True
    if "plugins" in _read(os.path.join(project, "scriptrules.toml")) or "SCRIPTRULES_PLUGINS" in os.environ:
        from scriptrules import config

        folder = str(config.load().plugins_dir)
    else:
        folder = os.path.join(project, "plugins")
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    return any(HOOK in _read(os.path.join(folder, name)) for name in names if name.endswith(".py"))


def _installed_plugins() -> bool:
    """Whether some distribution on sys.path has entry points of ours; importlib.metadata would take 30 ms to say so."""
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            if name.endswith(".dist-info") and "[scriptrules]" in _read(os.path.join(folder, name, "entry_points.txt")):
                return True
    return False


def _project() -> str | None:
    """The folder whose configuration holds here; None outside of a project."""
    folder = os.getcwd()
    while True:
        if os.path.isfile(os.path.join(folder, "scriptrules.toml")):
            return folder
        if "[tool.scriptrules" in _read(os.path.join(folder, "pyproject.toml")):
            return folder
        if folder == os.path.dirname(folder):
            return None
        folder = os.path.dirname(folder)


def _read(file: str) -> str:
    try:
        with open(file, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def _plugin_commands() -> dict[str, click.Command]:
    """The commands of all plugins by name; broken plugins are left out, `scriptrules plugins` names them."""
    from scriptrules.cli.common import load_plugins
    from scriptrules.config import load
    from scriptrules.errors import ScriptrulesError

    try:
        plugins = load_plugins(load())
    except ScriptrulesError as error:
        click.echo(f"scriptrules: {error.code} {error.message}", err=True)
        return {}
    found: dict[str, click.Command] = {}
    for hook in getattr(plugins.hook, HOOK).get_hookimpls():
        try:
            commands = hook.function() or []
            found.update({command.name: command for command in commands if command.name not in COMMANDS})
        except Exception as error:
            click.echo(f"scriptrules: {hook.plugin_name}: {HOOK} failed: {error!r}. Correct the plugin.", err=True)
    return found


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Rules are Python files that one drops in: sandboxed, durable, and started by tasks.

    \b
    scriptrules new project                    in an empty folder: two rules that work
    scriptrules serve                          take tasks and run rules/*.py
    scriptrules send upload.finished size:=3   send a task: k=v is text, k:=JSON is JSON
    scriptrules run upload.finished size:=3    the same without a server

    Commands that talk to a server find it at SCRIPTRULES_URL (default http://127.0.0.1:8765). Standard output is data,
    messages go to standard error. Exit status: 0 ok, 1 findings or failed, 2 usage.
    """
