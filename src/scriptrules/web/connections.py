"""What connections may take of the server before a request stands: how many, and how much time and room for each.

uvicorn bounds none of it: whoever sends the head of a request a byte a minute, a head without end, or for ever the body
of a request that was answered already, would keep a connection. The body that an operation reads is the gate's.
"""

from __future__ import annotations

import asyncio

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from scriptrules import errors
from scriptrules.config import ServerConfig
from scriptrules.web.answers import refuse_error

log = structlog.get_logger(__name__)

HEAD_MAX = 64 * 1024  # bytes of a request line with its headers
HEAD_PATIENCE = 15.0  # seconds in which they have to come, where `read_timeout` is not less


def bounded(settings: ServerConfig) -> type[asyncio.Protocol]:
    """The protocol of connections within these settings."""

    class Bounded(_Connection):
        most, patience = settings.connections, settings.read_timeout

    return Bounded


class _Connection(HttpToolsProtocol):
    most: int
    patience: float  # seconds

    _timer: asyncio.TimerHandle | None = None  # ends the patience with what has to come
    _head: int | None = None  # bytes of the head that has to come; None: none has to
    _whole = True  # nothing more of the newest request has to come

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) <= self.most:
            self._expect_head()
            return
        log.warning("http.too_many_connections", most=self.most)
        self._refuse(
            errors.TooMany(f"There are {self.most} connections. Close some, or raise connections under [server].")
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        head = self._head
        if self.transport.is_closing():
            return
        super().data_received(data)
        if head is None or self._head is None:
            return
        self._head = head + len(data)
        if self._head > HEAD_MAX:
            self._refuse(errors.TooLarge(f"The head of the request is over {HEAD_MAX} bytes. Send a body instead."))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._whole = False
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._expect_nothing()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._whole = True
        self._expect_nothing()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._whole:  # the rest of a body that nobody reads
            self._expect(self.patience)

    def _expect_head(self) -> None:
        self._expect(min(HEAD_PATIENCE, self.patience))
        self._head = self._head or 0

    def _expect(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self._give_up)

    def _expect_nothing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._head = None

    def _give_up(self) -> None:
        if self._head:
            self._refuse(errors.TooSlow("The head of the request did not come in time. Send it at once."))
        else:
            self.transport.close()

    def _refuse(self, error: errors.ScriptrulesError) -> None:
        """End the connection with a word, where no answer is under way that it would run into."""
        if self.cycle is None or self.cycle.response_complete:
            answer = refuse_error(error, {"connection": "close"})
            head = [name + b": " + value + b"\r\n" for name, value in answer.raw_headers]
            self.transport.write(b"".join([STATUS_LINE[answer.status_code], *head, b"\r\n", bytes(answer.body)]))
        self.transport.close()
