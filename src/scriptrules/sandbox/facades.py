"""The pure modules that rules may import, each as a read-only namespace of chosen functions.

The real modules are never handed out: their public names lead to `sys`, `open` and shared state. What a facade gives
back is either plain data or an object whose readable attributes are listed in `guards.ATTRIBUTES`. Functions that
could run long or return much are bounded by `facade_functions`.

What was tried and rejected: proxies around the real modules (`json.codecs.open`), and `random`, `time`, `uuid`, `enum`,
`namedtuple`, `lru_cache`, `attrgetter`, `string.Formatter`: state, clocks, classes, or attributes behind the guards.
"""

from __future__ import annotations

import _strptime  # type: ignore[import-not-found]  # noqa: F401  (strptime imports it late, when nothing can be)
import base64
import binascii
import bisect
import collections
import datetime
import decimal
import fnmatch
import fractions
import functools
import hashlib
import heapq
import html
import json
import math
import re
import shlex
import statistics
import string
import textwrap
import types
import urllib.parse
from collections.abc import Callable
from typing import Any

from scriptrules.sandbox import facade_functions as made
from scriptrules.sandbox.builtins import FACADES, find_index, fuelled, native, small_decimal, update
from scriptrules.sandbox.facade_json import json_dumps, json_loads
from scriptrules.sandbox.guards import ATTRIBUTES, HOOKS, MODULES, PROPERTIES, Namespace, TypeFacade
from scriptrules.sandbox.sets import ItemsView, KeysView
from scriptrules.sandbox.sets import measured as bounded

_CLOCK = "Use now(), which answers the same on replay."
_RANDOM = "Use random() or uuid(), which answer the same on replay."


def pick(module: types.ModuleType, names: str) -> dict[str, Any]:
    """Return members of a real module, by name."""
    return {name: getattr(module, name) for name in names.split() if hasattr(module, name)}


def _guarded(module: types.ModuleType, names: str, guard: Callable[..., Any]) -> dict[str, Any]:
    return {name: guard(member) for name, member in pick(module, names).items()}


def _facade(name: str, real: type, make: Callable[..., Any], statics: dict[str, Any] | None = None) -> TypeFacade:
    FACADES[real] = facade = TypeFacade(name, (real,), make, statics)
    return facade


# -- types that facades give back, and what may be read of them

_DATE = "ctime day isocalendar isoformat isoweekday month replace strftime timetuple toordinal weekday year"
_TIME = "dst fold hour isoformat microsecond minute replace second strftime tzinfo tzname utcoffset"
_DICT = {
    **native("clear copy get pop popitem setdefault values"),
    "keys": KeysView,
    "items": ItemsView,
    "update": update,
}

ATTRIBUTES |= {
    datetime.date: {**native(_DATE), "strftime": made.format_moment},
    datetime.time: {**native(_TIME), "strftime": made.format_moment},
    datetime.datetime: {
        **native(_DATE + " " + _TIME + " date time timetz"),
        "strftime": made.format_moment,
        "astimezone": made.astimezone,
        "timestamp": made.timestamp,
    },
    datetime.timedelta: native("days microseconds seconds total_seconds"),
    datetime.timezone: native("dst tzname utcoffset"),
    type(datetime.date.min.isocalendar()): native("week weekday year count index"),
    decimal.Decimal: {
        **native(
            "adjusted compare copy_abs copy_negate copy_sign exp fma is_finite is_infinite is_nan is_signed "
            "is_zero ln log10 max min normalize quantize remainder_near same_quantum sqrt to_integral_value"
        ),
        "as_integer_ratio": lambda value: small_decimal(value).as_integer_ratio(),
        "as_tuple": lambda value: tuple(value.as_tuple()),
    },
    fractions.Fraction: native("as_integer_ratio denominator is_integer limit_denominator numerator"),
    re.Match: {
        **native("end endpos group groupdict groups lastgroup lastindex pos re span start string"),
        "expand": made.expand,
    },
    re.Pattern: {
        **native("flags fullmatch groups match pattern search"),
        "findall": made.find_all,
        "finditer": made.find_each,
        "groupindex": lambda pattern: dict(pattern.groupindex),
        "split": made.split,
        "sub": made.substitute,
        "subn": made.substitute_count,
    },
    collections.deque: {
        **native("append appendleft clear copy count insert maxlen pop popleft remove reverse rotate"),
        "index": find_index,
        "extend": made.deque_extend,
        "extendleft": made.deque_extend_left,
    },
    collections.defaultdict: dict(_DICT),
    collections.OrderedDict: {**_DICT, **native("move_to_end")},
    collections.Counter: {
        **_DICT,
        **native("most_common total"),
        "elements": fuelled(collections.Counter.elements),
        "update": made.counter_update,
        "subtract": made.counter_subtract,
    },
    type(hashlib.sha256()): native("copy digest digest_size hexdigest name update"),
    type(hashlib.blake2b()): native("copy digest digest_size hexdigest name update"),
    type(hashlib.blake2s()): native("copy digest digest_size hexdigest name update"),
    urllib.parse.SplitResult: native(
        "count fragment geturl hostname index netloc password path port query scheme username"
    ),
    urllib.parse.ParseResult: native(
        "count fragment geturl hostname index netloc params password path port query scheme username"
    ),
    urllib.parse.DefragResult: native("count fragment geturl index url"),
}
PROPERTIES |= {(re.Pattern, "groupindex")}

