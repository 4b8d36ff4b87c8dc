"""Variables: where load() looks, what a slice sees of its own saves, and what replays see."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from serving import Problem, Server, eventually, project

PLUGINS = Path(__file__).parents[2] / "plugins"

SLOW = """
import asyncio
from pathlib import Path
from scriptrules import hookimpl
from scriptrules.plugins.variables import Found

class Slow:
    def __init__(self, folder): self.folder = folder
    async def find(self, name):
        if name == "broken":
            raise OSError("the wire is cut")
        if name == "odd":
            return Found(object())
        if name == "lagging":
            await asyncio.sleep(0.1)
            return Found("late")
        if name != "slow":
            return None
        (self.folder / "asked").open("a").write("1")
        while not (self.folder / "answer").exists():
            await asyncio.sleep(0.01)
        return Found((self.folder / "answer").read_text())
    def names(self): return ["slow"]
    async def close(self): pass

@hookimpl
def scriptrules_variable_sources():
    return {"slow": lambda table, context: Slow(context.base_dir)}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with project() as server:
        (server.folder / "plugins").mkdir()
        (server.folder / "plugins" / "slow.py").write_text(SLOW)
        (server.folder / "settings").mkdir()
        (server.folder / "settings" / "region").write_text("north\n")
        (server.folder / "settings" / "limits.json").write_text('{"rows": 3}')
        server.config(
            '[variables.files]\nsource = "files"\nfolder = "settings"\n[variables.slow]\nsource = "slow"\n'
            '[variables.env]\nsource = "environment"\nnames = {"home.dir" = "HOME", none = "NO_SUCH_VARIABLE"}\n'
        )
        server.start()
        yield server


def run_of(server: Server, name: str, main: str, **data: Any) -> dict[str, Any]:
    """The ended run of a rule whose `main` has this body."""
    body = "\n".join(f"    {line}" for line in main.strip().splitlines())
    server.drop_in(**{name: f'on = "{name}"\ndef main(**data):\n{body}\n'})
    task = server.send(name, **data)
    server.wait_task(task)
    return server.run_of(task)


def put(server: Server, name: str, value: Any, secret: bool = False) -> dict[str, Any]:
    body = json.dumps({"value": value, "secret": secret}).encode()
    return dict(server.request("PUT", f"/api/variables/{name}", body))


def test_the_tree_comes_before_the_store_and_the_store_before_sources(server: Server) -> None:
    seen = []
    seen.append(run_of(server, "order1", 'return load("region")')["value"])
    put(server, "region", "east")
    seen.append(run_of(server, "order2", 'return load("region")')["value"])
    seen.append(run_of(server, "order3", 'save("region", "south")\nsleep(0)\nreturn load("region")')["value"])
    seen.append(run_of(server, "order4", 'return load("region")')["value"])
    assert seen == ["north", "east", "south", "east"]
    server.request("DELETE", "/api/variables/region")
    assert run_of(server, "order5", 'return load("region")')["value"] == "north"


def test_a_task_s_data_is_no_configuration(server: Server) -> None:
    run = run_of(server, "override", 'return load("target", default="ours")', target="theirs")
    assert run["value"] == "ours"


def test_variables_flow_from_one_rule_to_those_that_follow_in_its_tree(server: Server) -> None:
    server.rule("child", 'on = "child"\ndef main(): return load("quarter", default=None)\n')
    main = 'save("quarter", {"of": 2026})\nreturn wait(emit("child")).value'
    assert run_of(server, "parent", main)["value"] == {"of": 2026}
    stranger = server.send("child")
    server.wait_task(stranger)
    assert server.run_of(stranger)["value"] is None


def test_a_slice_reads_what_it_has_saved_itself(server: Server) -> None:
    main = """
save("mine", 1)
first = load("mine")
save("mine", 2)
save("ours", "kept", scope="store")
both = [first, load("mine"), load("ours")]
sleep(0)
return [both, load("mine"), load("ours")]
"""
    assert run_of(server, "own", main)["value"] == [[1, 2, "kept"], 2, "kept"]
    kept = server.get("/api/variables/ours")
    assert (kept["value"], kept["secret"], kept["by"][0]) == ("kept", False, "r")


def test_what_a_failed_slice_has_saved_does_not_count(server: Server) -> None:
    main = 'save("lost", 1, scope="store")\nload("lost")\nraise ValueError("no")'
    run = run_of(server, "loses", main)
    assert run["state"] == "failed"
    assert server.entries(run["id"]) == []
    with pytest.raises(Problem, match="SR820"):
        server.get("/api/variables/lost")


