"""What happens, over HTTP: server-sent events that a client resumes at the position it has come to."""

from __future__ import annotations

import msgspec
import structlog
from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from scriptrules import errors
from scriptrules.supervisor.feed import KINDS, Wanted
from scriptrules.web.lasting import while_allowed
from scriptrules.web.operations import Operation, Site
from scriptrules.web.requests import read_query

log = structlog.get_logger(__name__)


class EventsQuery(msgspec.Struct, frozen=True):
    after: str | None = None  # the id of the last event that the client has; the header Last-Event-ID wins
    kinds: str | None = None  # some of them, with commas between: task,run,rules,breakpoints
    name: str | None = None  # of the task, or a pattern
    rule: str | None = None  # runs of this rule only
    root: str | None = None  # what belongs to the tree of this task
    id: str | None = None  # one task or run


def operations(site: Site) -> list[Operation]:
    """What can be followed."""
    events = _Events(site)
    summary = "What happens to tasks, runs, rules and breakpoints, as server-sent events."
    media = "text/event-stream"
    return [Operation("GET", "/api/events", events.follow, summary, query=EventsQuery, media=media)]


class _Events:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._patience = site.supervisor.config.server.write_timeout

    async def follow(self, request: Request) -> Response:
        query = read_query(request, EventsQuery)
        after = _position(request.headers.get("last-event-id") or query.after)
        kinds = frozenset(query.kinds.split(",")) if query.kinds else frozenset(KINDS)
        for kind in kinds - frozenset(KINDS):
            raise errors.BadTask(f"Unknown kind {kind[:40]!r}{errors.nearest(kind, KINDS)} Known: {', '.join(KINDS)}.")
        wanted = Wanted(kinds, query.name, query.rule, query.root, query.id)
        frames = while_allowed(request, self._site, self._site.supervisor.feed.follow(after, wanted))
        return _Stream(frames, ping=0, sep="\n", send_timeout=self._patience)


class _Stream(EventSourceResponse):
    """Heartbeats are the feed's own, because they carry the position."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            log.info("events.client_dropped", reason="it has taken nothing of what it was sent for too long")


def _position(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise errors.BadTask(f"{text[:40]!r} is no id of an event. Give the id of the last one that was received.")
    return int(text)
