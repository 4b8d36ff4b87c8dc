"""A secret reaches its execution, and nothing else: not the store, no log, no answer, no worker's memory."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from serving import Problem, Server, eventually, project

SECRET = "zq-7731-$'quo\"te\\-Grüße"
LINES = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END KEY-----"

PLUGIN = """
from scriptrules import function, hookimpl

@function(secrets=["headers"])
async def fetch(url: str, headers: dict) -> dict:
    '''Returns what it was given.'''
    if url == "raise":
        raise ValueError("cannot use " + str(headers))
    return {"echo": headers, "length": len(headers["Authorization"]), "plain": headers.get("$secret")}

@function
async def plain(value: object) -> str:
    '''Accepts no secrets.'''
    return repr(value)

@hookimpl
def scriptrules_functions():
    return [fetch, plain]
"""

CONFIG = '[hosts.local]\nexecutor = "process"\nprograms = ["sh"]\n'


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with project() as server:
        (server.folder / "plugins").mkdir()
        (server.folder / "plugins" / "fetching.py").write_text(PLUGIN)
        server.config(CONFIG)
        server.start()
        put(server, "token", SECRET)
        put(server, "lines", LINES)
        yield server


def put(server: Server, name: str, value: str) -> None:
    server.request("PUT", f"/api/variables/{name}", json.dumps({"value": value, "secret": True}).encode())


def rule(server: Server, name: str, main: str) -> str:
    """Make a rule whose `main` has this body active, and send its task."""
    body = "\n".join(f"    {line}" for line in main.strip().splitlines())
    server.drop_in(**{name: f'on = "{name}"\ndef main():\n{body}\n'})
    return server.send(name)


def run_of(server: Server, name: str, main: str) -> dict[str, Any]:
    task = rule(server, name, main)
    server.wait_task(task)
    return server.run_of(task)


def shell(script: str, **fields: str) -> str:
    """A rule's lines that run a shell script and wait for it."""
    more = "".join(f", {name}={value}" for name, value in fields.items())
    return f'run("local", "x", "sh", args=["-c", {script!r}]{more})\nresult = wait("x", check=False)\n'


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


FORMS = [SECRET, json.dumps(SECRET)[1:-1], *LINES.splitlines()[1:3]]


def leaks(data: bytes) -> list[str]:
    return [form for form in FORMS if form.encode() in data]


def memory_of(pid: int) -> Iterator[bytes]:
    """All that a process has in memory and may read."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb") as memory:
        for line in maps:
            span, mode, *_ = line.split()
            if not mode.startswith("r") or "[v" in line:
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            try:
                memory.seek(start)
                yield memory.read(end - start)
            except (OSError, ValueError, OverflowError):
                continue


def assert_nowhere(server: Server) -> None:
    """Grep everything that keeps or shows anything."""
    assert leaks("ä".encode() + SECRET.encode())  # the search itself works
    for file in server.folder.rglob("*"):
        if file.is_file():
            assert not leaks(file.read_bytes()), file  # the store with its WAL, logs, what executions left, the key
    looked = 0
    for pid in server.worker_pids():
        looked += 1
        assert not any(leaks(part) for part in memory_of(pid)), pid
    assert looked
    paths = [
        "/api/tasks",
        "/api/runs",
        "/api/variables",
        "/api/rules",
        "/api/hosts",
        "/api/held",
        "/api/variables/token",
    ]
    for run in server.all("runs"):
        paths += [f"/api/runs/{run['id']}{part}" for part in ("", "/journal", "/logs")]
        paths.append(f"/api/tasks/{run['task']}/tree")
    for path in paths:
        assert not leaks(json.dumps(server.get(path), ensure_ascii=False).encode()), path
        assert not leaks(json.dumps(server.get(path)).encode()), path


SCRIPT = """
printf %s "$A" | sha256sum; printf %s "$1" | sha256sum; sha256sum < "$SCRIPTRULES_SECRETS/run/key"
echo "out $A"; echo "err $A" >&2; cat "$SCRIPTRULES_SECRETS/run/key"
printf %s "$A" | base64 -w0; echo
printf '{"output": "%s", "again": ["%s"]}' "$2" "$2" > "$SCRIPTRULES_OUTPUT"
touch "$3"; while ! test -e "$4"; do sleep 0.02; done; exit 3
"""


def test_the_value_reaches_the_execution_and_is_found_nowhere_else(server: Server) -> None:
    marks = server.folder / "marks"
    marks.mkdir()
    marks.chmod(0o777)  # the program may have a user of its own
    running, go = marks / "running", marks / "go"
    main = f"""
