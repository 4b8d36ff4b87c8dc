"""What a rule says about retries, timeout, limit and schedule: from its literals to what the engine keeps to."""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from scriptrules import cron
from scriptrules.cron import CatchUp
from scriptrules.errors import nearest
from scriptrules.model import NAME_MAX, Limit, Retries
from scriptrules.rulebook.index import PATTERN, is_literal

RETRIES_MAX = 1000
SECONDS_MAX = 10 * 366 * 86_400.0
LIMIT_MAX = 1_000_000
FULL = ("queue", "drop", "cancel_oldest")
CATCH_UP = get_args(CatchUp)


class BadValue(Exception):
    """A value that cannot be used: what is wrong with it, and what to write instead."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Schedule(msgspec.Struct, frozen=True):
    """When a rule is to run, and what becomes of the times at which nothing could."""

    cron: str
    catch_up: CatchUp = "last"


def read_retries(value: Any) -> Retries:
    """``retries = 3`` or ``retries = {"max": 3, "backoff": 2, "backoff_max": 60, "jitter": 0.2}``."""
    hint = 'Write retries = 3, or {"max": 3, "backoff": 2.0, "backoff_max": 60.0, "jitter": 0.5}.'
    if type(value) is dict:
        _check_keys("retries", value, ("max", "backoff", "backoff_max", "jitter"), hint)
        if "max" not in value:
            raise BadValue("`retries` has no `max`.", hint)
    else:
        value = {"max": value}
    if type(value["max"]) is not int or not 0 <= value["max"] <= RETRIES_MAX:
        raise BadValue(f"`retries` is not a number of attempts from 0 to {RETRIES_MAX}.", hint)
    numbers: dict[str, float] = {}
    for name, most in (("backoff", SECONDS_MAX), ("backoff_max", SECONDS_MAX), ("jitter", 1.0)):
        if name in value:
            if not _is_number(value[name], 0.0, most):
                raise BadValue(f"`{name}` of `retries` is not a number from 0 to {most:g}.", hint)
            numbers[name] = float(value[name])
    return Retries(value["max"], **numbers)


def read_timeout(value: Any) -> float:
    """``timeout = 3600``: seconds."""
    if not _is_number(value, 0.0, SECONDS_MAX) or value == 0:
        raise BadValue("`timeout` is not a number of seconds above 0.", f"Write seconds, at most {SECONDS_MAX:.0f}.")
    return float(value)


def read_limit(value: Any) -> Limit:
    """``limit = {"max": 1, "key": "customer", "full": "queue"}``."""
    hint = 'Write limit = {"max": 1, "key": "customer", "full": "queue"}; key and full may be left out.'
    if type(value) is not dict:
        raise BadValue("`limit` is not a dict.", hint)
    _check_keys("limit", value, ("max", "key", "full"), hint)
    if type(value.get("max")) is not int or not 1 <= value["max"] <= LIMIT_MAX:
        raise BadValue(f"`max` of `limit` is not a number from 1 to {LIMIT_MAX}.", hint)
    if type(value.get("key", "")) is not str:
        raise BadValue("`key` of `limit` is not the name of a field of the task.", hint)
    if value.get("full", "queue") not in FULL:
        near = nearest(str(value["full"]), FULL)
        raise BadValue(f"`full` of `limit` is not one of {', '.join(FULL)}{near}", hint)
    return Limit(**value)


def read_schedule(value: Any) -> Schedule:
    """``schedule = "0 2 * * *"`` or ``schedule = {"cron": "0 2 * * *", "catch_up": "all"}``."""
    hint = 'Write schedule = "0 2 * * *", or {"cron": "0 2 * * *", "catch_up": "last"}: minute hour day month weekday.'
    if type(value) is dict:
        if "timezone" in value:
            raise BadValue("`schedule` has no time zone of its own.", "Set timezone under [flow] in scriptrules.toml.")
        _check_keys("schedule", value, ("cron", "catch_up"), hint)
    else:
        value = {"cron": value}
    if type(value.get("cron")) is not str:
        raise BadValue("`schedule` is not a cron expression.", hint)
    if value.get("catch_up", "last") not in CATCH_UP:
        near = nearest(str(value["catch_up"]), CATCH_UP)
        raise BadValue(f"`catch_up` of `schedule` is not one of {', '.join(CATCH_UP)}{near}", hint)
    problem = cron.problem_of(value["cron"])
    if problem is not None:
        raise BadValue(f"`schedule` {value['cron'][:80]!r} {problem.rstrip('.')}.", hint)
    return Schedule(**value)


def scheduled_task(rule: str) -> str:
    """The name of the tasks that a rule's schedule generates."""
    name = f"schedule.{rule.replace('/', '.')}"
    if "." in rule or not PATTERN.match(name) or not is_literal(name) or len(name) > NAME_MAX:
        raise BadValue(
            f"no task can be named after the file {rule!r}.",
            "Rename it: letters, digits, _ and - only, and not too long.",
        )
    return name


def _check_keys(name: str, value: dict[Any, Any], known: tuple[str, ...], hint: str) -> None:
    for key in value:
        if key not in known:
            raise BadValue(f"`{name}` has an unknown key {key!r}{nearest(str(key), known)}", hint)


def _is_number(value: Any, least: float, most: float) -> bool:
    return type(value) in (int, float) and least <= value <= most
