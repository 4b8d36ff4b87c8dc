"""`scriptrules resume`, `step`, `edit`, `answer`, `drop`, `cancel`, `retry`, `fork`: what people do to tasks and runs.

Each takes the id of a task or a run, or filters that select many; `--dry-run` counts those and changes nothing.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable
from typing import Any

import click

from scriptrules.cli.common import (
    check_id,
    check_run_id,
    json_option,
    make_client,
    print_json,
    read_data,
    read_json,
    read_since,
    read_stdin,
    say,
)


def who() -> str:
    """Who asks, for the audit."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "somebody"


def _check_any(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    return None if value is None else check_id(context, parameter, value)


def _selecting(command: Callable[..., None]) -> Callable[..., None]:
    """An id, or the options by which a verb is meant for many."""
    return click.argument("id", required=False, callback=_check_any)(_filtering(command))


def _filtering(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        json_option,
        click.option("--request-id", metavar="TEXT", help="Asked again with the same one, it changes nothing more."),
        click.option("--dry-run", is_flag=True, help="Only count what the filters select."),
        click.option("--until", metavar="WHEN", callback=read_since, help="Only what was created before this."),
        click.option("--since", metavar="WHEN", callback=read_since, help="A time, or an age such as 10m, 2h, 1d."),
        click.option("--reason", help="Only what is held for this reason, such as breakpoint:NAME."),
        click.option("--rule", help="Only runs of this rule."),
        click.option("--name", help="Only tasks of this name (the whole of it), and their runs."),
    ):
        command = option(command)
    return command


def _read_place(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, int]:
    run, _, seq = value.partition("@")
    if not seq.isdecimal() or not int(seq):
        raise click.BadParameter(f"{value!r} names no entry. Write RUN@SEQ; `scriptrules show RUN` lists entries.")
    return check_run_id(context, parameter, run), int(seq)


def _given(result: str, option: str) -> Any:
    """A result as an option gives it."""
    return read_json(read_stdin() if result == "-" else result, option)


@click.command("resume")
@_selecting
def resume_command(id: str | None, **given: Any) -> None:
    """Let a held task or run go on.

    An unmatched task is matched again; all of them by --reason unmatched. Without an id, everything held that the
    filters select.
    """
    _do("resume", id, given)


@click.command("step")
@_selecting
def step_command(id: str | None, **given: Any) -> None:
    """Let a held task or run go on to its next entry.

    It is held again there, and so is the next task that it generates.
    """
    _do("step", id, given)


@click.command("drop")
@_selecting
def drop_command(id: str | None, **given: Any) -> None:
    """End a held task or run where it stands.

    The rules of a task are not asked; the executions of a run are stopped.
    """
    _do("drop", id, given)


@click.command("edit")
@click.argument("words", nargs=-1, metavar="[ID] [k=v | k:=JSON]...")
@click.option("--data", metavar="JSON", help="All of it anew, as a JSON object; - reads standard input.")
@_filtering
def edit_command(words: tuple[str, ...], data: str | None, **given: Any) -> None:
    """Change the data of a held task, or the arguments of the entry that a run is held before.

    \b
    scriptrules edit t1k82c… size:=3
    scriptrules edit r1k82c… image=registry.example/uploads:3
    The original is kept, and a replay compares that one.
    """
    context = click.get_current_context()
    named = bool(words) and "=" not in words[0]
    id = check_id(context, context.command.params[0], words[0]) if named else None
    fields = words[named:]
    if not fields and data is None:
        raise click.UsageError("Say what to change: scriptrules edit ID size:=3, or --data JSON.")
    change = {"data": read_data((), data)} if data is not None else {"set": read_data(fields, None)}
    _do("edit", id, given, **change)


@click.command("answer")
@click.option("--result", metavar="JSON", required=True, help="What it gives; - reads standard input.")
@click.option("--seq", type=int, help="Of the entry, where the script is about to get several results.")
@_selecting
def answer_command(id: str | None, result: str, seq: int | None, **given: Any) -> None:
    """Supply the result that a run is held at, so that it is not carried out.

    For an execution that is its output, or an object with "status". With the id of a held task that was called: its
    answer.
    """
    _do("answer", id, given, result=_given(result, "--result"), **({} if seq is None else {"seq": seq}))


@click.command("cancel")
@_selecting
def cancel_command(id: str | None, **given: Any) -> None:
    """Cancel a run, or a task with all its runs.

    Its executions and what it called are stopped; tasks that it has emitted go on.
    """
    _do("cancel", id, given)


@click.command("hold")
@_selecting
def hold_command(id: str | None, **given: Any) -> None:
    """Have a run stop at its next entry.

    With the id of a task, all its runs. What it waits for goes on. New tasks are held by breakpoints.
    """
    _do("hold", id, given)


@click.command("retry")
@click.option("--pinned", is_flag=True, help="With the source that it began with, not the newest.")
@click.option("--from-start", is_flag=True, help="Begin again, and forget what succeeded.")
@_selecting
def retry_command(id: str | None, pinned: bool, from_start: bool, **given: Any) -> None:
    """Do a failed or held run again, keeping what succeeded.

    With the id of a task, all of its failed runs; without one, all failed runs that the filters select, and with
    --reason what is held for it: scriptrules retry --reason divergence --from-start
    """
    _do("retry", id, given, pinned=pinned, from_start=from_start)


@click.command("fork")
@click.argument("place", metavar="RUN@SEQ", callback=_read_place)
@click.option(
    "--set", "result", required=True, metavar="JSON", help="What the entry gives instead; - reads standard input."
)
@click.option("--pinned", is_flag=True, help="With the source that it began with, not the newest.")
@json_option
def fork_command(place: tuple[str, int], result: str, pinned: bool, as_json: bool) -> None:
    """Have a new run go on from an entry of another, with another result.

    The new run reuses the journal before that entry: what that has started and emitted is not done again. The other run
    stays as it is. For an execution the result is its output, or an object with "status"; for an emitted task its
    value; for a wait one such result, or a list of them; for a call or a function what it gives.
    """
    made = make_client().fork(*place, _given(result, "--set"), pinned, who=who())
    if as_json:
        print_json(made)
    else:
        click.echo(f"{made['id']} {made['state']}")


def _do(verb: str, id: str | None, given: dict[str, Any], **settings: Any) -> None:
    """Have one thing, or all that the filters select, done."""
    as_json, dry_run, request = given.pop("as_json"), given.pop("dry_run"), given.pop("request_id")
    filters = {name: value for name, value in given.items() if value is not None}
    settings |= {"who": who(), **({} if request is None else {"request_id": request})}
    if (id is None) == (not filters) or (id is not None and dry_run):
        raise click.UsageError(
            f"Give either an id, or filters such as --name and --reason: scriptrules {verb} --reason breakpoint:NAME"
        )
    client = make_client()
    if id is not None:
        changed = client.verb(id, verb, **settings)
        if as_json:
            print_json(changed)
        else:
            click.echo(f"{changed['id']} {changed['state']}")
        return
    outcome = client.bulk(verb, dry_run=dry_run, **filters, **settings)
    if as_json:
        print_json(outcome)
    elif dry_run:
        click.echo(f"{outcome['matched']} would be meant")
    else:
        click.echo(f"{outcome['changed']} of {outcome['matched']}")
        for one in outcome["failed"]:
            say(f"{one['id']}: {one['detail']}")
    if outcome["failed"]:
        click.get_current_context().exit(1)
