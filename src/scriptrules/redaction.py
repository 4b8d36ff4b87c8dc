"""Takes the values of secrets out of text that is kept or shown.

It knows the values that this process has resolved, and nothing else of secrets. Found are a value, and each line of one
of several lines, as they are, as JSON, Python or a shell escape them (however often), and as URLs and base64 write
them. A value of fewer than `SHORTEST` characters is not looked for: it would be found in everything.
"""

from __future__ import annotations

import base64
import re
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import quote, quote_plus

SHORTEST = 6  # characters
REMOVED = "[secret]"
VALUES_MAX = 1000  # values that are known; of more, those learned last
DEPTH_MAX = 64  # levels of a value that are looked into; what is below is left out


class Redactor:
    """The values that are known, as one pattern."""

    def __init__(self) -> None:
        self._values: dict[str, set[str]] = {}  # their forms, by value, in the order in which they were last learned
        self._known: set[str] = set()
        self._compiled: re.Pattern[str] | None = None
        self._learned = False  # something since it was compiled

    def learn(self, value: str) -> None:
        """From now on `value` is taken out of everything."""
        forms = self._values.pop(value, None)
        if forms is not None:
            self._values[value] = forms
            return
        if len(self._values) >= VALUES_MAX:
            del self._values[next(iter(self._values))]
        self._values[value] = {form for form in _forms(value) if len(form) >= SHORTEST}
        self._known = set().union(*self._values.values())
        self._learned = True

    @property
    def _pattern(self) -> re.Pattern[str] | None:
        if self._learned:
            longest_first = sorted(self._known, key=len, reverse=True)
            self._compiled = re.compile("|".join(map(_however_escaped, longest_first))) if longest_first else None
            self._learned = False
        return self._compiled

    def text(self, text: str) -> str:
        """`text` without the values."""
        pattern = self._pattern
        return text if pattern is None else pattern.sub(REMOVED, text)

    def tail(self, text: str) -> str:
        """The end of a longer text, which may begin amid a value."""
        if self._pattern is None:
            return text
        text = self.text(text)
        cut = max((_overlap(form, text) for form in self._known), default=0)
        return REMOVED + text[cut:] if cut else text

    def unfinished(self, text: str) -> int:
        """How many characters at the end of `text` may be the beginning of a value that goes on after it."""
        return max((_overlap_end(text, form) for form in self._known), default=0)

    def value(self, value: Any, depth: int = DEPTH_MAX) -> Any:
        """A JSON value, or what logs are made of, without the values in its texts."""
        pattern = self._pattern
        if pattern is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, (dict, list, tuple)):
            if depth <= 0:
                return REMOVED
            if isinstance(value, dict):
                return {self.value(key, depth - 1): self.value(item, depth - 1) for key, item in value.items()}
            return [self.value(item, depth - 1) for item in value]
        if value is None or isinstance(value, (bool, int, float)):
            return value
        shown = repr(value)
        return value if pattern.search(shown) is None else self.text(shown)


KNOWN = Redactor()  # of this process: its logs, and what its executions and plugins say


def redact_event(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor of structlog that takes the values out of an event."""
    for key, value in event.items():
        event[key] = KNOWN.value(value)
    return event


def _forms(value: str) -> set[str]:
    lines = {value, value.strip(), *(line.strip() for line in value.splitlines())}
    forms = set(lines)
    for line in lines:
        raw = line.encode("utf-8", "replace")
        forms |= {quote(line), quote_plus(line), quote(line, safe="")}
        forms |= {base64.b64encode(raw).decode().rstrip("="), base64.urlsafe_b64encode(raw).decode().rstrip("=")}
    return forms


def _however_escaped(form: str) -> str:
    return "".join(map(_ESCAPED.__getitem__, form))


class _Escapes(dict[str, str]):
    """By character, a pattern of what may stand for it where text is escaped, also several times over."""

    def __missing__(self, char: str) -> str:
        pattern = re.escape(char)
        if char == "\\":
            pattern = r"\\+"
        elif char in _CONTROLS:
            pattern = rf"(?:{pattern}|\\+{_CONTROLS[char]})"
        elif not char.isascii():
            units = char.encode("utf-16-be", "surrogatepass").hex()
            pairs = r"\\+".join(f"u{units[at : at + 4]}" for at in range(0, len(units), 4))
            pattern = rf"(?:{pattern}|\\+(?i:{pairs}|x{ord(char):02x}|U{ord(char):08x}))"
        elif not char.isalnum():
            pattern = r"\\*" + pattern
        self[char] = pattern
        return pattern


_CONTROLS = {"\n": "n", "\r": "r", "\t": "t"}
_ESCAPED = _Escapes()


def _overlap(form: str, text: str) -> int:
    """The length of the longest proper end of `form` that `text` begins with."""
    for size in range(min(len(form) - 1, len(text)), SHORTEST - 1, -1):
        if text.startswith(form[-size:]):
            return size
    return 0


def _overlap_end(text: str, form: str) -> int:
    """The length of the longest proper beginning of `form` that `text` ends with."""
    for size in range(min(len(form) - 1, len(text)), 0, -1):
        if text.endswith(form[:size]):
            return size
    return 0
