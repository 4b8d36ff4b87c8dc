"""The analysis finds what people read in the programs of the corpus."""

from __future__ import annotations

import pytest

from flowhelp import FUNCTIONS, Expectation, corpus, shown, without_reasons
from scriptrules.flow.atoms import Unknown, leaves
from scriptrules.flow.facts import analyse
from scriptrules.flow.shapes import Facts

SOURCES, EXPECTED = corpus()


@pytest.fixture(scope="module")
def found() -> dict[str, Facts]:
    return {name: analyse(source, FUNCTIONS) for name, source in SOURCES.items()}


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda expected: expected.rule)
def test_the_subsequents_are_what_a_person_reads_in_the_program(expected: Expectation, found: dict[str, Facts]) -> None:
    facts = {one.rule: one for one in found[expected.rule.split(":")[0]].rules}
    assert expected.rule in facts
    assert shown(facts[expected.rule].subsequents) == shown(expected.atom)
    assert without_reasons(facts[expected.rule].subsequents) == expected.atom


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda expected: expected.rule)
def test_the_edges_are_exactly_those_that_a_person_expects(expected: Expectation, found: dict[str, Facts]) -> None:
    facts = {one.rule: one for one in found[expected.rule.split(":")[0]].rules}
    edges = {(edge.task, str(edge.via), str(edge.certainty)) for edge in facts[expected.rule].edges}
    assert edges == expected.edges


def test_every_unknown_says_why(found: dict[str, Facts]) -> None:
    unknown = [
        leaf
        for facts in found.values()
        for rule in facts.rules
        for leaf in leaves(rule.subsequents)
        if isinstance(leaf, Unknown)
    ]
    assert unknown
    assert all(leaf.reason for leaf in unknown)


def test_no_rule_is_found_that_is_not_there(found: dict[str, Facts]) -> None:
    rules = {rule.rule for facts in found.values() for rule in facts.rules}
    assert rules == {expected.rule for expected in EXPECTED}
