"""Every rule and plugin that comes along as an example does what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clihelp import ROOT, Project

from scriptrules.rulebook.files import read_all


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with our own rules, plugins and configuration."""
    folder = tmp_path_factory.mktemp("examples")
    sources, _ = read_all(ROOT / "rules")
    libraries, _ = read_all(ROOT / "rules" / "lib")
    rules = {source.file.partition("/")[2].removesuffix(".py"): source.text for source in sources.values()}
    rules |= {f"lib/{name}": source.text for name, source in libraries.items()}
    plugin = (ROOT / "plugins" / "notices.py").read_text()
    return Project(folder, rules, (ROOT / "scriptrules.toml").read_text(), plugin)


def branches(tree: Any) -> Iterator[Any]:
    for branch in tree["runs"]:
        yield branch
        for child in branch["tasks"]:
            yield from branches(child)


CASES = {
    "an upload is verified and reported": (
        ("upload.finished", "file=a.csv", "content=north,120\nsouth,80\nnorth,7\n"),
        ["uploads/verify", "reports/monthly", "reports/total", "reports/total", "reports/publish"],
        "the report on a.csv is ready",
    ),
    "an empty upload is told to operations": (
        ("upload.finished", "file=a.csv", "content="),
        ["uploads/empty", "alerts/routing:mail.ops", "alerts/tell"],
        "the upload a.csv is empty",
    ),
    "a disk that is nearly full is told by mail": (
        ("disk.usage", "mount=/", "percent:=91"),
        ["alerts/disk", "alerts/routing:mail.ops", "alerts/tell"],
        "/ is said to be 91 % full",
    ),
    "a full disk wakes somebody up": (
        ("disk.usage", "mount=/", "percent:=99"),
        ["alerts/disk", "alerts/routing:page.oncall", "alerts/tell"],
        "/ is said to be 99 % full",
    ),
    "the lines of a dropped file are counted without Python": (
        ("file.dropped", "file=a.txt", "content=one\ntwo\n"),
        ["files/count", "files/note", "files/described", "alerts/routing:mail.ops", "alerts/tell"],
        "a.txt has 2 lines",
    ),
    "what nothing else matches is written down": (
        ("disk.usage", "mount=/", "percent:=10"),
        ["unknown"],
        "nothing is to be done for disk.usage",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_examples_do_what_they_say(examples: Project, case: str) -> None:
    task, rules, notice = CASES[case]
    ended = examples("run", *task, "--json")
    assert ended.status == 0, ended.out
    assert sorted(branch["run"]["rule"] for branch in branches(ended.json)) == sorted(rules)
    notices = (examples.folder / ".scriptrules" / "notices.ndjson").read_text().splitlines()
    assert json.loads(notices[-1])["text"].startswith(notice)


def test_every_example_is_part_of_a_case(examples: Project) -> None:
    used = {rule.partition(":")[0] for _, rules, _ in CASES.values() for rule in rules}
    assert used == set(read_all(examples.folder / "rules")[0])


def test_the_observer_of_the_example_plugin_warns_of_what_is_held(examples: Project, tmp_path: Path) -> None:
    with examples.serving("--store", f"sqlite:///{tmp_path}/state.db"):
        id = examples("send", "disk.usage", "mount=/", "percent=much").out.strip()
        examples.until_state(id, "held")
    log = (examples.folder / "server.log").read_text()
    assert any(id in line for line in log.splitlines() if "notices.attention" in line)
