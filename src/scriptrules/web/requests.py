"""What requests hold, read and checked: bodies, and what stands behind the ``?``."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec
from starlette.requests import Request

from scriptrules import clock, errors
from scriptrules.store.protocol import Filter
from scriptrules.web.access import identity_of

ANONYMOUS = "somebody"
LIMIT_DEFAULT, LIMIT_MAX = 50, 1000

Position = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]  # in what only grows; a store can have no other
Limit = Annotated[int, msgspec.Meta(ge=1, le=LIMIT_MAX)]
Moment = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
Query = TypeVar("Query", bound=msgspec.Struct)
Body = TypeVar("Body")


class ListQuery(msgspec.Struct, frozen=True):
    """What every list can be narrowed by; newest first."""

    since: Moment | None = None  # created at or after, RFC 3339
    until: Moment | None = None  # created before
    limit: Limit = LIMIT_DEFAULT
    cursor: str | None = None  # the `next` of the part before


def read_query(request: Request, kind: type[Query]) -> Query:
    """What stands behind the ``?``, as `kind` declares it.

    Raises:
        BadTask: an unknown parameter, or a value that is none.
    """
    known = kind.__struct_fields__
    values: dict[str, Any] = dict(request.query_params)
    for name in values:
        if len(request.query_params.getlist(name)) > 1:
            raise errors.BadTask(f"The parameter {name!r} is given twice. Give it once.")
        if name not in known:
            raise errors.BadTask(f"Unknown parameter {name!r}{errors.nearest(name, known)} Known: {sorted(known)}.")
    for name in values.keys() & {"since", "until"}:
        read_moment(name, values[name])
    try:
        query = msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise errors.BadTask(f"{error}. Known parameters: {sorted(known)}.") from None
    for name, value in values.items():
        if getattr(query, name) is None:
            raise errors.BadTask(f"{name}={value} is no value. Leave the parameter out.")
    return query


def who_of(request: Request, given: str = ANONYMOUS) -> str:
    """Who does it, for the audit: the name of the token, or whoever they say they are where there are no tokens."""
    return identity_of(request).name or given


def filter_of(query: msgspec.Struct) -> Filter:
    """The filter that a list's query stands for."""
    fields = {name: getattr(query, name) for name in query.__struct_fields__ if name in Filter.__struct_fields__}
    for name in ("since", "until"):
        fields[name] = read_moment(name, fields[name])
    check_whole(name=fields.get("name"), rule=fields.get("rule"))
    return Filter(**fields)


def check_whole(**given: str | None) -> None:
    """Refuse a pattern where a name is meant: it would select nothing, and look like an answer.

    Raises:
        BadTask: it is a pattern.
    """
    for parameter, name in given.items():
        if name is not None and "*" in name:
            raise errors.BadTask(f"{parameter}={name!r} is a pattern. Give the whole name.")


def read_moment(name: str, text: str | None) -> int | None:
    """A time that a query names, in microseconds since 1970 UTC.

    Raises:
        BadTask: it is none.
    """
    if text is None:
        return None
    try:
        return clock.parse(text.replace(" ", "+"))
    except ValueError:
        raise errors.BadTask(f"{name}={text!r} is not a time. Write 2026-01-31T12:00:00Z.") from None


async def read_body(request: Request, most: int, setting: str = "body_max under [server]") -> bytes:
    """The body of a request, if it has no more than `most` bytes, which `setting` says.

    Raises:
        TooLarge: it has.
    """
    too_large = errors.TooLarge(f"The body is over {most} bytes. Send it in parts, or raise {setting}.")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most:
        raise too_large
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise too_large
        parts.append(part)
    return b"".join(parts)


def decode_body(body: bytes, kind: type[Body]) -> Body:
    """A JSON body as `kind` declares it; an empty one is an empty object.

    Raises:
        BadTask: it is no such thing.
    """
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise errors.BadTask(f"{error}. See /openapi.json for what the body may hold.") from None
