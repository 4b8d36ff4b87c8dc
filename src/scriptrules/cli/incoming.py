"""`scriptrules schedules` and `sources`: what brings tasks in by itself."""

from __future__ import annotations

import click

from scriptrules.cli.common import Piece, json_option, make_client, print_json, print_table, say


@click.command("schedules")
@json_option
def schedules_command(as_json: bool) -> None:
    """List schedules, soonest first.

    They are those of rules, and [[schedules]] of scriptrules.toml. LAST is the last time that the server has sent a
    task for since it was started.
    """
    schedules = make_client().schedules()
    if as_json:
        print_json({"items": schedules, "next": None})
        return
    if not schedules:
        say("Nothing is scheduled.")
        return
    rows: list[list[str | Piece]] = [
        [
            (one["name"], "bold"),
            one["cron"],
            one["timezone"],
            one["catch_up"],
            (one["last"] or "")[:19],
            (one["next"] or "never")[:19],
        ]
        for one in schedules
    ]
    print_table(("NAME", "CRON", "ZONE", "CATCH UP", "LAST", "NEXT (UTC)"), rows)


@click.command("sources")
@json_option
def sources_command(as_json: bool) -> None:
    """List sources of tasks, and how they are."""
    sources = make_client().sources()
    if as_json:
        print_json({"items": sources, "next": None})
        return
    if not sources:
        say("There is no [sources.NAME] in scriptrules.toml.")
        return
    rows: list[list[str | Piece]] = [
        [
            (one["name"], "bold"),
            one["source"],
            (one["state"], "bad" if one["state"] == "failed" else ""),
            str(one["tasks"]),
            (one["problem"] or "", "bad"),
        ]
        for one in sources
    ]
    print_table(("NAME", "SOURCE", "STATE", "TASKS", "PROBLEM"), rows)
