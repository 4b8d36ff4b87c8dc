"""Arguments of the functions that the engine itself carries out, decoded strictly: a worker is not trusted."""

from __future__ import annotations

import msgspec


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class GenerateArgs(_Strict, frozen=True):
    name: str
    data: msgspec.Raw


class RunArgs(_Strict, frozen=True):
    host: str
    name: str
    image: str
    args: list[str]
    env: dict[str, str]
    timeout: float | None
    retries: int
    options: dict[str, object]


class WaitArgs(_Strict, frozen=True):
    what: list[int]
    timeout: float | None
    any: bool
    check: bool


class SleepArgs(_Strict, frozen=True):
    seconds: float


class HoldArgs(_Strict, frozen=True):
    reason: str


generate_args = msgspec.json.Decoder(GenerateArgs).decode
run_args = msgspec.json.Decoder(RunArgs).decode
wait_args = msgspec.json.Decoder(WaitArgs).decode
sleep_args = msgspec.json.Decoder(SleepArgs).decode
hold_args = msgspec.json.Decoder(HoldArgs).decode


def check_json(raw: bytes) -> None:
    """Raises WorkerLied where `raw` is no JSON."""
    try:
        msgspec.json.decode(raw)
    except (msgspec.MsgspecError, RecursionError):
        raise WorkerLied("a value that is no JSON") from None


class WorkerLied(Exception):
    """A worker reported something that no honest worker can: it is killed, and what it said does not count."""
