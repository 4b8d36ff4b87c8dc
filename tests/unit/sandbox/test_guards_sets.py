"""The sets of the rule language agree with Python's, except that they have an order."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from scriptrules.sandbox.sets import ItemsView, KeysView, RuleFrozenSet, RuleSet

NUMBERS = st.lists(st.integers(0, 12), max_size=8)
OPERATORS = ["__and__", "__or__", "__sub__", "__xor__"]
TESTS = ["__le__", "__lt__", "__ge__", "__gt__", "__eq__", "__ne__"]
UPDATES = ["update", "intersection_update", "difference_update", "symmetric_difference_update"]


@given(NUMBERS, NUMBERS)
def test_the_algebra_of_sets_is_that_of_python(left: list[int], right: list[int]) -> None:
    for kind, other in ((RuleSet, RuleFrozenSet), (RuleFrozenSet, RuleSet), (RuleSet, RuleSet)):
        for name in OPERATORS + TESTS:
            ours = getattr(kind(left), name)(other(right))
            theirs = getattr(set(left), name)(set(right))
            assert (set(ours) if name in OPERATORS else ours) == theirs
    assert RuleSet(left).isdisjoint(right) == set(left).isdisjoint(right)
    assert RuleSet(left).issubset(right) == set(left).issubset(right)
    assert hash(RuleFrozenSet(left)) == hash(RuleFrozenSet(reversed(left)))


@given(NUMBERS, NUMBERS)
def test_updates_in_place_are_those_of_python(left: list[int], right: list[int]) -> None:
    for name in UPDATES:
        ours, theirs = RuleSet(left), set(left)
        getattr(ours, name)(right)
        getattr(theirs, name)(right)
        assert set(ours) == theirs


@given(NUMBERS)
def test_a_set_iterates_in_the_order_of_insertion(items: list[int]) -> None:
    assert list(RuleSet(items)) == list(dict.fromkeys(items))


@given(st.dictionaries(st.integers(0, 9), st.integers(0, 3)), st.dictionaries(st.integers(0, 9), st.integers(0, 3)))
def test_the_algebra_of_views_is_that_of_python(left: dict[int, int], right: dict[int, int]) -> None:
    for name in [*OPERATORS, *TESTS]:
        keys = getattr(KeysView(left), name)(KeysView(right)), getattr(left.keys(), name)(right.keys())
        items = getattr(ItemsView(left), name)(ItemsView(right)), getattr(left.items(), name)(right.items())
        for ours, theirs in (keys, items):
            assert (set(ours) if name in OPERATORS else ours) == theirs
            assert name not in OPERATORS or type(ours) is RuleSet


def test_a_set_can_be_asked_for_a_set() -> None:
    assert RuleSet([1]) in RuleSet([RuleFrozenSet([1])])


def test_sets_read_like_pythons() -> None:
    assert [repr(RuleSet([2, 1])), repr(RuleSet()), repr(RuleFrozenSet([1])), repr(KeysView({1: 2}))] == [
        "{2, 1}",
        "set()",
        "frozenset({1})",
        "dict_keys([1])",
    ]
