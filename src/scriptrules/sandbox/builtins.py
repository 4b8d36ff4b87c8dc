"""The names that every rule has, and the guarded methods of the built-in types.

What was tried and rejected: RestrictedPython's safe_builtins (they offer `id`, `hash` and BaseException), and the real
types (`list(range(10**12))`, `str(f)` and `isinstance(x, set)` need guards, and one name has to do for all three).
"""

from __future__ import annotations

import builtins as python
import itertools
import sys
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from scriptrules.sandbox import signals
from scriptrules.sandbox.formatting import (
    TEXT_HOOKS,
    format_map,
    format_text,
    format_value,
    to_repr,
    to_text,
)
from scriptrules.sandbox.guards import (
    ATTRIBUTES,
    HOOKS,
    MAX_BITS,
    MAX_ITEMS,
    MAX_TEXT,
    TypeFacade,
    check_size,
    gather,
    get_attribute,
    power,
    too_large,
)
from scriptrules.sandbox.sets import ItemsView, KeysView, RuleFrozenSet, RuleSet
from scriptrules.sandbox.sets import measured as bounded

_MISSING = object()
ENCODINGS = frozenset(
    [
        "utf-8",
        "utf8",
        "utf_8",
        "ascii",
        "us-ascii",
        "latin-1",
        "latin1",
        "iso-8859-1",
        "utf-16",
        "utf-16-le",
        "utf-16-be",
        "utf-32",
        "utf-32-le",
        "utf-32-be",
    ]
)
_ERRORS = frozenset({"strict", "ignore", "replace", "backslashreplace", "xmlcharrefreplace", "surrogatepass"})
EXCEPTIONS = [
    "Exception",
    "ArithmeticError",
    "AssertionError",
    "AttributeError",
    "BufferError",
    "ConnectionError",
    "EOFError",
    "FloatingPointError",
    "ImportError",
    "IndexError",
    "KeyError",
    "LookupError",
    "ModuleNotFoundError",
    "NameError",
    "NotImplementedError",
    "OSError",
    "OverflowError",
    "PermissionError",
    "FileNotFoundError",
    "StopIteration",
    "TimeoutError",
    "TypeError",
    "UnboundLocalError",
    "UnicodeError",
    "ValueError",
    "ZeroDivisionError",
    "Warning",
    "UserWarning",
]


# -- methods of text


def _exact(value: Any, kind: type, what: str) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{what} must be {kind.__name__}, not {type(value).__name__}")
    return value


def _pad(method: str) -> Callable[..., Any]:
    def pad(text: Any, width: Any, *fill: Any) -> Any:
        if isinstance(width, int) and width > MAX_TEXT:
            raise too_large("the padded text")
        return getattr(text, method)(width, *fill)

    return pad


def _expandtabs(text: Any, tabsize: int = 8) -> Any:
    if isinstance(tabsize, int) and text.count("\t" if type(text) is str else b"\t") * tabsize > MAX_TEXT:
        raise too_large("the text")
    return text.expandtabs(tabsize)


def _join(separator: Any, items: Any) -> Any:
    parts = gather(items)
    if all(type(part) is type(separator) for part in parts):
        total = sum(map(len, parts)) + len(separator) * max(len(parts) - 1, 0)
        if total > MAX_TEXT:
            raise too_large("the text")
    return separator.join(parts)


def _replace(text: Any, old: Any, new: Any, count: int = -1) -> Any:
    if type(old) is type(text) and type(new) is type(text) and isinstance(count, int) and len(new) > len(old):
        found = text.count(old) if count < 0 else min(count, text.count(old))
        if len(text) + found * (len(new) - len(old)) > MAX_TEXT:
            raise too_large("the text")
    return text.replace(old, new, count)


def _translate(text: str, table: Any) -> str:
    if type(table) is not dict:
        raise TypeError("translate() wants a dict, as str.maketrans() makes it")
    longest = max((len(value) for value in table.values() if type(value) is str), default=1)
    if len(text) * max(longest, 1) > MAX_TEXT:
        raise too_large("the text")
    return text.translate(table)


def _codec(encoding: Any, errors: Any) -> tuple[str, str]:
    name = _exact(encoding, str, "the encoding").lower().replace("_", "-")
    if name not in ENCODINGS:
        raise LookupError(f"unknown encoding: {encoding}")
    if errors not in _ERRORS:
        raise LookupError(f"unknown error handler name {errors!r}")
    return name, errors


def _encode(text: str, encoding: str = "utf-8", errors: str = "strict") -> bytes:
    return text.encode(*_codec(encoding, errors))


def _decode(data: bytes, encoding: str = "utf-8", errors: str = "strict") -> str:
    return data.decode(*_codec(encoding, errors))


