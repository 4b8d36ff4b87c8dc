"""Who asks, and what they may: the gate finds out the one, the role of an operation decides the other."""

from __future__ import annotations

from starlette.requests import Request

from scriptrules import errors
from scriptrules.tokens import NOBODY, Identity, Role


def identity_of(request: Request) -> Identity:
    """Who asks."""
    identity: Identity = request.state.identity
    return identity


def demand(request: Request, role: Role) -> None:
    """Let the request go on if whoever asks has this role.

    Raises:
        Unauthorized: nobody is known to ask.
        Forbidden: the role of who asks does not suffice.
    """
    identity = identity_of(request)
    if identity.may(role):
        request.state.role = role
        return
    if identity is NOBODY:
        raise errors.Unauthorized
    raise errors.Forbidden(f"This needs the role {role}; the token {identity.name!r} has {identity.role}.")
