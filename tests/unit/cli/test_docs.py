"""The documentation of the command line is that of the commands, and that of the codes is that of `explain-code`."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import click
import pytest

from scriptrules.cli.root import COMMANDS, cli

ROOT = Path(__file__).resolve().parent.parent.parent.parent


def _docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_script", ROOT / "scripts" / "docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_docs_cli_md_is_what_the_commands_say_of_themselves() -> None:
    made, kept = (re.sub(r"\s+", " ", text) for text in (_docs().text(), (ROOT / "docs" / "cli.md").read_text()))
    assert made == kept, "run scripts/docs.py"


def test_docs_codes_md_is_what_explain_code_says() -> None:
    assert _docs().codes() == (ROOT / "docs" / "codes.md").read_text(), "run scripts/docs.py"


def test_docs_api_md_has_the_operations() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    assert page.count("\n| `") > 50
    assert _docs().described(page) == page, "run scripts/docs.py"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_summary_in_the_list_is_the_first_line_of_the_commands_help(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name
    assert (command.help or "").splitlines()[0] == COMMANDS[name][1]