# -- methods of containers


def _extend(target: list[Any], items: Any) -> None:
    if len(target) > MAX_ITEMS:
        raise too_large("the list")
    target.extend(bounded(items))


def find_index(target: Any, value: Any, start: int = 0, stop: int | None = None) -> int:
    """`xs.index(value)`; the native one puts the whole value into its error."""
    if type(target) is range:
        return target.index(value) if isinstance(value, int) else _not_found(target)
    if type(value) in (str, int, float, bool):
        return target.index(value, start, len(target) if stop is None else stop)  # type: ignore[no-any-return]
    for index in range(*slice(start, stop).indices(len(target))):
        if target[index] is value or target[index] == value:
            return index
    return _not_found(target)


def _not_found(target: Any) -> int:
    raise ValueError(f"value is not in {type(target).__name__}")


def update(target: dict[Any, Any], /, *args: Any, **kwargs: Any) -> None:
    """`d.update(…)`."""
    if len(args) == 1 and not isinstance(args[0], dict) and not hasattr(type(args[0]), "keys"):
        args = (bounded(args[0]),)
    target.update(*args, **kwargs)


def fromkeys(keys: Any, value: Any = None) -> dict[Any, Any]:
    """`dict.fromkeys(…)`."""
    return dict.fromkeys(bounded(keys), value)


def _set_method(method: str) -> Callable[..., Any]:
    def guarded(target: Any, *others: Any) -> Any:
        return getattr(target, method)(*map(bounded, others))

    return guarded


def _to_bytes(number: int, length: int = 1, byteorder: str = "big", *, signed: bool = False) -> bytes:
    if isinstance(length, int) and length > MAX_BITS:
        raise too_large("the byte string")
    return number.to_bytes(length, byteorder, signed=signed)  # type: ignore[arg-type]


def native(names: str) -> dict[str, Any]:
    """Return entries for attributes that are read natively."""
    return dict.fromkeys(names.split())


_TEXT = (
    "capitalize count endswith find index isalnum isalpha isascii isdigit islower isspace istitle isupper lower lstrip "
    "partition removeprefix removesuffix rfind rindex rpartition rsplit rstrip split splitlines startswith strip "
    "swapcase "
    "title upper"
)
_TEXT_GUARDS: dict[str, Any] = {
    "center": _pad("center"),
    "ljust": _pad("ljust"),
    "rjust": _pad("rjust"),
    "zfill": _pad("zfill"),
    "expandtabs": _expandtabs,
    "join": _join,
    "replace": _replace,
}
_SET_METHODS = "difference intersection isdisjoint issubset issuperset symmetric_difference union"
_SET_UPDATES = "difference_update intersection_update symmetric_difference_update update"

_DICT: dict[str, Any] = {
    **native("clear copy get pop popitem setdefault values"),
    "keys": KeysView,
    "items": ItemsView,
    "update": update,
}

ATTRIBUTES |= {
    str: {
        **native(_TEXT + " casefold isdecimal isidentifier isnumeric isprintable"),
        **_TEXT_GUARDS,
        "encode": _encode,
        "format": format_text,
        "format_map": format_map,
        "translate": _translate,
    },
    bytes: {**native(_TEXT + " hex"), **_TEXT_GUARDS, "decode": _decode},
    list: {**native("append clear copy count insert pop remove reverse sort"), "extend": _extend, "index": find_index},
    tuple: native("count index"),
    dict: _DICT,
    range: {**native("count start stop step"), "index": find_index},
    int: {
        **native("bit_count bit_length conjugate denominator imag is_integer numerator real as_integer_ratio"),
        "to_bytes": _to_bytes,
    },
    bool: native("conjugate denominator imag numerator real"),
    float: native("as_integer_ratio conjugate hex imag is_integer real"),
    complex: native("conjugate imag real"),
    RuleSet: {
        **native("add clear copy discard pop remove"),
        **{n: _set_method(n) for n in (_SET_METHODS + " " + _SET_UPDATES).split()},
    },
    RuleFrozenSet: {**native("copy"), **{n: _set_method(n) for n in _SET_METHODS.split()}},
}


# -- the types


def small_decimal(value: Any) -> Any:
    """Return a number that can be made an int; a decimal may stand for one of millions of digits."""
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) > MAX_BITS // 4:
        raise too_large("the number")
    return value


def _make_int(value: Any = 0, *base: Any) -> int:
    return check_size(int(small_decimal(value), *base))  # type: ignore[no-any-return]


def _make_text(value: Any = "", *codec: Any) -> str:
    if codec and type(value) is bytes:
        return _decode(value, *codec)
    return to_text(value)