_datetime = _facade(
    "datetime",
    datetime.datetime,
    made.constructor(datetime.datetime),
    {
        **{
            name: getattr(datetime.datetime, name)
            for name in ["combine", "fromisoformat", "fromordinal", "fromisocalendar", "min", "max"]
        },
        "fromtimestamp": made.from_timestamp,
        "strptime": made.parse_time,
    },
)
_date = _facade(
    "date",
    datetime.date,
    made.constructor(datetime.date),
    {name: getattr(datetime.date, name) for name in ["fromisoformat", "fromordinal", "fromisocalendar", "min", "max"]},
)
_decimal = _facade("Decimal", decimal.Decimal, made.make_decimal, {"from_float": decimal.Decimal.from_float})
_counter = _facade("Counter", collections.Counter, made.make_counter)
_ordered = _facade("OrderedDict", collections.OrderedDict, made.make_ordered_dict, {"fromkeys": made.ordered_from_keys})
_JSON = {"JSONDecodeError": json.JSONDecodeError, "dumps": json_dumps, "loads": json_loads}
_FLAGS = {
    name: int(getattr(re, name))
    for name in ["A", "ASCII", "I", "IGNORECASE", "M", "MULTILINE", "S", "DOTALL", "X", "VERBOSE", "U", "UNICODE"]
}
_PARSE = {
    **pick(urllib.parse, "parse_qs parse_qsl quote quote_plus unquote unquote_plus urldefrag urljoin urlparse"),
    **pick(urllib.parse, "urlsplit urlunparse urlunsplit"),
}
_URLLIB = Namespace(
    "urllib.parse", {name: made.short(member) for name, member in _PARSE.items()} | {"urlencode": made.urlencode}
)


