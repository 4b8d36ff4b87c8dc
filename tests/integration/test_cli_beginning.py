"""The first minutes: `scriptrules new`, `stubs`, and what is said in an empty folder."""

from __future__ import annotations

import ast
import builtins
from pathlib import Path

import pytest
from clihelp import Project


@pytest.fixture
def folder(tmp_path: Path) -> Project:
    """A folder with nothing in it."""
    project = Project(tmp_path, rules={}, config="", plugin="")
    (tmp_path / "scriptrules.toml").unlink()
    return project


def test_a_new_project_works_at_once(folder: Project) -> None:
    assert folder("new", "project").out.split() == ["scriptrules.toml", "rules/count.py", "rules/told.py"]
    assert folder("check").status == 0
    ended = folder("run", "text.written", "text=to be or not to be")
    assert ended.status == 0
    assert "→ 6" in ended.out
    assert "told: 6 words" in ended.err, "what rules log is seen, though the store ends with the command"


def test_new_writes_nothing_over_and_nothing_in_part(folder: Project) -> None:
    (folder.folder / "scriptrules.toml").write_text("# mine\n")
    ended = folder("new", "project")
    assert ended.status == 2
    assert "scriptrules.toml: already there" in ended.err
    assert (folder.folder / "scriptrules.toml").read_text() == "# mine\n"
    assert not (folder.folder / "rules" / "count.py").exists()


def test_a_new_rule_and_a_new_plugin_are_in_order(folder: Project) -> None:
    assert folder("new", "rule", "billing/refund").out.strip() == "rules/billing/refund.py"
    assert folder("new", "rule", "all", "--on", "billing.**").status == 0
    assert folder("new", "plugin", "greetings").out.strip() == "plugins/greetings.py"
    assert folder("check").status == 0
    assert folder("run", "billing.refund", "size:=3").status == 0
    assert "greetings()" in folder("plugins").out
    for wrong in ("rule ../x", "rule a$b", "rule a --on a$b", "plugin run", "plugin a-b"):
        assert folder("new", *wrong.split()).status == 2, wrong


def test_the_stub_has_every_function_and_names_only_what_it_defines(folder: Project) -> None:
    folder("new", "plugin", "greetings")
    tree = ast.parse(folder("stubs").out)
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert {"run", "wait", "emit", "call", "load", "now", "greetings"} <= functions
    defined = {node.name for node in tree.body if isinstance(node, ast.ClassDef)} | set(dir(builtins))
    defined |= {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and type(node.ctx) is ast.Load}
    assert used <= defined


def test_serve_says_how_to_begin_where_there_is_no_rule(folder: Project) -> None:
    with folder.serving():
        pass
    assert "`scriptrules new rule hello` writes one" in (folder.folder / "server.log").read_text()
