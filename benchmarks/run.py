"""Measures what is asked of scriptrules, each number beside its baseline: ``benchmarks/run.py [NAME …] [--json]``."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent))

import analysis
import containers
import durable
import receiving
import sandbox
import sandboxed
import starting
import waiting
from common import Result, flush_milliseconds, folder

BENCHMARKS: dict[str, Callable[[int], list[Result]]] = {
    "stream": durable.stream,
    "post": durable.post,
    "latency": durable.latency,
    "matching": sandboxed.matching,
    "memory": waiting.memory,
    "restart": waiting.restart,
    "receivers": receiving.receivers,
    "replay": sandboxed.replay,
    "sandbox": sandbox.sandbox,
    "rules": starting.rules,
    "analysis": analysis.analysis,
    "help": starting.help,
    "containers": containers.containers,
}
MARKS = {"aim": "✔✔ aim", "reach": "✔ reach", "below": "✘ below", "": ""}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure scriptrules beside its baselines (benchmarks/README.md).")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median is taken (default: 3)")
    parser.add_argument("--json", action="store_true", help="print JSON, with every round, instead of a table")
    asked = parser.parse_args()
    unknown = [name for name in asked.names if name not in BENCHMARKS]
    if unknown or asked.rounds < 1:
        parser.error(f"{unknown or asked.rounds}: names are {', '.join(BENCHMARKS)}; there is at least one round")
    before = noise()
    results: list[Result] = []
    for name in asked.names or BENCHMARKS:
        print(f"benchmarks: {name} …", file=sys.stderr)
        results += BENCHMARKS[name](asked.rounds)
    if asked.json:
        shown = [{**msgspec.to_builtins(result), "mark": result.mark} for result in results]
        print(json.dumps({"conditions": conditions(before), "results": shown}, indent=1, ensure_ascii=False))
    else:
        print(table(results))
        print("\n" + ", ".join(f"{key} {value}" for key, value in conditions(before).items()))
    return 1 if any(result.mark == "below" for result in results) else 0


def noise() -> tuple[float, float]:
    """What else the machine is doing: its load, and milliseconds that an fdatasync takes."""
    with folder() as base:
        return os.getloadavg()[0], flush_milliseconds(base)


def conditions(before: tuple[float, float]) -> dict[str, str]:
    """Of the machine, as far as they matter."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    return {
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "Linux": platform.release(),
        "processors": f"{os.cpu_count()} × {model}",
        "load before": f"{before[0]:.1f}",
        "fdatasync before and after": f"{before[1]:.2f} and {noise()[1]:.2f} ms",
    }


def _lines(file: str) -> list[str]:
    path = Path(file)
    return path.read_text().splitlines() if path.exists() else []


def table(results: list[Result]) -> str:
    """The results as an aligned Markdown table."""
    rows = [["", "what", "value", "rounds from … to", "baseline", "ratio", "reach", "aim", "mark"]]
    for result in results:
        wanted = [result.reach, result.aim]
        unit = "×" if result.by_ratio else result.unit
        asked = [f"{number(value)} {unit}" if value is not None else "" for value in wanted]
        spread = f"{number(min(result.rounds))} … {number(max(result.rounds))}" if len(result.rounds) > 1 else ""
        rows.append(
            [
                result.name,
                result.what + (f" ({result.note})" if result.note else ""),
                f"{number(result.value)} {result.unit}",
                spread,
                f"{result.baseline}: {number(result.baseline_value)}" if result.baseline_value is not None else "",
                f"{number(result.ratio)} ×" if result.ratio is not None else "",
                *asked,
                MARKS[result.mark],
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def number(value: float) -> str:
    """Three digits that matter, without an exponent."""
    if math.isnan(value):
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{digits if abs(value) >= 0.1 else 3}f}"


if __name__ == "__main__":
    sys.exit(main())
