"""There is one way to write down which tasks follow."""

from __future__ import annotations

import ast

import msgspec
import pytest

from scriptrules.flow.atoms import NOTHING, OTHERWISE, Atom, Branch, Case, List, Type, Unknown, branch, sequence
from scriptrules.flow.conditions import negated, opposes, written
from scriptrules.flow.domains import ANY, Domain, compared, hull, meet

A, B, C = Type("a"), Type("b"), Type("c")


def test_the_json_is_tagged_by_type_and_comes_back_as_it_was() -> None:
    atom = branch([("size > 0", Type("report.ready")), ("size <= 0", Unknown("why", "report.*"))], total=True)
    written = msgspec.json.encode(atom)
    assert written == (
        b'{"type":"Branch","cases":[{"condition":"size > 0","atom":{"type":"Type","name":"report.ready"}},'
        b'{"condition":"size <= 0","atom":{"type":"Unknown","reason":"why","pattern":"report.*"}}]}'
    )
    assert msgspec.json.decode(written, type=Atom) == atom


def test_lists_are_flat_and_one_thing_is_itself() -> None:
    assert sequence([]) == NOTHING == List([])
    assert sequence([List([A]), NOTHING]) == A
    assert sequence([A, List([A, B]), B, A]) == List([A, B, A])


def test_of_two_cases_an_empty_one_is_left_out_and_of_more_only_the_last() -> None:
    assert branch([("x", NOTHING), ("not x", A)], total=True) == Branch([Case("not x", A)])
    three = [("x", NOTHING), ("y", A), (OTHERWISE, NOTHING)]
    assert branch(three, total=True) == Branch([Case("x", NOTHING), Case("y", A)])
    assert branch([("x", NOTHING), ("not x", NOTHING)], total=True) == NOTHING


def test_equal_cases_are_no_choice_unless_all_can_be_missed() -> None:
    assert branch([("x", A), ("not x", A)], total=True) == A
    assert branch([("x", A)], total=False) == Branch([Case("x", A)])


def test_a_choice_in_the_last_case_goes_on_in_the_same_branch() -> None:
    inner = branch([("y", B), ("not y", C)], total=True)
    assert branch([("x", A), ("not x", inner)], total=True) == Branch([Case("x", A), Case("y", B), Case(OTHERWISE, C)])


@pytest.mark.parametrize(
    ("condition", "negation"),
    [
        ("a == b", "a != b"),
        ("a < b", "a >= b"),
        ("a in b", "a not in b"),
        ("a is None", "a is not None"),
        ("not a", "a"),
        ("a and b", "not (a and b)"),
        ("f(x)", "not f(x)"),
        ("0 < a < 9", "not 0 < a < 9"),
    ],
)
def test_conditions_are_negated_without_needless_words(condition: str, negation: str) -> None:
    test = ast.parse(condition, mode="eval").body
    assert negated(test) == negation
    assert opposes(written(test), negation)


# ---- what conditions say


def said(operator: str, value: object) -> Domain:
    found = compared(operator, value)
    assert found is not None
    return found[0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("Gt", 0), ("LtE", 0)),
        (("Eq", "a"), ("Eq", "b")),
        (("Eq", "a"), ("NotEq", "a")),
        (("In", ("a", "b")), ("Eq", "c")),
        (("GtE", 5), ("Lt", 5)),
        (("Eq", "a"), ("Gt", 3)),
        (("Is", None), ("Gt", 0)),
        (("Eq", 3), ("Gt", 3)),
    ],
)
def test_what_cannot_hold_together_is_seen(one: tuple[str, object], other: tuple[str, object]) -> None:
    assert meet(said(*one), said(*other)) is None
    assert meet(said(*other), said(*one)) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("GtE", 5), ("LtE", 5)),
        (("NotEq", "a"), ("NotEq", "b")),
        (("Gt", 0), ("NotEq", 5)),
        (("In", ("a", "b")), ("NotEq", "a")),
    ],
)
def test_what_can_hold_together_is_kept(one: tuple[str, object], other: tuple[str, object]) -> None:
    assert meet(said(*one), said(*other)) is not None


def test_truth_is_compared_with_bounds_and_constants() -> None:
    assert meet(said("Gt", 0), Domain(truth=False)) is None
    assert meet(said("Eq", "a"), Domain(truth=False)) is None
    assert meet(said("GtE", 0), Domain(truth=False)) is not None
    assert meet(ANY, Domain(truth=False)) == Domain(truth=False)


def test_where_ways_meet_only_what_holds_on_both_is_known() -> None:
    both = hull(said("Eq", "a"), said("Eq", "b"))
    assert both.only == {"a", "b"}
    assert hull(said("Gt", 0), said("Gt", 5)).low == (0, False)
    assert hull(said("NotEq", "a"), said("Eq", "b")) == Domain(never=frozenset({"a"}))
