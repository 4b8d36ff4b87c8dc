"""Tokens over HTTP, and the sessions that browsers make of them."""

from __future__ import annotations

from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from scriptrules import clock, errors
from scriptrules.store.protocol import Audit
from scriptrules.tokens import SESSION_SECONDS, Token
from scriptrules.web.access import identity_of
from scriptrules.web.answers import Page, answer
from scriptrules.web.gate import COOKIE, is_loopback
from scriptrules.web.operations import Operation, Site
from scriptrules.web.requests import decode_body, read_body, who_of


class TokenIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    role: Literal["viewer", "operator", "admin"]


class TokenShape(msgspec.Struct, frozen=True):
    name: str
    role: str
    created: str


class NewTokenShape(TokenShape, frozen=True):
    token: str  # shown this once


class SessionIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    token: str


class SessionShape(msgspec.Struct, frozen=True):
    """Who asks, and whether tokens are asked for at all."""

    name: str | None
    role: str
    tokens: bool


def operations(site: Site) -> list[Operation]:
    """What concerns tokens."""
    these, path = _Tokens(site), "/api/tokens"
    login = "Make a session of a token: a cookie that browsers send along, and scripts cannot read."
    return [
        Operation(
            "GET", path, these.many, "Tokens by name, without their text.", answer=Page, items=TokenShape, role="admin"
        ),
        Operation(
            "POST",
            path,
            these.add,
            "Add a token; its text is shown this once.",
            answer=NewTokenShape,
            status=201,
            body=TokenIn,
            role="admin",
        ),
        Operation("DELETE", f"{path}/{{name}}", these.revoke, "Revoke a token.", answer=TokenShape, role="admin"),
        Operation(
            "GET", "/api/session", these.who, "Who asks, by token or session.", answer=SessionShape, role="anyone"
        ),
        Operation("POST", "/api/session", these.login, login, answer=SessionShape, body=SessionIn, role="anyone"),
        Operation("DELETE", "/api/session", these.logout, "End the session.", answer=SessionShape, role="anyone"),
    ]


class _Tokens:
    def __init__(self, site: Site) -> None:
        self._supervisor = site.supervisor
        self._tokens = site.supervisor.tokens
        self._path = site.supervisor.config.server.root_path or "/"
        self._only_here = is_loopback(site.supervisor.config.listen_address[0])

    async def many(self, _: Request) -> Response:
        return answer(Page([_shape(token) for token in self._tokens.all()]))

    async def add(self, request: Request) -> Response:
        given = decode_body(await read_body(request, 10_000), TokenIn)
        token, text = self._tokens.make(given.name, given.role, self._supervisor.clock())
        await self._supervisor.store.put_token(token, self._audit(request, "token", token))
        self._tokens.put(token)
        return answer(NewTokenShape(token.name, token.role, clock.text(token.created), text), 201)

    async def revoke(self, request: Request) -> Response:
        token = self._tokens.removable(request.path_params["name"], self._only_here)
        await self._supervisor.store.remove_token(token.name, self._audit(request, "revoke", token))
        self._tokens.remove(token)
        return answer(_shape(token))

    def _audit(self, request: Request, verb: str, token: Token) -> Audit:
        detail = msgspec.json.encode({"role": token.role})
        return Audit(self._supervisor.clock(), who_of(request), verb, f"token {token.name}", detail=detail)

    async def who(self, request: Request) -> Response:
        identity = identity_of(request)
        return answer(SessionShape(identity.name, identity.role, bool(self._tokens)))

    async def login(self, request: Request) -> Response:
        text = decode_body(await read_body(request, 10_000), SessionIn).token.strip()
        identity = self._tokens.identify(text)
        session = self._tokens.session(text, self._supervisor.clock())
        if identity is None or session is None:
            raise errors.Unauthorized("This is no token of this server. `scriptrules token add` makes one.")
        response = answer(SessionShape(identity.name, identity.role, True))
        self._set(request, response, session, SESSION_SECONDS)
        return response

    async def logout(self, request: Request) -> Response:
        response = answer(SessionShape(None, "anyone", bool(self._tokens)))
        self._set(request, response, "", 0)
        return response

    def _set(self, request: Request, response: Response, session: str, seconds: int) -> None:
        origin = request.headers.get("origin", "")
        secure = origin.startswith("https:") or request.url.scheme == "https"
        response.set_cookie(
            COOKIE, session, max_age=seconds, path=self._path, secure=secure, httponly=True, samesite="strict"
        )


def _shape(token: Token) -> TokenShape:
    return TokenShape(token.name, token.role, clock.text(token.created))
