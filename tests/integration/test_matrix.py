"""What runs have shown, asked of a real server: the matrix, what is likely to follow, what nobody has foreseen."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clihelp import RULES, Project, environment, until

from serving import Problem, Server, eventually, project

CHAIN = '''"""Go on."""

on = "chain.begin"


def main(n):
    emit("chain.middle", n=n)
    if n > 2:
        sleep(0.05)
        emit("chain.long")
    return [Task("chain.middle", n=0)]
'''
MIDDLE = 'on = "chain.middle"\n\n\ndef main(n):\n    if n:\n        return call("chain.end", n=n)\n'
END = 'on = "chain.end"\n\n\ndef main(n):\n    return n + 1\n'
WAITING = """on = "long.begin"


def main(how=""):
    emit("long.begun")
    hold("until somebody has looked")
    emit("long.ended")
    if how:
        emit("long.extra")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with project() as made:
        for name, text in {"begin": CHAIN, "middle": MIDDLE, "end": END, "waiting": WAITING}.items():
            made.rule(name, text)
        made.start()
        yield made


def cells(server: Server, since: str = "") -> dict[tuple[str | None, str], dict[str, Any]]:
    found = server.get(f"/api/matrix?since={since}" if since else "/api/matrix")
    return {(cell["by"], cell["rule"]): cell for cell in found["cells"]}


def settle(server: Server) -> None:
    """Wait until nothing follows any more."""
    eventually(lambda: not {"new", "running"} & server.get("/api/counts")["tasks"].keys(), "nothing follows")


def counts(server: Server) -> dict[tuple[str | None, str], int]:
    return {place: cell["count"] for place, cell in cells(server).items() if cell["count"]}


def test_the_matrix_counts_which_rules_have_run_which(server: Server) -> None:
    for n in range(5):
        server.wait_task(server.send("chain.begin", n=n))
    settle(server)
    found = cells(server)
    assert found["middle", "end"]["count"] == 4
    assert found[None, "begin"]["count"] == 5
    assert found["begin", "middle"]["count"] == 10
    assert found[None, "begin"]["last"] > "2026-01-01T00:00:00.000000Z"
    assert found[None, "begin"]["p99"] >= 0.04
    assert found["middle", "end"]["p50"] is not None


def test_the_matrix_begins_with_the_day_that_is_asked_for(server: Server) -> None:
    server.wait_task(server.send("chain.begin", n=0))
    settle(server)
    today = server.get("/api/tasks?limit=1")["items"][0]["created"]
    assert server.get(f"/api/matrix?since={today}")["since"] == f"{today[:10]}T00:00:00.000000Z"
    assert cells(server, today)[None, "begin"]["count"] == cells(server)[None, "begin"]["count"]
    later = cells(server, "2999-01-01T00:00:00Z")
    assert all(cell["count"] == 0 for cell in later.values())
    with pytest.raises(Problem) as refused:
        server.get("/api/matrix?since=yesterday")
    assert refused.value.status == 400


def test_what_was_counted_is_there_after_a_restart(server: Server) -> None:
    server.wait_task(server.send("chain.begin", n=1))
    settle(server)
    before = counts(server)
    server.kill()
    server.start()
    assert counts(server) == before
    server.wait_task(server.send("chain.begin", n=1))
    assert cells(server)[None, "begin"]["count"] == before[None, "begin"] + 1


def test_a_run_that_is_replayed_counts_once(server: Server) -> None:
    task = server.send("long.begin")
    server.wait_run(task, {"held"})
    server.kill()
    server.start()
    server.request("POST", f"/api/runs/{server.run_of(task)['id']}/resume", b"{}")
    server.wait_task(task)
    items = server.all("tasks", name="long.begun")
    found = cells(server)[None, "waiting"]
    assert len(items) == found["count"]


def test_a_running_task_shows_what_is_likely_to_follow(server: Server) -> None:
    for how in ("", "", "", "x"):
        task = server.send("long.begin", how=how)
        run = server.wait_run(task, {"held"})
        server.request("POST", f"/api/runs/{run['id']}/resume", b"{}")
        server.wait_task(task)
    task = server.send("long.begin")
    server.wait_run(task, {"held"})
    items = server.get(f"/api/tasks/{task}/next")["items"]
    by_name = {item["task"]: item for item in items}
    assert by_name["long.ended"]["probability"] > 0.75
    assert 0.1 < by_name["long.extra"]["probability"] < 0.5
    assert items[0]["task"] == "long.ended"
    assert items[0]["rule"] == "waiting"
    assert "long.begun" not in by_name  # it was generated, and never comes twice
    run = server.run_of(task)
    server.request("POST", f"/api/runs/{run['id']}/resume", b"{}")
    server.wait_task(task)
    assert server.get(f"/api/tasks/{task}/next")["items"] == []


