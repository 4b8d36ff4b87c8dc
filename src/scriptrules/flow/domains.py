"""What conditions say about a value that only run time knows: which constants it can be, between which bounds.

All of it holds for values that JSON can say. Where two statements do not fit together, `meet` gives None: the code
behind them is never reached. Whatever is not understood is no statement at all.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from scriptrules.rulebook.index import matches

Bound = tuple[float, bool]  # the number, and whether the value can be equal to it


class Domain(msgspec.Struct, frozen=True):
    """The values that something can have."""

    only: frozenset[Any] | None = None  # one of these constants
    never: frozenset[Any] = frozenset()  # none of these
    low: Bound | None = None  # at least
    high: Bound | None = None  # at most
    truth: bool | None = None  # what `bool()` gives
    fits: tuple[str, ...] = ()  # text that fits one of these patterns of names


ANY = Domain()


def meet(one: Domain, other: Domain) -> Domain | None:
    """What holds where both hold; None where nothing can."""
    if one is ANY:
        return other
    if other is ANY:
        return one
    only = one.only if other.only is None else other.only if one.only is None else one.only & other.only
    low = max(filter(None, (one.low, other.low)), key=lambda bound: (bound[0], not bound[1]), default=None)
    high = min(filter(None, (one.high, other.high)), key=lambda bound: (bound[0], bound[1]), default=None)
    if one.truth is not None and other.truth is not None and one.truth != other.truth:
        return None
    truth = one.truth if other.truth is None else other.truth
    met = Domain(None, one.never | other.never, low, high, truth, one.fits or other.fits)
    if only is not None:
        left = frozenset(value for value in only if _contains(met, value))
        return msgspec.structs.replace(met, only=left) if left else None
    if low is not None and high is not None and (low[0] > high[0] or (low[0] == high[0] and not (low[1] and high[1]))):
        return None
    if truth is False and ((low and low >= (0, True) and low != (0, True)) or (high and high[0] < 0)):
        return None
    if truth is False and ((low and low == (0, False)) or (high and high == (0, False))):
        return None
    return met


def hull(one: Domain, other: Domain) -> Domain:
    """What holds where either holds."""
    if one is other or one == other:
        return one
    only = None if one.only is None or other.only is None else one.only | other.only
    low = None if one.low is None or other.low is None else min(one.low, other.low, key=lambda b: (b[0], not b[1]))
    high = None if one.high is None or other.high is None else max(one.high, other.high, key=lambda b: (b[0], b[1]))
    never = frozenset(value for value in one.never | other.never if not contains(one, value))
    never = frozenset(value for value in never if not contains(other, value))
    return Domain(
        only,
        never,
        low,
        high,
        one.truth if one.truth == other.truth else None,
        one.fits if one.fits == other.fits else (),
    )


def contains(domain: Domain, value: Any) -> bool:
    """Whether a constant is one of the values."""
    return (domain.only is None or value in domain.only) and _contains(domain, value)


def _contains(domain: Domain, value: Any) -> bool:
    if value in domain.never or (domain.truth is not None and bool(value) != domain.truth):
        return False
    if domain.low is not None or domain.high is not None:
        if not isinstance(value, (int, float)):
            return False
        if domain.low is not None and not (value > domain.low[0] or (domain.low[1] and value == domain.low[0])):
            return False
        if domain.high is not None and not (value < domain.high[0] or (domain.high[1] and value == domain.high[0])):
            return False
    return not domain.fits or (isinstance(value, str) and any(matches(pattern, value) for pattern in domain.fits))


SCALARS = (str, int, float, bool, type(None))


def compared(operator: str, value: Any) -> tuple[Domain, Domain] | None:
    """What ``x OPERATOR value`` says of x where it holds, and where it does not; None where it says nothing.

    Args:
        operator: the name of the node: Eq, NotEq, Lt, LtE, Gt, GtE, Is, IsNot, In, NotIn.
        value: a constant; for In and NotIn a collection of them.
    """
    if operator in ("NotEq", "IsNot", "NotIn"):
        found = compared({"NotEq": "Eq", "IsNot": "Is", "NotIn": "In"}[operator], value)
        return None if found is None else (found[1], found[0])
    if operator in ("Eq", "Is"):
        if not isinstance(value, SCALARS) or (operator == "Is" and value is not None):
            return None
        return Domain(only=frozenset({value})), Domain(never=frozenset({value}))
    if operator == "In":
        if not isinstance(value, (list, tuple, set, frozenset)) or not all(isinstance(one, SCALARS) for one in value):
            return None
        return Domain(only=frozenset(value)), Domain(never=frozenset(value))
    if type(value) not in (int, float) or math.isnan(value):
        return None
    match operator:
        case "Lt":
            return Domain(high=(value, False)), Domain(low=(value, True))
        case "LtE":
            return Domain(high=(value, True)), Domain(low=(value, False))
        case "Gt":
            return Domain(low=(value, False)), Domain(high=(value, True))
        case "GtE":
            return Domain(low=(value, True)), Domain(high=(value, False))
    return None


TRUE, FALSE = Domain(truth=True), Domain(truth=False)
MIRRORED = {"Eq": "Eq", "NotEq": "NotEq", "Lt": "Gt", "LtE": "GtE", "Gt": "Lt", "GtE": "LtE"}  # value OPERATOR x
