"""Writes docs/cli.md from the commands themselves, and the line counts of docs/reading-order.md.

Tests say when it has to be run again.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import click

from scriptrules.cli.root import COMMANDS, cli

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "docs" / "cli.md"
READING_ORDER = ROOT / "docs" / "reading-order.md"
WIDTH = 100  # columns

INTRODUCTION = """\
# The command line

Made from `--help` by `scripts/docs.py`; do not edit it.

* Standard output is data, messages go to standard error. With `--json` the data is JSON: one object of the shape that
  the HTTP API has, or a list as `{"items": […], "next": …}`.
* Exit status: 0 ok; 1 findings, failed, or nobody there; 2 wrong usage or input.
* `k=v` is text, `k:=JSON` is JSON: `scriptrules send order.new zip=10115 lines:='[1, 2]'`.
* Commands that talk to a server find it at `SCRIPTRULES_URL` (default `http://127.0.0.1:8765`). `serve`, `run`,
  `check`, `plugins` and `doctor` need none.
* Tables fit 100 columns, or the terminal. Colours only on a terminal, and not where `NO_COLOR` is set.
"""


def text() -> str:
    """The page."""
    settings = {**cli.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    context = click.Context(cli, info_name="scriptrules", **settings)
    parts = [INTRODUCTION, _block("scriptrules", cli.get_help(context))]
    for name, (module, _) in COMMANDS.items():
        command: click.Command = getattr(importlib.import_module(f"scriptrules.cli.{module}"), f"{name}_command")
        inner = click.Context(command, context, name, **settings)
        parts.append(_block(f"scriptrules {name}", command.get_help(inner)))
    return "\n".join(parts)


def _block(title: str, help: str) -> str:
    return f"## {title}\n\n```text\n{help}\n```\n"


def counted(page: str) -> str:
    """The reading order with the number of lines that each file has now."""

    def count(match: re.Match[str]) -> str:
        return f"`{match[1]}` ({len((ROOT / match[1]).read_text(encoding='utf-8').splitlines())})"

    return re.sub(r"`(src/[^`]+\.py)` \(\d+\)", count, page)


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    READING_ORDER.write_text(counted(READING_ORDER.read_text(encoding="utf-8")), encoding="utf-8")
