"""The bounded forms of library functions that could run long, return much, look at the clock or at the time zone."""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import functools
import heapq
import itertools
import math
import re
import shlex
import textwrap
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from types import BuiltinFunctionType, FunctionType
from typing import Any

from scriptrules.sandbox import signals
from scriptrules.sandbox.builtins import fromkeys, fuelled, small_decimal
from scriptrules.sandbox.formatting import FORMATS, check_widths, percent, to_text
from scriptrules.sandbox.guards import (
    MAX_BITS,
    MAX_ITEMS,
    MAX_TEXT,
    TypeFacade,
    check_size,
    gather,
    mul,
    too_large,
)
from scriptrules.sandbox.sets import OrderedSet
from scriptrules.sandbox.sets import measured as bounded

MAX_PATTERN = 10_000  # characters of a regular expression
MAX_FACTORIAL = 5000
MAX_QUANTILES = 100_000
_UTC = datetime.UTC
_LOCAL_SECONDS = re.compile(r"%[-_0^#]*\d*[EO]?s")
_UNIVERSAL = re.compile(r"(?<![a-z])(utc|gmt)(?![a-z])", re.IGNORECASE)
FLAGS = re.ASCII | re.IGNORECASE | re.MULTILINE | re.DOTALL | re.VERBOSE | re.UNICODE
MAX_DIGITS = 10_000  # of a decimal


def no_instance(*args: Any, **kwargs: Any) -> Any:
    """Refuse to make an instance of a type that only functions make."""
    raise TypeError("cannot create instances of this type")


