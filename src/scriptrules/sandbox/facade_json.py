"""`json` for rules. A text is measured before it is made, since one value can stand in a list a thousand times."""

from __future__ import annotations

import json
from typing import Any

from scriptrules.sandbox.guards import MAX_TEXT, check_size, too_large

MAX_PARTS = 1_000_000


def _measure(value: Any, between: int, indent: int) -> None:
    """Refuse what would be a text beyond all measure; `between` and `indent` are characters a part and a level."""
    parts = size = 0
    stack = [(value, 0)]
    while stack:
        item, depth = stack.pop()
        parts += 1
        size += between + indent * depth + (len(item) if type(item) is str else 0)
        if parts > MAX_PARTS or size > MAX_TEXT:
            raise too_large("the JSON text")
        if isinstance(item, dict):
            size += sum(len(key) for key in item if type(key) is str)
            stack.extend((part, depth + 1) for part in item.values())
        elif isinstance(item, (list, tuple)):
            stack.extend((part, depth + 1) for part in item)


def json_dumps(
    value: Any,
    *,
    indent: Any = None,
    sort_keys: bool = False,
    ensure_ascii: bool = True,
    separators: Any = None,
    allow_nan: bool = True,
    default: Any = None,
) -> str:
    """`json.dumps`."""
    if (type(indent) is int and indent > 16) or (type(indent) is str and len(indent) > 16):
        raise too_large("the indentation")
    between = sum(map(len, separators)) if separators is not None else 4
    _measure(value, between, indent if type(indent) is int else len(indent or ""))
    text = json.dumps(
        value,
        indent=indent,
        sort_keys=sort_keys,
        ensure_ascii=ensure_ascii,
        separators=separators,
        allow_nan=allow_nan,
        default=default or _not_json,
    )
    return check_size(text)  # type: ignore[no-any-return]


def _not_json(value: Any) -> Any:
    raise TypeError(f"Object of type {getattr(type(value), '__name__', '')} is not JSON serializable")


def json_loads(text: str | bytes) -> Any:
    """`json.loads`."""
    return json.loads(check_size(text))
