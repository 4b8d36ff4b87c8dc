"""The rows of the language table: each is an example, a verdict, and a test; docs/language.md is made of them.

A row that says "works" is executed as its author wrote it; "rewritten" ones have guards in them; "refused" ones have a
code. `since` is the first Python whose grammar has the construct; an older one cannot parse it (SR101).
"""

from __future__ import annotations

import ast
import html
import importlib
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from rulehelp import as_python, as_rule
from scriptrules.diagnostics import Rejected
from scriptrules.sandbox.policy import Policy, compile_source

FOLDER = Path(__file__).parent / "language"
SHOWN = 7  # lines of an example in the table
_OURS = re.compile(r"^_fuel_ = _begin_\(\)\n|^ *for _t in _fuel_:\n *break\n", re.MULTILINE)


class Row(msgspec.Struct, frozen=True):
    """One construct: `source` is a file with a function `main`, or the body of one."""

    name: str
    source: str
    verdict: str
    code: str = ""
    note: str = ""
    since: tuple[int, int] = (3, 11)

    @property
    def text(self) -> str:
        body = textwrap.dedent(self.source).strip("\n")
        whole = re.search(r"^(def main|main =)", body, re.MULTILINE) or self.verdict == "refused"
        return body + "\n" if whole else "def main():\n" + textwrap.indent(body, "    ") + "\n"


def works(name: str, source: str, note: str = "", since: tuple[int, int] = (3, 11)) -> Row:
    return Row(name, source, "works", note=note, since=since)


def rewritten(name: str, source: str, note: str = "", since: tuple[int, int] = (3, 11)) -> Row:
    return Row(name, source, "rewritten", note=note, since=since)


def refused(code: str, name: str, source: str, note: str = "", since: tuple[int, int] = (3, 11)) -> Row:
    return Row(name, source, "refused", code, note, since)


def each(rows: list[Row]) -> pytest.MarkDecorator:
    """One test a row."""
    return pytest.mark.parametrize("row", rows, ids=[row.name for row in rows])


def check(row: Row) -> None:
    """Hold a row against the policy, and against Python itself."""
    if sys.version_info[:2] < row.since:
        assert _code(row) == "SR101"
    elif row.verdict == "refused":
        assert _code(row) == row.code
    else:
        assert as_rule(row.text) == as_python(row.text)
        assert row.verdict == ("works" if _as_written(row.text) else "rewritten")


def _code(row: Row) -> str:
    with pytest.raises(Rejected) as caught:
        compile_source(row.text, "rule.py")
    first = caught.value.diagnostics[0]
    assert first.hint
    return first.code


def _as_written(text: str) -> bool:
    tree = Policy(frozenset()).visit(ast.parse(text))
    return _OURS.sub("", ast.unparse(tree) + "\n").strip() == ast.unparse(ast.parse(text)).strip()


def families() -> Iterator[tuple[str, tuple[str, ...], list[Row]]]:
    """The title, nodes and rows of every file in tests/language that has rows."""
    for file in sorted(FOLDER.glob("test_*.py")):
        if "\nROWS = " in file.read_text(encoding="utf-8"):
            module = importlib.import_module(file.stem)
            yield (module.__doc__ or "").strip().rstrip("."), module.NODES, module.ROWS


def page(introduction: str) -> str:
    """The table as Markdown."""
    parts = [introduction]
    for title, nodes, rows in families():
        parts.append(f"## {title}\n\n{', '.join(f'`{node}`' for node in nodes)}\n")
        lines = ["| construct | example | verdict | note |", "|---|---|---|---|"]
        lines += [f"| {row.name} | {_example(row.source)} | {_verdict(row)} | {_note(row)} |" for row in rows]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _verdict(row: Row) -> str:
    return {"works": "works", "rewritten": "works by rewriting", "refused": f"refused: {row.code}"}[row.verdict]


def _note(row: Row) -> str:
    since = f"Python {row.since[0]}.{row.since[1]}; before, SR101" if row.since > (3, 11) else ""
    return "; ".join(filter(None, [since, row.note])).replace("|", "\\|")


def _example(source: str) -> str:
    written = source.encode("utf-8", "backslashreplace").decode()
    lines = textwrap.dedent(written).strip("\n").splitlines()
    shown = [line if len(line) <= 100 else line[:97] + "…" for line in lines[:SHOWN]]
    shown += ["…"] if len(lines) > SHOWN else []
    text = "<br>".join(html.escape(line, quote=False).replace("|", "&#124;").replace("  ", "&nbsp; ") for line in shown)
    text = re.sub(r"([*_`\[\]\\~])", lambda found: f"&#{ord(found[1])};", text)
    return f"<code>{text}</code>"
