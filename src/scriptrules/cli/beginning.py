"""`scriptrules new`: the first lines of a project, a rule, a plugin. What is written works, and is never written over.

Tried and rejected: templates as files of the package (three that need no tool are easier read here, beside the names
that they are filled with).
"""

from __future__ import annotations

import keyword
import os
from pathlib import Path

import click

from scriptrules.cli.common import load_plugins, say
from scriptrules.model import NAME

CONFIGURATION = """\
# What stands nowhere has its default. Relative paths start from this file's folder.

[hosts.local]
executor = "process"       # programs of this machine; "docker" and "swarm" start containers
programs = ["wc"]          # what rules may start here, and nothing else
"""
COUNT = '''\
"""Count the words of a text with a program, and tell it to whom it may concern."""

on = "text.written"
when = lambda task: len(task["text"]) > 0


def main(text):
    run("local", "words", "wc", ["-w"], stdin=text)
    result = wait("words")
    emit("text.counted", text=text, words=int(result.stdout))
'''
TOLD = '''\
"""Whoever sends or waits for text.counted gets what `main` returns."""

on = "text.counted"


def main(text, words):
    log(f"{words} words", begins=text[:20])
    return words
'''
RULE = '''\
"""Say here what the rule is for."""

on = "{task}"


def main(**data):
    log("{task} has come", data=data)
'''
PLUGIN = '''\
"""A plugin: functions for rules, executors, job types, sources; `scriptrules plugins` lists what it adds."""

from scriptrules import function, hookimpl


@function(retries=2, timeout=10.0)
async def {name}(text: str) -> str:
    """Say here what it does, and what it gives. It is called at least once."""
    return text.upper()


@hookimpl
def scriptrules_functions():
    return [{name}]
'''


@click.group("new")
def new_command() -> None:
    """Write the first lines of a project, a rule or a plugin.

    \b
    scriptrules new project reports        a folder with configuration and two rules that work
    scriptrules new rule billing/refund    rules/billing/refund.py, for the task billing.refund
    scriptrules new plugin greetings       plugins/greetings.py, with a function for rules
    A file that is there already is left as it is.
    """


@new_command.command("project")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=".", metavar="[DIR]")
def project_command(folder: Path) -> None:
    """Write scriptrules.toml and two rules that work.

    Into DIR, which is made, or into this folder.
    """
    files = {"scriptrules.toml": CONFIGURATION, "rules/count.py": COUNT, "rules/told.py": TOLD}
    _write({folder / name: text for name, text in files.items()})
    step = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    say(f"Next: {step}scriptrules run text.written text='to be or not to be'\nThen: {step}scriptrules serve")


@new_command.command("rule")
@click.argument("name")
@click.option("--on", "task", metavar="TASK", help="The task that it is for.  [default: NAME with dots]")
def rule_command(name: str, task: str | None) -> None:
    """Write rules/NAME.py."""
    from scriptrules import config

    name = name.removesuffix(".py")
    task = task or name.replace("/", ".")
    if not NAME.match(name.replace("/", ".")):
        raise click.UsageError(f"{name!r} is no name of a rule. Write letters, digits, _ and - with / between.")
    if not NAME.match(task.replace("*", "x")):
        raise click.UsageError(f"{task!r} is no name of a task. Write segments of letters, digits, _ and - with dots.")
    _write({config.load().rules_dir / f"{name}.py": RULE.format(task=task)})
    say(f"Next: scriptrules run {task.replace('*', 'a')} size:=3")


@new_command.command("plugin")
@click.argument("name")
def plugin_command(name: str) -> None:
    """Write plugins/NAME.py, with a function NAME for rules."""
    from scriptrules import config

    name = name.removesuffix(".py")
    settings = config.load()
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise click.UsageError(f"{name!r} is no name of a function, which a plugin is to have. Write greetings.")
    if name in load_plugins(settings).functions:
        raise click.UsageError(f"There is a function {name}() already. Choose another name.")
    _write({settings.plugins_dir / f"{name}.py": PLUGIN.format(name=name)})
    say(f'Next: scriptrules plugins; rules call {name}("…"). A server has to be started anew to know it.')


def _write(files: dict[Path, str]) -> None:
    """Write all of them, or none where one is there already."""
    there = [os.path.relpath(file) for file in files if file.exists()]
    if there:
        raise click.UsageError(f"{', '.join(there)}: already there, and left as it is. Choose another name.")
    try:
        for file, text in files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8") as stream:
                stream.write(text)
            click.echo(os.path.relpath(file))
    except OSError as error:
        raise click.ClickException(f"{error.filename} cannot be written: {error.strerror}.") from None
