"""Arguments of the functions that the engine itself carries out, decoded strictly: a worker is not trusted."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from scriptrules import clock
from scriptrules.model import NAME, NAME_MAX, SecretRef
from scriptrules.rulebook.index import PATTERN
from scriptrules.sandbox.intrinsics import SLEEP_MAX

TaskName = Annotated[str, msgspec.Meta(pattern=f"^{NAME.pattern}", max_length=NAME_MAX)]
Pattern = Annotated[str, msgspec.Meta(pattern=f"^{PATTERN.pattern}", max_length=NAME_MAX)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=SLEEP_MAX)]  # so that moments fit into 64 bits


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class GenerateArgs(_Strict, frozen=True):
    name: TaskName
    data: msgspec.Raw


class SecretText(_Strict, frozen=True):
    """A secret with text around it, as it stands in arguments: ``{"$secret": ["Bearer ", {"name", "version"}]}``."""

    parts: list[str | SecretRef] = msgspec.field(name="$secret")


class RunArgs(_Strict, frozen=True):
    host: str
    name: str
    image: str
    args: list[str | SecretText]
    env: dict[str, str | SecretText]
    timeout: float | None
    retries: int
    options: dict[str, object]
    secret_files: dict[str, str | SecretText] = {}


class LoadArgs(_Strict, frozen=True):
    name: TaskName
    default: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class SaveArgs(_Strict, frozen=True):
    name: TaskName
    value: msgspec.Raw
    scope: Literal["tree", "store"]


class WaitArgs(_Strict, frozen=True):
    what: list[int]
    timeout: Seconds | None
    any: bool
    check: bool
    tree: bool = False


class ReceiveArgs(_Strict, frozen=True):
    on: Annotated[list[Pattern], msgspec.Meta(min_length=1)]
    match: dict[str, object]
    timeout: Seconds | None


class SleepUntilArgs(_Strict, frozen=True):
    time: str


class SleepArgs(_Strict, frozen=True):
    seconds: Seconds


class HoldArgs(_Strict, frozen=True):
    reason: str


_object = msgspec.json.Decoder(dict).decode
generate_args = msgspec.json.Decoder(GenerateArgs).decode
run_args = msgspec.json.Decoder(RunArgs).decode
load_args = msgspec.json.Decoder(LoadArgs).decode
save_args = msgspec.json.Decoder(SaveArgs).decode
wait_args = msgspec.json.Decoder(WaitArgs).decode
sleep_args = msgspec.json.Decoder(SleepArgs).decode
receive_args = msgspec.json.Decoder(ReceiveArgs).decode
hold_args = msgspec.json.Decoder(HoldArgs).decode


def wake_moment(args: bytes) -> int:
    """When a `sleep_until` ends, in microseconds since 1970."""
    try:
        return clock.parse(msgspec.json.decode(args, type=SleepUntilArgs).time)
    except ValueError:
        raise WorkerLied("a time that is none") from None


def secret_text(value: object) -> SecretText:
    """A mark as what it stands for; raises ValidationError where it cannot be one."""
    return msgspec.convert(value, SecretText)


def check_object(data: bytes) -> None:
    """Raises WorkerLied where this cannot be the data of a task."""
    try:
        _object(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise WorkerLied("the data of a task is no JSON object") from None


def check_json(raw: bytes, an_object: bool = False) -> None:
    """Raises WorkerLied where `raw` is no JSON, or not an object where it must be one."""
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise WorkerLied("a value that is no JSON") from None
    if an_object and type(value) is not dict:
        raise WorkerLied("arguments that are no object")


class WorkerLied(Exception):
    """A worker reported something that no honest worker can: it is killed, and what it said does not count."""
