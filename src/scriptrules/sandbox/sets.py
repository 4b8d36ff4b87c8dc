"""Sets that iterate in the order of insertion, and views of dicts whose algebra gives such sets.

The order of a real set depends on hashes, and those of functions, NaN and None on addresses: it differs between two
processes whatever the hash seed is. No script ever holds a real set.

What was tried and rejected: sorting at iteration (elements need not be comparable), and a fixed hash seed (addresses).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from itertools import compress
from typing import Any, TypeGuard

from scriptrules.sandbox import signals

SETS: tuple[type[Any], ...]  # every kind of set and set-like view that scripts can hold


def measured(items: Any) -> Any:
    """Return an iterable over which a loop in C ends: containers as they are, the rest at one step an element."""
    if type(items) in (list, tuple, dict, str, bytes) or isinstance(items, SETS):
        signals.current.charge(len(items) >> 6)
        return items
    return compress(items, signals.current.fuel)


def _is_set(other: Any) -> TypeGuard[AbstractSet[Any]]:
    return isinstance(other, SETS)


def _keys(other: Any) -> dict[Any, None]:
    return other._items if isinstance(other, OrderedSet) else dict.fromkeys(other)


class OrderedSet(AbstractSet[Any]):  # noqa: PLW1641 (the two kinds differ in that)
    """What the two kinds of set have in common."""

    __slots__ = ("_items",)

    def __init__(self, items: Iterable[Any] = ()) -> None:
        self._items: dict[Any, None] = dict.fromkeys(items)

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __reversed__(self) -> Iterator[Any]:
        raise TypeError(f"'{type(self).__name__}' object is not reversible")

    def __contains__(self, item: Any) -> bool:
        if type(item) is RuleSet:
            item = RuleFrozenSet(item)
        return item in self._items

    def __eq__(self, other: object) -> bool:
        if not _is_set(other):
            return NotImplemented
        return len(self) == len(other) and all(item in self._items for item in other)

    def __le__(self, other: Any) -> bool:
        return self.issubset(other) if _is_set(other) else NotImplemented

    def __lt__(self, other: Any) -> bool:
        return len(self) < len(other) and self.issubset(other) if _is_set(other) else NotImplemented

    def __ge__(self, other: Any) -> bool:
        return self.issuperset(other) if _is_set(other) else NotImplemented

    def __gt__(self, other: Any) -> bool:
        return len(self) > len(other) and self.issuperset(other) if _is_set(other) else NotImplemented

    def __and__(self, other: Any) -> Any:
        return self.intersection(other) if _is_set(other) else NotImplemented

    def __or__(self, other: Any) -> Any:
        return self.union(other) if _is_set(other) else NotImplemented

    def __sub__(self, other: Any) -> Any:
        return self.difference(other) if _is_set(other) else NotImplemented

    def __xor__(self, other: Any) -> Any:
        return self.symmetric_difference(other) if _is_set(other) else NotImplemented

    def __rand__(self, other: Any) -> Any:
        return type(self)(other) & self if _is_set(other) else NotImplemented

    def __ror__(self, other: Any) -> Any:
        return type(self)(other) | self if _is_set(other) else NotImplemented

    def __rsub__(self, other: Any) -> Any:
        return type(self)(other) - self if _is_set(other) else NotImplemented

    def __rxor__(self, other: Any) -> Any:
        return type(self)(other) ^ self if _is_set(other) else NotImplemented

    def copy(self) -> Any:
        return type(self)(self._items)

    def issubset(self, other: Iterable[Any]) -> bool:
        keys = _keys(other)
        return all(item in keys for item in self._items)

    def issuperset(self, other: Iterable[Any]) -> bool:
        return all(item in self._items for item in other)

    def isdisjoint(self, other: Iterable[Any]) -> bool:
        return not any(item in self._items for item in other)

    def union(self, *others: Iterable[Any]) -> Any:
        result = type(self)(self._items)
        for other in others:
            result._items.update(_keys(other))
        return result

    def intersection(self, *others: Iterable[Any]) -> Any:
        items: Iterable[Any] = self._items
        for other in others:
            keys = _keys(other)
            items = [item for item in items if item in keys]
        return type(self)(items)

    def difference(self, *others: Iterable[Any]) -> Any:
        items: Iterable[Any] = self._items
        for other in others:
            keys = _keys(other)
            items = [item for item in items if item not in keys]
        return type(self)(items)

    def symmetric_difference(self, other: Iterable[Any]) -> Any:
        keys = _keys(other)
        mine = [item for item in self._items if item not in keys]
        return type(self)([*mine, *(item for item in keys if item not in self._items)])


class RuleSet(OrderedSet):
    """The `set` of the rule language."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "{" + ", ".join(map(repr, self._items)) + "}" if self._items else "set()"

    def _replace(self, other: RuleSet) -> RuleSet:
        self._items = other._items
        return self

    def __ior__(self, other: Any) -> Any:
        return self._replace(self | other) if _is_set(other) else NotImplemented

    def __iand__(self, other: Any) -> Any:
        return self._replace(self & other) if _is_set(other) else NotImplemented

    def __isub__(self, other: Any) -> Any:
        return self._replace(self - other) if _is_set(other) else NotImplemented

    def __ixor__(self, other: Any) -> Any:
        return self._replace(self ^ other) if _is_set(other) else NotImplemented

    def add(self, item: Any) -> None:
        self._items[item] = None

    def discard(self, item: Any) -> None:
        self._items.pop(item, None)

    def remove(self, item: Any) -> None:
        del self._items[item]

    def pop(self) -> Any:
        if not self._items:
            raise KeyError("pop from an empty set")
        return self._items.popitem()[0]

    def clear(self) -> None:
        self._items.clear()

    def update(self, *others: Iterable[Any]) -> None:
        for other in others:
            self._items.update(_keys(other))

    def intersection_update(self, *others: Iterable[Any]) -> None:
        self._replace(self.intersection(*others))

    def difference_update(self, *others: Iterable[Any]) -> None:
        self._replace(self.difference(*others))

    def symmetric_difference_update(self, other: Iterable[Any]) -> None:
        self._replace(self.symmetric_difference(other))


