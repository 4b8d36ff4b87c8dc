"""`scriptrules hosts` and `drain`: where executions run, and how a server lets them end."""

from __future__ import annotations

import time

import click

from scriptrules import clock
from scriptrules.cli.common import (
    Piece,
    clean,
    json_option,
    make_client,
    print_json,
    print_lines,
    print_table,
    say,
    wrap,
)

INTERVAL = 0.5  # seconds between two looks at a server that is being drained


@click.command("hosts")
@json_option
def hosts_command(as_json: bool) -> None:
    """List hosts: reachable, version, what runs and waits there, free slots, and what is wrong.

    Exit status 1 where one cannot be reached.
    """
    hosts = make_client().hosts()
    if as_json:
        print_json({"items": hosts, "next": None})
    else:
        rows: list[list[str | Piece]] = [
            [
                (host["name"], "bold"),
                host["executor"],
                ("yes", "good") if host["reachable"] else ("no", "bad"),
                host["version"] or "",
                str(host["running"]) if host["max_running"] is None else f"{host['running']} of {host['max_running']}",
                str(host["waiting"]),
                "any" if host["free"] is None else str(host["free"]),
            ]
            for host in hosts
        ]
        print_table(("NAME", "EXECUTOR", "REACHABLE", "VERSION", "RUNNING", "WAITING", "FREE"), rows)
        for host in hosts:
            print_lines([[(f"{host['name']}:", "bold")]])
            style = "dim" if host["reachable"] else "bad"
            print_lines([(f"  {line}", style)] for line in wrap(clean(host["detail"]), 2))
            if host["strays"]:
                strays = f"strays, which nothing here accounts for: {', '.join(host['strays'])}"
                print_lines([(f"  {line}", "held")] for line in wrap(clean(strays), 2))
    if not all(host["reachable"] for host in hosts):
        click.get_current_context().exit(1)


@click.command("drain")
@click.option("--timeout", type=click.FloatRange(min=0), help="Give up waiting after so many seconds, with status 1.")
@click.option("--undo", is_flag=True, help="Take tasks and start executions again.")
@json_option
def drain_command(timeout: float | None, undo: bool, as_json: bool) -> None:
    """Let running executions end, and start no more; returns when the last one has ended.

    From now on the server refuses tasks (503), is not ready (/readyz says so) and starts no execution. Runs under way
    go on as far as they come without one; a start that a rule asks for stays pending in the store, and the next server
    makes it. What runs is neither stopped nor cut short. The server itself does not end: stop it afterwards, or take
    all of it back with --undo. Without draining nothing is lost either: executions outlive the server, and the next
    one adopts them.
    """
    client = make_client()
    state = client.drain(on=not undo)
    started = clock.monotonic()
    told = -1
    while not undo and state["running"]:
        if timeout is not None and clock.monotonic() - started >= timeout:
            break
        if state["running"] != told:
            told = state["running"]
            say(f"{told} running, {state['waiting']} wait for the next server")
        time.sleep(INTERVAL)
        state = client.drain(on=None)
    if as_json:
        print_json(state)
    elif undo:
        click.echo("serving")
    else:
        click.echo(f"{'drained' if not state['running'] else 'draining'}: {state['running']} running")
    if state["running"] and not undo:
        click.get_current_context().exit(1)
