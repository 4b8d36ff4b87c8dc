"""`scriptrules tasks`, `task` and `held`."""

from __future__ import annotations

from typing import Any

import click

from scriptrules.cli import tree as trees
from scriptrules.cli.common import (
    Piece,
    age,
    check_task_id,
    clean,
    compact,
    duration_text,
    json_option,
    make_client,
    print_json,
    print_lines,
    print_table,
    read_since,
    reason_text,
    say,
    shorten,
    state_piece,
    way_out,
    width,
    wrap,
)
from scriptrules.client import NextJson

NEXT_SHOWN = 10  # tasks that are likely to follow
CONDITION_SHOWN = 40  # characters
ENDED = ("done", "failed", "cancelled")
STATES = ("new", "held", "running", "done", "failed", "unmatched", "dropped", "cancelled")


@click.command("tasks")
@click.option("--state", type=click.Choice(STATES), help="Only tasks in this state.")
@click.option("--name", help="Only tasks of this name.")
@click.option("--since", callback=read_since, metavar="TIME", help="Not older than 10m, 2h, 1d, or an RFC 3339 time.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True, help="At most so many.")
@json_option
def tasks_command(state: str | None, name: str | None, since: str | None, limit: int, as_json: bool) -> None:
    """List tasks, newest first."""
    tasks = make_client().tasks(limit, state=state, name=name, since=since)
    if as_json:
        print_json({"items": tasks, "next": tasks[-1]["id"] if len(tasks) == limit else None})
        return
    rows: list[list[str | Piece]] = [
        [
            task["id"],
            (task["name"], "bold"),
            state_piece(task["state"]),
            age(task["created"]),
            (task["reason"] or compact(task["data"], 200), "dim"),
        ]
        for task in tasks
    ]
    print_table(("ID", "NAME", "STATE", "AGE", "DATA OR REASON"), rows)


@click.command("task")
@click.argument("id", callback=check_task_id)
@click.option("--tree", is_flag=True, help="With its runs, their entries, and the tasks that follow.")
@json_option
def task_command(id: str, tree: bool, as_json: bool) -> None:
    """Show a task, or the tree of all that follows from it."""
    client = make_client()
    if tree:
        grown = client.tree(id)
        if as_json:
            print_json(grown)
        else:
            print_lines(trees.lines_of(grown, width()))
        return
    task = client.task(id)
    if as_json:
        print_json(task)
        return
    runs = client.runs(100, task=id)
    facts: list[tuple[str, Any]] = [
        ("task", task["name"]),
        ("id", task["id"]),
        ("state", state_piece(task["state"])),
        ("created", f"{task['created']} ({age(task['created'])} ago)"),
        ("data", compact(task["data"])),
    ]
    facts += [("why", reason_text(task))] if task["reason"] else []
    facts += [("way out", way_out(task))] if task["exit"] else []
    facts += [("key", task["key"])] if task["key"] else []
    facts += [("parent", task["parent"]), ("root", task["root"])] if task["parent"] else []
    facts += [("run", f"{run['id']}  {run['rule']}  {run['state']}") for run in reversed(runs)]
    if any(run["state"] not in ENDED for run in runs):
        facts += [("next", next_text(one)) for one in client.next(id)[:NEXT_SHOWN]]
    print_facts(facts)


def next_text(one: NextJson) -> str:
    """A task that is likely to follow: how likely, when, and by which rule."""
    parts = [f"{one['probability']:4.0%}", one["task"]]
    if one["remaining"] is not None:
        parts.append(f"in about {duration_text(one['remaining'])}")
    if one["condition"]:
        parts.append(f"if {shorten(one['condition'], CONDITION_SHOWN)}")
    return clean("  ".join([*parts, f"({one['rule']})"]))


@click.command("held")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many.")
@json_option
def held_command(limit: int, as_json: bool) -> None:
    """List what is held, and what lets it go on."""
    items: list[Any] = list(make_client().held(limit))
    if as_json:
        print_json({"items": items, "next": None})
        return
    if not items:
        say("Nothing is held.")
    for item in items:
        name = f"task {item['name']}" if "name" in item else f"run of {item['rule']}"
        print_lines([[(f"{item['id']}  ", ""), (name, "bold"), (f"  held for {age(item['since'])}", "dim")]])
        print_lines([(f"    {line}", "held")] for line in wrap(reason_text(item), 4))
        print_lines([(f"    {line}", "")] for line in wrap(f"way out: {way_out(item)}", 4))


def print_facts(facts: list[tuple[str, Any]]) -> None:
    """Names and values, one a line."""
    size = max(len(name) for name, _ in facts) + 2
    for name, value in facts:
        piece = value if isinstance(value, tuple) else (str(value), "")
        print_lines([[(name.ljust(size), "dim"), piece]])
