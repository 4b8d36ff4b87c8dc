"""What README and docs show is true: rules compile, configuration is accepted, commands and links exist.

A page that needs another project to be true (a token, a host) is not executed here; its rules and commands are read.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from scriptrules import config
from scriptrules.cli.root import cli
from scriptrules.diagnostics import is_warning
from scriptrules.executors import _docker_policy, _process_policy, _swarm_policy
from scriptrules.model import EntryState, RunState, TaskState
from scriptrules.supervisor.states import EXITS
from yamlhelp import load

ROOT = Path(__file__).resolve().parent.parent.parent
MADE = {"cli.md", "codes.md", "language.md"}  # by scripts/docs.py, from what other tests hold
PAGES = {page.name: page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
WRITTEN = sorted(PAGES.keys() - MADE)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
LINK = re.compile(r"\]\(([^)#\s]*)(#[^)\s]+)?\)")
CODE = re.compile(r"`(scriptrules [^`]+)`")


def blocks(page: str, *languages: str) -> list[str]:
    return [text for language, text in BLOCK.findall(PAGES[page].read_text()) if language in languages]


def commands(page: str) -> Iterator[list[str]]:
    """The words of each command that a page shows, without those of the shell around it."""
    text = PAGES[page].read_text()
    shown = [line for block in blocks(page, "") for line in block.splitlines()]
    for line in [*shown, *CODE.findall(BLOCK.sub("", text))]:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word[0] in ";|&<>":
                if words[:1] == ["scriptrules"]:
                    yield words[1:]
                words = []
            else:
                words.append(word)


def headings(page: Path) -> set[str]:
    found = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", WRITTEN)
def test_rules_of_a_page_have_no_errors(page: str) -> None:
    for text in blocks(page, "python"):
        if re.search(r"^(from|import) scriptrules", text, re.M):
            compile(text, page, "exec")  # a plugin, or a program beside
        elif not re.search(r"^at = ", text, re.M):
            assert [one for one in load(text, "rules/r.py")[1] if not is_warning(one.code)] == [], text
    for text in blocks(page, "yaml"):
        assert load(text)[1] == [], text
    for text in blocks(page, "json"):
        json.loads(text)


@pytest.mark.parametrize("page", WRITTEN)
def test_configuration_of_a_page_is_accepted(page: str, tmp_path: Path) -> None:
    for text in blocks(page, "toml"):
        (tmp_path / "scriptrules.toml").write_text(text)
        for name, table in config.load(tmp_path, environ={}).hosts.items():
            known = {
                "process": _process_policy.Settings.__struct_fields__,
                "docker": _docker_policy.HostTable.__struct_fields__,
                "swarm": (*_docker_policy.HostTable.__struct_fields__, *_swarm_policy.SwarmTable.__struct_fields__),
            }[table["executor"]]
            assert table.keys() - {"executor"} <= set(known), f"{name} in {text}"


@pytest.mark.parametrize("page", WRITTEN)
def test_commands_of_a_page_exist_with_their_options(page: str) -> None:
    for words in commands(page):
        command: click.Command | None = cli
        for word in words:
            if isinstance(command, click.Group) and not word.startswith("-") and word.islower():
                command = command.get_command(click.Context(command), word)
                assert command is not None, f"{page}: scriptrules {' '.join(words)}"
        assert command is not None
        options = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help"}
        for word in words:
            assert not re.match(r"--?[a-z]", word) or word.partition("=")[0] in options, f"{page}: {' '.join(words)}"


@pytest.mark.parametrize("page", WRITTEN)
def test_links_of_a_page_lead_somewhere(page: str) -> None:
    for path, anchor in LINK.findall(PAGES[page].read_text()):
        if not path.startswith("http"):
            target = (PAGES[page].parent / path).resolve() if path else PAGES[page]
            assert target.exists(), path
            assert not anchor or anchor[1:] in headings(target), f"{path}{anchor}"


def test_every_key_of_the_configuration_is_explained() -> None:
    page = PAGES["operating.md"].read_text()
    sections = (config.ServerConfig, config.StoreConfig, config.SandboxConfig, config.FlowConfig, config.SecretsConfig)
    for section in sections:
        for key in section.__struct_fields__:
            assert f"`{key}`" in page, key
    hosts = PAGES["hosts.md"].read_text()
    for table in (_process_policy.Settings, _docker_policy.HostTable):
        for key in table.__struct_fields__:
            assert re.search(rf"\b{key}\b", hosts), key


def test_every_state_and_reason_is_explained() -> None:
    page = PAGES["words.md"].read_text()
    for word in (*EXITS, *TaskState, *RunState, *EntryState):
        assert re.search(rf"`{word}\b", page), word


def test_the_reading_of_the_pages_finds_what_is_there() -> None:
    assert sum(len(blocks(page, "python", "yaml", "toml")) for page in WRITTEN) >= 20
    assert sum(len(list(commands(page))) for page in WRITTEN) >= 80
