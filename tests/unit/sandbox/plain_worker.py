"""A worker without the language wall: it runs what Python it is sent, as an attacker would after an escape."""

from __future__ import annotations

import io
import os
import signal
import traceback
from types import FrameType

import msgspec

from scriptrules.sandbox.confine import Limits

ticks = 0


def prepare(limits: Limits) -> None:
    def tick(number: int, frame: FrameType | None) -> None:
        global ticks
        ticks += 1

    signal.signal(signal.SIGVTALRM, tick)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.01, 0.01)


def main(limits: Limits, walls: dict[str, str]) -> None:
    _send({"walls": walls})
    while source := _receive():
        space = {"ticks": lambda: ticks}
        try:
            exec(compile(source, "<rule>", "exec"), space)
            _send({"result": repr(space.get("result"))})
        except BaseException as error:
            text = io.StringIO()
            traceback.print_exception(error, file=text)
            _send({"error": f"{type(error).__name__}: {error}", "trace": text.getvalue()})


def _receive() -> bytes:
    size = int.from_bytes(_exactly(4), "little")
    return _exactly(size)


def _exactly(size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = os.read(0, size - len(data))
        if not piece:
            return b""
        data += piece
    return data


def _send(answer: object) -> None:
    data = msgspec.json.encode(answer)
    data = len(data).to_bytes(4, "little") + data
    while data:
        data = data[os.write(0, data) :]
