"""The index finds exactly what a naive matcher finds, in order, and takes no more steps than nodes times segments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scriptrules.rulebook import index as module
from scriptrules.rulebook.index import PATTERN, Index, is_literal, matches

SEGMENT = st.sampled_from(["a", "b", "c-d", "e_1"])
NAMES = st.lists(SEGMENT, min_size=1, max_size=5).map(".".join)
PATTERNS = st.lists(st.one_of(SEGMENT, st.sampled_from(["*", "**"])), min_size=1, max_size=5).map(".".join)


def fits(pattern: str, name: str) -> bool:
    """The same question, answered by a regular expression over segments that each end in a dot."""
    parts = {"*": r"[^.]+\.", "**": r"(?:[^.]+\.)*"}
    text = "".join(parts.get(segment, re.escape(segment) + r"\.") for segment in pattern.split("."))
    return re.fullmatch(text, name + ".") is not None


@given(PATTERNS, NAMES)
def test_a_pattern_fits_as_the_naive_matcher_says(pattern: str, name: str) -> None:
    assert PATTERN.match(pattern)
    assert matches(pattern, name) == fits(pattern, name)


@given(
    st.lists(st.tuples(st.lists(PATTERNS, max_size=3), st.integers(-2, 2)), max_size=12), st.lists(NAMES, max_size=5)
)
def test_candidates_are_all_that_fit_each_once_best_rank_first(
    rows: list[tuple[list[str], int]], names: list[str]
) -> None:
    items = [(patterns, (-priority, number)) for number, (patterns, priority) in enumerate(rows)]
    index = Index(items, rank=lambda item: item)
    for name in [*names, *names]:  # the second time from what is remembered
        expected = sorted(item for patterns, item in items if any(fits(pattern, name) for pattern in patterns))
        assert index.candidates(name) == expected


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("**", "upload", True),
        ("**", "a.b.c", True),
        ("upload.*", "upload.finished", True),
        ("upload.*", "upload", False),
        ("upload.*", "upload.a.b", False),
        ("upload.**", "upload", True),
        ("upload.**", "upload.a.b", True),
        ("**.failed", "failed", True),
        ("**.failed", "a.b.failed", True),
        ("*.**.*", "a", False),
        ("*.**.*", "a.b", True),
        ("Upload", "upload", False),
    ],
)
def test_one_star_is_one_segment_and_two_are_any_number(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", "a*", "***", "a b", "ä", "a\n", "a/b"])
def test_what_is_no_pattern_is_refused(text: str) -> None:
    assert not PATTERN.match(text)


def test_a_name_without_stars_is_literal() -> None:
    assert (is_literal("a.b"), is_literal("a.*"), is_literal("**")) == (True, False, False)


def test_many_double_stars_cost_nodes_times_segments_and_not_more(monkeypatch: pytest.MonkeyPatch) -> None:
    patterns = [".".join(["**", "a"] * count + ["z"]) for count in range(1, 25)]
    index = Index([([pattern], pattern) for pattern in patterns], rank=str)
    segments = ["a"] * 100
    nodes = 1 + 2 * 24 + 24
    most = 2 * nodes * (len(segments) + 1)  # a place may be entered twice before its first visit begins
    entered = 0
    walk = Index._walk

    def counting(self: Index[str], node: Any, segments: list[str], at: int, seen: set[Any]) -> Iterator[str]:
        nonlocal entered
        entered += (id(node), at) not in seen
        assert entered <= most
        return walk(self, node, segments, at, seen)

    monkeypatch.setattr(Index, "_walk", counting)
    assert index.candidates(".".join(segments)) == []
    assert entered > nodes


def test_only_so_many_names_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 3)
    index = Index([(["**"], 1)], rank=int)
    for number in range(10):
        assert index.candidates(f"a.{number}") == [1]
        assert len(index._found) <= 3
