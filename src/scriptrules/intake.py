"""Tasks as they come in over HTTP or from a command line: checked once, here, so that the rest can rely on it."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from scriptrules.errors import BadTask, TooLarge
from scriptrules.model import NAME, NAME_MAX

KEY_MAX = 200  # characters
_LONG_NUMBER = re.compile(rb"\d{19}")
_INTEGER_MIN, _INTEGER_MAX = -(2**63), 2**63 - 1

Accepted = tuple[str, bytes, str | None]  # name, data, key


class TaskIn(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /api/tasks``, and each line of an NDJSON body."""

    name: str
    data: dict[str, Any] = {}
    key: str | None = None


class BadLines(BadTask):
    """Some lines are not acceptable, so nothing was stored. Correct them and send all of it again."""

    code = "SR813"

    def __init__(self, problems: list[tuple[int, str]]) -> None:
        shown = "; ".join(f"line {number}: {problem}" for number, problem in problems[:3])
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        super().__init__(f"{shown}{more}. Nothing was stored; correct these lines and send all of them again.")
        self.problems = problems


_decoder = msgspec.json.Decoder(TaskIn)
_encode = msgspec.json.encode


def one(body: bytes, payload_max: int, depth_max: int) -> Accepted:
    """The task in a JSON body.

    Raises:
        BadTask: with what is wrong, and where.
    """
    return _accept(_decode(body), _LONG_NUMBER.search(body) is not None, payload_max, depth_max)


def lines(body: bytes, payload_max: int, depth_max: int) -> list[Accepted]:
    """The tasks in an NDJSON body; empty lines do not count.

    Raises:
        BadLines: with the numbers of all bad lines, from 1.
    """
    try:
        tasks = _decoder.decode_lines(body)
        long = _LONG_NUMBER.search(body) is not None
        return [_accept(task, long, payload_max, depth_max) for task in tasks]
    except (msgspec.MsgspecError, UnicodeDecodeError, BadTask, RecursionError):
        pass  # find out which
    accepted, problems = [], []
    for number, line in enumerate(body.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            accepted.append(one(line, payload_max, depth_max))
        except BadTask as error:
            problems.append((number, error.message))
    if problems:
        raise BadLines(problems)
    return accepted


def check(name: str, data: Any, key: str | None, payload_max: int, depth_max: int) -> Accepted:
    """A task that was not JSON text before, such as one from the command line.

    Raises:
        BadTask: with what is wrong.
    """
    if type(data) is not dict:
        raise BadTask('The data of a task is a JSON object: {"size": 3}.')
    return _accept(TaskIn(name, data, key), True, payload_max, depth_max)


def _decode(body: bytes) -> TaskIn:
    try:
        return _decoder.decode(body)
    except RecursionError:
        raise BadTask("The JSON is nested too deep. Flatten it.") from None
    except UnicodeDecodeError as error:
        raise BadTask(f"The JSON is not UTF-8: {error.reason} at byte {error.start} of a text.") from None
    except msgspec.ValidationError as error:
        raise BadTask(f'{error}. A task is {{"name": "dotted.name", "data": {{…}}, "key": "optional"}}.') from None
    except msgspec.DecodeError as error:
        raise BadTask(f"{error}. Send one JSON object, or NDJSON with content type application/x-ndjson.") from None


def _accept(task: TaskIn, long_numbers: bool, payload_max: int, depth_max: int) -> Accepted:
    name = task.name
    if len(name) > NAME_MAX or not NAME.match(name):
        raise BadTask(
            f"{name[:80]!r} is not the name of a task. Write segments of letters, digits, _ and - with dots between, "
            f"at most {NAME_MAX} characters."
        )
    if task.key is not None and not 0 < len(task.key) <= KEY_MAX:
        raise BadTask(f"A key has 1 to {KEY_MAX} characters.")
    try:
        (task.key or "").encode()
        data = _encode(task.data)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadTask(f"The data cannot be kept as JSON: {error}.") from None
    if len(data) > payload_max:
        raise TooLarge(
            f"The data of task {name} is {len(data)} bytes; at most {payload_max} are allowed. Put the bulk somewhere "
            f"else and send a reference, or raise payload_max under [sandbox]."
        )
    if data.count(b"[") + data.count(b"{") > depth_max:  # only then can it be nested deeper
        _check_depth(task.data, depth_max)
    if long_numbers:
        _check_integers(task.data)
    return name, data, task.key


def _check_depth(value: Any, depth: int) -> None:
    if isinstance(value, (dict, list)):
        if depth <= 0:
            raise BadTask("The data is nested too deep. Flatten it, or raise depth_max under [sandbox].")
        for item in value.values() if isinstance(value, dict) else value:
            _check_depth(item, depth - 1)


def _check_integers(value: Any) -> None:
    if isinstance(value, int):
        if not _INTEGER_MIN <= value <= _INTEGER_MAX:
            raise BadTask(f"{value} is an integer of more than 64 bits. Send it as text.")
    elif isinstance(value, dict):
        for item in value.values():
            _check_integers(item)
    elif isinstance(value, list):
        for item in value:
            _check_integers(item)