class _Inert:
    """Stands for a name of `typing`: it may be subscripted and combined, and means nothing."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __getitem__(self, parameters: Any) -> _Inert:
        return self

    def __or__(self, other: Any) -> _Inert:
        return self

    __ror__ = __or__

    def __repr__(self) -> str:
        return f"typing.{self.name}"


_TYPING = [
    "Any",
    "Callable",
    "ClassVar",
    "Dict",
    "Final",
    "Iterable",
    "Iterator",
    "List",
    "Literal",
    "Mapping",
    "Optional",
    "Sequence",
    "Set",
    "Tuple",
    "Union",
]
_OPERATORS = "sub truediv floordiv neg pos abs not_ truth eq ne lt le gt ge and_ or_ xor inv invert rshift"

_MODULES: dict[str, dict[str, Any]] = {
    "math": {
        **pick(
            math,
            "acos acosh asin asinh atan atan2 atanh cbrt copysign cos cosh degrees e erf erfc exp exp2 expm1 fabs "
            "fma fmod frexp gamma hypot inf isclose isfinite isinf isnan isqrt ldexp lgamma log log10 log1p log2 modf "
            "nan nextafter pi pow radians remainder sin sinh sqrt tan tanh tau ulp",
        ),
        **_guarded(math, "ceil floor trunc", lambda member: lambda number: member(small_decimal(number))),
        "dist": lambda p, q: math.dist(bounded(p), bounded(q)),
        "comb": made.comb,
        "factorial": made.factorial,
        "fsum": lambda items: math.fsum(bounded(items)),
        "gcd": math.gcd,
        "lcm": made.lcm,
        "perm": made.perm,
        "prod": made.prod,
    },
    "json": _JSON,
    "re": {
        **_FLAGS,
        "error": re.error,
        "compile": made.compile_pattern,
        "escape": made.short(re.escape),
        **{
            name: made.pattern_function(name)
            for name in ["match", "search", "fullmatch", "findall", "finditer", "split", "sub", "subn"]
        },
        "Match": _facade("Match", re.Match, made.no_instance),
        "Pattern": _facade("Pattern", re.Pattern, made.no_instance),
    },
    "datetime": {
        "date": _date,
        "datetime": _datetime,
        "time": _facade(
            "time", datetime.time, made.constructor(datetime.time), {"fromisoformat": datetime.time.fromisoformat}
        ),
        "timedelta": _facade("timedelta", datetime.timedelta, datetime.timedelta),
        "timezone": _facade("timezone", datetime.timezone, datetime.timezone, {"utc": datetime.UTC}),
        "UTC": datetime.UTC,
        "MINYEAR": 1,
        "MAXYEAR": 9999,
    },
    "itertools": made.ITERTOOLS,
    "functools": {
        "cmp_to_key": functools.cmp_to_key,
        "partial": made.partial,
        "reduce": made.reduce,
        "wraps": made.wraps,
    },
    "collections": {
        "Counter": _counter,
        "OrderedDict": _ordered,
        "defaultdict": _facade("defaultdict", collections.defaultdict, made.make_defaultdict),
        "deque": _facade("deque", collections.deque, made.make_deque),
    },
    "statistics": {
        "StatisticsError": statistics.StatisticsError,
        **_guarded(
            statistics,
            "fmean geometric_mean harmonic_mean mean median median_grouped median_high median_low mode multimode "
            "pstdev "
            "pvariance quantiles stdev variance correlation covariance",
            made.over_numbers,
        ),
    },
    "decimal": {
        "Decimal": _decimal,
        **pick(
            decimal,
            "ROUND_CEILING ROUND_DOWN ROUND_FLOOR ROUND_HALF_DOWN ROUND_HALF_EVEN ROUND_HALF_UP ROUND_UP ROUND_05UP "
            "DecimalException DivisionByZero InvalidOperation Overflow",
        ),
    },
    "fractions": {"Fraction": _facade("Fraction", fractions.Fraction, made.make_fraction)},
    "textwrap": {
        "dedent": made.short(textwrap.dedent),
        "fill": made.fill,
        "indent": made.indent,
        "shorten": made.shorten,
        "wrap": made.wrap,
    },
    "urllib": {"parse": _URLLIB},
    "urllib.parse": _URLLIB.members,
    "hashlib": _guarded(
        hashlib, "md5 sha1 sha224 sha256 sha384 sha512 sha3_224 sha3_256 sha3_384 sha3_512 blake2b blake2s", made.digest
    ),
    "base64": {
        **_guarded(
            base64,
            "b16decode b16encode b32decode b32encode b64decode b64encode b85decode b85encode standard_b64decode "
            "standard_b64encode urlsafe_b64decode urlsafe_b64encode",
            made.short,
        ),
        "Error": binascii.Error,
    },
    "binascii": {"Error": binascii.Error, **_guarded(binascii, "crc32 hexlify unhexlify", made.short)},
    "string": pick(
        string,
        "ascii_letters ascii_lowercase ascii_uppercase capwords digits hexdigits octdigits punctuation printable "
        "whitespace",
    ),
    "copy": {"copy": made.copy, "deepcopy": made.deepcopy},
    "operator": {
        **pick(__import__("operator"), _OPERATORS),
        "add": HOOKS["_add_"],
        "contains": lambda items, item: item in items,
        "getitem": lambda items, key: items[key],
        "itemgetter": made.itemgetter,
        "lshift": HOOKS["_lshift_"],
        "mod": made.modulo,
        "mul": HOOKS["_mul_"],
        "pow": HOOKS["_pow_"],
    },
    "bisect": pick(bisect, "bisect bisect_left bisect_right insort insort_left insort_right"),
    "heapq": {
        **pick(heapq, "heapify heappop heappush heappushpop heapreplace"),
        "merge": made.merge,
        "nlargest": made.nlargest,
        "nsmallest": made.nsmallest,
    },
    "html": {"escape": made.short(html.escape), "unescape": made.short(html.unescape)},
    "shlex": {"join": made.shell_join, "quote": made.short(shlex.quote), "split": made.shell_split},
    "fnmatch": {"fnmatchcase": made.short(fnmatch.fnmatchcase)},
    "typing": {name: _Inert(name) for name in _TYPING} | {"cast": lambda kind, value: value},
}

_HINTS: dict[str, dict[str, str]] = {
    "datetime": dict.fromkeys(("now", "today", "utcnow"), _CLOCK),
    "functools": dict.fromkeys(("lru_cache", "cache"), "Keep results in a dict."),
    "collections": {"namedtuple": "Use a dict."},
    "string": dict.fromkeys(("Formatter", "Template"), "Use f-strings or str.format()."),
    "operator": dict.fromkeys(("attrgetter", "methodcaller"), "Write a lambda."),
}
_datetime.hints = _date.hints = _HINTS["datetime"]

MODULES |= {
    name: Namespace(name, members, _HINTS.get(name)) for name, members in _MODULES.items() if name != "urllib.parse"
}
MODULES["urllib.parse"] = _URLLIB
ABSENT_MODULES: dict[str, str] = {
    **dict.fromkeys(("time", "calendar", "zoneinfo"), _CLOCK),
    **dict.fromkeys(("random", "secrets", "uuid"), _RANDOM),
    **dict.fromkeys(("os", "sys", "subprocess", "pathlib", "io", "shutil"), "Use run(), or a plugin function."),
    **dict.fromkeys(("requests", "httpx", "socket", "urllib.request"), "Write a plugin function for it."),
    **dict.fromkeys(
        ("asyncio", "threading", "concurrent.futures"), "Start several executions by run() and wait() for them."
    ),
    **dict.fromkeys(("enum", "dataclasses"), "Use dicts and constants."),
}
