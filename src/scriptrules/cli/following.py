"""The log of a run as it comes, over restarts of the server.

Tried and rejected: positions in the lines. What containers write has none that a restart keeps, so lines are known
again by their order and their text. Where that differs they are told once more: better a line twice than none.
"""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from scriptrules.cli.common import say
from scriptrules.client import Unreachable

if TYPE_CHECKING:
    from scriptrules.client import Client, LogJson

INTERVAL = 1.0  # seconds until a server that does not answer is asked again


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
                say("The server does not answer; this goes on when one does. Ctrl-C ends it.")
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
