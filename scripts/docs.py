"""Writes docs/cli.md from the commands, docs/codes.md from the codes, the operations of docs/api.md, the line counts of
docs/reading-order.md, and the JSON schema of declarative rules that the wheel has.

Tests say when it has to be run again.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path

import click

from scriptrules.cli.explaining import explanations
from scriptrules.cli.root import COMMANDS, cli, command_name
from scriptrules.config import Config
from scriptrules.plugins.manager import Plugins
from scriptrules.rulebook.schema import schema_of
from scriptrules.store.memory import MemoryStore
from scriptrules.supervisor.supervisor import Supervisor
from scriptrules.web.app import all_operations
from scriptrules.web.operations import Site

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "docs" / "cli.md"
CODES_FILE = ROOT / "docs" / "codes.md"
API_FILE = ROOT / "docs" / "api.md"
READING_ORDER = ROOT / "docs" / "reading-order.md"
SCHEMA_FILE = ROOT / "src" / "scriptrules" / "rule.schema.json"
WIDTH = 100  # columns

INTRODUCTION = """\
# The command line

Made from `--help` by `scripts/docs.py`; do not edit it.

* Standard output is data, messages go to standard error. With `--json` the data is JSON: one object of the shape that
  the HTTP API has, or a list as `{"items": […], "next": …}`.
* Exit status: 0 ok; 1 findings, failed, or nobody there; 2 wrong usage or input.
* `k=v` is text, `k:=JSON` is JSON: `scriptrules send order.new zip=10115 lines:='[1, 2]'`.
* Commands that talk to a server find it at `SCRIPTRULES_URL` (default `http://127.0.0.1:8765`), and send
  `SCRIPTRULES_TOKEN` where that is set. `new`, `serve`, `run`, `check`, `graph`, `schema`, `stubs`, `explain-code`,
  `plugins` and `doctor` need none.
* Tables fit 100 columns, or the terminal. Colours only on a terminal, and not where `NO_COLOR` is set.
"""
CODES_INTRODUCTION = """\
# Codes

What `scriptrules check`, the log and errors mean by a code. Made by `scripts/docs.py`; do not edit it.
`scriptrules explain-code SR110` prints one of them.

| codes | what they are |
|---|---|
| SR1xx, SR2xx | the sandbox refuses the code: it would lead out, or make a replay differ |
| SR3xx | the file is no rule yet |
| SR4xx | warnings: the rule becomes active all the same, see below |
| SR5xx | warnings that all rules together give rise to, of `scriptrules check` only |
| SR6xx | what ended a run |
| SR7xx | the declarative rule is none yet |
| SR8xx, SR9xx | errors of scriptrules itself |

## Warnings

They keep no rule from becoming active: the analysis may be wrong, or what is missing may come later. `check` ends with
1 all the same. The server logs them once for each version (`rule.warning`), and `/api/rules` lists them as `warnings`.

## Ignoring a finding

`# scriptrules: ignore[SR401]` at the end of a line (several codes with commas) has these findings on that line left
out, by `check` and by the server. Where the line ends a text that spans several, or continues others by a backslash, it
stands for all of them.

Only those findings can be ignored without which the rule means the same: SR302, a name that nothing reads, and the
warnings SR401 to SR404, SR407, SR408 and SR5xx, where the author knows better than the analysis. Everything else is
refused by the sandbox or leaves the rulebook nothing to work with, and no comment changes that: an ignore of such a
code is itself reported (SR406), so that nobody believes it. An ignore that ignores nothing is reported too (SR405), but
for SR5xx.
"""

LANGUAGE_FILE = ROOT / "docs" / "language.md"
LANGUAGE_INTRODUCTION = """\
# The language of rules

Every construct of the grammar of Python 3.11 to 3.14. Made by `scripts/docs.py` from `tests/language`, where each row
is a test; do not edit it.

* **works**: it is executed as it is written.
* **works by rewriting**: guards are put in, such as one that takes a step or looks at a size first. What it gives is
  what Python gives; the tests compare the two.
* **refused**: with this code; `scriptrules check` shows the place and what to write instead. A Python that does not
  know a construct yet says SR101. What is in no row is refused too, as SR103.
"""


def text() -> str:
    """The page."""
    settings = {**cli.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    context = click.Context(cli, info_name="scriptrules", **settings)
    parts = [INTRODUCTION, _block("scriptrules", cli.get_help(context))]
    for name, (module, _) in COMMANDS.items():
        command: click.Command = getattr(importlib.import_module(f"scriptrules.cli.{module}"), command_name(name))
        inner = click.Context(command, context, name, **settings)
        parts.append(_block(f"scriptrules {name}", command.get_help(inner)))
        for below, each in command.commands.items() if isinstance(command, click.Group) else ():
            help = each.get_help(click.Context(each, inner, below, **settings))
            parts.append(_block(f"scriptrules {name} {below}", help))
    return "\n".join(parts)


def codes() -> str:
    """The page of codes."""
    parts = [CODES_INTRODUCTION]
    for one in explanations().values():
        sentences = [part for part in (one["why"], one["instead"] and f"**Instead:** {one['instead']}") if part]
        if one["ignorable"]:
            sentences.append("It can be ignored.")
        parts.append(f"## {one['code']}: {one['title']}\n\n" + "\n\n".join(sentences) + "\n")
        for title in ("wrong", "right"):
            if one[title]:
                parts.append(f"{title.capitalize()}:\n\n```{one['language']}\n{one[title]}```\n")
    return "\n".join(parts)


def language() -> str:
    """The page of the language, from the rows that its tests check."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "language")]
    try:
        return str(importlib.import_module("languagehelp").page(LANGUAGE_INTRODUCTION))
    finally:
        del sys.path[:2]


def described(page: str) -> str:
    """The page of the API with a table of its operations."""
    supervisor = Supervisor(Config(), MemoryStore(), Plugins(None))
    rows = [f"| `{one.method} {one.path}` | {one.role} | {one.summary} |" for one in all_operations(Site(supervisor))]
    table = "\n".join(["| | role | |", "|---|---|---|", *rows])
    return re.sub(r"(?s)(## Operations\n\n.*?\n\n)\|.*?\n(?=\n## )", lambda found: f"{found[1]}{table}\n", page)


def schema() -> str:
    """The JSON schema of declarative rules, with the job types that are built in."""
    return json.dumps(schema_of(Plugins(None).job_types), indent=2) + "\n"


def _block(title: str, help: str) -> str:
    return f"## {title}\n\n```text\n{help}\n```\n"


def counted(page: str) -> str:
    """The reading order with the number of lines that each file has now."""

    def count(match: re.Match[str]) -> str:
        return f"`{match[1]}` ({len((ROOT / match[1]).read_text(encoding='utf-8').splitlines())})"

    return re.sub(r"`(src/[^`]+\.py)` \(\d+\)", count, page)


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    CODES_FILE.write_text(codes(), encoding="utf-8")
    LANGUAGE_FILE.write_text(language(), encoding="utf-8")
    API_FILE.write_text(described(API_FILE.read_text(encoding="utf-8")), encoding="utf-8")
    READING_ORDER.write_text(counted(READING_ORDER.read_text(encoding="utf-8")), encoding="utf-8")
    SCHEMA_FILE.write_text(schema(), encoding="utf-8")
