"""`scriptrules graph` and `GET /api/graph`: what people read, and what programs do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from clihelp import CONFIG, Project

from serving import eventually
from serving import project as served

RULES = {
    "upload": 'on = "upload.finished"\nwhen = lambda task: task["size"] > 0\ndef main(size):\n'
    '    if size > 9:\n        emit("report.wanted")\n    emit(f"log.{size}")\n',
    "report": 'on = "report.wanted"\ndef main():\n    return [Task("report.ready", rows=call("rows.counted"))]\n',
    "rows": 'on = "rows.counted"\ndef main():\n    return 1\n',
    "ready": 'on = "report.*"\npriority = -1\ndef main():\n    pass\n',
}
EDGE = ["rule", "task", "via", "certainty", "condition", "line", "seen", "first_seen", "last_seen"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("graph"), RULES, CONFIG, plugin="")


def test_the_json_has_nodes_edges_matches_and_subsequents(project: Project) -> None:
    graph = project("graph", "--format", "json").json
    assert graph == project("graph", "--json").json
    assert {"id": "upload", "kind": "rule"} in graph["nodes"]
    assert {"id": "report.wanted", "kind": "task"} in graph["nodes"]
    assert {"id": "log.*", "kind": "pattern"} in graph["nodes"]
    edges = [{name: edge[name] for name in EDGE} for edge in graph["edges"] if edge["rule"] == "upload"]
    condition = "task['size'] > 0"
    unseen = {"seen": 0, "first_seen": None, "last_seen": None}
    assert edges == [
        {
            **{"rule": "upload", "task": "report.wanted", "via": "emit", "certainty": "possible"},
            **{"condition": f"{condition} and size > 9", "line": 5, **unseen},
        },
        {
            **{"rule": "upload", "task": "log.*", "via": "emit", "certainty": "unknown"},
            **{"condition": condition, "line": 6, **unseen},
        },
    ]
    assert {"task": "report.wanted", "rule": "report"} in graph["matches"]
    assert graph["subsequents"]["rows"] == {"type": "List", "items": []}
    assert [edge["returns"] for edge in graph["edges"] if edge["via"] == "call"] == [["rows"]]
    (case,) = graph["subsequents"]["upload"]["cases"]
    assert case["condition"] == condition
    assert [item["type"] for item in case["atom"]["items"]] == ["Branch", "Unknown"]


def test_the_text_of_fifty_rules_fits_a_hundred_columns_and_a_line_an_edge(tmp_path: Path) -> None:
    rules = {
        f"group/rule-of-branch-{at}": f'on = "branch.b{at}.order"\nwhen = lambda task: task["size"] > {at} and '
        f'task.get("country", "de") == "de"\ndef main(size):\n    emit("branch.b{at + 1}.order")\n'
        f'    if size > 100:\n        emit("bill.wanted")\n'
        for at in range(50)
    }
    out = Project(tmp_path, rules, CONFIG, plugin="")("graph").out
    lines = out.splitlines()
    assert len(lines) <= 1 + 2 * 50 + 2
    assert max(map(len, lines)) <= 100
    assert lines[1].split()[:4] == ["branch.b0.order", "group/rule-of-branch-0", "→", "branch.b1.order"]
    assert lines[2].split()[:2] == ["⇢", "bill.wanted"]


def test_a_rule_a_task_or_what_follows_from_one_can_be_shown_alone(project: Project) -> None:
    assert "rows" not in project("graph", "upload").out
    below = project("graph", "upload").out.rstrip().splitlines()[-2:]
    assert below == ["    report.wanted", "  log.*  `f'log.{size}'` is known in part only"]
    assert {line.split()[0] for line in project("graph", "rows.counted").out.splitlines()[1:]} >= {"rows.counted"}
    after = project("graph", "--from", "report.wanted", "--json").json
    assert {edge["rule"] for edge in after["edges"]} == {"report"}
    ended = project("graph", "reprot.wanted")
    assert ended.status == 2
    assert "did you mean 'report.wanted'?" in ended.err
    assert project("graph", "upload", "--from", "a").status == 2


def test_programs_that_draw_get_their_languages(project: Project) -> None:
    assert project("graph", "--format", "mermaid").out.startswith("flowchart LR\n")
    assert project("graph", "--format", "dot").out.startswith("digraph rules {\n")
    assert project("graph", "--format", "dot", "--json").status == 2


def test_a_server_has_the_same_graph_with_what_was_seen() -> None:
    with served() as server:
        for name, text in RULES.items():
            server.rule(name, text)
        server.start()
        eventually(lambda: len(server.get("/api/graph")["subsequents"]) == len(RULES), "all rules are analysed")
        server.send("upload.finished", size=3)

        def seen() -> dict[str, Any] | None:
            return next((one for one in server.get("/api/graph")["edges"] if one["task"] == "log.3"), None)

        edge = eventually(seen, "an edge is resolved")
        assert edge["seen"] == 1
        assert edge["status"] == "resolved"
        assert edge["first_seen"] == edge["last_seen"]
        known = {one["task"] for one in server.get("/api/graph")["edges"]}
        assert known == {"report.wanted", "log.*", "log.3", "report.ready", "rows.counted"}
