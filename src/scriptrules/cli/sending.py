"""`scriptrules send`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, BinaryIO

import click

from scriptrules import clock
from scriptrules.cli import tree as trees
from scriptrules.cli.common import hint_at_texts, json_option, make_client, print_json, read_data, say
from scriptrules.cli.live import TreeView, pause_after

if TYPE_CHECKING:
    from scriptrules.client import Client


@click.command("send")
@click.argument("name", required=False)
@click.argument("fields", nargs=-1, metavar="[k=v | k:=JSON]...")
@click.option("--data", metavar="JSON", help="All of the data as a JSON object; - reads standard input.")
@click.option("--key", help="Makes it idempotent: the same key and content give the same task.")
@click.option("--wait", "waits", is_flag=True, help="Wait for all that follows, and show it; exit 1 if any failed.")
@click.option(
    "--ndjson",
    type=click.File("rb"),
    metavar="FILE",
    help='Send many, all or none: {"name": …, "data": …} on each line; - reads standard input.',
)
@json_option
def send_command(
    name: str | None,
    fields: tuple[str, ...],
    data: str | None,
    key: str | None,
    waits: bool,
    ndjson: BinaryIO | None,
    as_json: bool,
) -> None:
    """Send a task to the server and print its id.

    \b
    scriptrules send upload.finished file=a.csv size:=3
    scriptrules send --ndjson tasks.ndjson
    """
    client = make_client()
    if ndjson is not None:
        if name is not None or data is not None or key is not None or waits:
            raise click.UsageError("--ndjson sends what is in the file: leave out NAME, --data, --key and --wait.")
        ids = client.send_lines(ndjson.read())
        if as_json:
            print_json({"ids": ids})
        else:
            for id in ids:
                click.echo(id)
        return
    if name is None:
        raise click.UsageError("Name the task: scriptrules send upload.finished size:=3")
    id = client.send(name, read_data(fields, data), key)
    if not waits:
        if as_json:
            print_json({"id": id})
        else:
            click.echo(id)
        return
    if not _wait(client, id, as_json):
        hint_at_texts(fields)
        click.get_current_context().exit(1)


def _wait(client: Client, id: str, as_json: bool) -> bool:
    """Show the tree of a task until all of it has ended, and return whether none of it has failed.

    What is held somebody else may let go on.
    """
    from scriptrules.cli.following import persistently

    told: set[str] = set()
    with TreeView(as_json) as view:
        while True:
            began = clock.monotonic()
            tree = persistently(lambda: client.tree(id))
            view.update(tree)
            outlook = trees.outlook(tree)
            if outlook == "ended" and not persistently(lambda: _any(client, id, "new", "running", "held")):
                break
            for what in trees.held_in(tree) if outlook == "held" else ():
                if what not in told:
                    told.add(what)
                    say(f"scriptrules: held: {what}")
            time.sleep(pause_after(clock.monotonic() - began))
    return not persistently(lambda: _any(client, id, "failed", "cancelled"))


def _any(client: Client, root: str, *states: str) -> bool:
    """Whether a task of the tree is in one of these states; the tree that the server shows may be cut off."""
    return any(client.tasks(1, root=root, state=state) for state in states)