# ---- the command line


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    made = Project(tmp_path_factory.mktemp("project"), {**RULES, "looked-at": WAITING})
    with made.serving():
        made("send", "greet", "name=a", "--wait")
        made("send", "wait")
        yield made


def test_the_matrix_is_text_json_or_csv(used: Project) -> None:
    text = used("matrix")
    assert text.status == 0
    assert "(from outside)" in text.out
    assert max(map(len, text.out.splitlines())) <= 100
    document = used("matrix", "--json").json
    assert {"by": None, "rule": "greet", "count": 1}.items() <= next(
        cell.items() for cell in document["cells"] if cell["rule"] == "greet"
    )
    assert used("matrix", "--format", "json").json.keys() == document.keys()
    rows = list(csv.DictReader(io.StringIO(used("matrix", "--format", "csv").out)))
    assert [row["rule"] for row in rows] == [cell["rule"] for cell in document["cells"]]
    assert rows[0].keys() == document["cells"][0].keys()


def test_the_matrix_since_a_time_says_which_days_it_counts(used: Project) -> None:
    since = used("matrix", "--since", "1d")
    assert since.status == 0
    assert "by day (UTC)" in since.err
    assert used("matrix", "--since", "soon").status == 2
    assert used("matrix", "--json", "--format", "csv").status == 2


def test_a_task_under_way_is_shown_with_what_is_likely_to_follow(used: Project) -> None:
    id = used("send", "long.begin", "how=x").out.strip()
    shown = until(lambda: out if "next" in (out := used("task", id).out) and "held" in out else "")
    assert "next     100%  long.ended  (looked-at)" in shown
    assert " 50%  long.extra  if how  (looked-at)" in shown
    assert "long.begun" not in shown


# ---- what nobody has foreseen

WATCHER = """
from pathlib import Path
from scriptrules import hookimpl

@hookimpl
def scriptrules_unpredicted(rule, task, via):
    with (Path(__file__).parent / "heard").open("a") as stream:
        stream.write(f"{rule} {task} {via}\\n")
"""


def test_a_task_that_nobody_has_foreseen_is_logged_and_told_to_plugins_once() -> None:
    with project() as server:
        server.rule("odd", 'on = "plain"\nwhen = lambda task: task["sise"] > 0\n\n\ndef main():\n    pass\n')
        server.rule("plain", 'on = "plain"\n\n\ndef main(n):\n    emit("plain.done", n=n)\n')
        (server.folder / "plugins").mkdir(exist_ok=True)
        (server.folder / "plugins" / "watcher.py").write_text(WATCHER)
        server.start()
        server.request("POST", "/api/breakpoints", b'{"on": ["plain"], "at": "before:emit"}')
        for name in ("plain.done", "plain.other", "plain.other"):  # a person changes what the rule was foreseen to do
            task = server.send("plain", n=1)
            run = server.wait_run(task, {"held"})
            server.request("POST", f"/api/runs/{run['id']}/edit", json.dumps({"set": {"name": name}}).encode())
            server.request("POST", f"/api/runs/{run['id']}/resume", b"{}")
            server.wait_task(task)
        heard = server.folder / "plugins" / "heard"
        eventually(heard.exists, "the plugin has heard of it")
        assert heard.read_text() == "plain plain.other emit\n"
        (event,) = [event for event in server.events() if event["event"] == "flow.unpredicted"]
        assert (event["rule"], event["task"], event["via"]) == ("plain", "plain.other", "emit")
        told = check(server, "--against-store")
        assert [(item["file"], item["code"]) for item in told] == [
            ("rules/odd.py", "SR511"),
            ("rules/plain.py", "SR512"),
        ]
        assert "'plain.other' by emit, 2 times" in told[1]["message"]
        assert "'sise'" in told[0]["message"]
        assert check(server) == []
        server.rule("plain", 'on = "plain"\n\n\ndef main(n):\n    save("seen", n)\n')
        (left,) = check(server, "--against-store")
        assert left["code"] == "SR511"  # what an older version has generated is no fault of this one


def check(server: Server, *more: str) -> list[dict[str, Any]]:
    """What `scriptrules check` finds besides names that nobody handles, while the server has the store."""
    command = [sys.executable, "-m", "scriptrules", "check", "--json", *more]
    done = subprocess.run(
        command, cwd=server.folder, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return [item for item in json.loads(done.stdout)["items"] if item["code"] != "SR501"]


def test_check_against_a_store_that_is_not_there_says_so(tmp_path: Path) -> None:
    made = Project(tmp_path)
    refused = made("check", "--against-store")
    assert refused.status == 1
    assert "SR830" in refused.err
    assert "Serve first" in refused.err
