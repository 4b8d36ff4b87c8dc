"""Which rules can match a task of a given name: a dictionary for literal names, a trie of segments for patterns.

A loop over all rules costs 8,000 tasks a second at 1,000 rules; this stays above 100,000 at 10,000 (FINDINGS §A). The
candidates of a name are kept once they were found, so that a busy name costs one look-up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, Generic, TypeVar

T = TypeVar("T")

PATTERN = re.compile(r"(?:[A-Za-z0-9_-]+|\*\*?)(?:\.(?:[A-Za-z0-9_-]+|\*\*?))*\Z")
EVERYTHING = "**"
REMEMBERED = 4096  # task names whose candidates are kept


def is_literal(pattern: str) -> bool:
    """Whether `pattern` names exactly one task."""
    return "*" not in pattern


@lru_cache(maxsize=16 * REMEMBERED)
def matches(pattern: str, name: str) -> bool:
    """Whether a task's `name` fits `pattern`: ``*`` is one segment, ``**`` any number of them, also none."""
    return bool(Index([([pattern], True)], rank=bool).candidates(name))


class _Node(Generic[T]):
    __slots__ = ("children", "here")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] = {}
        self.here: list[T] = []


class Index(Generic[T]):
    """Finds what was registered for patterns that fit a name, in the order that `rank` gives."""

    def __init__(self, items: Iterable[tuple[Iterable[str], T]], rank: Callable[[T], Any]) -> None:
        self._rank = rank
        self._literal: dict[str, list[T]] = {}
        self._root: _Node[T] = _Node()
        self._found: dict[str, list[T]] = {}
        for patterns, item in items:
            self.add(patterns, item)

    def add(self, patterns: Iterable[str], item: T) -> None:
        """Register `item` for `patterns`."""
        self._found.clear()
        for pattern in dict.fromkeys(patterns):
            if is_literal(pattern):
                self._literal.setdefault(pattern, []).append(item)
            else:
                self._insert(pattern, item)

    def _insert(self, pattern: str, item: T) -> None:
        node = self._root
        for part in pattern.split("."):
            node = node.children.setdefault(part, _Node())
        node.here.append(item)

    def candidates(self, name: str) -> list[T]:
        """What is registered for `name`, best rank first, each once."""
        found = self._found.get(name)
        if found is None:
            fitting = (*self._literal.get(name, ()), *self._walk(self._root, name.split("."), 0, set()))
            found = sorted({id(item): item for item in fitting}.values(), key=self._rank)
            if len(self._found) >= REMEMBERED:
                self._found.clear()
            self._found[name] = found
        return found

    def _walk(self, node: _Node[T], segments: list[str], at: int, seen: set[tuple[int, int]]) -> Iterator[T]:
        if (id(node), at) in seen:  # so that patterns of many ** cost nodes times segments, never more
            return
        seen.add((id(node), at))
        if at == len(segments):
            yield from node.here
        else:
            for part in (segments[at], "*"):
                if part in node.children:
                    yield from self._walk(node.children[part], segments, at + 1, seen)
        if "**" in node.children:
            for reached in range(at, len(segments) + 1):
                yield from self._walk(node.children["**"], segments, reached, seen)
