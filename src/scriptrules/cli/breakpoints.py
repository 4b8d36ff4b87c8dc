"""`scriptrules break`: breakpoints are set, listed, tried out and removed."""

from __future__ import annotations

import click

from scriptrules.cli.common import json_option, make_client, print_json, print_lines, say
from scriptrules.cli.verbs import who

_ON = click.argument("on", nargs=-1, required=True, metavar="ON...")
_AT = click.option(
    "--at", default="task", show_default=True, metavar="PLACE", help="task, or before:FUNCTION, after:FUNCTION."
)
_WHEN = click.option("--when", metavar="EXPR", help="Of `task`; before and after a function of `entry`.")


@click.group("break")
def break_command() -> None:
    """Hold tasks before their rules, or runs before and after what they call.

    \b
    scriptrules break add 'upload.*' --when 'task["size"] > 1000'
    scriptrules break add report.monthly --at before:run --when 'entry.args["host"] == "locust"'
    scriptrules held
    What is held stays so until somebody resumes, steps, edits, answers or drops it.
    """


@break_command.command("add")
@_ON
@_AT
@_WHEN
@click.option("--name", help="By which it is known; given one where it is missing.")
@click.option("--preview", "preview", is_flag=True, help="Only say what it would have caught lately.")
@json_option
def add_command(on: tuple[str, ...], at: str, when: str | None, name: str | None, preview: bool, as_json: bool) -> None:
    """Set a breakpoint on tasks whose name fits one of ON; it catches what is committed from now on."""
    client = make_client()
    body = {"on": list(on), "at": at, **({} if when is None else {"when": when})}
    if preview:
        found = client.preview_breakpoint(body)
        if as_json:
            print_json(found)
            return
        click.echo(f"{found['caught']} of the newest {found['looked_at']} tasks")
        for item in found["items"]:
            place = "" if item["run"] is None else f"  {item['run']}@{item['seq']}"
            click.echo(f"{item['task']}  {item['name']}{place}{'  ' + item['error'] if item['error'] else ''}")
        return
    made = client.set_breakpoint(body | {"who": who()} | ({} if name is None else {"name": name}))
    if as_json:
        print_json(made)
    else:
        click.echo(made["name"])


@break_command.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """List the breakpoints in force, and files that could not become one."""
    items = make_client().breakpoints()
    if as_json:
        print_json({"items": items, "next": None})
        return
    if not items:
        say("There is no breakpoint.")
    for item in items:
        when = f"  when {item['when']}" if item["when"] else ""
        what = f"  {', '.join(item['on'])}  at {item['at']}{when}" if item["on"] else "  not in force"
        stale = "; its last version that was in order is in force" if item["on"] and item["problems"] else ""
        print_lines([[(item["name"], "bold"), (what, "")], [(f"    set by {item['by']}{stale}", "dim")]])
        print_lines([(f"    {line}", "bad")] for problem in item["problems"] for line in problem.splitlines())


@break_command.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def remove_command(names: tuple[str, ...]) -> None:
    """Remove breakpoints; what they hold stays held."""
    client = make_client()
    for name in names:
        client.remove_breakpoint(name, who())
