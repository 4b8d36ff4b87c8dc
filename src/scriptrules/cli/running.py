"""`scriptrules run`: everything in one process, for as long as one task and what follows from it takes.

A run that waits for somebody ends the command too, because its store in memory ends with it: it says what would have
let it go on.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import click

from scriptrules import clock
from scriptrules.cli import tree as trees
from scriptrules.cli.common import (
    clean,
    compact,
    hint_at_texts,
    installation,
    json_option,
    load_plugins,
    overrides,
    read_data,
    say,
)
from scriptrules.cli.live import TreeView, pause_after

if TYPE_CHECKING:
    from scriptrules.client import Json, TreeJson
    from scriptrules.config import Config
    from scriptrules.supervisor.supervisor import Supervisor

MEMORY = "memory:"
LINES = 1000  # of a run's log that are shown
WATCH_INTERVAL = 0.01  # seconds between two looks at whether anything was committed


@click.command("run")
@click.argument("name")
@click.argument("fields", nargs=-1, metavar="[k=v | k:=JSON]...")
@click.option("--data", metavar="JSON", help="All of the data as a JSON object; - reads standard input.")
@installation
@json_option
def run_command(
    name: str,
    fields: tuple[str, ...],
    data: str | None,
    rules: str | None,
    plugins: str | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Execute a task and all that follows in this process, without a server.

    The store is in memory unless --store names one. What rules print and log goes to standard error. Exit status 1 if
    any task failed or is held.
    """
    from scriptrules import config

    settings = config.load(None, overrides(rules, plugins, store or MEMORY))
    task = read_data(fields, data)
    tree, good = asyncio.run(_run(settings, name, task, as_json))
    held = list(trees.held_in(tree))
    for what in held:
        say(f"scriptrules: held: {what}")
    if held and settings.store.url == MEMORY:
        say("scriptrules: What is held here ends with this command; `scriptrules serve`, or --store, would keep it.")
    if not good:
        hint_at_texts(fields)
        click.get_current_context().exit(1)


async def _run(settings: Config, name: str, data: dict[str, Any], as_json: bool) -> tuple[TreeJson, bool]:
    """Execute a task; returns the tree of it, and whether all of it came to a good end."""
    from scriptrules import intake
    from scriptrules.errors import nearest
    from scriptrules.store.make import make_store
    from scriptrules.supervisor.supervisor import Supervisor

    task = intake.check(name, data, None, settings.sandbox.payload_max, settings.sandbox.depth_max)
    plugins = load_plugins(settings, quiet=False)
    _log_problems_only()
    supervisor = Supervisor(settings, make_store(settings), plugins, watch=False)
    await supervisor.start()
    try:
        for info in supervisor.rules.infos():
            for problem in info.problems:
                say(problem)
        (ingested,) = await supervisor.ingest([task])
        with TreeView(as_json) as view:
            tree = await _watch(supervisor, ingested.id, view)
        for line in await _logged(supervisor, tree):
            say(line)
        if tree["task"]["state"] == "unmatched":
            names = {on for info in supervisor.rules.infos() if info.metadata for on in info.metadata.on}
            say(f"scriptrules: no rule matches {name}{nearest(name, names - {name})}")
        bad = await _any(supervisor, ingested.id, "failed", "cancelled", "held")
        return tree, not bad and trees.outlook(tree) == "ended"
    finally:
        await supervisor.close()


async def _logged(supervisor: Supervisor, tree: TreeJson) -> list[str]:
    """What the rules of a tree have printed and logged, in order: their log may end with this command."""
    from scriptrules.supervisor.shapes import logs_of

    found: list[tuple[str, str]] = []
    for run in trees.runs_of(tree):
        for line in (await logs_of(supervisor.store, run["id"], 0, LINES))[0]:
            fields: dict[str, Json] = json.loads(bytes(line.fields)) or {}
            said = [clean(line.text), *(f"{name}={compact(value)}" for name, value in fields.items())]
            found.append((line.at, f"{run['rule']}: {'  '.join(said)}"))
    return [text for _, text in sorted(found, key=itemgetter(0))]


async def _watch(supervisor: Supervisor, id: str, view: TreeView) -> TreeJson:
    """Show the tree until it cannot go on by itself."""
    seen, soonest, latest = -1, 0.0, 0.0  # the next look comes with the next commit, between these times
    while True:
        await asyncio.sleep(WATCH_INTERVAL)
        now = clock.monotonic()
        if now < soonest or (now < latest and supervisor.commits == seen):
            continue
        seen = supervisor.commits
        if view.live or not await _goes_on(supervisor, id):
            tree = await _tree(supervisor, id)
            view.update(tree)
            outlook = trees.outlook(tree)
            if outlook == "held" or (outlook == "ended" and not await _any(supervisor, id, "new", "running")):
                return tree
        done = clock.monotonic()
        soonest, latest = done + 4 * (done - now), done + pause_after(done - now)


async def _goes_on(supervisor: Supervisor, root: str) -> bool:
    """Whether a tree certainly goes on by itself, found out without looking at all of it."""
    from scriptrules.store.protocol import Filter

    if await _any(supervisor, root, "new"):
        return True
    held = await _any(supervisor, root, "held") or await supervisor.store.runs(Filter(state="held", limit=1))
    return not held and await _any(supervisor, root, "running")


async def _any(supervisor: Supervisor, root: str, *states: str) -> bool:
    """Whether a task of the tree is in one of these states; the tree that is shown may be cut off."""
    from scriptrules.store.protocol import Filter

    return any([await supervisor.store.tasks(Filter(root=root, state=state, limit=1)) for state in states])


async def _tree(supervisor: Supervisor, id: str) -> TreeJson:
    import msgspec

    from scriptrules.supervisor.shapes import tree_of

    task = await supervisor.store.task(id)
    assert task is not None
    tree: TreeJson = msgspec.json.decode(msgspec.json.encode(await tree_of(supervisor.store, task)))
    return tree


def _log_problems_only() -> None:
    """Broken rules are printed as people read them, so they need no line in the log."""
    import structlog

    from scriptrules import log

    def drop_broken_rules(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if event.get("event") == "rule.broken":
            raise structlog.DropEvent
        return event

    log.configure("error")
    structlog.configure(processors=[drop_broken_rules, *structlog.get_config()["processors"]])
