"""Every hostile script ends as its corpus says, and the stable ones do the same whatever the hash seed is.

`SCRIPTRULES_EXTRA_CORPUS` may name a Python file with another CORPUS of the same form.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SOURCE = HERE.parent.parent / "src"


def _corpora() -> list[Path]:
    extra = os.environ.get("SCRIPTRULES_EXTRA_CORPUS")
    return [HERE / "corpus.py", *([Path(extra)] if extra else [])]


@cache
def _outcomes(corpus: Path, seed: str, *options: str) -> dict[str, dict[str, str]]:
    environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(SOURCE), "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-s", str(HERE / "host.py"), str(corpus), *options],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return {answer["id"]: answer for answer in map(json.loads, done.stdout.splitlines())}


def _known(entry: dict[str, Any]) -> bool:
    """Whether this Python is new enough for what an entry tries."""
    return sys.version_info[:2] >= tuple(map(int, str(entry.get("min_py", "3.11")).split(".")))


def _entries(stable: bool = False) -> list[Any]:
    return [
        pytest.param(path, entry, id=entry["id"])
        for path in _corpora()
        for entry in runpy.run_path(str(path))["CORPUS"]
        if (entry.get("stable") or not stable) and _known(entry)
    ]


@pytest.mark.parametrize(("corpus", "entry"), _entries())
def test_a_hostile_script_does_not_reach_its_goal(corpus: Path, entry: dict[str, Any]) -> None:
    answer = _outcomes(corpus, "1")[entry["id"]]
    assert answer["outcome"] in (entry["expect"], *entry.get("also_ok", ())), answer["shown"]


@pytest.mark.parametrize(("corpus", "entry"), _entries(stable=True))
def test_a_script_does_the_same_whatever_the_hash_seed_is(corpus: Path, entry: dict[str, Any]) -> None:
    first, second = (_outcomes(corpus, seed, "--stable")[entry["id"]] for seed in ("7", "4711"))
    assert first == second


def test_the_corpus_has_every_kind_of_attack() -> None:
    entries = runpy.run_path(str(HERE / "corpus.py"))["CORPUS"]
    assert len({entry["id"] for entry in entries}) == len(entries) >= 80
    assert {entry["category"] for entry in entries} >= {
        "attr",
        "format",
        "frames",
        "swallow",
        "class",
        "import",
        "leak",
        "resource",
        "load",
        "determinism",
        "type",
        "memory",
    }
