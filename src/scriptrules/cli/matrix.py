"""`scriptrules matrix`: which rules have run which."""

from __future__ import annotations

import csv
import sys

import click

from scriptrules.cli.common import (
    Piece,
    age,
    duration_text,
    json_option,
    make_client,
    print_json,
    print_table,
    read_since,
    say,
)
from scriptrules.client import CellJson

FORMATS = ("text", "json", "csv")
OUTSIDE = "(from outside)"


@click.command("matrix")
@click.option(
    "--format", "kind", type=click.Choice(FORMATS), default="text", show_default=True, help="How to print it."
)
@click.option(
    "--since", callback=read_since, metavar="TIME", help="Days (UTC) from 10m, 2h, 1d ago, or an RFC 3339 time, on."
)
@json_option
def matrix_command(kind: str, since: str | None, as_json: bool) -> None:
    """Show which rules have run which, how often, and for how long.

    A line counts the runs of a rule for tasks that runs of another have generated. What the rules can do by their
    sources, and have not done yet, is listed too, with 0 runs. `--since` counts whole days.
    """
    if as_json and kind == "csv":
        raise click.UsageError("--json and --format csv exclude one another. Leave one out.")
    found = make_client().matrix(since)
    if as_json or kind == "json":
        print_json(found)
    elif kind == "csv":
        print_csv(found["cells"])
    else:
        if found["since"]:
            say(f"Since {found['since'][:10]}, by day (UTC).")
        print_cells(found["cells"])


def print_csv(cells: list[CellJson]) -> None:
    """One line a cell; no value is an empty field."""
    titles = list(CellJson.__annotations__)
    writer = csv.DictWriter(sys.stdout, titles, lineterminator="\n")
    writer.writeheader()
    for cell in cells:
        writer.writerow({**cell, "predicted": "true" if cell["predicted"] else "false"})


def print_cells(cells: list[CellJson]) -> None:
    if not cells:
        say("No rule has run yet, and none can run another.")
        return
    rows: list[list[str | Piece]] = []
    before: str | None = ""
    for cell in sorted(cells, key=lambda cell: (cell["by"] or "", -cell["count"], cell["rule"])):
        by = cell["by"] or OUTSIDE
        foreseen = cell["predicted"] or cell["by"] is None
        rows.append(
            [
                (cell["rule"], "bold"),
                (by, "dim" if by == before else ""),
                str(cell["count"]),
                age(cell["last"]) if cell["last"] else "",
                *(duration_text(seconds) if seconds is not None else "" for seconds in (cell["p50"], cell["p90"])),
                ("" if foreseen else "not foreseen", "held") if cell["count"] else ("never yet", "dim"),
            ]
        )
        before = by
    print_table(("RULE", "RUN BY", "RUNS", "LAST", "P50", "P90", ""), rows)
