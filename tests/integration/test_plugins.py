"""Plugins in `plugins/`: functions that rules call, observers, and what becomes of broken ones."""

from __future__ import annotations

import json
from pathlib import Path

from serving import Server, eventually, project

GOOD = '''
import asyncio, json, os
from scriptrules import function, hookimpl

RECORD = {record!r}

@function(retries=2)
async def flaky(name: str, fails: int = 0, key: str = "") -> dict:
    """Fails as often as it is told to, then answers."""
    with open(RECORD, "a") as file:
        file.write(key + "\\n")
    attempt = int(key.rsplit("-", 1)[1])
    if attempt <= fails:
        raise ValueError(f"not yet, {{name}}")
    return {{"name": name, "attempt": attempt}}

@function(blocks=False)
async def later(n, *more, scale=2, **rest):
    await asyncio.sleep(0.05)
    return [n * scale, list(more), rest]

@function(timeout=0.2)
async def slow():
    await asyncio.sleep(60)

@function
async def rubbish():
    return object()

@hookimpl
def scriptrules_functions():
    return [flaky, later, slow, rubbish]

@hookimpl
def scriptrules_run_changed(run):
    with open(RECORD + ".runs", "a") as file:
        file.write(json.dumps([run.rule, str(run.state)]) + "\\n")

@hookimpl
def scriptrules_task_changed(task):
    raise RuntimeError("an observer that is broken")
'''


def install(server: Server) -> Path:
    record = server.folder / "record"
    record.touch()
    (server.folder / "plugins").mkdir()
    (server.folder / "plugins" / "good.py").write_text(GOOD.format(record=str(record)))
    return record


def value_of(server: Server, name: str, body: str) -> object:
    """What a rule with this body returns."""
    server.drop_in(
        **{name: f'on = "{name}"\ndef main(**k):\n' + "".join(f"    {line}\n" for line in body.splitlines())}
    )
    task = server.send(name)
    server.wait_task(task)
    run = server.run_of(task)
    return run["value"] if run["state"] == "done" else run["error"]["message"]


def test_functions_of_plugins_are_entries_with_retries_timeouts_and_names_in_errors() -> None:
    with project() as server:
        record = install(server)
        server.config("")
        server.start()
        assert value_of(server, "plain", 'return flaky("a")') == {"name": "a", "attempt": 1}
        assert value_of(server, "again", 'return flaky(name="b", fails=1)') == {"name": "b", "attempt": 2}
        assert value_of(server, "never", 'return flaky("c", fails=9)') == "flaky(): not yet, c"
        caught = 'try:\n    return flaky("d", fails=9)\nexcept ValueError as error:\n    return "caught " + str(error)'
        assert value_of(server, "caught", caught) == "caught flaky(): not yet, d"
        assert value_of(server, "slowly", "return slow()") == "slow() did not answer within 0.2 s"
        assert "rubbish()" in str(value_of(server, "odd", "return rubbish()"))
        assert "missing 1 required positional argument" in str(value_of(server, "wrong", "return flaky()"))
        handles = "a, b = later(1), later(2, 3, scale=5, x=1)\nreturn [r.value for r in wait(a, b)]"
        assert value_of(server, "handles", handles) == [[2, [], {}], [10, [3], {"x": 1}]]
        keys = [line for line in record.read_text().split() if line]
        assert len(keys) == len(set(keys)), "an attempt was made twice"
        runs = [json.loads(line) for line in Path(f"{record}.runs").read_text().splitlines()]
        assert ["plain", "done"] in runs
        assert ["never", "failed"] in runs
        failures = [event for event in server.events() if event.get("event") == "plugin.observer_failed"]
        assert failures
        assert failures[0]["hook"] == "scriptrules_task_changed"


def test_a_function_that_was_under_way_at_a_kill_is_called_again_with_the_same_key() -> None:
    with project() as server:
        record = install(server)
        text = (server.folder / "plugins" / "good.py").read_text()
        (server.folder / "plugins" / "good.py").write_text(
            text.replace("    attempt = int", "    await asyncio.sleep(1.0)\n    attempt = int")
        )
        server.config("")
        server.rule("asks", 'on = "asks"\ndef main(**k): return flaky("e")\n')
        server.start()
        task = server.send("asks")
        eventually(record.read_text, "the function is called")
        server.kill()
        server.start()
        assert server.wait_task(task)["state"] == "done"
        first, *others = record.read_text().split()
        assert set(others) == {first}


def test_a_broken_plugin_is_named_and_the_others_are_there() -> None:
    with project() as server:
        install(server)
        (server.folder / "plugins" / "broken.py").write_text("import nothing_of_that_name\n")
        (server.folder / "plugins" / "clash.py").write_text(
            "from scriptrules import function, hookimpl\n@function\nasync def emit(): return 1\n"
            "@hookimpl\ndef scriptrules_functions(): return [emit]\n"
        )
        server.config("")
        server.start()
        broken = {event["plugin"]: event for event in server.events() if event.get("event") == "plugin.broken"}
        assert set(broken) == {"broken", "clash"}
        assert "nothing_of_that_name" in broken["broken"]["problem"]
        assert broken["broken"]["where"].endswith("broken.py:1")
        assert "emit" in broken["clash"]["problem"]
        assert value_of(server, "plain", 'return flaky("a")["name"]') == "a"
