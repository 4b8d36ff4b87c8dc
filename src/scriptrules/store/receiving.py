"""What `receive` waits for, as a key that is equal for whoever waits and for the task that arrives.

A key says the pattern of the name, the fields that have to be equal, and a digest of their values. The pattern and the
fields are the key's *shape*: for each shape that somebody waits with, a task has at most one key, so that however many
wait, an arrival costs as many look-ups as there are shapes that it fits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from scriptrules.model import Json
from scriptrules.rulebook.index import Index, is_literal

_DIGEST_BYTES = 16
_encode = msgspec.json.encode


def key_of(pattern: str, match: Mapping[str, Json]) -> str:
    """The key of a task whose name fits `pattern` and whose fields equal `match`.

    Equal means as JSON: 1 and 1.0 are equal, 1 and true are not, and the order of an object's fields does not count.
    """
    fields = sorted(match)
    values = _encode([_plain(match[field]) for field in fields], order="sorted")
    digest = hashlib.blake2b(values, digest_size=_DIGEST_BYTES).hexdigest()
    return f"{pattern} {_encode(fields).decode()} {digest}"


def fits(data: bytes, match: Mapping[str, Json]) -> bool:
    """Whether a task with this data has the fields that `match` asks for."""
    values = msgspec.json.decode(data) if match else {}
    wanted = all(field in values for field in match)
    return wanted and key_of("", {field: values[field] for field in match}) == key_of("", match)


def pattern_of(key: str) -> str:
    """The pattern in a key."""
    return key.partition(" ")[0]


def shape_of(key: str) -> str:
    """The shape of a key, as text."""
    return key.rpartition(" ")[0]


class Shapes:
    """The shapes that somebody waits with. Literal names need none of their own: their fields are all that counts.

    Args:
        shapes: what there is (`shape_of`).
        exact: whether literal names count all the same.
    """

    def __init__(self, shapes: Iterable[str] = (), exact: bool = False) -> None:
        self._exact = exact
        self._fields: set[tuple[str, ...]] = set()
        self._patterns: Index[tuple[str, tuple[str, ...]]] = Index((), rank=bool)
        self._known: set[tuple[str, tuple[str, ...]]] = set()
        for shape in shapes:
            self.add(shape)

    def __bool__(self) -> bool:
        return bool(self._fields or self._known)

    def add(self, shape: str) -> None:
        pattern, _, listed = shape.partition(" ")
        fields = tuple(msgspec.json.decode(listed))
        if is_literal(pattern) and not self._exact:
            self._fields.add(fields)
        elif (pattern, fields) not in self._known:
            self._known.add((pattern, fields))
            self._patterns.add([pattern], (pattern, fields))

    def keys_of(self, name: str, data: bytes) -> list[str]:
        """The keys that somebody may wait for with whom a task of this name and data fits."""
        values = msgspec.json.decode(data)
        shapes = [(name, fields) for fields in self._fields] + self._patterns.candidates(name)
        return [
            key_of(pattern, {field: values[field] for field in fields})
            for pattern, fields in shapes
            if all(field in values for field in fields)
        ]


def _plain(value: Json) -> Json:
    """`value` with its whole numbers as such."""
    match value:
        case float() if value.is_integer() and abs(value) < 2**63:
            return int(value)
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {name: _plain(item) for name, item in value.items()}
    return value