def _make_bytes(value: Any = b"", *codec: Any) -> bytes:
    if type(value) is str:
        if not codec:
            raise TypeError("string argument without an encoding")
        return _encode(value, *codec)
    if type(value) is int:
        if value > MAX_TEXT:
            raise too_large("the byte string")
        return bytes(value)
    return bytes(gather(value)) if type(value) is not bytes else value


def _make_list(items: Any = ()) -> list[Any]:
    return gather(items)


def _make_tuple(items: Any = ()) -> tuple[Any, ...]:
    return items if type(items) is tuple else tuple(gather(items))


def _make_dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    if len(args) > 1:
        raise TypeError(f"dict expected at most 1 argument, got {len(args)}")
    update(result, *args, **kwargs)
    return result


def _make_set(items: Any = ()) -> RuleSet:
    return RuleSet(bounded(items))


def _make_frozenset(items: Any = ()) -> RuleFrozenSet:
    return items if type(items) is RuleFrozenSet else RuleFrozenSet(bounded(items))


def _from_bytes(data: Any, byteorder: str = "big", *, signed: bool = False) -> int:
    return check_size(int.from_bytes(bytes(data), byteorder, signed=signed))  # type: ignore[arg-type, no-any-return]


TYPES: dict[str, TypeFacade] = {
    "str": TypeFacade("str", (str,), _make_text, {"maketrans": str.maketrans}),
    "int": TypeFacade("int", (int,), _make_int, {"from_bytes": _from_bytes}),
    "float": TypeFacade("float", (float,), float, {"fromhex": float.fromhex}),
    "bool": TypeFacade("bool", (bool,), bool),
    "complex": TypeFacade("complex", (complex,), complex),
    "bytes": TypeFacade("bytes", (bytes,), _make_bytes, {"fromhex": bytes.fromhex}),
    "list": TypeFacade("list", (list,), _make_list),
    "tuple": TypeFacade("tuple", (tuple,), _make_tuple),
    "dict": TypeFacade("dict", (dict,), _make_dict, {"fromkeys": fromkeys}),
    "set": TypeFacade("set", (RuleSet,), _make_set),
    "frozenset": TypeFacade("frozenset", (RuleFrozenSet,), _make_frozenset),
    "range": TypeFacade("range", (range,), range),
}


def _codec_error(kind: type[UnicodeError], text: type) -> TypeFacade:
    """Return the facade of an error whose text is made in C from positions that nobody checks there."""

    def make(encoding: str, data: Any, start: int, end: int, reason: str) -> UnicodeError:
        if not 0 <= start <= end <= len(_exact(data, text, "the data")):
            raise ValueError("the positions lie outside the data")
        return kind(encoding, data, start, end, reason)

    return TypeFacade(kind.__name__, (kind,), make)


TYPES_OF_ERRORS: dict[str, TypeFacade] = {
    "UnicodeDecodeError": _codec_error(UnicodeDecodeError, bytes),
    "UnicodeEncodeError": _codec_error(UnicodeEncodeError, str),
}
FACADES: dict[type, TypeFacade] = {facade.real[0]: facade for facade in (*TYPES.values(), *TYPES_OF_ERRORS.values())}
FACADES[type(None)] = TypeFacade("NoneType", (type(None),), lambda: None)
_FUNCTION = TypeFacade("function", (FunctionType, BuiltinFunctionType, MethodType, partial), lambda: None)


def type_of(value: Any) -> Any:
    """`type(value)`: what a script may know of it."""
    kind = type(value)
    if kind in FACADES:
        return FACADES[kind]
    if isinstance(value, BaseException):
        return kind
    if isinstance(value, _FUNCTION.real):
        return _FUNCTION
    name = kind.__name__
    return FACADES.setdefault(kind, TypeFacade(name, (kind,), _not_callable))


def _not_callable(*args: Any, **kwargs: Any) -> Any:
    raise TypeError("cannot create instances of this type here")


def _real_types(kinds: Any) -> tuple[type, ...]:
    if type(kinds) is TypeFacade:
        return kinds.real
    if type(kinds) is tuple:
        return tuple(kind for part in kinds for kind in _real_types(part))
    if type(kinds) is type and issubclass(kinds, BaseException):
        return (kinds,)
    if kinds is None:
        return (type(None),)
    raise TypeError("isinstance() arg 2 must be a type, a tuple of types, or a union")


def is_instance(value: Any, kinds: Any) -> bool:
    """`isinstance(value, kinds)`."""
    return isinstance(value, _real_types(kinds))


def _is_subclass(kind: Any, kinds: Any) -> bool:
    return any(issubclass(real, _real_types(kinds)) for real in _real_types(kind))


