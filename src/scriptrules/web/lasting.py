"""Answers that last, such as the stream of events: they end with the server, and when who asks may have them no longer.

That is when a token is revoked, when a session is over, or when there are tokens now and were none.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

from starlette.requests import Request

from scriptrules.clock import SECOND
from scriptrules.supervisor.background import wait_up_to
from scriptrules.tokens import Identity
from scriptrules.web.operations import Site

Item = TypeVar("Item")
LOOK = 3600.0  # seconds after which who asks is looked up again in any case


async def while_allowed(request: Request, site: Site, source: AsyncGenerator[Item, None]) -> AsyncGenerator[Item, None]:
    """What `source` gives, for as long as the server goes on and who asks may have it."""
    ends = [asyncio.ensure_future(site.supervisor.feed.closing.wait()), asyncio.ensure_future(_lost(request, site))]
    try:
        async with contextlib.aclosing(source):
            while True:
                upcoming = asyncio.ensure_future(anext(source, None))
                try:
                    await asyncio.wait({upcoming, *ends}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    if not upcoming.done():  # it is over, or the client has gone
                        upcoming.cancel()
                        await asyncio.wait({upcoming})
                item = None if upcoming.cancelled() else upcoming.result()
                if item is None or ends[1].done():
                    return
                yield item
    finally:
        for end in ends:
            end.cancel()


async def _lost(request: Request, site: Site) -> None:
    """Return when who asks may no longer have what they were given."""
    identify: Callable[[], Identity] = request.state.identify
    while True:
        changed, identity = site.supervisor.tokens.changed, identify()
        if not identity.may(request.state.role):
            return
        left = LOOK if identity.ends is None else identity.ends - site.supervisor.clock() / SECOND
        await wait_up_to(max(0.01, min(LOOK, left)), changed)
