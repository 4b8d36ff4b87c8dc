"""`scriptrules resume`, `cancel`, `retry` and `fork`: what people do to a task or a run."""

from __future__ import annotations

import json

import click

from scriptrules.cli.common import check_id, check_run_id, json_option, make_client, print_json


def _read_place(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, int]:
    run, _, seq = value.partition("@")
    if not seq.isdecimal() or not int(seq):
        raise click.BadParameter(f"{value!r} names no entry. Write RUN@SEQ; `scriptrules show RUN` lists entries.")
    return check_run_id(context, parameter, run), int(seq)


def _read_json(context: click.Context, parameter: click.Parameter, value: str) -> object:
    try:
        return json.loads(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no JSON. Text is written with its quotes: --set '\"text\"'.") from None


@click.command("resume")
@click.argument("id", callback=check_id)
@json_option
def resume_command(id: str, as_json: bool) -> None:
    """Let a held task or run go on.

    An unmatched task is matched again.
    """
    _tell(id, "resume", as_json)


@click.command("cancel")
@click.argument("id", callback=check_id)
@json_option
def cancel_command(id: str, as_json: bool) -> None:
    """Cancel a run, or a task with all its runs.

    Its executions and what it called are stopped; tasks that it has emitted go on.
    """
    _tell(id, "cancel", as_json)


@click.command("retry")
@click.argument("id", callback=check_id)
@click.option("--pinned", is_flag=True, help="With the source that it began with, not the newest.")
@click.option("--from-start", is_flag=True, help="Begin again, and forget what succeeded.")
@json_option
def retry_command(id: str, pinned: bool, from_start: bool, as_json: bool) -> None:
    """Do a failed or held run again, keeping what succeeded.

    With the id of a task, all of its failed runs.
    """
    _tell(id, "retry", as_json, pinned=pinned, from_start=from_start)


@click.command("fork")
@click.argument("place", metavar="RUN@SEQ", callback=_read_place)
@click.option(
    "--set", "result", required=True, metavar="JSON", callback=_read_json, help="What the entry gives instead."
)
@click.option("--pinned", is_flag=True, help="With the source that it began with, not the newest.")
@json_option
def fork_command(place: tuple[str, int], result: object, pinned: bool, as_json: bool) -> None:
    """Have a new run go on from an entry of another, with another result.

    The new run reuses the journal before that entry: what that has started and emitted is not done again. The other run
    stays as it is. For an execution the result is its output, or an object with "status"; for an emitted task its
    value; for a wait one such result, or a list of them; for a call or a function what it gives.
    """
    made = make_client().fork(*place, result, pinned)
    if as_json:
        print_json(made)
    else:
        click.echo(f"{made['id']} {made['state']}")


def _tell(id: str, verb: str, as_json: bool, **settings: bool) -> None:
    changed = make_client().verb(id, verb, **settings)
    if as_json:
        print_json(changed)
    else:
        click.echo(f"{changed['id']} {changed['state']}")
