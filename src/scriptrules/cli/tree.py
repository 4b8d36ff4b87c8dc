"""The tree of a task for people: the task, its runs, what each did entry by entry, and the tasks that followed.

It is made from the JSON of ``GET /api/tasks/ID/tree`` alone, so that `run`, `send --wait`, `task --tree` and the demo
show the same.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from scriptrules.cli.common import (
    STATES,
    Piece,
    clean,
    compact,
    duration_between,
    duration_text,
    error_text,
    reason_text,
    shorten,
    way_out,
)

if TYPE_CHECKING:
    from scriptrules.client import BranchJson, EntryJson, RunJson, TaskJson, TreeJson

Line = list[Piece]

TASK_FINAL = ("done", "failed", "unmatched", "dropped", "cancelled")
RUN_FINAL = ("done", "failed", "cancelled")
ENTRY_FINAL = ("done", "failed", "cancelled")
GENERATES = ("emit", "return", "call")
_SPACE, _PIPE, _TEE, _ELBOW = "   ", "│  ", "├─ ", "└─ "
ERROR_WIDTH = 70  # columns that the text of an error is wrapped to
_SHOWN = 12  # entries of a run that generate nothing, of which the rest is counted only


# ---- what the state of a tree means


def outlook(tree: TreeJson) -> str:
    """Whether a tree goes on by itself: "active"; "held": somebody has to act; "ended": everything in it has."""
    states = list(_outlooks(tree))
    return "active" if "active" in states else "held" if "held" in states else "ended"


def _outlooks(tree: TreeJson) -> Iterator[str]:
    task = tree["task"]
    if task["state"] == "new":
        yield "active"
    elif task["state"] == "held":
        yield "held"
    elif task["state"] == "running" and not any(branch["run"]["state"] not in RUN_FINAL for branch in tree["runs"]):
        yield "active"  # its last run has ended, and that it has is about to be written
    for branch in tree["runs"]:
        yield _outlook_of_run(branch)
        for child in branch["tasks"]:
            yield from _outlooks(child)


def _outlook_of_run(branch: BranchJson) -> str:
    run, entries = branch["run"], branch["entries"]
    if run["state"] in RUN_FINAL:
        return "ended"
    if run["state"] == "held":
        return "held"
    open_entries = [entry for entry in entries if entry["state"] not in ENTRY_FINAL]
    if run["state"] != "waiting" or not open_entries:
        return "active"
    ended = {child["task"]["id"]: child["task"]["state"] in TASK_FINAL for child in branch["tasks"]}
    return "held" if all(_waits_for_tasks(entry, entries, ended) for entry in open_entries) else "active"


def _waits_for_tasks(entry: EntryJson, entries: list[EntryJson], ended: dict[str, bool]) -> bool:
    """Whether all that an entry waits for is tasks that have not ended."""
    if entry["name"] == "call":
        targets = [entry]
    elif entry["name"] == "wait" and entry["args"]["timeout"] is None:
        targets = [entries[seq - 1] for seq in entry["args"]["what"]]
    else:
        return False
    waiting = [not ended.get(_child_of(target) or "", False) for target in targets if target["name"] in GENERATES]
    return len(waiting) == len(targets) and (all(waiting) if entry["args"].get("any") else any(waiting))


def tasks_of(tree: TreeJson) -> Iterator[TaskJson]:
    """Every task of a tree, parents first."""
    yield tree["task"]
    for branch in tree["runs"]:
        for child in branch["tasks"]:
            yield from tasks_of(child)


def runs_of(tree: TreeJson) -> Iterator[RunJson]:
    """Every run of a tree, parents first."""
    for branch in tree["runs"]:
        yield branch["run"]
        for child in branch["tasks"]:
            yield from runs_of(child)


def held_in(tree: TreeJson) -> Iterator[str]:
    """A sentence for each thing that is held: what, why, and the way out."""
    if tree["task"]["state"] == "held":
        yield f"task {tree['task']['name']}: {reason_text(tree['task'])}. Way out: {way_out(tree['task'])}"
    for branch in tree["runs"]:
        if branch["run"]["state"] == "held":
            run = branch["run"]
            yield f"run {run['rule']}: {reason_text(run)}. Way out: {way_out(run)}"
        for child in branch["tasks"]:
            yield from held_in(child)


# ---- how it looks


def lines_of(tree: TreeJson, width: int) -> list[Line]:
    """A tree as lines of styled pieces, at most `width` columns each."""
    return [_cut(line, width) for line in _task_lines(tree)]


def _task_lines(tree: TreeJson) -> Iterator[Line]:
    task = tree["task"]
    symbol, style = STATES.get(task["state"], ("?", ""))
    line: Line = [(f"{symbol} ", style), (task["name"], "bold")]
    as_expected = task["state"] in ("done", "running")
    if task["data"]:
        line.append((f" {compact(task['data'], 200 if as_expected else 48)}", "dim"))
    if not as_expected:
        line.append((f"  {task['state']}", style))
    if task["reason"]:
        line.append((f": {clean(task['reason'])}", style))
    yield line
    for at, branch in enumerate(tree["runs"]):
        yield from _nested(_branch_lines(branch), at == len(tree["runs"]) - 1)


def _branch_lines(branch: BranchJson) -> Iterator[Line]:
    run, entries = branch["run"], branch["entries"]
    symbol, style = STATES.get(run["state"], ("?", ""))
    line: Line = [(f"{symbol} ", style), ("rule ", "dim"), (run["rule"], "")]
    line.append((f"  {duration_between(run['created'], run['ended'])}", "dim"))
    if run["attempt"] > 1:
        line.append((f"  attempt {run['attempt']}", "dim"))
    if run["value"] is not None:
        line += [("  → ", "dim"), (compact(run["value"], 40), "")]
    if run["state"] not in ("done", "running"):
        line.append((f"  {run['state']}", style))
    if run["reason"]:
        line.append((f": {clean(run['reason'])}", style))
    yield line
    children = _children_by_entry(branch)
    shown = _worth_showing(entries, children)
    blocks: list[Iterator[Line]] = [_entry_lines(entry, entries, children.pop(entry["seq"], None)) for entry in shown]
    if len(shown) < len(entries):
        blocks.append(iter([[(f"… {len(entries) - len(shown)} more entries", "dim")]]))
    blocks += [_task_lines(child) for child in children.values()]
    if run["error"]:
        why = textwrap.wrap(error_text(run["error"]), ERROR_WIDTH, break_on_hyphens=False)
        blocks.append(iter([[(text, "bad")] for text in why]))
    for at, block in enumerate(blocks):
        yield from _nested(block, at == len(blocks) - 1)


def _worth_showing(entries: list[EntryJson], children: dict[int, TreeJson]) -> list[EntryJson]:
    """All entries where they are few; otherwise the first, and whatever has generated a task or is not done."""
    if len(entries) <= 2 * _SHOWN:
        return entries
    return [
        entry for at, entry in enumerate(entries) if at < _SHOWN or entry["seq"] in children or entry["state"] != "done"
    ]


def _children_by_entry(branch: BranchJson) -> dict[int, TreeJson]:
    """The generated tasks by the entry that generated them; those of earlier attempts have negative numbers.

    The result of an ended call is its value and not the task any more, so calls are told by order and name.
    """
    left = {child["task"]["id"]: child for child in branch["tasks"]}
    found: dict[int, TreeJson] = {}
    for entry in branch["entries"]:
        child = left.pop(_child_of(entry) or "", None)
        if child is not None:
            found[entry["seq"]] = child
    for entry in branch["entries"]:
        if entry["name"] == "call" and entry["seq"] not in found:
            same = [id for id, child in left.items() if child["task"]["name"] == entry["args"]["name"]]
            if same:
                found[entry["seq"]] = left.pop(same[0])
    for at, child in enumerate(left.values(), 1):
        found[-at] = child
    return found


def _child_of(entry: EntryJson) -> str | None:
    """The id of the task that an entry has generated, as far as its result still says so."""
    if entry["name"] not in GENERATES or not isinstance(entry["result"], dict):
        return None
    id = entry["result"].get("task")
    return id if isinstance(id, str) else None


def _entry_lines(entry: EntryJson, entries: list[EntryJson], child: TreeJson | None) -> Iterator[Line]:
    """An entry, and below it the task that it has generated."""
    if child is not None and entry["name"] in ("emit", "return"):
        first, *rest = _task_lines(child)
        yield [(f"{'emit' if entry['name'] == 'emit' else 'generate'} ", "dim"), *first]
        yield from rest
        return
    symbol, style = STATES.get(entry["state"], ("?", ""))
    yield [(f"{symbol} ", style), *describe(entry, entries)]
    if child is not None:
        yield from _nested(_task_lines(child), True)


def _argument(argument: Any) -> str:
    """An argument of `run()`; a secret is an object that names it."""
    return argument if isinstance(argument, str) else "[secret]"


def describe(entry: EntryJson, entries: list[EntryJson]) -> Line:
    """What an entry did, and what came of it."""
    args: dict[str, Any] = entry["args"]
    ended, took = entry["ended"], duration_between(entry["started"], entry["ended"])
    match entry["name"]:
        case "run":
            line: Line = [
                ("run ", "dim"),
                (clean(" ".join([args["host"], args["image"], *map(_argument, args["args"])])), ""),
            ]
            line = [line[0], (shorten(line[1][0], 60), "")]
            if args["name"] != args["image"]:
                line.append((f" ({clean(args['name'])})", "dim"))
            line += _execution_end(entry, took)
        case "wait":
            names = [_name_of(entries[seq - 1]) for seq in args["what"] if seq <= len(entries)]
            line = [("wait ", "dim"), (shorten(clean(", ".join(names)), 50), ""), (f"  {took}", "dim")]
        case "sleep":
            line = [("sleep ", "dim"), (duration_text(args["seconds"]), "")]
        case "sleep_until":
            line = [("sleep until ", "dim"), (clean(str(args["time"])), "")]
        case "receive":
            line = [("receive ", "dim"), (shorten(clean(", ".join(args["on"])), 40), "")]
            line += [(f" {compact(args['match'], 40)}", "dim")] if args["match"] else []
            line += [(" → ", "dim"), (clean(str(entry["result"].get("id"))), "")] if entry["state"] == "done" else []
            line.append((f"  {took}", "dim"))
        case "emit" | "return":
            line = [("emit ", "dim"), (clean(str(args["name"])), "")]
        case "call":
            line = [("call ", "dim"), (clean(str(args["name"])), "")]
            line += [(" → ", "dim"), (compact(entry["result"], 40), "")] if entry["state"] == "done" else []
            line.append((f"  {took}", "dim"))
        case "hold":
            line = [("hold ", "dim"), (clean(str(args["reason"])), "held")]
        case name:
            line = [(name, ""), (f" {compact(args, 40)}", "dim")]
            line += [(" → ", "dim"), (compact(entry["result"], 40), "")] if ended and not entry["error"] else []
            line.append((f"  {took}", "dim"))
    if entry["attempt"] > 1:
        line.append((f"  attempt {entry['attempt']}", "held"))
    if entry["error"]:
        line.append((f"  {error_text(entry['error'])}", "bad"))
    return line


def _execution_end(entry: EntryJson, took: str) -> Line:
    if not entry["ended"]:
        return [(f"  {entry['state']} {took}", "busy")]
    result = entry["result"] if isinstance(entry["result"], dict) else {}
    code = result.get("exit_code")
    style = "good" if code == 0 else "bad"
    end = f"exit {code}" if code is not None else clean(str(result.get("reason") or entry["state"]))
    line: Line = [(" → ", "dim"), (end, style), (f"  {took}", "dim")]
    verdict = entry["verdict"] or result.get("verdict")
    if verdict:
        line.append((f"  {verdict}", "dim" if verdict == "once" else "held"))
    return line


def _name_of(entry: EntryJson) -> str:
    return str(entry["args"].get("name") or entry["name"])


def _nested(lines: Iterator[Line], last: bool) -> Iterator[Line]:
    for at, line in enumerate(lines):
        edge = (_ELBOW if last else _TEE) if at == 0 else (_SPACE if last else _PIPE)
        yield [(edge, "dim"), *line]


def _cut(line: Line, width: int) -> Line:
    left = width
    cut: Line = []
    for text, style in line:
        if len(text) > left:
            cut.append((shorten(text, left), style))
            break
        cut.append((text, style))
        left -= len(text)
    return cut
