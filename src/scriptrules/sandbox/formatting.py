"""Text of values as scripts see it: no addresses, bounded widths, attributes only through the guards.

What was tried and rejected: scrubbing every text that `str` gives (it changes the author's own strings), and
`str.format` with checked field names (the real one reads the attributes itself).
"""

from __future__ import annotations

import re
from _string import formatter_field_name_split  # type: ignore[import-not-found]
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, ValuesView
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from functools import partial
from string import Formatter
from typing import Any

from scriptrules.sandbox import signals
from scriptrules.sandbox.guards import ARGUMENTS, MAX_TEXT, TypeFacade, check_size, get_attribute, too_large
from scriptrules.sandbox.sets import KeysView, OrderedSet, RuleSet

MAX_WIDTH = 10_000  # characters to which one value may be padded
MAX_NESTING = 100  # levels of a container that text is made of

_ADDRESS = re.compile(r" (?:at|@) 0x[0-9A-Fa-f]+")
_DIGITS = re.compile(r"\d+")
_CONVERSION = re.compile(
    r"%(?:\((?P<key>[^()]*)\))?(?P<flags>[#0\- +]*)(?P<width>\*|\d+)?(?P<dot>\.(?P<precision>\*|\d+)?)?"
    r"[hlL]?(?P<kind>.)?",
    re.DOTALL,
)
_PLAIN = frozenset({str, int, float, bool, type(None), bytes, complex, range})
_EXPONENT = 10_000  # decimal digits
_CONTAINERS = (OrderedSet, KeysView, ValuesView, deque, dict, tuple)

FORMATS: dict[type, Callable[[Any, str], str]] = {}  # types whose formats need a guard of their own: `facade_functions`


def scrub(text: str) -> str:
    """Return a text without the addresses that Python puts into the names of objects."""
    return _ADDRESS.sub("", text) if " 0x" in text else text


def to_text(value: Any) -> str:
    """Return `str(value)` as a script sees it."""
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    if kind in (int, float, bool):
        return str(value)
    if isinstance(value, BaseException):
        return _error_text(value)
    if kind in (Decimal, Fraction) or not hasattr(kind, "__iter__"):
        return scrub(str(value))
    return to_repr(value)


def _error_text(error: BaseException) -> str:
    args = error.args
    if all(type(arg) in _PLAIN for arg in args):
        return scrub(str(error))
    return scrub(to_text(args[0]) if len(args) == 1 and not isinstance(error, KeyError) else to_repr(args))


def to_repr(value: Any) -> str:
    """Return `repr(value)` as a script sees it."""
    if type(value) in _PLAIN:
        return repr(value)
    pieces: list[str] = []
    _write(value, pieces, [0], [])
    return "".join(pieces)


def _write(value: Any, pieces: list[str], size: list[int], parents: list[Any]) -> None:
    kind = type(value)
    if kind in (list, tuple) or kind is dict or isinstance(value, _CONTAINERS):
        if any(parent is value for parent in parents):
            _put("{...}" if isinstance(value, dict) else "[...]", pieces, size)
            return
        if len(parents) >= MAX_NESTING:
            raise RecursionError("maximum recursion depth exceeded while getting the repr of an object")
        parents.append(value)
        _write_container(value, pieces, size, parents)
        parents.pop()
    elif kind in _PLAIN:
        _put(repr(value), pieces, size)
    elif isinstance(value, BaseException):
        _put(kind.__name__, pieces, size)
        _write(value.args if len(value.args) != 1 else (value.args[0],), pieces, size, parents)
    elif kind is partial:
        _put("functools.partial(...)", pieces, size)
    else:
        _put(scrub(repr(value)), pieces, size)


def _put(text: str, pieces: list[str], size: list[int]) -> None:
    size[0] += len(text)
    if size[0] > MAX_TEXT:
        raise too_large("the text")
    pieces.append(text)