class RuleFrozenSet(OrderedSet):
    """The `frozenset` of the rule language."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash(frozenset(self._items))

    def __repr__(self) -> str:
        return "frozenset({" + ", ".join(map(repr, self._items)) + "})" if self._items else "frozenset()"


class KeysView(AbstractSet[Any]):
    """`d.keys()`: live, in the order of the dict; its algebra gives ordered sets."""

    __slots__ = ("_dict",)
    name = "dict_keys"

    def __init__(self, source: dict[Any, Any]) -> None:
        self._dict = source

    def __and__(self, other: Any) -> Any:
        return RuleSet(self).intersection(measured(other))

    def __or__(self, other: Any) -> Any:
        return RuleSet(self).union(measured(other))

    def __sub__(self, other: Any) -> Any:
        return RuleSet(self).difference(measured(other))

    def __xor__(self, other: Any) -> Any:
        return RuleSet(self).symmetric_difference(measured(other))

    __rand__ = __and__
    __ror__ = __or__
    __rxor__ = __xor__

    def __rsub__(self, other: Any) -> Any:
        return RuleSet(measured(other)).difference(self)

    def __len__(self) -> int:
        return len(self._dict)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._dict)

    def __reversed__(self) -> Iterator[Any]:
        keys: Iterator[Any] = reversed(self._dict)
        return keys

    def __contains__(self, item: Any) -> bool:
        return item in self._dict

    def __repr__(self) -> str:
        return f"{self.name}({list(self)!r})"

    def isdisjoint(self, other: Iterable[Any]) -> bool:
        return not any(item in self for item in measured(other))


class ItemsView(KeysView):
    """`d.items()`: as `KeysView`, with pairs."""

    __slots__ = ()
    name = "dict_items"

    def __iter__(self) -> Iterator[Any]:
        return iter(self._dict.items())

    def __reversed__(self) -> Iterator[Any]:
        pairs: Iterator[Any] = reversed(self._dict.items())
        return pairs

    def __contains__(self, item: Any) -> bool:
        return item in self._dict.items()


SETS = (OrderedSet, KeysView)

# Errors name the type of a value; authors know these by the names of Python's own.
for _kind, _name in (
    (RuleSet, "set"),
    (RuleFrozenSet, "frozenset"),
    (KeysView, "dict_keys"),
    (ItemsView, "dict_items"),
):
    _kind.__name__ = _kind.__qualname__ = _name
