"""What every executor makes of an execution's output, and of the options that a rule passes to `run()`.

The contract (the same on every host): the output is the JSON of the file that ``$SCRIPTRULES_OUTPUT`` names, where the
program wrote one, or else of the last non-empty line of standard output. It is held to the JSON that the journal
takes: signed 64-bit integers, finite numbers, bounded depth and size.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from scriptrules.errors import InvalidRequest, nearest
from scriptrules.model import Json

OUTPUT_TAIL = 64 * 1024  # bytes of each stream that a result carries
OUTPUT_FILE_MAX = 256 * 1024  # bytes of JSON that can become a result's output, from the file or the last line
OUTPUT_DEPTH_MAX = 64  # nested lists and objects

_INTEGERS = range(-(2**63), 2**63)
_TYPE_NAMES = {
    str: "text",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


def tail_text(data: bytes) -> str:
    """The last 64 KB of `data` as text; what is no UTF-8 becomes U+FFFD, and no character is cut in two."""
    start = max(0, len(data) - OUTPUT_TAIL)
    while start and start < len(data) and data[start] & 0xC0 == 0x80 and len(data) - start > OUTPUT_TAIL - 4:
        start += 1
    return data[start:].decode(errors="replace")


def last_line_output(stdout: bytes, *, cut: bool = False) -> Json:
    """The JSON value of the last non-empty line.

    Args:
        stdout: what the program wrote, or the end of it: give at least ``OUTPUT_FILE_MAX`` bytes where there are more.
        cut: `stdout` lacks its beginning, so a line that starts with the first byte may lack its own.

    Returns:
        The value; None where that line is no JSON, too long, or not there.
    """
    text = stdout.rstrip()
    start = text.rfind(b"\n") + 1
    if not text or (cut and start == 0):
        return None
    return file_output(text[start:])[0]


def file_output(data: bytes) -> tuple[Json, str | None]:
    """The JSON value that the whole of `data` is, and what is wrong with it where it is none.

    Args:
        data: the content of the output file; one byte more than ``OUTPUT_FILE_MAX`` is enough to see it is too large.

    Returns:
        ``(value, None)`` or ``(None, problem)``, the problem being a sentence for the program's author.
    """
    if len(data) > OUTPUT_FILE_MAX:
        return (
            None,
            f"The output is larger than {OUTPUT_FILE_MAX} bytes. Output the place of the bulk.",
        )
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return None, f"The output is no JSON ({error}). Write one JSON value."
    except RecursionError:
        return None, _too_deep()
    problem = _unfit(value)
    return (None, problem) if problem else (value, None)


def check_options(options: Mapping[str, Json], known: Mapping[str, type | tuple[type, ...]]) -> None:
    """Check the names and types of the options of a request.

    Args:
        options: as the rule gave them.
        known: the type, or the types, that each option may have; `float` takes integers too, `int` takes no booleans.

    Raises:
        InvalidRequest: an option is unknown (the nearest is named) or has another type.
    """
    for name, value in options.items():
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise InvalidRequest(f"unknown option {name!r} of run(){nearest(name, known)} It takes: {listed}.")
        allowed = known[name]
        types = allowed if isinstance(allowed, tuple) else (allowed,)
        fits = type(value) in types or (type(value) is int and float in types)
        if not fits:
            wanted = " or ".join(_TYPE_NAMES.get(each, each.__name__) for each in types)
            raise InvalidRequest(f"option {name!r} of run() has to be {wanted}, not {_shown(value)}.")


def _unfit(value: Json) -> str | None:
    """Why the journal could not keep `value`; walked level by level, so that depth costs no recursion."""
    level = [value]
    for _ in range(OUTPUT_DEPTH_MAX + 1):
        below: list[Json] = []
        for item in level:
            if type(item) is int and item not in _INTEGERS:
                return f"The output has the integer {item}, which needs more than 64 bits. Write it as text."
            if isinstance(item, list):
                below += item
            elif isinstance(item, dict):
                below += item.values()
        if not below:
            return None
        level = below
    return _too_deep()


def _too_deep() -> str:
    return f"The output is nested deeper than {OUTPUT_DEPTH_MAX} levels. Flatten it."


def _shown(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
