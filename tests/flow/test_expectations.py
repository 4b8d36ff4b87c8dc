"""The corpus is right about its own programs: executed, they generate what is expected, and all of it."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from flowhelp import Executed, Expectation, Interpreter, corpus, fits
from scriptrules.flow.atoms import Type, leaves

SOURCES, EXPECTED = corpus()
TRIES = 250
READ = re.compile(r"""(?:task|t|x)(?:\[|\.get\()["'](\w+)["']""")
# What the fields of tasks are drawn from.
NODES = [
    {"name": "n", "children": []},
    {"name": "n.root", "children": [{"name": "m", "children": []}, {"name": "k", "children": []}]},
]
ROWS: list[Any] = [[], [{"bad": True}, {"bad": False}], [{}], [0], 2]
NAMES = [[], ["x"], ["x", "", "y.z"]]
VALUES: dict[str, list[Any]] = {
    "size": [-1, 0, 5, 15, 50, 150],
    "amount": [-1, 0, 5, 150],
    "kind": ["a", "b", "csv", "tsv", "xml", "none", "", None, "p.q"],
    "key": ["csv", "xml"],
    "suffix": ["csv", "xml"],
    "mode": ["fast", "full"],
    "name": ["x", "y", None],
    "country": ["DE", "FR"],
    "severity": [1, 5, "high", "low"],
    "rows": ROWS,
    "names": NAMES,
    "regions": NAMES,
    "tags": [["urgent"], ["calm"], []],
    "body": [{"type": "list", "items": []}, [1], [1, 2], 3],
    "text": ["12", "x", None],
    "tree": NODES,
    "number": [0, 1, 2, 7],
    "attempts": [0, 2],
    "n": [0, 1, 4],
    "count": [0, 2],
    "pages": [[], [1, 2]],
    "file": ["", "a.csv"],
    "target": ["x.y", "z"],
    "to": ["mail", "x.y"],
    "low": [1, 5],
    "high": [3],
}
FLAGS = [True, False]
ANSWERS = [b'"done"', b'"x.y"', b'"failed"', b"null", b"3"]
# Handlers that the analysis cannot exclude and no data reaches: emit() with a name written out never raises.
UNREACHED = {("callback_guarded", "work.failed")}


def name_for(pattern: str, rng: random.Random) -> str:
    return ".".join(rng.choice(["finished", "x"]) if "*" in part else part for part in pattern.split("."))


def executed(interpreter: Interpreter, rule: str, rng: random.Random) -> list[Executed]:
    source = SOURCES[rule]
    problems, facts = interpreter.load(source)
    assert problems == [], rule
    fields = {parameter.name for parameter in facts.parameters} - {"task"}
    fields |= set(READ.findall(source.text))
    runs = []
    for _ in range(TRIES):
        data = {field: rng.choice(VALUES.get(field, FLAGS)) for field in fields if rng.random() < 0.9}
        name = name_for(rng.choice(facts.on), rng)
        runs += interpreter.execute(name, data, lambda _: rng.choice(ANSWERS))
    return runs


@pytest.fixture(scope="module")
def runs() -> dict[str, list[Executed]]:
    interpreter, rng = Interpreter(), random.Random(6)
    by_rule: dict[str, list[Executed]] = {expected.rule: [] for expected in EXPECTED}
    for rule in SOURCES:
        for run in executed(interpreter, rule, rng):
            by_rule[run.rule].append(run)
    return by_rule


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda expected: expected.rule)
def test_a_rule_generates_what_is_expected_and_all_of_it(
    expected: Expectation, runs: dict[str, list[Executed]]
) -> None:
    seen = set()
    assert any(run.end == "returned" for run in runs[expected.rule])
    for run in runs[expected.rule]:
        for task, via in run.generated:
            fitting = {edge for edge in expected.edges if edge[1] == via and fits(edge[0], task)}
            assert fitting, (task, via)
            seen |= fitting
        if run.end == "returned":
            certain = {(task, via) for task, via, certainty in expected.edges if certainty == "certain"}
            assert certain <= set(run.generated)
    missing = {edge for edge in expected.edges - seen if (expected.rule, edge[0]) not in UNREACHED}
    assert not missing


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda expected: expected.rule)
def test_the_expected_edges_are_the_names_in_the_expected_atom(expected: Expectation) -> None:
    names = {leaf.name if isinstance(leaf, Type) else leaf.pattern for leaf in leaves(expected.atom)}
    assert names == {task for task, _, _ in expected.edges}


def test_a_certain_edge_needs_every_run_to_generate_it(runs: dict[str, list[Executed]]) -> None:
    possible = [
        (expected.rule, task, via)
        for expected in EXPECTED
        for task, via, certainty in expected.edges
        if certainty == "possible"
        and all((task, via) in run.generated for run in runs[expected.rule] if run.end == "returned")
    ]
    assert possible == [("callback_guarded", "work.done", "emit")]


def test_there_are_enough_rules_and_enough_callbacks() -> None:
    assert len(SOURCES) >= 60
    assert len([rule for rule in SOURCES if rule.startswith("callback_")]) >= 20
