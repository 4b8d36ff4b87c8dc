"""`scriptrules explain`."""

from __future__ import annotations

import re

import click

from scriptrules.cli.common import Piece, json_option, make_client, print_json, print_lines, read_data

_ID = re.compile(r"t[0-9a-v]{13}\Z")


@click.command("explain")
@click.argument("task", metavar="TASK|NAME")
@click.argument("fields", nargs=-1, metavar="[k=v | k:=JSON]...")
@click.option("--data", metavar="JSON", help="All of the data as a JSON object; - reads standard input.")
@json_option
def explain_command(task: str, fields: tuple[str, ...], data: str | None, as_json: bool) -> None:
    """Say for each rule why it matches a task or does not, part by part of its filter.

    \b
    scriptrules explain t1k82c4j2mb59o             a task that is there, under the rules of now
    scriptrules explain upload.finished size:=3    one that might come; nothing is stored
    """
    client = make_client()
    if _ID.match(task) and not fields and data is None:
        found = client.explain(task)
    else:
        found = client.explain_other(task, read_data(fields, data))
    if as_json:
        print_json(found)
        return
    if found["held_by"]:
        print_lines([[("it would be held: ", ""), (found["held_by"], "held")]])
    for rule in found["rules"]:
        sign: Piece = ("✓ ", "good") if rule["runs"] else ("· ", "dim")
        reason = f"  {rule['reason']}" if rule["reason"] else "  runs"
        print_lines([[sign, (rule["rule"], "bold"), (reason, "" if rule["runs"] else "dim")]])
        for part in rule["parts"]:
            value = part["error"] or part["value"] or ""
            style = "bad" if part["error"] else "good" if value == "True" else "held" if value == "False" else ""
            print_lines([[("      " + "  " * part["depth"] + part["text"], ""), ("  →  ", "dim"), (value, style)]])
    if not found["rules"]:
        print_lines([[("There is no active rule.", "")]])
