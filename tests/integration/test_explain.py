"""`scriptrules explain` and its API, against a real server: why each rule matches a task, or does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from serving import Problem, Server, project

RULES = {
    "big": 'LIMIT = 10\non = "upload.*"\nwhen = lambda task: task["size"] > LIMIT and not task["kind"] == "tmp"\n'
    "def main():\n    pass\n",
    "named": 'on = "upload.finished"\ndef when(task):\n    """Only mine."""\n    return task.get("owner") == "me"\n'
    "def main():\n    pass\n",
    "other": 'on = "report.*"\ndef main():\n    pass\n',
    "off": 'on = "upload.*"\nenabled = False\ndef main():\n    pass\n',
    "first": 'on = "only.this"\npriority = 5\nfinal = True\ndef main():\n    pass\n',
    "second": 'on = "only.*"\ndef main():\n    pass\n',
    "rest": "nomatch = True\ndef main():\n    pass\n",
    "table": 'rules = [("copy", lambda task: task["n"] == 1, lambda task: {"n": 1})]\n',
    "broken": 'on = "odd"\nwhen = lambda task: task["n"] / 0 > 1\ndef main():\n    pass\n',
    "raising": 'on = "only.this"\nwhen = lambda task: 1 / 0\ndef main():\n    pass\n',
    "wrong": 'on = "odd"\n',
    "long": 'on = "odd"\ndef when(task):\n    n = task["n"]\n    return n > 3\ndef main():\n    pass\n',
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with project() as server:
        server.config("[sandbox]\nworkers = 1\n")
        for name, text in RULES.items():
            server.rule(name, text)
        (server.folder / "rules" / "form.yaml").write_text('on: form\nwhen: task["n"] > 2\nthen: done.it\n')
        server.start()
        yield server


def explain(server: Server, name: str, **data: Any) -> dict[str, dict[str, Any]]:
    found = server.request("POST", "/api/explain", json.dumps({"name": name, "data": data}).encode())
    return {rule["rule"]: rule for rule in found["rules"]}


def parts(rule: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(part["text"], part["error"] or part["value"]) for part in rule["parts"]]


def test_each_part_of_a_filter_has_its_value(server: Server) -> None:
    big = explain(server, "upload.finished", size=3, kind="csv")["big"]
    assert (big["runs"], big["reason"]) == (False, "its filter does not hold")
    assert parts(big) == [
        ("task['size'] > LIMIT and (not task['kind'] == 'tmp')", "False"),
        ("task['size'] > LIMIT", "False"),
        ("task['size']", "3"),
        ("LIMIT", "10"),
        ("not task['kind'] == 'tmp'", "True"),
        ("task['kind'] == 'tmp'", "False"),
        ("task['kind']", "'csv'"),
    ]
    assert explain(server, "upload.finished", size=30, kind="csv")["big"]["runs"]


def test_a_missing_field_is_named_where_it_is_read(server: Server) -> None:
    big = explain(server, "upload.finished", kind="csv")["big"]
    assert big["reason"] == "the task has no field 'size'"
    assert dict(parts(big))["task['size']"] == "the task has no field 'size'"
    assert dict(parts(big))["task['kind']"] == "'csv'"


def test_a_filter_that_is_one_return_has_parts_too_and_another_has_only_its_outcome(server: Server) -> None:
    named = explain(server, "upload.finished", owner="you")["named"]
    assert dict(parts(named))["task.get('owner')"] == "'you'"
    long = explain(server, "odd", n=1)["long"]
    assert (long["runs"], long["reason"], long["parts"]) == (False, "its filter does not hold", [])


def test_what_is_not_asked_says_why(server: Server) -> None:
    rules = explain(server, "upload.finished", size=1, kind="a")
    assert rules["other"]["reason"] == "its `on` is report.*"
    assert rules["off"]["reason"] == "enabled = False"


def test_final_rules_and_fallbacks_leave_others_out(server: Server) -> None:
    rules = explain(server, "only.this")
    assert rules["first"]["runs"]
    assert rules["second"]["reason"] == "first matches, is final, and has the higher priority 5"
    assert rules["rest"]["reason"] == "it is a fallback, and other rules match"
    assert explain(server, "nothing.else")["rest"]["runs"]


def test_entries_of_tables_and_yaml_files_are_rules_like_others(server: Server) -> None:
    copy = explain(server, "copy", n=2)["table:copy"]
    assert parts(copy) == [("task['n'] == 1", "False"), ("task['n']", "2")]
    form = explain(server, "form", n=1)["form"]
    assert parts(form)[0] == ("task['n'] > 2", "False")


def test_a_filter_that_raises_says_what(server: Server) -> None:
    broken = explain(server, "odd", n=1)["broken"]
    assert broken["reason"] == "ZeroDivisionError: division by zero"


def test_a_filter_that_raises_holds_the_task_and_nothing_runs_but_where_a_final_rule_comes_before(
    server: Server,
) -> None:
    found = server.request("POST", "/api/explain", b'{"name": "odd", "data": {"n": 9}}')
    rules = {rule["rule"]: rule for rule in found["rules"]}
    assert [rule for rule in rules if rules[rule]["runs"]] == []
    assert rules["long"]["reason"] == "rule broken cannot say whether it matches, so the task is held"
    assert found["held_by"] == "match_error: rule broken: ZeroDivisionError: division by zero"
    task = server.wait_task(server.send("odd", n=9), {"held"})
    assert task["reason"].startswith("match_error: rule broken")
    final = explain(server, "only.this")
    assert (final["first"]["runs"], final["raising"]["reason"]) == (True, final["second"]["reason"])


def test_a_rule_without_an_active_version_is_shown_with_why(server: Server) -> None:
    assert explain(server, "any")["wrong"]["reason"] == "its file is broken: `scriptrules check`"


def test_what_it_says_is_what_happens(server: Server) -> None:
    for name, data in (("upload.finished", {"size": 30, "kind": "a", "owner": "me"}), ("only.this", {}), ("x", {})):
        said = {rule for rule, one in explain(server, name, **data).items() if one["runs"]}
        id = server.send(name, **data)
        server.wait_task(id)
        assert {run["rule"] for run in server.all("runs", task=id)} == said


def test_a_breakpoint_that_would_hold_it_is_named(server: Server) -> None:
    server.request("POST", "/api/breakpoints", b'{"on": ["stop.*"], "name": "stopper"}')
    found = server.request("POST", "/api/explain", b'{"name": "stop.here"}')
    assert found["held_by"] == "breakpoint:stopper"


def test_a_task_that_is_there_and_one_that_is_not(server: Server) -> None:
    id = server.send("upload.finished", size=3, kind="a")
    server.wait_task(id)
    rules = {rule["rule"]: rule for rule in server.get(f"/api/tasks/{id}/explain")["rules"]}
    assert dict(parts(rules["big"]))["task['size']"] == "3"
    with pytest.raises(Problem) as caught:
        server.get("/api/tasks/t0000000000000/explain")
    assert caught.value.status == 404


def test_the_command_line_shows_it(server: Server) -> None:
    environ = {**os.environ, "SCRIPTRULES_URL": f"http://127.0.0.1:{server.port}"}
    ended = subprocess.run(
        [sys.executable, "-m", "scriptrules", "explain", "upload.finished", "size:=3", "kind=a"],
        env=environ, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "task['size']  ->  3" in ended.stdout or "task['size']  →  3" in ended.stdout
    assert "its `on` is report.*" in ended.stdout
