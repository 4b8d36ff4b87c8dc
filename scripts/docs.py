"""Writes docs/cli.md from the commands themselves. A test says when it has to be run again."""

from __future__ import annotations

import importlib
from pathlib import Path

import click

from scriptrules.cli.root import COMMANDS, cli

FILE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
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


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