def _write_container(value: Any, pieces: list[str], size: list[int], parents: list[Any]) -> None:
    before, after = _brackets(value)
    _put(before, pieces, size)
    signals.current.charge(1 + (len(value) >> 2))
    pairs = _pairs(value) if isinstance(value, dict) else None
    first = True
    for item in pairs if pairs is not None else value:
        if not first:
            _put(", ", pieces, size)
        first = False
        if pairs is not None:
            _write(item[0], pieces, size, parents)
            _put(": ", pieces, size)
            item = item[1]
        _write(item, pieces, size, parents)
    _put(after, pieces, size)


def _pairs(value: dict[Any, Any]) -> Any:
    if isinstance(value, Counter):
        with suppress(TypeError):
            return value.most_common()
    return value.items()


def _brackets(value: Any) -> tuple[str, str]:
    kind = type(value)
    if kind is tuple or (isinstance(value, tuple) and kind is not tuple):
        return "(", ",)" if len(value) == 1 else ")"
    if kind is dict:
        return "{", "}"
    if kind is RuleSet:
        return ("{", "}") if value else ("set(", ")")
    if isinstance(value, OrderedSet):
        return ("frozenset({", "})") if value else ("frozenset(", ")")
    if isinstance(value, KeysView):
        return (f"{value.name}([", "])")
    if isinstance(value, ValuesView):
        return "dict_values([", "])"
    if isinstance(value, deque):
        return "deque([", "])" if value.maxlen is None else f"], maxlen={value.maxlen})"
    if isinstance(value, defaultdict):
        return f"defaultdict({to_repr(value.default_factory)}, {{", "})"
    if isinstance(value, (Counter, OrderedDict)):
        return (f"{kind.__name__}({{", "})") if value else (f"{kind.__name__}(", ")")
    return "[", "]"


def clean(value: Any) -> Any:
    """Return an argument of an exception as scripts may read it."""
    if type(value) is str:
        return scrub(value)
    return (
        value
        if type(value) in _PLAIN or (type(value) in (list, tuple, dict, RuleSet) and _owned(value))
        else to_repr(value)
    )


ARGUMENTS["read"] = clean


def _owned(value: Any) -> bool:
    items = value.values() if type(value) is dict else value
    return all(type(item) in _PLAIN for item in items)


def format_value(value: Any, spec: str = "") -> str:
    """Return `format(value, spec)`.

    Raises:
        TypeError: the type has no formats, or the specification is no text.
        LimitExceeded: the width or the precision is too large.
    """
    if type(spec) is not str:
        raise TypeError(f"format() argument 2 must be str, not {type(spec).__name__}")
    if not spec:
        return to_text(value)
    if type(value) in FORMATS:
        return FORMATS[type(value)](value, spec)
    check_widths(spec)
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) > _EXPONENT:
        raise too_large("the text")
    if type(value) is TypeFacade or not _formats(value):
        raise TypeError(f"unsupported format string passed to {type(value).__name__}.__format__")
    return format(value, spec)


def _formats(value: Any) -> bool:
    return getattr(type(value), "__format__", None) is not object.__format__


def check_widths(spec: str) -> None:
    """Refuse a format specification that pads a value beyond all reason."""
    for digits in _DIGITS.findall(spec):
        if len(digits) > 6 or int(digits) > MAX_WIDTH:
            raise too_large("the padded text")


def _ascii(value: Any) -> str:
    return to_repr(value).encode("ascii", "backslashreplace").decode("ascii")


_CONVERSIONS: dict[int, Callable[[Any], Any]] = {
    -1: lambda value: value,
    ord("s"): to_text,
    ord("r"): to_repr,
    ord("a"): _ascii,
}


def format_field(value: Any, conversion: int, spec: Any) -> str:
    """Return the text of `{value!conversion:spec}`."""
    return format_value(_CONVERSIONS[conversion](value), spec)


def join_parts(*parts: Any) -> str:
    """Return the text of an f-string."""
    return check_size("".join([part if type(part) is str else to_text(part) for part in parts]))  # type: ignore[no-any-return]


