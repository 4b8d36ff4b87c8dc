"""Sources of tasks by plugin: told of after the commit, begun again when they fail, ended in order."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

from serving import PATIENCE, Server, eventually, project

FOLDER = Path(__file__).parent.parent.parent / "plugins" / "folder.py"
INBOX = '[sources.inbox]\nsource = "folder"\nsettle = 0.05\n'
MOODS = '''
import asyncio
from pathlib import Path
from scriptrules import hookimpl
from scriptrules.errors import BadTask, KeyConflict

async def counting(table, context):
    """Begins again where the last acknowledged number stands."""
    context.state_dir.mkdir(parents=True, exist_ok=True)
    file = context.state_dir / "acknowledged"
    number = int(file.read_text()) if file.exists() else 0
    while number < table["upto"]:
        number += 1
        ids = yield [{"name": "counted", "data": {"n": number, "half": half}, "key": f"{context.name}/{number}/{half}"}
                     for half in (1, 2)]
        assert len(ids) == 2
        if number % 3 == 0 and table.get("fails"):
            raise RuntimeError(f"number {number} is too much")
        file.write_text(str(number))

async def wrong(table, context):
    told = []
    same = [{"name": "told", "key": "k", "data": {"n": n}} for n in (1, 2)]
    for task in ({"name": "not a name"}, "nonsense", {"name": "a", "date": 1}, *same):
        try:
            yield task
        except (BadTask, KeyConflict) as error:
            told.append(type(error).__name__)
    yield {"name": "report", "data": {"told": told}}

async def stubborn(table, context):
    while True:
        try:
            await asyncio.sleep(3600)
        finally:
            Path(context.base_dir, "ended").touch()
    yield {}

@hookimpl
def scriptrules_task_sources():
    return {"counting": counting, "wrong": wrong, "stubborn": stubborn}
'''


def install(server: Server, settings: str) -> None:
    plugins = server.folder / "plugins"
    plugins.mkdir(exist_ok=True)
    shutil.copy(FOLDER, plugins)
    (plugins / "moods.py").write_text(MOODS)
    server.config(settings)


def sources(server: Server) -> dict[str, dict[str, Any]]:
    return {source["name"]: source for source in server.get("/api/sources")["items"]}


def test_each_file_that_arrives_is_one_task_through_kills_and_restarts() -> None:
    with project() as server:
        install(server, INBOX)
        server.rule("take", 'on = "file.arrived"\ndef main(path, name, size): return [path, name, size]\n')
        server.start()
        inbox = server.folder / "inbox"
        for number in range(40):
            (inbox / f"{number}.csv").write_text("x" * number)
            if number % 10 == 5:
                time.sleep(0.15)
                server.kill()
                server.start()
        (inbox / "half.part").write_text("somebody writes it")
        eventually(lambda: sorted(file.name for file in inbox.iterdir()) == ["half.part", "taken"], "all are taken")
        eventually(lambda: "new" not in server.get("/api/counts")["tasks"], "all ran")
        tasks = server.all("tasks", name="file.arrived")
        assert Counter(task["data"]["name"] for task in tasks) == {f"{number}.csv": 1 for number in range(40)}
        for task in tasks:
            assert Path(task["data"]["path"]).read_text() == "x" * task["data"]["size"]
        server.stop()
        server.start()
        (inbox / "again.csv").write_text("")
        eventually(lambda: len(server.all("tasks", name="file.arrived")) == 41, "the source goes on")
        assert sources(server)["inbox"]["state"] == "running"


def test_a_source_that_fails_is_named_begun_again_and_tells_of_each_thing_once() -> None:
    with project() as server:
        install(server, '[sources.tally]\nsource = "counting"\nupto = 4\nfails = true\n')
        server.start()
        shape = eventually(lambda: (one := sources(server)["tally"])["problem"] and one, "it has failed")
        assert shape["problem"] == "RuntimeError: number 3 is too much"
        failed = [event for event in server.events() if event["event"] == "source.failed"]
        assert (failed[0]["source"], failed[0]["again"]) == ("tally", 1.0)
        eventually(
            lambda: server.get("/api/counts")["flow"]["source_failed"] >= 2, "it is begun again, and fails again"
        )
        found = Counter(task["data"]["n"] for task in server.all("tasks", name="counted"))
        assert found == {1: 2, 2: 2, 3: 2}
        install(server, '[sources.tally]\nsource = "counting"\nupto = 4\n')
        server.kill()
        server.start()
        eventually(lambda: sources(server)["tally"]["state"] == "ended", "it ends")
        found = Counter(task["data"]["n"] for task in server.all("tasks", name="counted"))
        assert found == {1: 2, 2: 2, 3: 2, 4: 2}


def test_a_task_that_cannot_be_stored_is_raised_in_the_source_and_the_next_one_is_taken() -> None:
    with project() as server:
        install(server, '[sources.wrong]\nsource = "wrong"\n')
        server.start()
        (report,) = eventually(lambda: server.all("tasks", name="report"), "the source goes on")
        assert report["data"]["told"] == ["BadTask", "BadTask", "BadTask", "KeyConflict"]
        assert len(server.all("tasks")) == 2


def test_sources_end_in_order_and_a_wrong_table_keeps_the_server_from_starting() -> None:
    with project() as server:
        install(server, '[sources.idle]\nsource = "stubborn"\n')
        server.start()
        assert server.stop() == 0
        assert (server.folder / "ended").exists()
        for settings, says in (
            ('[sources.a]\nsource = "foldr"\n', "did you mean 'folder'?"),
            ('[sources.a]\npath = "x"\n', "needs source ="),
            ('[sources.a]\nsource = "folder"\nfolder = "x"\n', "unknown key 'folder'"),
        ):
            install(server, settings)
            server.start(wait=False)
            assert server.process is not None
            assert server.process.wait(PATIENCE) != 0
            server.process = None
            assert says in server.log.read_text()
