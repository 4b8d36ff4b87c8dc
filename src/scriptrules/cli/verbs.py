"""`scriptrules resume`, `cancel` and `retry`: what people do to a task or a run."""

from __future__ import annotations

import click

from scriptrules.cli.common import check_id, json_option, make_client, print_json


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


def _tell(id: str, verb: str, as_json: bool, **settings: bool) -> None:
    changed = make_client().verb(id, verb, **settings)
    if as_json:
        print_json(changed)
    else:
        click.echo(f"{changed['id']} {changed['state']}")