class _GuardedFormatter(Formatter):
    """The fields of `str.format`, read through the guards."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        first, rest = formatter_field_name_split(field_name)
        value = self.get_value(first, args, kwargs)
        for is_attribute, name in rest:
            if is_attribute and name.startswith("_"):
                raise AttributeError(f"{type(value).__name__!r} object has no attribute {name!r}")
            value = get_attribute(value, name) if is_attribute else value[name]
        return value, first

    def get_value(self, key: Any, args: Any, kwargs: Any) -> Any:
        if isinstance(key, int):
            if key >= len(args):
                raise IndexError(f"Replacement index {key} out of range for positional args tuple")
            return args[key]
        return kwargs[key]

    def format_field(self, value: Any, format_spec: str) -> str:
        text = format_value(value, format_spec)
        signals.current.charge(len(text) >> 8)
        return text

    def convert_field(self, value: Any, conversion: Any) -> Any:
        if conversion is None:
            return value
        if conversion not in ("s", "r", "a"):
            raise ValueError(f"Unknown conversion specifier {conversion!r}")
        return _CONVERSIONS[ord(conversion)](value)


_FORMATTER = _GuardedFormatter()


def format_text(template: str, /, *args: Any, **kwargs: Any) -> str:
    """Return `template.format(*args, **kwargs)`."""
    return check_size(_FORMATTER.vformat(template, args, kwargs))  # type: ignore[no-any-return]


def format_map(template: str, mapping: Any) -> str:
    """Return `template.format_map(mapping)`."""
    return check_size(_FORMATTER.vformat(template, (), mapping))  # type: ignore[no-any-return]


# -- the operator %


def percent(left: Any, right: Any) -> Any:
    """`left % right`, for numbers and for text."""
    kind = type(left)
    if kind is str:
        return _percent(left, right)
    if kind is bytes:
        items = right if type(right) is tuple else (right,)
        if b"*" in left or not all(type(item) in (int, float, bytes) for item in items):
            raise TypeError("only numbers and bytes can be formatted into bytes here")
        check_widths(left.decode("latin-1"))
    return left % right


def _percent(template: str, values: Any) -> str:
    supply = _Arguments(values)
    pieces: list[str] = []
    end = 0
    for match in _CONVERSION.finditer(template):
        pieces.append(template[end : match.start()])
        end = match.end()
        pieces.append(_convert(match, supply))
        signals.current.charge(len(pieces[-1]) >> 8)
    pieces.append(template[end:])
    supply.close()
    return check_size("".join(pieces))  # type: ignore[no-any-return]


class _Arguments:
    """What is on the right of `%`: one value, a tuple of them, or a mapping."""

    def __init__(self, values: Any) -> None:
        self.values = values if type(values) is tuple else (values,)
        self.mapping = (
            values if hasattr(type(values), "__getitem__") and type(values) not in (tuple, str, bytes) else None
        )
        self.used = 0

    def next(self) -> Any:
        if self.used >= len(self.values):
            raise TypeError("not enough arguments for format string")
        self.used += 1
        return self.values[self.used - 1]

    def named(self, key: str) -> Any:
        if self.mapping is None:
            raise TypeError("format requires a mapping")
        self.used = len(self.values)
        return self.mapping[key]

    def close(self) -> None:
        if self.used < len(self.values) and self.mapping is None:
            raise TypeError("not all arguments converted during string formatting")


def _convert(match: re.Match[str], supply: _Arguments) -> str:
    kind = match["kind"]
    if kind == "%":
        return "%"
    if kind is None:
        raise ValueError("incomplete format")
    width, precision = _number(match["width"], supply), _number(match["precision"], supply)
    value = supply.next() if match["key"] is None else supply.named(match["key"])
    if kind in "sra":
        value, kind = _CONVERSIONS[ord(kind)](value), "s"
    flags = match["flags"] + ("-" if width.startswith("-") else "")
    dot = "." if match["dot"] else ""
    return f"%{flags}{width.lstrip('-')}{dot}{precision}{kind}" % (value,)


def _number(text: str | None, supply: _Arguments) -> str:
    if text == "*":
        value = supply.next()
        if type(value) is not int:
            raise TypeError("* wants int")
        text = str(value)
    check_widths(text or "")
    return text or ""


TEXT_HOOKS: dict[str, Any] = {
    "_fstr_": join_parts,
    "_fmt_": format_field,
    "_mod_": percent,
    "_imod_": percent,
}
