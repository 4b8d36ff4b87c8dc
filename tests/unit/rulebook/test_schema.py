"""The schema for editors: what the compiler takes is valid, what it refuses by shape is not."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from scriptrules.cli.yaml_examples import YAML_EXAMPLES
from scriptrules.diagnostics import is_warning
from scriptrules.plugins.manager import Plugins
from scriptrules.rulebook.composing import Items, Node, Pairs, Scalar, compose, plain_value
from scriptrules.rulebook.schema import schema_of
from yamlhelp import REPORT, TYPES, load

ROOT = Path(__file__).resolve().parent.parent.parent.parent
SCHEMA = schema_of(TYPES)
PAGE = (ROOT / "docs" / "declarative.md").read_text("utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
FILES = sorted((ROOT / "rules").rglob("*.yaml"))
RIGHT = [REPORT, *BLOCKS, *(file.read_text("utf-8") for file in FILES), *(right for _, right in YAML_EXAMPLES.values())]


def value(node: Node | None) -> Any:
    """A document as JSON."""
    match node:
        case Pairs():
            return {key: value(one) for key, (_, one) in node.pairs.items()}
        case Items():
            return [value(one) for one in node.items]
        case Scalar():
            return plain_value(node)
    return None


def errors(text: str) -> list[str]:
    return [error.message for error in Draft202012Validator(SCHEMA).iter_errors(value(compose(text)))]


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert len(BLOCKS) >= 4
    assert len(FILES) >= 2


@pytest.mark.parametrize("text", RIGHT)
def test_every_example_is_valid_and_a_rule(text: str) -> None:
    assert errors(text) == []
    facts, problems = load(text)
    assert facts is not None, problems
    assert all(is_warning(problem.code) for problem in problems)


@pytest.mark.parametrize("code", ["SR703", "SR704", "SR705", "SR706"])
def test_what_is_refused_by_its_shape_is_not_valid(code: str) -> None:
    assert errors(YAML_EXAMPLES[code][0])


@pytest.mark.parametrize(
    "text",
    [
        "on: a",
        "on: a..b\nthen: c",
        "then: a b",
        "call: a\ntype: Docker\nbody: {host: a, name: b, image: c}",
        "type: Docker\nbody: {host: a, name: b, image: c, args: [[x]]}",
        "type: Docker\nbody: {host: a, name: b, image: c, cpus: [1]}",
        "then: {branch: {okay: a}}",
        "then: {task: a, data: 3}",
        "retries: {max: -1}\nthen: a",
        "limit: {max: 1, full: wait}\nthen: a",
        "priority: high\nthen: a",
    ],
)
def test_the_schema_refuses_what_the_compiler_refuses(text: str) -> None:
    assert errors(text)
    assert load(text)[0] is None


@pytest.mark.parametrize(
    "text",
    [
        "retries: 3\ntimeout: 1.5\nlimit: {max: 1, key: customer, full: drop}\nthen: a",
        "retries: {max: 3, backoff: 2}\nschedule: {cron: '0 2 * * *', catch_up: all}\nthen: a",
        "on: [a, b.**]\nschedule: 0 2 * * *\nthen: [a, [b, {branch: {ok: [c, {task: d}], failed: []}}]]\n"
        "type: Process\nbody: {host: 1, name: yes, image: 3.10, args: [012, true], env: {A: 1}, "
        "timeout: {type: data, name: t}}",
    ],
)  # fmt: skip
def test_the_schema_takes_what_the_compiler_takes(text: str) -> None:
    assert errors(text) == []
    facts, problems = load(text)
    assert facts is not None, problems


def test_the_wheel_has_the_schema_of_the_job_types_that_are_built_in() -> None:
    spec = importlib.util.spec_from_file_location("docs_script", ROOT / "scripts" / "docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kept = ROOT / "src" / "scriptrules" / "rule.schema.json"
    assert json.loads(kept.read_text("utf-8")) == json.loads(module.schema()), "run scripts/docs.py"
    assert {"Docker", "Process"} <= set(Plugins(None).job_types)