token = load("token")
bearer = "Bearer " + token
run("local", "x", "sh", args=["-c", {SCRIPT!r}, "sh", bearer + "!", load("lines"), {str(running)!r}, {str(go)!r}],
    env={{"A": token}}, secret_files={{"/run/key": load("lines")}})
result = wait("x", check=False)
log(result.stdout)
log(result.stderr)
log(str(result.output))
return [result.stdout, result.output, fetch("u", {{"Authorization": bearer, "$secret": 5}})]
"""
    task = rule(server, "everything", main)
    eventually(running.exists, "it runs")
    assert_nowhere_but_boxes(server)
    go.write_text("")
    server.wait_task(task)
    run = server.run_of(task)
    assert run["state"] == "done", run
    stdout, _, fetched = run["value"]
    assert [line.split()[0] for line in stdout.splitlines()[:3]] == [
        digest(SECRET),
        digest(f"Bearer {SECRET}!"),
        digest(LINES),
    ]
    assert "out [secret]" in stdout
    assert fetched == {
        "echo": {"Authorization": "Bearer [secret]", "$secret": 5},
        "length": 7 + len(SECRET),
        "plain": 5,
    }
    assert_nowhere(server)


def assert_nowhere_but_boxes(server: Server) -> None:
    """While it runs, its own files with secrets, and what it writes to its own output, are there and nowhere else."""
    for file in server.folder.rglob("*"):
        if file.is_file() and "hosts" not in file.parts:
            assert not leaks(file.read_bytes()), file
    for pid in server.worker_pids():
        assert not any(leaks(part) for part in memory_of(pid)), pid


def test_a_replay_uses_the_value_that_it_saw_and_a_new_run_the_new_one(server: Server) -> None:
    put(server, "rotated", "old-value-1")
    hashed = shell("printf %s $A | sha256sum", env='{"A": token}')
    main = f'token = load("rotated")\nhold("wait")\n{hashed}return result.stdout.split()[0]'
    task = rule(server, "rotates", main)
    run = eventually(lambda: server.all("runs", task=task, state="held"), "it is held")[0]
    put(server, "rotated", "new-value-2")
    server.request("DELETE", "/api/variables/rotated")
    put(server, "rotated", "new-value-3")
    assert server.request("POST", "/api/variables/rotate-key", b"{}")["values"] >= 2
    server.kill()
    server.start()
    server.request("POST", f"/api/runs/{run['id']}/resume", b"{}")
    server.wait_task(task)
    assert server.run_of(task)["value"] == digest("old-value-1")
    again = server.send("rotates")
    held = eventually(lambda: server.all("runs", task=again, state="held"), "it is held")[0]
    server.request("POST", f"/api/runs/{held['id']}/resume", b"{}")
    server.wait_task(again)
    assert server.run_of(again)["value"] == digest("new-value-3")


def test_a_fork_may_use_what_the_run_had_loaded(server: Server) -> None:
    hashed = shell("printf %s $A | sha256sum", env='{"A": token}')
    main = f'token = load("token")\nsleep(0)\nn = load("n", default=0)\n{hashed}return [n, result.stdout.split()[0]]'
    run = run_of(server, "forked", main)
    assert run["value"] == [0, digest(SECRET)]
    entries = {entry["name"]: entry["seq"] for entry in server.entries(run["id"])}
    body = json.dumps({"seq": entries["load"], "result": 7}).encode()
    fork = server.request("POST", f"/api/runs/{run['id']}/fork", body)
    ended = eventually(lambda: (one := server.get(f"/api/runs/{fork['id']}"))["ended"] and one, "the fork ends")
    assert ended["value"] == [7, digest(SECRET)], ended


def test_what_a_breakpoint_holds_goes_on_with_its_secrets(server: Server) -> None:
    for at in ("before:load", "before:save", "before:run"):
        server.request("POST", "/api/breakpoints", json.dumps({"on": ["broken"], "at": at}).encode())
    hashed = shell("printf %s $A | sha256sum", env='{"A": token, "B": "b"}')
    main = f'token = load("token")\nsave("x", 5)\n{hashed}return [load("x"), result.stdout.split()[0]]'
    task = rule(server, "broken", main)
    (run,) = eventually(lambda: server.all("runs", task=task), "it is matched")
    held_at = []
    for _ in range(4):
        path = f"/api/runs/{run['id']}"
        eventually(lambda path=path: server.get(path)["state"] == "held", f"it is held: {held_at}")
        last = server.entries(run["id"])[-1]
        held_at.append(last["name"])
        if last["name"] == "run":
            args = {**last["args"], "env": {"A": last["args"]["env"]["A"]}}
            server.request("POST", f"{path}/edit", json.dumps({"data": args}).encode())
        server.request("POST", f"{path}/resume", b"{}")
    server.wait_task(task)
    assert held_at == ["load", "save", "run", "load"]
    assert server.run_of(task)["value"] == [5, digest(SECRET)]
    assert {entry["state"] for entry in server.entries(run["id"])} == {"done"}


def test_no_rule_replaces_a_secret_of_the_store_neither_by_itself_nor_after_an_edit(server: Server) -> None:
    put(server, "sacred", SECRET)
    failed = run_of(server, "replacing", 'emit("replaced")\nsave("sacred", "mine", scope="store")\nsleep(60)')
    assert failed["state"] == "failed"
    assert failed["error"]["line"] == 4
    assert "is a secret of the store, which no rule can replace" in failed["error"]["message"]
    assert server.all("tasks", name="replaced") == [], "nothing of its slice has happened"
    server.post("/api/breakpoints", on=["edited"], at="before:save", name="saves")
    task = rule(server, "edited", 'save("sacred.not", "mine", scope="store")')
    run = server.wait_run(task, {"held"})["id"]
    with pytest.raises(Problem, match="no rule can replace"):
        server.post(f"/api/runs/{run}/edit", set={"name": "sacred"})
    put(server, "sacred.not", SECRET)
    with pytest.raises(Problem, match="no rule can replace"):
        server.post(f"/api/runs/{run}/resume")
    server.request("DELETE", "/api/variables/sacred.not")
    server.post(f"/api/runs/{run}/resume")
    assert server.wait_task(task)["state"] == "done"
    assert server.get("/api/variables/sacred")["secret"]
    server.kill()
    server.start()
    assert run_of(server, "again", 'save("sacred", 1, scope="store")')["state"] == "failed"


REFUSED = {
    'emit("x", token=token)': "emit('x')['data']['token'] is a secret",
    'emit("x", deep=[{"a": token}])': "is a secret",
    'call("x", token=token)': "is a secret",
    "return token": "the return value is a secret",
    'return [Task("x", token=token)]': "is a secret",
    'save("x", token)': "is a secret",
    'load("x", default=token)': "is a secret",
    "plain(token)": "is a secret",
    "fetch(token, {})": "is a secret",
    "print(token)": "cannot be printed",
    'log(f"{token}")': "cannot be printed",
    'log("x", token=token)': "is a secret",
    "raise ValueError(token)": "cannot be printed",
    "fail(token)": "cannot be printed",
    "hold(token)": "cannot be printed",
    'run("local", token, "sh")': "cannot be printed",
    'run("local", "x", "sh", memory_mb=token)': "is a secret",
    'run("local", "x", "sh", env={token: "x"})': "cannot be hashed",
}


@pytest.mark.parametrize(("line", "message"), list(REFUSED.items()), ids=list(REFUSED))
def test_a_secret_cannot_leave_the_run_and_the_error_says_what_to_do(server: Server, line: str, message: str) -> None:
    name = f"refused{list(REFUSED).index(line)}"
    run = run_of(server, name, f'token = load("token")\nemit("before")\n{line}')
    assert run["state"] == "failed"
    assert message in run["error"]["message"]
    assert server.entries(run["id"]) == []  # nothing of the slice took effect


def test_what_merely_looks_like_a_secret_is_data(server: Server) -> None:
    mark = '{"$secret": [{"name": "token", "version": 1}]}'
    run = run_of(server, "mark1", f'load("token")\nreturn fetch("u", {{"Authorization": "x", "$secret": {mark}}})')
    assert run["value"]["plain"] == json.loads(mark)
    assert run_of(server, "mark2", f"return plain({mark})")["value"] == repr(json.loads(mark))
    for number, where in enumerate(('args=["-c", {}]', 'env={{"A": {}}}', 'secret_files={{"a": {}}}')):
        run = run_of(server, f"mark3{number}", f'run("local", "x", "sh", {where.format(mark)})')
        assert run["error"]["type"] == "TypeError"


def test_errors_of_functions_and_executors_are_redacted(server: Server) -> None:
    run = run_of(server, "raises", 'return fetch("raise", {"Authorization": load("token")})')
    assert "cannot use {'Authorization': '[secret]'}" in run["error"]["message"]
    assert_nowhere(server)


def test_the_key_file_is_for_its_owner_and_without_it_loads_fail_clearly() -> None:
    with project() as server:
        server.config(CONFIG)
        server.start()
        key = server.folder / ".scriptrules" / "secrets.key"
        assert not key.exists()
        put(server, "token", SECRET)
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        kept = key.read_bytes()
        key.chmod(0o644)
        assert "can be read by others (mode 644)" in run_of(server, "loose", 'load("token")')["error"]["message"]
        with pytest.raises(Problem, match="chmod 600"):
            put(server, "other", SECRET)
        key.unlink()
        assert "is not there" in run_of(server, "gone", 'load("token")')["error"]["message"]
        key.write_bytes(b"bm90IGEga2V5\n")
        key.chmod(0o600)
        assert "is damaged" in run_of(server, "damaged", 'load("token")')["error"]["message"]
        key.write_bytes(kept)
        assert run_of(server, "back", 'load("token")')["state"] == "done"
        server.stop()
        with sqlite3.connect(server.folder / ".scriptrules" / "state.db") as store:
            store.execute("UPDATE secrets SET sealed = CAST(x'00' || substr(sealed, 2) AS BLOB)")
        store.close()
        server.start()
        assert '"secrets.unavailable"' in server.log.read_text()
        assert "was changed in the store" in run_of(server, "forged", 'load("token")')["error"]["message"]


def test_an_execution_is_adopted_and_redacted_by_a_server_that_did_not_start_it() -> None:
    with project() as server:
        server.config(CONFIG)
        server.start()
        put(server, "token", SECRET)
        go = server.folder / "go"
        task = rule(
            server,
            "adopted",
            shell(f'while ! test -e {go}; do sleep 0.02; done; echo "$A"', env='{"A": load("token")}')
            + "return result.stdout",
        )
        eventually(
            lambda: [e for r in server.all("runs") for e in server.entries(r["id"]) if e["state"] == "started"], ""
        )
        server.kill()
        server.start()
        go.write_text("")
        server.wait_task(task)
        assert server.run_of(task)["value"] == "[secret]\n"
        assert_nowhere(server)


# ---- the command line


def cli(server: Server, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "SCRIPTRULES_URL": f"http://127.0.0.1:{server.port}"}
    command = [sys.executable, "-m", "scriptrules", "var", *arguments]
    return subprocess.run(
        command, env=environ, cwd=server.folder, input=given, capture_output=True, text=True, check=False
    )


def test_var_sets_reads_lists_and_removes(server: Server) -> None:
    assert cli(server, "set", "quarter", "3").returncode == 0
    assert cli(server, "get", "quarter").stdout == "3\n"
    assert cli(server, "set", "quarter", "--json-value", given='{"of": [2026]}').returncode == 0
    assert json.loads(cli(server, "get", "quarter", "--json").stdout)["value"] == {"of": [2026]}
    assert cli(server, "set", "q", "--json-value", "{").returncode == 2
    assert cli(server, "set", "s", "--secret", "--json-value", "{}").returncode == 2
    assert cli(server, "set", "piped", "--secret", given=SECRET + "\n").returncode == 0
    shown = cli(server, "get", "piped")
    assert (shown.returncode, shown.stdout) == (1, "")
    listed = cli(server, "list")
    assert "secret, version 1" in listed.stdout
    items = json.loads(cli(server, "list", "--json").stdout)["items"]
    assert {item["name"]: item["value"] for item in items}["piped"] is None
    assert run_of(
        server, "piped", shell("printf %s $A | sha256sum", env='{"A": load("piped")}') + "return result.stdout"
    )["value"].startswith(digest(SECRET))
    assert cli(server, "rm", "piped").returncode == 0
    assert "did you mean" not in cli(server, "rm", "piped").stderr
    assert cli(server, "rm", "quarte").stderr.count("did you mean 'quarter'") == 1
    assert "sealed anew" in cli(server, "rotate-key").stderr
    assert not leaks((listed.stdout + shown.stderr).encode())
