"""`scriptrules runs`, `show` and `logs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from scriptrules.cli.common import (
    Piece,
    age,
    check_run_id,
    check_task_id,
    clean,
    compact,
    duration_between,
    error_text,
    json_option,
    json_text,
    make_client,
    print_json,
    print_lines,
    print_table,
    read_since,
    state_piece,
    way_out,
)
from scriptrules.cli.tasks import print_facts

if TYPE_CHECKING:
    from scriptrules.client import EntryJson, LogJson

STATES = ("queued", "running", "waiting", "held", "done", "failed", "cancelled")


def _task_of(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    return None if value is None else check_task_id(context, parameter, value)


@click.command("runs")
@click.option("--state", type=click.Choice(STATES), help="Only runs in this state.")
@click.option("--rule", help="Only runs of this rule.")
@click.option("--task", callback=_task_of, metavar="ID", help="Only runs for this task.")
@click.option("--since", callback=read_since, metavar="TIME", help="Not older than 10m, 2h, 1d, or an RFC 3339 time.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True, help="At most so many.")
@json_option
def runs_command(
    state: str | None, rule: str | None, task: str | None, since: str | None, limit: int, as_json: bool
) -> None:
    """List runs, newest first."""
    runs = make_client().runs(limit, state=state, rule=rule, task=task, since=since)
    if as_json:
        print_json({"items": runs, "next": runs[-1]["id"] if len(runs) == limit else None})
        return
    rows: list[list[str | Piece]] = [
        [
            run["id"],
            (run["rule"], "bold"),
            state_piece(run["state"]),
            age(run["created"]),
            duration_between(run["created"], run["ended"]),
            (error_text(run["error"]), "bad")
            if run["error"]
            else (run["reason"] or ("" if run["value"] is None else compact(run["value"], 200)), "dim"),
        ]
        for run in runs
    ]
    print_table(("ID", "RULE", "STATE", "AGE", "TOOK", "VALUE, REASON OR ERROR"), rows)


@click.command("show")
@click.argument("run", callback=check_run_id)
@json_option
def show_command(run: str, as_json: bool) -> None:
    """Show a run and its journal, entry by entry.

    Each entry is one use of a function: its number, the line of the rule, what it did, and what came of it.
    """
    client = make_client()
    shown = client.run(run)
    entries = client.journal(run)
    if as_json:
        print_json({"run": shown, "entries": entries})
        return
    facts: list[tuple[str, Any]] = [
        ("rule", shown["rule"]),
        ("run", shown["id"]),
        ("task", shown["task"]),
        ("state", state_piece(shown["state"])),
        ("began", f"{shown['created']} ({age(shown['created'])} ago)"),
        ("took", duration_between(shown["created"], shown["ended"])),
    ]
    facts += [("attempt", shown["attempt"])] if shown["attempt"] > 1 else []
    facts += [("value", compact(shown["value"]))] if shown["value"] is not None else []
    facts += [("why", clean(shown["reason"]))] if shown["reason"] else []
    facts += [("way out", way_out(shown))] if shown["exit"] else []
    facts += [("error", (error_text(shown["error"]), "bad"))] if shown["error"] else []
    print_facts(facts)
    if len(shown["stack"]) > 1:
        click.echo()
        frames = [[frame["rule"], str(frame["line"] or ""), frame["run"], frame["name"]] for frame in shown["stack"]]
        print_table(("CALLED BY, OUTERMOST FIRST", "LINE", "RUN", "TASK"), frames)
    if entries:
        click.echo()
        print_table(
            ("SEQ", "LINE", "STATE", "TOOK", "ARGUMENTS", "RESULT OR REASON"), [_row(entry) for entry in entries]
        )
    if shown["error"] and shown["error"].get("trace"):
        click.echo()
        print_lines([(clean(line), "bad")] for line in str(shown["error"]["trace"]).splitlines())


def _row(entry: EntryJson) -> list[str | Piece]:
    arguments = {name: value for name, value in entry["args"].items() if value not in (None, {}, [], 0, False)}
    state, style = state_piece(entry["state"])
    if entry["error"]:
        result: Piece = (error_text(entry["error"]), "bad")
    elif isinstance(entry["result"], dict) and "exit_code" in entry["result"]:
        end = entry["result"]
        result = (f"exit {end['exit_code']} {compact(end['output'], 60) if end.get('output') is not None else ''}", "")
    elif entry["reason"] and not entry["ended"]:
        result = (clean(entry["reason"]), "dim")
    else:
        result = ("" if entry["result"] is None else compact(entry["result"], 200), "")
    return [
        str(entry["seq"]),
        str(entry["line"]),
        (state, style),
        duration_between(entry["started"], entry["ended"]) if entry["ended"] else "",
        f"{entry['name']} {compact(arguments, 200)}",
        result,
    ]


@click.command("logs")
@click.argument("run", callback=check_run_id)
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended; with --json one object a line.")
@json_option
def logs_command(run: str, follow: bool, as_json: bool) -> None:
    """Print the log of a run and the output of its executions."""
    client = make_client()
    if follow:
        from scriptrules.cli.following import follow as following

        for line in following(client, run):
            if as_json:
                click.echo(json_text(line))
            else:
                print_lines([_log_line(line)])
        return
    lines = sorted(client.logs(run, follow=False), key=lambda line: line["at"])
    if as_json:
        print_json({"items": lines, "next": None})
    else:
        print_lines(_log_line(line) for line in lines)


def _log_line(line: LogJson) -> list[Piece]:
    fields = " ".join(f"{name}={compact(value)}" for name, value in (line["fields"] or {}).items())
    stream = "" if line["stream"] == "log" else f"{line['stream']}[{line['seq']}] "
    return [
        (f"{line['at'][11:23]} ", "dim"),
        (stream, "held" if line["stream"] == "stderr" else "busy"),
        (clean(line["text"]), ""),
        (f"  {fields}" if fields else "", "dim"),
    ]