def short(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of text or plain data that takes no large text: what it gives is a few times as long."""

    def guarded(*args: Any, **kwargs: Any) -> Any:
        for value in (*args, *kwargs.values()):
            if type(value) in (str, bytes) and len(value) > MAX_TEXT // 8:
                raise too_large("the text")
            if isinstance(value, (FunctionType, BuiltinFunctionType)):
                raise TypeError("expected data, not a function")
        return function(*args, **kwargs)

    return guarded


# -- datetime


def constructor(kind: Callable[..., Any]) -> Callable[..., Any]:
    """Return the constructor of dates or times without its other use: bytes of a pickle, which it does not check."""

    def guarded(*args: Any, **kwargs: Any) -> Any:
        if any(type(value) in (bytes, str) for value in (*args, *kwargs.values())):
            raise TypeError("an integer is required (got type str or bytes)")
        return kind(*args, **kwargs)

    return guarded


def from_timestamp(seconds: float, tz: Any = None) -> datetime.datetime:
    """`datetime.fromtimestamp`, in UTC where no time zone is given."""
    moment = datetime.datetime.fromtimestamp(seconds, tz or _UTC)
    return moment if tz is not None else moment.replace(tzinfo=None)


def timestamp(moment: datetime.datetime) -> float:
    """`moment.timestamp()`; a naive moment is in UTC."""
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=_UTC)).timestamp()


def astimezone(moment: datetime.datetime, tz: Any = None) -> datetime.datetime:
    """`moment.astimezone()`; a naive moment is in UTC, and so is the default."""
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=_UTC)).astimezone(tz or _UTC)


def format_moment(value: datetime.date | datetime.time, spec: str) -> str:
    """`moment.strftime`; `%s` would count in the time zone of the machine."""
    if _LOCAL_SECONDS.search(spec):
        raise ValueError("%s depends on the machine's time zone; write .timestamp()")
    check_widths(spec)
    return check_size(value.strftime(spec))  # type: ignore[no-any-return]


FORMATS |= dict.fromkeys((datetime.date, datetime.time, datetime.datetime), format_moment)


def parse_time(text: str, form: str) -> datetime.datetime:
    """`datetime.strptime`."""
    if len(form) > 1000 or len(text) > 10_000:
        raise too_large("the date")
    if "%Z" in form and not _UNIVERSAL.search(text):  # the names of the machine's own zone would match too
        raise ValueError(f"time data {text!r} does not match format {form!r}")
    return datetime.datetime.strptime(text, form)


# -- re


def compile_pattern(pattern: Any, flags: int = 0) -> re.Pattern[Any]:
    """`re.compile`."""
    if type(pattern) is re.Pattern:
        return pattern
    if flags & ~int(FLAGS):
        raise ValueError("rules have the flags A, I, M, S, X and U")
    if len(pattern) > MAX_PATTERN:
        raise too_large("the pattern")
    return re.compile(pattern, flags)


def pattern_function(name: str) -> Callable[..., Any]:
    """Return the function of `re` that does what the method of a compiled pattern does."""
    guard = _PATTERN_METHODS.get(name)
    arguments = {"split": ["maxsplit"], "sub": ["count"], "subn": ["count"]}.get(name, [])
    inputs = 2 if name in ("sub", "subn") else 1

    def function(pattern: Any, *args: Any, flags: int = 0, **kwargs: Any) -> Any:
        most = inputs + len(arguments)
        if len(args) > most:
            args, flags = args[:most], args[most]
        compiled = compile_pattern(pattern, flags)
        return guard(compiled, *args, **kwargs) if guard else getattr(compiled, name)(*args, **kwargs)

    return function


def find_each(pattern: re.Pattern[Any], text: Any, *span: int) -> Any:
    """`pattern.finditer`."""
    return itertools.compress(pattern.finditer(text, *span), signals.current.fuel)


def find_all(pattern: re.Pattern[Any], text: Any, *span: int) -> list[Any]:
    """`pattern.findall`."""
    total = 0
    found: list[Any] = []
    for match in find_each(pattern, text, *span):
        groups = match.groups("" if type(text) is str else b"")
        item = match[0] if not groups else groups[0] if len(groups) == 1 else groups
        total += sum(map(len, groups)) if groups else len(match[0])
        if total > MAX_TEXT:
            raise too_large("the list")
        found.append(item)
    return found


def split(pattern: re.Pattern[Any], string: Any, maxsplit: int = 0) -> list[Any]:
    """`pattern.split`."""
    signals.current.charge(len(string) >> 4)
    return pattern.split(string, maxsplit)


def expand(match: re.Match[Any], template: Any) -> Any:
    """`match.expand`."""
    longest = max([len(group or "") for group in match.groups()] + [len(match[0])])
    if len(template) * max(longest, 1) > MAX_TEXT:
        raise too_large("the text")
    return match.expand(template)


def substitute_count(pattern: re.Pattern[Any], repl: Any, string: Any, count: int = 0) -> tuple[Any, int]:
    """`pattern.subn`."""
    size = len(string)

    def piece(match: re.Match[Any]) -> Any:
        nonlocal size
        if type(repl) in (str, bytes):
            text = expand(match, repl) if (b"\\" if type(repl) is bytes else "\\") in repl else repl
        else:
            text = repl(match)
        size += 0 if text is None else len(text)
        if size > MAX_TEXT:
            raise too_large("the text")
        return text

    return pattern.subn(piece, string, count)


def substitute(pattern: re.Pattern[Any], repl: Any, string: Any, count: int = 0) -> Any:
    """`pattern.sub`."""
    return substitute_count(pattern, repl, string, count)[0]


_PATTERN_METHODS: dict[str, Callable[..., Any]] = {
    "findall": find_all,
    "finditer": find_each,
    "split": split,
    "sub": substitute,
    "subn": substitute_count,
}


# -- math and numbers


def factorial(n: int) -> int:
    """`math.factorial`."""
    if isinstance(n, int) and n > MAX_FACTORIAL:
        raise too_large("the number")
    return math.factorial(n)


def comb(n: int, k: int) -> int:
    """`math.comb`."""
    _check_choice(n, min(k, n - k))
    return math.comb(n, k)


def perm(n: int, k: int | None = None) -> int:
    """`math.perm`."""
    _check_choice(n, n if k is None else k)
    return math.perm(n, k)


def _check_choice(n: int, k: int) -> None:
    if isinstance(n, int) and isinstance(k, int) and n >= k > 0 and n.bit_length() * k > MAX_BITS:
        raise too_large("the number")


def lcm(*numbers: int) -> int:
    """`math.lcm`."""
    return check_size(functools.reduce(lambda one, other: check_size(math.lcm(one, other)), numbers, 1))  # type: ignore[no-any-return]


def prod(items: Iterable[Any], *, start: Any = 1) -> Any:
    """`math.prod`."""
    return functools.reduce(mul, bounded(items), start)


def _numbers(value: Any) -> Any:
    if value is None or isinstance(value, (int, float, str)):
        return value
    values = [small_decimal(number) for number in gather(value)]
    signals.current.charge(len(values))
    return values


def over_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of `statistics` that takes numbers only, as many as a list may have."""

    def guarded(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("n", 0) > MAX_QUANTILES:
            raise too_large("the number of parts")
        values = [_numbers(arg) for arg in args]
        return function(*values, **{name: _numbers(value) for name, value in kwargs.items()})

    return guarded


def make_decimal(value: Any = "0") -> decimal.Decimal:
    """`Decimal(value)`."""
    if type(value) is str and len(value) > MAX_DIGITS:
        raise too_large("the number")
    return decimal.Decimal(value)


def make_fraction(numerator: Any = 0, denominator: Any = None) -> fractions.Fraction:
    """`Fraction(numerator, denominator)`."""
    if type(numerator) is str and re.search(r"[eE][+-]?[\d_]{5}", numerator):
        raise too_large("the number")
    if isinstance(numerator, decimal.Decimal) and numerator.is_finite() and abs(numerator.adjusted()) > 10_000:
        raise too_large("the number")
    return check_size(fractions.Fraction(numerator, denominator))  # type: ignore[no-any-return]


# -- collections and iteration


def _items(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(arg if isinstance(arg, dict) else bounded(arg) for arg in args)


def make_counter(*args: Any, **kwargs: Any) -> collections.Counter[Any]:
    """`Counter(…)`."""
    return collections.Counter(*_items(args), **kwargs)


def counter_update(counter: collections.Counter[Any], /, *args: Any, **kwargs: Any) -> None:
    """`counter.update(…)`."""
    counter.update(*map(_counts, _items(args)), **_counts(kwargs))


def counter_subtract(counter: collections.Counter[Any], /, *args: Any, **kwargs: Any) -> None:
    """`counter.subtract(…)`."""
    counter.subtract(*map(_counts, _items(args)), **_counts(kwargs))


def _counts(items: Any) -> Any:
    """Refuse counts that are no numbers: the counter adds them up, and a text or list may double each time."""
    if isinstance(items, dict) and any(isinstance(value, (str, bytes, list, tuple)) for value in items.values()):
        raise TypeError("counts must be numbers")
    return items


def make_ordered_dict(*args: Any, **kwargs: Any) -> collections.OrderedDict[Any, Any]:
    """`OrderedDict(…)`."""
    return collections.OrderedDict(*_items(args), **kwargs)


def ordered_from_keys(keys: Any, value: Any = None) -> collections.OrderedDict[Any, Any]:
    """`OrderedDict.fromkeys(…)`."""
    return collections.OrderedDict(fromkeys(keys, value))


def make_defaultdict(factory: Any = None, /, *args: Any, **kwargs: Any) -> collections.defaultdict[Any, Any]:
    """`defaultdict(…)`."""
    return collections.defaultdict(factory, *_items(args), **kwargs)


def make_deque(items: Any = (), maxlen: int | None = None) -> collections.deque[Any]:
    """`deque(…)`."""
    return collections.deque(gather(items), maxlen)


def deque_extend(target: collections.deque[Any], items: Any) -> None:
    """`deque.extend`."""
    check_size(target)
    target.extend(gather(items))


def deque_extend_left(target: collections.deque[Any], items: Any) -> None:
    """`deque.extendleft`."""
    check_size(target)
    target.extendleft(gather(items))


def reduce(function: Any, items: Any, *initial: Any) -> Any:
    """`functools.reduce`."""
    return functools.reduce(function, itertools.compress(items, signals.current.fuel), *initial)


def partial(function: Any, /, *args: Any, **kwargs: Any) -> Any:
    """`functools.partial`."""
    return functools.partial(function, *args, **kwargs)


def wraps(wrapped: Any) -> Callable[[Any], Any]:
    """`functools.wraps`; functions have no attributes here, so there is nothing to copy."""
    return lambda function: function


def itemgetter(*keys: Any) -> Callable[[Any], Any]:
    """`operator.itemgetter`."""
    if len(keys) == 1:
        return lambda items: items[keys[0]]
    return lambda items: tuple([items[key] for key in keys])


def modulo(left: Any, right: Any) -> Any:
    """`operator.mod`."""
    return percent(left, right)


def _groups(items: Any, key: Any = None) -> Iterator[tuple[Any, Any]]:
    return ((name, iter(list(group))) for name, group in itertools.groupby(bounded(items), key))


def _batched(items: Any, n: int) -> Iterator[tuple[Any, ...]]:
    if n < 1:
        raise ValueError("n must be at least one")
    source = iter(items)
    return iter(lambda: tuple(itertools.islice(source, n)), ())


def _product(*pools: Any, repeat: int = 1) -> Iterator[Any]:
    if repeat > 100 or len(pools) > 100:
        raise too_large("the product")
    return itertools.product(*map(gather, pools), repeat=repeat)


def _tee(items: Any, n: int = 2) -> Any:
    if n > 100:
        raise too_large("the tuple")
    return itertools.tee(bounded(items), n)


def _cycle(items: Any) -> Iterator[Any]:
    return itertools.cycle(gather(items))


def _arrange(function: Callable[..., Iterator[Any]]) -> Callable[..., Any]:
    def guarded(items: Any, *size: Any) -> Any:
        pool = gather(items)
        if size and isinstance(size[0], int) and size[0] > MAX_ITEMS:
            raise too_large("the tuple")
        return function(pool, *size)

    return fuelled(guarded)


def _accumulate(items: Any, func: Any = None, *, initial: Any = None) -> Any:
    from scriptrules.sandbox.guards import add

    return itertools.accumulate(items, func or add, initial=initial)


ITERTOOLS: dict[str, Any] = {
    "accumulate": fuelled(_accumulate),
    "batched": fuelled(_batched),
    "chain": TypeFacade(
        "chain", (itertools.chain,), fuelled(itertools.chain), {"from_iterable": fuelled(itertools.chain.from_iterable)}
    ),
    "combinations": _arrange(itertools.combinations),
    "combinations_with_replacement": _arrange(itertools.combinations_with_replacement),
    "compress": fuelled(itertools.compress),
    "count": fuelled(itertools.count),
    "cycle": fuelled(_cycle),
    "dropwhile": fuelled(itertools.dropwhile),
    "filterfalse": fuelled(itertools.filterfalse),
    "groupby": fuelled(_groups),
    "islice": fuelled(itertools.islice),
    "pairwise": fuelled(itertools.pairwise),
    "permutations": _arrange(itertools.permutations),
    "product": fuelled(_product),
    "repeat": fuelled(itertools.repeat),
    "starmap": fuelled(itertools.starmap),
    "takewhile": fuelled(itertools.takewhile),
    "tee": _tee,
    "zip_longest": fuelled(itertools.zip_longest),
}


def merge(*sources: Any, key: Any = None, reverse: bool = False) -> Any:
    """`heapq.merge`, as a list's iterator."""
    return iter(list(heapq.merge(*map(gather, sources), key=key, reverse=reverse)))


def nlargest(n: int, items: Any, key: Any = None) -> list[Any]:
    """`heapq.nlargest`."""
    return heapq.nlargest(n, gather(items), key)


def nsmallest(n: int, items: Any, key: Any = None) -> list[Any]:
    """`heapq.nsmallest`."""
    return heapq.nsmallest(n, gather(items), key)


# -- copy


def copy(value: Any) -> Any:
    """`copy.copy`, of containers."""
    if isinstance(value, (list, dict, OrderedSet, collections.deque)):
        return value.copy()
    return value


def deepcopy(value: Any) -> Any:
    """`copy.deepcopy`, of containers; everything else is immutable to scripts."""
    return _deepcopy(value, {})


def _deepcopy(value: Any, memo: dict[int, Any]) -> Any:
    if id(value) in memo:
        return memo[id(value)]
    kind = type(value)
    if kind is tuple:
        copied_tuple = tuple([_deepcopy(item, memo) for item in value])
        return memo.setdefault(id(value), copied_tuple)
    if kind is list or isinstance(value, collections.deque):
        memo[id(value)] = result = value.copy()
        for index, item in enumerate(value):
            result[index] = _deepcopy(item, memo)
        return result
    if isinstance(value, dict):
        memo[id(value)] = copied = value.copy()
        for key, item in value.items():
            copied[key] = _deepcopy(item, memo)
        return copied
    return copy(value)


# -- text


def urlencode(query: Any, doseq: bool = False) -> str:
    """`urllib.parse.urlencode`."""
    pairs: list[tuple[Any, Any]] = []
    for key, value in gather(query.items() if isinstance(query, dict) else query):
        several = gather(value) if doseq and isinstance(value, (list, tuple)) else [value]
        pairs.extend((_queried(key), _queried(item)) for item in several)
    if sum(len(key) + len(value) for key, value in pairs) > MAX_TEXT // 8:
        raise too_large("the text")
    return urllib.parse.urlencode(pairs)


def _queried(value: Any) -> Any:
    return value if type(value) is bytes else to_text(value)


def wrap(text: str, width: int = 70, **options: Any) -> list[str]:
    """`textwrap.wrap`."""
    _check_wrapping(text, options)
    return textwrap.wrap(text, width, **options)


def fill(text: str, width: int = 70, **options: Any) -> str:
    """`textwrap.fill`."""
    _check_wrapping(text, options)
    return textwrap.fill(text, width, **options)


def _check_wrapping(text: str, options: dict[str, Any]) -> None:
    longest = max((len(option) for option in options.values() if type(option) is str), default=0)
    tabs = options.get("tabsize", 8)
    if len(text) * max(longest + 1, tabs if type(tabs) is int else 8) > MAX_TEXT:
        raise too_large("the text")
    signals.current.charge(len(text) >> 2)


def indent(text: str, prefix: str, predicate: Any = None) -> str:
    """`textwrap.indent`."""
    if text.count("\n") * len(prefix) + len(text) > MAX_TEXT:
        raise too_large("the text")
    return textwrap.indent(text, prefix, predicate)


def shorten(text: str, width: int, *, placeholder: str = " [...]") -> str:
    """`textwrap.shorten`."""
    _check_wrapping(text, {})
    return textwrap.shorten(text, width, placeholder=placeholder)


def shell_split(text: str) -> list[str]:
    """`shlex.split`."""
    if type(text) is not str or len(text) > MAX_TEXT // 100:
        raise TypeError("shlex.split() wants a text of moderate size")
    signals.current.charge(len(text))
    return shlex.split(text)


def shell_join(words: Any) -> str:
    """`shlex.join`."""
    return check_size(shlex.join(gather(words)))  # type: ignore[no-any-return]


def digest(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a hash constructor that takes data only."""

    def guarded(data: bytes = b"") -> Any:
        return function(data)

    return guarded
