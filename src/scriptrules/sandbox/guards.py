"""The guards that rewritten code calls: attributes, operators that can explode, handlers, and objects of the host.

Everything a script can reach is of a closed set of types; `ATTRIBUTES` lists for each what may be read. An entry None
is read natively, another one is called with the object (and, for a method, with its arguments): a guarded form.

What was tried and rejected: checking the result of `*` (it must not be computed), wrapping values in guarded classes
(`type(x) is int` then fails everywhere), and proxies for the host's objects (an AttributeError carries what they hide).
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import partial
from itertools import compress, islice
from typing import Any

from scriptrules.sandbox import signals
from scriptrules.sandbox.sets import ItemsView, KeysView
from scriptrules.sandbox.sets import measured as bounded

MAX_TEXT = 16_000_000  # characters of a text, bytes of a byte string
MAX_ITEMS = 2_000_000  # elements of a list, tuple, dict or set
MAX_BITS = 65_536  # of an integer
MAX_MODULAR = 1 << 24  # bits of exponent times modulus: about 0.1 s
_SMALL = 1 << 63

Entry = Callable[..., Any] | None
ATTRIBUTES: dict[type, dict[str, Entry]] = {}
PROPERTIES: set[tuple[type, str]] = set()  # guarded attributes that are values, not methods


class Opaque:
    """An object of the host that scripts may hold: they read what `visible` lists, and nothing else."""

    __slots__ = ()
    visible: frozenset[str] = frozenset()
    hint = ""  # how an AttributeError about it ends

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class Namespace:
    """A read-only module: a script reads its members and can do nothing else with it."""

    __slots__ = ("hints", "members", "name")

    def __init__(self, name: str, members: dict[str, Any], hints: dict[str, str] | None = None) -> None:
        self.name = name
        self.members = members
        self.hints = hints or {}

    def hint(self, name: str) -> str:
        """Return what to use instead of a member that rules do not have."""
        return self.hints.get(name, "")

    def __repr__(self) -> str:
        return f"<module '{self.name}'>"


class TypeFacade:
    """A type as scripts see it: they call it, name it in isinstance(), and read its static functions."""

    __slots__ = ("hints", "make", "name", "real", "statics")

    def __init__(
        self, name: str, real: tuple[type, ...], make: Callable[..., Any], statics: dict[str, Any] | None = None
    ) -> None:
        self.name = name
        self.real = real
        self.make = make
        self.statics = statics or {}
        self.hints: dict[str, str] = {}

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self.make(*args, **kwargs)

    def __or__(self, other: Any) -> Any:
        return (self, *other) if type(other) is tuple else (self, other)

    def __ror__(self, other: Any) -> Any:
        return (*other, self) if type(other) is tuple else (other, self)

    def __getitem__(self, parameters: Any) -> TypeFacade:
        return self

    def __repr__(self) -> str:
        return f"<class '{self.name}'>"


def too_large(what: str) -> signals.LimitExceeded:
    """Return the signal for a value that would not fit."""
    return signals.LimitExceeded(
        "memory", f"{what} would be too large; keep the bulk outside and pass a reference to it"
    )


# -- registers that other modules of the language fill
# (guards stand at the bottom; facades and texts, which they hand out, are made with them)

MODULES: dict[str, Namespace] = {}  # what can be imported, by name: `facades`
ARGUMENTS: dict[str, Callable[[Any], Any]] = {}  # "read": an exception's argument as scripts see it: `formatting`


# -- attributes


def get_attribute(target: Any, name: str) -> Any:
    """Read an attribute as `target.name` in a script does.

    Raises:
        AttributeError: scripts cannot read it, or there is none.
    """
    kind = type(target)
    try:
        entry = ATTRIBUTES[kind][name]
    except KeyError:
        return _other_attribute(target, kind, name)
    if entry is None:
        return getattr(target, name)
    return entry(target) if (kind, name) in PROPERTIES else partial(entry, target)


def _other_attribute(target: Any, kind: type, name: str) -> Any:
    if kind is Namespace:
        if name in target.members:
            return target.members[name]
        hint = target.hint(name)
        raise AttributeError(f"module {target.name!r} has no attribute {name!r}" + (f". {hint}" if hint else ""))
    if kind is TypeFacade:
        if name in target.statics:
            return target.statics[name]
        method = unbound(target, name)
        if method is not None:
            return method
        hint = target.hints.get(name, "")
        raise AttributeError(f"type object {target.name!r} has no attribute {name!r}" + (f". {hint}" if hint else ""))
    if isinstance(target, Opaque):
        if name in target.visible:
            return getattr(target, name)
        raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}{target.hint}")
    if isinstance(target, BaseException):
        if name == "args":
            return tuple(map(ARGUMENTS["read"], target.args))
        if name in getattr(kind, "visible", ()):
            return getattr(target, name)
    raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}")


def unbound(facade: TypeFacade, name: str) -> Callable[..., Any] | None:
    """Return `list.append` and the like: the same guarded method, taking the object first."""
    for kind in facade.real:
        if name in ATTRIBUTES.get(kind, {}):

            def method(target: Any, /, *args: Any, **kwargs: Any) -> Any:
                if not isinstance(target, facade.real):
                    raise TypeError(f"descriptor {name!r} requires a {facade.name!r} object")
                return get_attribute(target, name)(*args, **kwargs)

            return method
    return None


# -- sizes


def gather(items: Iterable[Any]) -> list[Any]:
    """Return all elements of an iterable as a new list."""
    result = list(islice(bounded(items), MAX_ITEMS + 1))
    if len(result) > MAX_ITEMS:
        raise too_large("the list")
    return result


def star(items: Any) -> Any:
    """Guard what `*` unpacks."""
    if type(items) in (list, tuple):
        if len(items) > MAX_ITEMS:
            raise too_large("the list")
        return items
    return bounded(items)


def check_size(value: Any) -> Any:
    """Return a value that an operator has made, if it is not too large."""
    kind = type(value)
    if kind is str or kind is bytes:
        if len(value) > MAX_TEXT:
            raise too_large("the text")
    elif kind is int:
        if not -_SMALL < value < _SMALL and value.bit_length() > MAX_BITS:
            raise too_large("the number")
    elif kind is Fraction:
        if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
            raise too_large("the number")
    elif kind in (list, tuple, deque) and len(value) > MAX_ITEMS:
        raise too_large("the list")
    return value


# -- operators


def add(left: Any, right: Any) -> Any:
    """`left + right`; both are bounded, so that the result can be judged after the fact."""
    value = left + right
    kind = type(value)
    return value if kind is int or kind is float else check_size(value)


def in_place_add(left: Any, right: Any) -> Any:
    """`left += right`."""
    kind = type(left)
    if kind is list or kind is deque:
        if len(left) > MAX_ITEMS:
            raise too_large("the list")
        right = bounded(right)
    left += right
    return left if kind is int or kind is float else check_size(left)


def _repeat(sequence: Any, times: int) -> None:
    limit = MAX_TEXT if type(sequence) in (str, bytes) else MAX_ITEMS
    if times > 0 and len(sequence) * times > limit:
        raise too_large("the text" if limit == MAX_TEXT else "the list")


def _check_product(left: Any, right: Any) -> None:
    one, other = type(left), type(right)
    if one is int and other is int:
        if left.bit_length() + right.bit_length() > MAX_BITS:
            raise too_large("the number")
    elif one in (str, bytes, list, tuple, deque):
        if other in (int, bool):
            _repeat(left, right)
    elif other in (str, bytes, list, tuple, deque) and one in (int, bool):
        _repeat(right, left)


def mul(left: Any, right: Any) -> Any:
    """`left * right`."""
    if type(left) is int and type(right) is int and -_SMALL < left < _SMALL and -_SMALL < right < _SMALL:
        return left * right
    _check_product(left, right)
    return check_size(left * right)


def in_place_mul(left: Any, right: Any) -> Any:
    """`left *= right`."""
    _check_product(left, right)
    left *= right
    return check_size(left)


def _check_power(base: Any, exponent: Any) -> None:
    if isinstance(base, (int, Fraction)) and isinstance(exponent, int):
        bits = (
            base.bit_length()
            if isinstance(base, int)
            else (base.numerator.bit_length() + base.denominator.bit_length())
        )
        if bits > 1 and bits * abs(exponent) > MAX_BITS + bits and (exponent > 0 or not isinstance(base, int)):
            raise too_large("the number")


def power(base: Any, exponent: Any, modulus: Any = None) -> Any:
    """`base ** exponent`, and pow() with three arguments."""
    if modulus is not None:
        numbers = all(isinstance(part, int) for part in (base, exponent, modulus))
        if numbers and exponent.bit_length() * modulus.bit_length() > MAX_MODULAR:
            raise too_large("the number")
        return pow(base, exponent, modulus)
    _check_power(base, exponent)
    return base**exponent


def in_place_power(base: Any, exponent: Any) -> Any:
    """`base **= exponent`."""
    return power(base, exponent)


def shift(left: Any, right: Any) -> Any:
    """`left << right`."""
    if isinstance(left, int) and isinstance(right, int) and right > 0 and left.bit_length() + right > MAX_BITS:
        raise too_large("the number")
    return left << right


def in_place_sub(left: Any, right: Any) -> Any:
    """Stand in for the operators that a slice does not have."""
    left -= right
    return left


def get_slice(target: Any, start: Any, stop: Any, step: Any) -> Any:
    """`target[a:b:c]`; a mapping must not keep the slice as a key, from where a script could take it."""
    if type(target) not in (list, str, tuple, bytes, range):
        raise TypeError(f"{type(target).__name__!r} object cannot be sliced")
    return target[start:stop:step]


def get_part(target: Any, part: slice) -> Any:
    """`target[a:b]` as the left side of an augmented assignment."""
    return get_slice(target, part.start, part.stop, part.step)


def set_slice(target: Any, part: slice, value: Any) -> None:
    """`target[a:b] = value`."""
    if type(target) is not list:
        raise TypeError(f"{type(target).__name__!r} object does not support slice assignment")
    value = gather(value)
    if len(target) + len(value) > MAX_ITEMS:
        raise too_large("the list")
    target[part] = value


# -- exceptions


def _reraise_signals() -> None:
    error = sys.exc_info()[1]
    if error is not None and (not isinstance(error, Exception) or isinstance(error, (MemoryError, RecursionError))):
        raise error
    if signals.current.dead:
        raise signals.Ended


def handler(kinds: Any) -> Any:
    """Guard the type of an `except`: what ends a run passes by, and only exceptions can be named."""
    _reraise_signals()
    real: list[type] = []
    for kind in kinds if type(kinds) is tuple else (kinds,):
        real += kind.real if type(kind) is TypeFacade else (kind,)
    if not all(type(kind) is type and issubclass(kind, Exception) for kind in real):
        raise TypeError("catching classes that do not inherit from Exception is not allowed")
    return tuple(real)


def finalizer() -> None:
    """Stand first in every `finally`: what ends a run passes by."""
    _reraise_signals()


# -- the rest of what rewritten code needs


class _Box:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def begin() -> Any:
    """Return the steps of the scope under which a module is executed."""
    return signals.current.fuel


def stars(items: Iterable[Any]) -> Any:
    """Guard the elements of a loop whose target has a star."""
    return map(star, items)


def import_name(module: str, name: str | None = None) -> Any:
    """Perform `import module` and `from module import name`.

    Raises:
        ImportError: there is no such module or name for rules.
    """
    if module == "lib" and name is not None:
        return _library(name)
    source = _library(module[4:]) if module.startswith("lib.") else MODULES.get(module)
    if source is None:
        raise ImportError(f"rules cannot import {module!r}")
    if name is None:
        return source
    if name.startswith("_") or name not in source.members:
        raise ImportError(f"cannot import name {name!r} from {module!r}")
    return source.members[name]


def _library(name: str) -> Namespace:
    names = signals.current.library(name)
    if isinstance(names, Namespace):
        return names
    return Namespace(f"lib.{name}", names)  # type: ignore[arg-type]


HOOKS: dict[str, Any] = {
    "_getattr_": get_attribute,
    "_loop_": compress,
    "_next_": next,
    "_iter_": iter,
    "_type_": type,
    "_int_": int,
    "_slice_": slice,
    "_begin_": begin,
    "_star_": star,
    "_stars_": stars,
    "_add_": add,
    "_mul_": mul,
    "_pow_": power,
    "_lshift_": shift,
    "_iadd_": in_place_add,
    "_imul_": in_place_mul,
    "_ipow_": in_place_power,
    "_ilshift_": shift,
    "_isub_": in_place_sub,
    "_getslice_": get_slice,
    "_getpart_": get_part,
    "_setslice_": set_slice,
    "_exc_": handler,
    "_fin_": finalizer,
    "_box_": _Box,
    "_import_": import_name,
}

ATTRIBUTES[KeysView] = {"isdisjoint": None}
ATTRIBUTES[ItemsView] = {"isdisjoint": None}

# Errors name the type of a value; authors know these by the names of Python's own.
TypeFacade.__name__ = TypeFacade.__qualname__ = "type"
Namespace.__name__ = Namespace.__qualname__ = "module"