def test_a_slice_that_loads_is_one_commit_and_one_record(server: Server) -> None:
    main = 'emit("x")\na = load("limits")\nemit("y")\nb = load("home.dir")\nreturn [a, b, now() == now()]'
    run = run_of(server, "once", main)
    entries = server.entries(run["id"])
    assert [entry["name"] for entry in entries] == ["emit", "load", "emit", "load"]
    assert len({entry["started"] for entry in entries}) == 1
    assert run["value"][0] == entries[1]["result"] == {"rows": 3}


def test_an_unknown_variable_names_the_nearest_and_says_how_to_set_it(server: Server) -> None:
    put(server, "warehouse", 1)
    run = run_of(server, "typo", 'return load("warehous")')
    assert run["error"]["type"] == "LookupError"
    assert "did you mean 'warehouse'?" in run["error"]["message"]
    assert "`scriptrules var set warehous VALUE`" in run["error"]["message"]
    assert run_of(server, "absent", 'return load("none", default=[1])')["value"] == [1]


def test_a_caught_error_of_a_load_is_replayed_as_it_was(server: Server) -> None:
    main = """
try:
    load("later")
except LookupError as error:
    log(str(error))
hold("look")
return load("later")
"""
    body = "\n".join(f"    {line}" for line in main.strip().splitlines())
    server.drop_in(caught=f'on = "caught"\ndef main():\n{body}\n')
    task = server.send("caught")
    run = eventually(lambda: server.all("runs", task=task, state="held"), "it is held")[0]
    assert [entry["state"] for entry in server.entries(run["id"])] == ["failed", "pending"]
    put(server, "later", 5)
    kill_workers(server)
    server.request("POST", f"/api/runs/{run['id']}/resume", b"{}")
    server.wait_task(task)
    assert server.run_of(task)["value"] == 5


def kill_workers(server: Server) -> None:
    for worker in server.worker_pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)


@pytest.mark.parametrize("how", ["answer", "kill the workers", "kill the server", "cancel"])
def test_a_run_that_waits_for_a_source_survives_everything(how: str) -> None:
    with project() as server:
        (server.folder / "plugins").mkdir()
        (server.folder / "plugins" / "slow.py").write_text(SLOW)
        server.config('[variables.slow]\nsource = "slow"\n')
        server.rule("r", 'on = "r"\ndef main():\n    emit("before")\n    v = load("slow")\n    emit("after", v=v)\n')
        server.start()
        task = server.send("r")
        asked = server.folder / "asked"
        eventually(asked.exists, "the source is asked")
        (run,) = eventually(lambda: server.all("runs", task=task), "the match is committed")
        assert server.entries(run["id"]) == []  # nothing of the slice is
        assert server.all("tasks", name="before") == []
        if how == "kill the workers":
            kill_workers(server)
        elif how == "kill the server":
            server.kill()
            server.start()
            eventually(lambda: len(asked.read_text()) > 1, "it is asked again")
        elif how == "cancel":
            server.request("POST", f"/api/tasks/{task}/cancel", b"{}")
        (server.folder / "answer").write_text("here")
        state = server.wait_task(task)["state"]
        if how == "cancel":
            assert state == "cancelled"
            assert server.all("tasks", name="before") == []
        else:
            assert state == "done"
            assert len(server.all("tasks", name="before")) == 1
            assert [one["data"] for one in server.all("tasks", name="after")] == [{"v": "here"}]


def test_runs_that_are_evicted_while_they_wait_for_a_source_are_executed_again() -> None:
    with project() as server:
        (server.folder / "plugins").mkdir()
        (server.folder / "plugins" / "slow.py").write_text(SLOW)
        server.config('[sandbox]\nwarm_runs = 1\nworkers = 1\n[variables.slow]\nsource = "slow"\n')
        server.rule("r", 'on = "r"\ndef main(n):\n    emit("x", n=n)\n    return [n, load("slow")]\n')
        server.start()
        tasks = server.send_many([{"name": "r", "data": {"n": n}} for n in range(20)])
        asked = server.folder / "asked"
        eventually(lambda: asked.exists() and len(asked.read_text()) >= 20, "all are asked")
        (server.folder / "answer").write_text("late")
        assert [server.wait_task(task)["state"] for task in tasks] == ["done"] * 20
        assert [server.run_of(task)["value"] for task in tasks] == [[n, "late"] for n in range(20)]
        assert len(server.all("tasks", name="x")) == 20


