"""Findings as people and other programs read them: each format is a function from findings to text.

Columns are in characters and from 1, as editors, SARIF and GitHub count them. In a `Diagnostic` they are bytes from 0.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from scriptrules import __version__
from scriptrules.cli.common import clean, json_text
from scriptrules.diagnostics import CODES, Diagnostic, is_warning, lines_of, render

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong with a file."""

    file: str
    line: int  # from 1
    column: int  # in characters, from 1
    end_line: int
    end_column: int  # behind the last character
    code: str
    severity: str  # "error" | "warning"
    message: str
    hint: str
    shown: str = ""  # with its line and a caret


def finding_of(problem: Diagnostic, text: str, file: str) -> Finding:
    """A diagnostic of a file with this text."""
    lines = lines_of(text)
    column = _column(lines, problem.line, problem.column)
    end_line, end_column = problem.line, column + 1
    if problem.end_line is not None and problem.end_column is not None:
        end_line, end_column = problem.end_line, _column(lines, problem.end_line, problem.end_column)
    return Finding(
        file=file,
        line=problem.line,
        column=column,
        end_line=end_line,
        end_column=end_column,
        code=problem.code,
        severity="warning" if is_warning(problem.code) else "error",
        message=problem.message,
        hint=problem.hint,
        shown=render(problem, text, file),
    )


def _column(lines: list[str], line: int, column: int) -> int:
    text = lines[line - 1] if 0 < line <= len(lines) else ""
    return len(text.encode("utf-8", "replace")[:column].decode("utf-8", "replace")) + 1


def full(findings: Sequence[Finding]) -> str:
    """For people: with the line, a caret, and what to write instead."""
    return "".join(f"{_visible(finding.shown)}\n\n" for finding in findings)


def concise(findings: Sequence[Finding]) -> str:
    """A line each, as compilers write them and editors read them."""
    return "".join(f"{clean(f'{one.file}:{one.line}:{one.column}: {one.code} {one.message}')}\n" for one in findings)


def as_json(findings: Sequence[Finding]) -> str:
    """One object with a list of items."""
    items = [
        {name: value for name, value in msgspec.structs.asdict(one).items() if name != "shown"} for one in findings
    ]
    return json_text({"items": items, "next": None}) + "\n"


def github(findings: Sequence[Finding]) -> str:
    """Commands of a workflow, which GitHub shows beside the lines of a change."""
    return "".join(
        f"::{one.severity} file={_property(one.file)},line={one.line},col={one.column},title={_property(one.code)}"
        f"::{_data(' '.join(part for part in (one.message, one.hint) if part))}\n"
        for one in findings
    )


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def sarif(findings: Sequence[Finding]) -> str:
    """SARIF 2.1.0, which code hosts and editors import."""
    codes = sorted({finding.code for finding in findings})
    driver = {"name": "scriptrules", "version": __version__, "rules": list(map(_sarif_rule, codes))}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_sarif_result(finding, codes.index(finding.code)) for finding in findings],
    }
    return json.dumps({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _sarif_rule(code: str) -> dict[str, Any]:
    info = CODES[code]
    return {
        "id": code,
        "shortDescription": {"text": info.title},
        "fullDescription": {"text": info.why},
        "help": {"text": info.instead},
        "defaultConfiguration": {"level": "warning" if is_warning(code) else "error"},
    }


def _sarif_result(finding: Finding, index: int) -> dict[str, Any]:
    region = {
        "startLine": finding.line,
        "startColumn": finding.column,
        "endLine": finding.end_line,
        "endColumn": finding.end_column,
    }
    uri = f"file://{quote(finding.file)}" if finding.file.startswith("/") else quote(finding.file)
    place = {"artifactLocation": {"uri": uri}, "region": region}
    return {
        "ruleId": finding.code,
        "ruleIndex": index,
        "level": finding.severity,
        "message": {"text": " ".join(part for part in (finding.message, finding.hint) if part)},
        "locations": [{"physicalLocation": place}],
    }


def _visible(text: str) -> str:
    """Lines whose characters cannot steer a terminal; a tab is needed for the caret below it."""
    return "\n".join("\t".join(map(clean, line.split("\t"))) for line in text.split("\n"))


FORMATS: dict[str, Callable[[Sequence[Finding]], str]] = {
    "full": full,
    "concise": concise,
    "json": as_json,
    "github": github,
    "sarif": sarif,
}


def summary(checked: int, findings: Iterable[Finding]) -> str:
    """How many files were looked at, and what was found."""
    severities = [finding.severity for finding in findings]
    errors, warnings = severities.count("error"), severities.count("warning")
    parts = [f"{errors or 'no'} problem{'' if errors == 1 else 's'}"]
    if warnings:
        parts.append(f"{warnings} warning{'' if warnings == 1 else 's'}")
    return f"{checked} checked, {', '.join(parts)}."
