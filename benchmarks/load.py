"""The load client, in a process of its own so that it shares no interpreter with what is measured.

``python load.py stream ADDRESS FOLDER COUNT IN_FLIGHT`` keeps IN_FLIGHT tasks unfinished until COUNT were sent and all
that follows from them has ended. ``python load.py post ADDRESS CONNECTIONS SECONDS NAME`` sends one task a request,
each connection the next one as soon as the last is acknowledged. Both print what they measured as JSON.

It writes prepared bytes and looks at no more of an answer than its status, because what it uses of the two processors
is missing on the server's side.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Protocol

import uvloop
from common import encode_request, open_store

from scriptrules import clock

LOOK_INTERVAL = 0.002  # seconds between two looks at how many tasks are unfinished
PART = 20  # tasks that are missing before more are sent: of 100, so that several requests are under way
UNFINISHED = "SELECT count(*) FROM tasks WHERE state = 'new'"  # answered from the narrow index of unfinished tasks
WARM_UP = 1000  # tasks


class Connection(asyncio.Protocol):
    """Sends requests one after the other; `answered` says when the next may go."""

    def __init__(self, ask: Asker) -> None:
        self._ask = ask
        self._answer = bytearray()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._next()

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        answer += data
        head = answer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = answer.index(b"content-length:") + 15
        length = int(answer[at : answer.index(b"\r\n", at)])
        if len(answer) < head + 4 + length:
            return
        if not answer.startswith(b"HTTP/1.1 202"):
            raise SystemExit(answer.decode())
        answer.clear()
        self._ask.answered(self)
        self._next()

    def _next(self) -> None:
        request = self._ask.next(self)
        if request is not None:
            self.write(request)

    def write(self, request: bytes) -> None:
        assert self._transport
        self._transport.write(request)


class Asker(Protocol):
    """Decides what is sent."""

    def next(self, connection: Connection) -> bytes | None:
        """What this connection, which is free, is to send; None where it will be told by `write`."""

    def answered(self, connection: Connection) -> None:
        """The connection's request was acknowledged."""


class Poster:
    """The same task again and again, for as long as `going`."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.answers = 0
        self.going = True

    def next(self, connection: Connection) -> bytes | None:
        return self._request if self.going else None

    def answered(self, connection: Connection) -> None:
        self.answers += 1


class Streamer:
    """Parts of a stream of tasks, over whichever connection is free."""

    def __init__(self) -> None:
        self.free: list[Connection] = []
        self.unanswered = 0  # tasks
        self._sizes: dict[Connection, int] = {}

    def next(self, connection: Connection) -> bytes | None:
        self.free.append(connection)
        return None

    def answered(self, connection: Connection) -> None:
        self.unanswered -= self._sizes.pop(connection)

    def send(self, request: bytes, tasks: int) -> None:
        connection = self.free.pop()
        self.unanswered += tasks
        self._sizes[connection] = tasks
        connection.write(request)


async def connect(address: str, ask: Asker, connections: int) -> str:
    host, _, port = address.removeprefix("http://").rpartition(":")
    loop = asyncio.get_running_loop()
    await asyncio.gather(
        *(loop.create_connection(lambda: Connection(ask), host, int(port)) for _ in range(connections))
    )
    return f"{host}:{port}"


async def post(address: str, connections: int, seconds: float, name: str) -> dict[str, float]:
    body = json.dumps({"name": name, "data": {"size": 3, "customer": "c17"}}).encode()
    host = address.removeprefix("http://")
    poster = Poster(encode_request(host, "POST", "/api/tasks", body, "application/json"))
    await connect(address, poster, connections)
    await asyncio.sleep(0.5)  # warm
    answers, began = poster.answers, clock.monotonic()
    await asyncio.sleep(seconds)
    answers, took = poster.answers - answers, clock.monotonic() - began
    poster.going = False
    return {"answers": answers, "seconds": took}


async def stream(address: str, base: Path, count: int, in_flight: int) -> dict[str, float]:
    streamer = Streamer()
    host = await connect(address, streamer, in_flight // PART)
    store = open_store(base)

    def unfinished() -> int:
        return int(store.execute(UNFINISHED).fetchone()[0])

    def part(size: int, at: int) -> bytes:
        lines = (f'{{"name":"order.placed","data":{{"size":{at + n + 1},"customer":"c{n}"}}}}' for n in range(size))
        return encode_request(host, "POST", "/api/tasks", "\n".join(lines).encode(), "application/x-ndjson")

    async def go(count: int) -> tuple[float, float]:
        sent, looks, seen = 0, 0, 0
        began = clock.monotonic()
        while True:
            # A task that was committed but not yet acknowledged counts twice: never more than `in_flight` are there.
            under_way = unfinished() + streamer.unanswered
            looks, seen = looks + 1, seen + under_way
            room = min(in_flight - under_way, count - sent)
            if room >= min(PART, count - sent) and room > 0 and streamer.free:
                streamer.send(part(room, sent), room)
                sent += room
            elif not room and not under_way and sent == count:
                return clock.monotonic() - began, seen / looks
            await asyncio.sleep(LOOK_INTERVAL)

    await go(WARM_UP)
    seconds, mean = await go(count)
    return {"seconds": seconds, "in_flight": mean}


if __name__ == "__main__":
    kind, address, *rest = sys.argv[1:]
    if kind == "stream":
        answer = uvloop.run(stream(address, Path(rest[0]), int(rest[1]), int(rest[2])))
    else:
        answer = uvloop.run(post(address, int(rest[0]), float(rest[1]), rest[2]))
    print(json.dumps(answer))
