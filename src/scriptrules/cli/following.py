"""What is waited for or followed over restarts of the server, such as the log of a run as it comes.

Tried and rejected: positions in the lines. What containers write has none that a restart keeps, so lines are known
again by their order and their text. Where that differs they are told once more: better a line twice than none.
"""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from scriptrules.cli.common import say
from scriptrules.client import Refused, Unreachable

if TYPE_CHECKING:
    from scriptrules.client import Client, LogJson

Answer = TypeVar("Answer")
INTERVAL = 1.0  # seconds until a server that does not answer is asked again
AWAY = "The server does not answer; this goes on when one does. Ctrl-C ends it."


def persistently(ask: Callable[[], Answer]) -> Answer:
    """What `ask` gives, however long the server is away or cannot read its store."""
    told = False
    while True:
        try:
            return ask()
        except (Unreachable, Refused) as error:
            if isinstance(error, Refused) and error.status != 503:
                raise
        if not told:
            say(AWAY)
        told = True
        time.sleep(INTERVAL)


def follow(client: Client, run: str) -> Iterator[LogJson]:
    """The lines of a run's log until it has ended, each once.

    Raises:
        Unreachable: no server answers at the beginning; later it is waited for.
        Refused: there is no such run.
    """
    told: dict[tuple[int, str], array[int]] = {}  # by entry and stream: what stands for each line
    client.run(run)
    heard = True
    while True:
        try:
            yield from _new(client.logs(run, follow=True), told)
            heard = True
            if client.run(run)["ended"] is not None:
                return
        except Unreachable:
            if heard:
                say(AWAY)
            heard = False
        time.sleep(INTERVAL)


def _new(lines: Iterator[LogJson], told: dict[tuple[int, str], array[int]]) -> Iterator[LogJson]:
    """Those of `lines`, which begin with the first, that were not told yet; `told` grows by them."""
    at: Counter[tuple[int, str]] = Counter()
    for line in lines:
        stream = line["seq"], line["stream"]
        known, mark = told.setdefault(stream, array("q")), hash(line["text"])
        place = at[stream]
        at[stream] += 1
        if known[place : place + 1] != array("q", [mark]):
            del known[place:]
            known.append(mark)
            yield line