def test_runs_that_evict_one_another_while_a_source_is_slow_all_come_to_an_end() -> None:
    """What one execution of a slice was told is kept for the next, so none asks for ever."""
    with project() as server:
        (server.folder / "plugins").mkdir()
        (server.folder / "plugins" / "slow.py").write_text(SLOW)
        server.config('[sandbox]\nwarm_runs = 1\nworkers = 1\n[variables.slow]\nsource = "slow"\n')
        server.rule("r", 'on = "r"\ndef main():\n    return [load("lagging"), load("lagging"), load("lagging")]\n')
        server.start()
        tasks = server.send_many([{"name": "r"}] * 30)
        assert [server.wait_task(task)["state"] for task in tasks] == ["done"] * 30


def test_a_source_that_fails_fails_the_load_with_its_name(server: Server) -> None:
    run = run_of(server, "breaks", 'return load("broken", default=1)')
    assert run["error"]["type"] == "RuntimeError"
    assert "[variables.slow] failed: the wire is cut" in run["error"]["message"]
    assert "[variables.slow] failed" in run_of(server, "odd", 'return load("odd")')["error"]["message"]


def test_names_and_scopes_are_checked_in_the_script(server: Server) -> None:
    for number, line in enumerate(['load("a b")', "load(3)", 'save("x..y", 1)', 'save("x", 1, scope="all")']):
        run = run_of(server, f"wrong{number}", line)
        assert run["state"] == "failed"
        assert run["error"]["type"] in ("ValueError", "TypeError")


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("a b", {"value": 1}, 400),
        ("big", {"value": "x" * 300_000}, 413),
        ("s", {"value": 1, "secret": True}, 400),
        ("s", {"value": "", "secret": True}, 400),
        ("s", {"val": 1}, 400),
        ("s", {"value": 10**400}, 400),
    ],
)
def test_what_cannot_be_a_variable_is_refused(server: Server, name: str, body: Any, status: int) -> None:
    with pytest.raises(Problem) as caught:
        server.request("PUT", f"/api/variables/{name.replace(' ', '%20')}", json.dumps(body).encode())
    assert caught.value.status == status


def test_a_secret_does_not_become_readable_by_mistake(server: Server) -> None:
    put(server, "hidden", "xk-12345678", secret=True)
    with pytest.raises(Problem, match="409"):
        put(server, "hidden", "plain")
    assert put(server, "hidden", "xk-87654321", secret=True)["version"] == 2
    assert server.get("/api/variables/hidden")["value"] is None


# ---- a source that is a server


@contextmanager
def vault(kept: dict[str, dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """A server that speaks as Vault's KV version 2 does; gives its address and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            path = self.path.removeprefix("/v1/secret/data/")
            status, body = (200, {"data": {"data": kept[path]}}) if path in kept else (404, {"errors": []})
            if self.headers["X-Vault-Token"] != "the-token":
                status, body = 403, {"errors": ["permission denied"]}
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: Any) -> None:
            return

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}", asked
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def test_the_example_plugin_loads_secrets_from_a_server_once_a_version() -> None:
    kept = {"db/main": {"password": "pw-first-one"}, "scriptrules": {"token": "tk-123456"}}
    with vault(kept) as (url, asked), project() as server:
        (server.folder / "plugins").mkdir()
        shutil.copy(PLUGINS / "vault.py", server.folder / "plugins")
        (server.folder / "token").write_text("the-token\n")
        server.config(
            f'[variables.v]\nsource = "vault"\nurl = "{url}"\ntoken_file = "token"\n'
            '[hosts.local]\nexecutor = "process"\nprograms = ["sh"]\n'
        )
        server.start()
        args = '["-c", "printf %s $P | wc -c; printf %s $P"]'
        echo = f'run("local", "x", "sh", args={args}, env={{"P": load("db.main.password")}})'
        main = f'{echo}\nreturn [wait("x").stdout, load("token", default=None) is None, load("no.such", default=2)]'
        run = run_of(server, "v1", main)
        assert run["value"] == ["12\n[secret]", False, 2]
        assert asked == [f"/v1/secret/data/{path}" for path in ("db/main", "scriptrules", "no")]
        run_of(server, "v2", main)
        kept["db/main"]["password"] = "pw-second"
        runs = [run, run_of(server, "v3", main)]
        assert [server.entries(one["id"])[0]["result"] for one in runs] == [
            {"secret": "db.main.password", "version": version} for version in (1, 2)
        ]
        (server.folder / "token").write_text("another")
        assert "403" in run_of(server, "v4", 'load("token")')["error"]["message"]
