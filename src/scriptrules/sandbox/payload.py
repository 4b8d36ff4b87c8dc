"""Values that leave a script: JSON and nothing else, checked by exact type so that no object can pose as a value."""

from __future__ import annotations

from typing import Any

import msgspec

from scriptrules.sandbox.formatting import to_repr
from scriptrules.sandbox.signals import LimitExceeded

INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1
_encoder = msgspec.json.Encoder()


def encode(value: Any, what: str, size_max: int, depth_max: int) -> bytes:
    """`value` as JSON text.

    Args:
        value: None, bool, int, float, str, list, tuple or dict of the same; tuples become lists.
        what: names the value in errors: ``emit("x", size=…)``.
        size_max: bytes of the text.
        depth_max: how deep lists and dicts may be nested.

    Raises:
        TypeError: something in it is no JSON, with the path to it.
        ValueError: an integer over 64 bits, a float that is not finite, text that is not Unicode.
        LimitExceeded: it is too large or too deep.
    """
    _check(value, what, depth_max)
    try:
        text = _encoder.encode(value)
    except UnicodeEncodeError:
        raise ValueError(f"{what} holds text with half a surrogate pair, which is no Unicode") from None
    if len(text) > size_max:
        raise LimitExceeded("payload", f"{what} is {len(text)} bytes of JSON; at most {size_max} are allowed")
    return text


def _check(value: Any, path: str, depth: int) -> None:
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return
    if kind is int:
        if not INTEGER_MIN <= value <= INTEGER_MAX:
            raise ValueError(f"{path} is an integer of more than 64 bits; write str(…)")
    elif kind is float:
        if value - value != 0.0:
            raise ValueError(f"{path} is {value!r}, which JSON cannot hold")
    elif kind is dict or kind is list or kind is tuple:
        if depth <= 0:
            raise LimitExceeded("payload", f"{path} is nested too deep")
        if kind is dict:
            for key, item in value.items():
                if type(key) is not str:
                    raise TypeError(f"{path} has the key {to_repr(key)[:200]}; JSON keys are text, write str(…)")
                if type(item) is not str:
                    _check(item, f"{path}[{key!r}]" if len(path) < 200 else path, depth - 1)
        else:
            for item in value:
                if type(item) is not str and type(item) is not int:
                    _check(item, path, depth - 1)
                elif type(item) is int:
                    _check(item, path, depth)
    else:
        cannot = "which must not leave the run" if _name(kind) == "secret" else "which JSON cannot hold"
        raise TypeError(f"{path} is a {_name(kind)}, {cannot}{_HINTS.get(_name(kind), '')}")


_HINTS = {
    "datetime": "; write .isoformat()",
    "set": "; write sorted(…)",
    "RuleSet": "; write sorted(…)",
    "frozenset": "; write sorted(…)",
    "Decimal": "; write str(…) or float(…)",
    "bytes": "; decode it or use base64",
    "TaskHandle": "; wait(…) for it gives its result",
    "ExecutionHandle": "; wait(…) for it gives its result",
    "Result": "; write .output, .value or .status",
    "Task": "; return tasks alone, or in one list",
    "Job": "; return jobs alone, or in one list",
    "secret": "; pass the variable's name, and load() it where it is needed",
}


def _name(kind: type) -> str:
    return str(kind.__name__)
