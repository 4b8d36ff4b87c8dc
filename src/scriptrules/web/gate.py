"""What every request passes before an operation sees it: was it meant for this server, who asks, how often, how slowly.

What somebody may do is decided by the operation's role, in `access.demand`, and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections import OrderedDict
from http.cookies import CookieError, SimpleCookie

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scriptrules import clock, errors
from scriptrules.tokens import ANYBODY_HERE, NOBODY, Identity
from scriptrules.web.answers import refuse_error
from scriptrules.web.operations import Site

COOKIE = "scriptrules_session"
HEADER = b"x-scriptrules"  # no page of another site can send it
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
SIGNED = "/hooks/"  # what is signed may come from anywhere
RATE_BEYOND = 1000  # requests a second of a client beyond loopback, unless configured
CLIENTS_MAX = 10_000  # whose rate is remembered


class Gate:
    """Lets requests through, one after the other."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app = app
        self._requests = site.requests
        self._tokens = site.supervisor.tokens
        self._clock = site.supervisor.clock
        self._server = site.supervisor.config.server
        self._beyond = not is_loopback(site.supervisor.config.listen_address[0])
        self._rates = Rates()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._requests[scope["method"], str(message["status"])] += 1
            await send(message)

        headers = dict(scope["headers"])
        scope["root_path"] = self._server.root_path
        path = scope["path"].removeprefix(self._server.root_path)
        identity, problem = self._identify(headers, scope["client"])
        if not path.startswith(SIGNED):
            problem = problem or self._misdirected(headers, scope["method"], identity)
        if problem is not None:
            await refuse_error(problem)(scope, receive, count)
            return
        wait = self._rates.take(*self._rate_of(identity, scope["client"]))
        if wait:
            too_many = refuse_error(errors.TooMany(), {"retry-after": str(wait)})
            await too_many(scope, receive, count)
            return
        client = scope["client"]
        scope.setdefault("state", {}).update(identity=identity, identify=lambda: self._identify(headers, client)[0])
        await self._app(scope, _Patience(receive, self._server.read_timeout), count)

    def _identify(
        self, headers: dict[bytes, bytes], client: tuple[str, int] | None
    ) -> tuple[Identity, errors.ScriptrulesError | None]:
        given = headers.get(b"authorization")
        if given is not None:
            kind, _, text = given.decode("latin-1").partition(" ")
            found = self._tokens.identify(text.strip()) if kind.lower() == "bearer" else None
            if found is None:
                return NOBODY, errors.Unauthorized("The token is not known here. It may have been revoked.")
            return found, None
        if not self._tokens:
            here = client is not None and is_loopback(client[0])
            return ANYBODY_HERE if here and not self._beyond else NOBODY, None
        session = _cookie(headers)
        found = self._tokens.identify_session(session, self._clock()) if session else None
        return found or NOBODY, None

    def _misdirected(
        self, headers: dict[bytes, bytes], method: str, identity: Identity
    ) -> errors.ScriptrulesError | None:
        host = headers.get(b"host", b"").decode("latin-1")
        name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
        if not self._is_ours(name.strip("[]")):
            return errors.Misdirected(
                f"The Host header names {name[:80]!r}. Use the address that the server listens on, or add the name to "
                f"`hosts` under [server]."
            )
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1").partition("://")[2] != host:
            return errors.Misdirected("Requests from pages of other sites are refused.")
        if identity.cookie and method not in SAFE:
            same_site = origin is not None or headers.get(b"sec-fetch-site") == b"same-origin"
            if not same_site and HEADER not in headers:
                return errors.Misdirected("A session changes things from its own pages only. Use a token elsewhere.")
        return None

    def _is_ours(self, name: str) -> bool:
        if is_loopback(name) or name in self._server.hosts:
            return True
        if self._beyond:
            with contextlib.suppress(ValueError):
                return bool(ipaddress.ip_address(name))  # only names can be rebound
        return False

    def _rate_of(self, identity: Identity, client: tuple[str, int] | None) -> tuple[str, int]:
        address = client[0] if client is not None else ""
        key = f"token {identity.name}" if identity.name is not None else address
        return key, self._server.rate or (0 if is_loopback(address) else RATE_BEYOND)


class Rates:
    """How many requests each client may still make: as many as it may in a second, refilled all the time."""

    def __init__(self) -> None:
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # by client: how many, and when

    def take(self, client: str, rate: int) -> int:
        """One request of a client; returns after how many seconds it may come, 0 for now.

        Args:
            rate: requests a second; 0: any number.
        """
        if not rate:
            return 0
        now = clock.monotonic()
        left, at = self._left.get(client, (float(rate), now))
        left = min(left + (now - at) * rate, float(rate))
        self._left[client] = (left - 1 if left >= 1 else left, now)
        self._left.move_to_end(client)
        if len(self._left) > CLIENTS_MAX:
            self._left.popitem(last=False)
        return 0 if left >= 1 else 1


class _Patience:
    """Receives a body that has to be there in time; what comes after it may take as long as it likes."""

    def __init__(self, receive: Receive, seconds: float) -> None:
        self._receive = receive
        self._left = seconds
        self._whole = False

    async def __call__(self) -> Message:
        if self._whole:
            return await self._receive()
        began = clock.monotonic()
        try:
            async with asyncio.timeout(self._left):
                message = await self._receive()
        except TimeoutError:
            raise errors.TooSlow from None
        self._left -= clock.monotonic() - began
        self._whole = not message.get("more_body", False)
        return message


def is_loopback(name: str) -> bool:
    """Whether a host's name or address is this machine itself."""
    if name == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name).is_loopback
    return False


def _cookie(headers: dict[bytes, bytes]) -> str | None:
    try:
        cookies = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
    except CookieError:
        return None
    return cookies[COOKIE].value if COOKIE in cookies else None