# -- functions


def fuelled(make: Callable[..., Any]) -> Callable[..., Any]:
    """Return a maker of iterators whose every element costs a step."""

    def guarded(*args: Any, **kwargs: Any) -> Any:
        return itertools.compress(make(*args, **kwargs), signals.current.fuel)

    return guarded


def _sum(items: Any, start: Any = 0) -> Any:
    if type(start) in (str, bytes):
        raise TypeError("sum() can't sum strings [use ''.join(seq) instead]")
    parts = gather(items)
    if type(start) in (int, float) and all(type(part) in (int, float, bool) for part in parts):
        return check_size(sum(parts, start))
    total = start
    for part in parts:
        total = HOOKS["_add_"](total, part)
    return total


def _extreme(function: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(*args: Any, **kwargs: Any) -> Any:
        return function(bounded(args[0]), **kwargs) if len(args) == 1 else function(*args, **kwargs)

    return guarded


def _sorted(items: Any, *, key: Any = None, reverse: bool = False) -> list[Any]:
    result = gather(items)
    signals.current.charge(len(result) >> 3)
    result.sort(key=key, reverse=reverse)
    return result


def _all(items: Any) -> bool:
    return all(bounded(items))


def _any(items: Any) -> bool:
    return any(bounded(items))


def _round(number: Any, digits: Any = None) -> Any:
    if digits is not None and isinstance(digits, int) and abs(digits) > MAX_WIDTH_DIGITS:
        raise too_large("the number of digits")
    if digits is None:
        return round(small_decimal(number))
    return round(number, digits)


MAX_WIDTH_DIGITS = 4000


def _getattr(target: Any, name: str, *default: Any) -> Any:
    _exact(name, str, "attribute name")
    if len(default) > 1:
        raise TypeError("getattr expected at most 3 arguments")
    try:
        if name.startswith("_"):
            raise AttributeError(f"{type(target).__name__!r} object has no attribute {name!r}")
        return get_attribute(target, name)
    except AttributeError:
        if default:
            return default[0]
        raise


def _hasattr(target: Any, name: str) -> bool:
    return _getattr(target, name, _MISSING) is not _MISSING


def _iter(items: Any, *sentinel: Any) -> Any:
    return itertools.compress(iter(items, *sentinel), signals.current.fuel)


def _print(*values: Any, sep: str | None = " ", end: str | None = "\n") -> None:
    text = (" " if sep is None else sep).join([to_text(value) for value in values])
    signals.current.write(check_size(text + ("\n" if end is None else end)))


def _ascii(value: Any) -> str:
    return to_repr(value).encode("ascii", "backslashreplace").decode("ascii")


def _import_for_python(name: str, *args: Any, **kwargs: Any) -> None:
    """Stand for `__import__` where C code imports what it needs late, which is loaded already.

    The statements of a rule never come here, and the interpreter takes the module from `sys.modules` by itself: nothing
    is ever given out.
    """
    if name not in sys.modules:
        raise ImportError(f"{name!r} cannot be imported here")


_FUNCTIONS: dict[str, Any] = {
    "abs": abs,
    "all": _all,
    "any": _any,
    "ascii": _ascii,
    "bin": bin,
    "callable": callable,
    "chr": chr,
    "divmod": divmod,
    "enumerate": fuelled(enumerate),
    "filter": fuelled(filter),
    "format": format_value,
    "getattr": _getattr,
    "hasattr": _hasattr,
    "hex": hex,
    "isinstance": is_instance,
    "issubclass": _is_subclass,
    "iter": _iter,
    "len": len,
    "map": fuelled(map),
    "max": _extreme(max),
    "min": _extreme(min),
    "next": next,
    "oct": oct,
    "ord": ord,
    "pow": power,
    "print": _print,
    "repr": to_repr,
    "reversed": reversed,
    "round": _round,
    "sorted": _sorted,
    "sum": _sum,
    "type": type_of,
    "zip": fuelled(zip),
    "_set_": RuleSet,
    "__import__": _import_for_python,
}


def make_builtins() -> dict[str, object]:
    """Return the names that rules have before anything is injected.

    Returns:
        A new dict for `__builtins__`: types, functions, exceptions, and the hooks of the guards. One for each worker;
        scripts have no way to write to it.
    """
    exceptions = {name: getattr(python, name) for name in EXCEPTIONS}
    classes: dict[str, Any] = {f"_cls_{name}_": facade.real[0] for name, facade in TYPES.items()}
    exceptions |= TYPES_OF_ERRORS
    return {**_FUNCTIONS, **TYPES, **exceptions, **classes, **HOOKS, **TEXT_HOOKS, "NotImplemented": NotImplemented}
