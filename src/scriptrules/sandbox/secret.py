"""A secret as a script holds it: a reference, and the text put around it. The value itself never comes here.

What was tried and rejected: a subclass of str (whatever takes text would take it, and give away what it is given), and
the value under a key of its own in this process (one look into its memory, and the key is found beside it).
"""

from __future__ import annotations

from typing import Any, NoReturn

import msgspec

from scriptrules.model import SecretRef
from scriptrules.sandbox.guards import Opaque, too_large

PARTS_MAX = 100  # references and texts of one secret
TEXT_MAX = 64 * 1024  # characters around the references
MARK = "$secret"  # the only key of what stands for a secret in the arguments of an entry

USE = "Pass it to run(env=, args=, secret_files=) or to a function that accepts secrets"


class Secret(Opaque):
    """What `load` gives for a secret: it can be passed on, and text put before and after it."""

    __slots__ = ("parts",)
    hint = f"; a secret cannot be looked into. {USE}"

    def __init__(self, parts: tuple[str | SecretRef, ...]) -> None:
        self.parts = parts

    def __add__(self, other: Any) -> Secret:
        return _joined(self.parts, _parts(other))

    def __radd__(self, other: Any) -> Secret:
        return _joined(_parts(other), self.parts)

    def __bool__(self) -> bool:
        return True

    def _no_text(self, *_: Any) -> NoReturn:
        raise TypeError(f'a secret cannot be printed, formatted or made text. {USE}; "text " + secret puts text to it')

    def _no_order(self, _: Any) -> NoReturn:
        raise TypeError("a secret cannot be compared, sorted or searched for. Decide by another variable, not a secret")

    def _no_key(self) -> NoReturn:
        raise TypeError("a secret cannot be hashed, so it is no key and no element of a set. Use the variable's name")

    def _no_parts(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(f'a secret cannot be taken apart or changed. {USE}; "text " + secret puts text to it')

    def _no_copy(self, *_: Any) -> NoReturn:
        raise TypeError("a secret cannot be copied or pickled. load() it again where it is needed")

    __str__ = __repr__ = __format__ = __bytes__ = __fspath__ = _no_text
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _no_order
    __hash__ = _no_key
    __len__ = __iter__ = __getitem__ = __contains__ = __reversed__ = _no_parts
    __mul__ = __rmul__ = __mod__ = __rmod__ = __int__ = __float__ = __index__ = _no_parts
    __copy__ = __deepcopy__ = __reduce__ = __reduce_ex__ = __getstate__ = _no_copy

    def marked(self) -> dict[str, Any]:
        """As it stands in the arguments of an entry."""
        return {MARK: [part if isinstance(part, str) else msgspec.structs.asdict(part) for part in self.parts]}


Secret.__name__ = Secret.__qualname__ = "secret"  # errors name the type of a value


def _parts(value: Any) -> tuple[str | SecretRef, ...]:
    if type(value) is Secret:
        return value.parts
    if type(value) is str:
        return (value,)
    raise TypeError(f"text can be put to a secret, not a {type(value).__name__}; write str(…)")


def _joined(left: tuple[str | SecretRef, ...], right: tuple[str | SecretRef, ...]) -> Secret:
    parts: list[str | SecretRef] = []
    for part in (*left, *right):
        if type(part) is str and parts and type(parts[-1]) is str:
            parts[-1] += part
        elif part != "":
            parts.append(part)
    if len(parts) > PARTS_MAX or sum(len(part) for part in parts if type(part) is str) > TEXT_MAX:
        raise too_large("the secret")
    return Secret(tuple(parts))


def mark(value: Any, depth: int) -> Any:
    """A value for a function that accepts secrets, with each secret in it as its mark.

    A key of the author's own that begins with ``$`` gets a second one, so that no mapping can pose as a mark.

    Args:
        depth: how deep lists and dicts are followed; the encoder refuses what is nested deeper.
    """
    kind = type(value)
    if kind is Secret:
        return value.marked()
    if depth <= 0:
        return value
    if kind is dict:
        return {
            f"${key}" if type(key) is str and key.startswith("$") else key: mark(item, depth - 1)
            for key, item in value.items()
        }
    if kind is list or kind is tuple:
        return [mark(item, depth - 1) for item in value]
    return value
