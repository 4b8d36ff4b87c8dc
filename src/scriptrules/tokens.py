"""Tokens of the API: 256 random bits, of which the store has the hash, and a name and a role for each.

While there is none, whoever reaches the server over loopback is an admin. Looking a token up takes the same time
whatever the token is, because it is looked up by its hash. A session of a browser is the token's name and a time,
signed with the token's hash: it survives a restart, ends when the token is revoked, and is nothing more to keep.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from typing import Literal

import msgspec

from scriptrules.clock import SECOND
from scriptrules.errors import BadTask, NotFound, NotPossible

PREFIX = "srt_"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}\Z")
SESSION_SECONDS = 30 * 24 * 3600

Role = Literal["anyone", "viewer", "operator", "admin"]
ROLES: tuple[Role, ...] = ("anyone", "viewer", "operator", "admin")  # each may do what those before it may


class Token(msgspec.Struct, frozen=True):
    name: str
    hash: str  # hexadecimal
    role: Role
    created: int


class Identity(msgspec.Struct, frozen=True):
    """Who asks. Without a name nobody in particular."""

    role: Role
    name: str | None = None
    cookie: bool = False  # known by the session of a browser, which sends it along by itself
    ends: int | None = None  # when a session does, in seconds since 1970

    def may(self, role: Role) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


NOBODY = Identity("anyone")
ANYBODY_HERE = Identity("admin")  # whoever is on this machine, while there are no tokens


class Tokens:
    """Those in force."""

    def __init__(self, tokens: Iterable[Token] = ()) -> None:
        self._by_hash = {token.hash: token for token in tokens}
        self.changed = asyncio.Event()  # some were added or removed; another one each time

    def __bool__(self) -> bool:
        return bool(self._by_hash)

    def all(self) -> list[Token]:
        return sorted(self._by_hash.values(), key=lambda token: token.name)

    def make(self, name: str, role: Role, now: int) -> tuple[Token, str]:
        """A new token, which is not in force yet, and its text, which nobody can tell again.

        Raises:
            BadTask: the name cannot be one.
            NotPossible: there is one of that name; or it would be the first, and no admin's.
        """
        if not NAME.match(name):
            raise BadTask(f"{name[:80]!r} cannot be the name of a token: letters, digits, _ and -, at most 80.")
        if any(token.name == name for token in self._by_hash.values()):
            raise NotPossible(f"There is a token {name!r} already. Revoke it first, or choose another name.")
        if not self and role != "admin":
            raise NotPossible("The first token has to be an admin's, or nobody could add another one: --role admin.")
        text = PREFIX + secrets.token_urlsafe(32)
        return Token(name, _hash(text), role, now), text

    def put(self, token: Token) -> None:
        self._by_hash[token.hash] = token
        self._tell()

    def removable(self, name: str, open_without: bool) -> Token:
        """The token of this name, which may be removed.

        Args:
            open_without: whether the server may go on without any token.

        Raises:
            NotFound: there is none.
            NotPossible: nobody could administer the rest; or the server would be open to others.
        """
        found = next((token for token in self._by_hash.values() if token.name == name), None)
        if found is None:
            raise NotFound(f"There is no token {name[:80]!r}. List them with `scriptrules token list`.")
        rest = [token for token in self._by_hash.values() if token is not found]
        if rest and not any(token.role == "admin" for token in rest):
            raise NotPossible(f"{name!r} is the last token of an admin. Add another one first: --role admin.")
        if not rest and not open_without:
            raise NotPossible(f"{name!r} is the last token, and the server listens beyond loopback. Add one first.")
        return found

    def remove(self, token: Token) -> None:
        self._by_hash.pop(token.hash, None)
        self._tell()

    def _tell(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def identify(self, text: str) -> Identity | None:
        """Whose token this is."""
        token = self._by_hash.get(_hash(text))
        return None if token is None else Identity(token.role, token.name)

    def session(self, text: str, now: int) -> str | None:
        """What a browser keeps instead of the token; None where it is none."""
        token = self._by_hash.get(_hash(text))
        if token is None:
            return None
        claim = f"{token.name}.{now // SECOND + SESSION_SECONDS}"
        return f"{claim}.{_sign(claim, token)}"

    def identify_session(self, session: str, now: int) -> Identity | None:
        """Whose session this is, if it has not ended."""
        claim, _, signature = session.rpartition(".")
        name, _, ends = claim.rpartition(".")
        token = next((token for token in self._by_hash.values() if token.name == name), None)
        if token is None or not hmac.compare_digest(_sign(claim, token), signature):
            return None
        found = Identity(token.role, token.name, cookie=True, ends=int(ends))
        return found if int(ends) > now // SECOND else None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _sign(claim: str, token: Token) -> str:
    return hmac.new(token.hash.encode(), claim.encode(), hashlib.sha256).hexdigest()
