"""Whether a delivery to a webhook was signed by who knows its secret. Pure: headers and body in, delivery out.

Facts of the schemes: GitHub signs the body alone and names event and delivery in headers; Stripe signs a time and the
body; Standard Webhooks (standardwebhooks.com) signs the delivery's id, a time and the body. All use HMAC-SHA256.

Tried and rejected: taking a delivery that has no id as new each time. What is signed can be sent again by whoever has
seen it, so without an id its signature is its key: the same body is the same delivery.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

import msgspec

from scriptrules.errors import BadSignature
from scriptrules.incoming import HookConfig
from scriptrules.model import Json

ID_MAX = 120  # characters; a longer one is hashed


class Delivery(msgspec.Struct, frozen=True):
    id: str  # the same for each time that it is sent
    event: str | None
    content: Json


def check(hook: HookConfig, secret: str, headers: Mapping[str, str], body: bytes, now: int) -> Delivery:
    """The delivery in a request.

    Args:
        headers: by their names in lower case.
        now: seconds since 1970.

    Raises:
        BadSignature: it is not signed with the secret, or too long ago.
    """
    match hook.scheme:
        case "github":
            signature = _check_plain(secret, headers.get("x-hub-signature-256", ""), body)
            return _delivery(headers.get("x-github-delivery") or signature, headers.get("x-github-event"), body)
        case "hmac":
            signature = _check_plain(secret, headers.get(hook.signature_header.lower(), ""), body)
            id = headers.get(hook.id_header.lower()) if hook.id_header else None
            return _delivery(id or signature, headers.get(hook.event_header.lower()), body)
        case "stripe":
            parts = [part.strip().partition("=") for part in headers.get("stripe-signature", "").split(",")]
            at = next((value for name, _, value in parts if name == "t"), "")
            _check_age(at, now, hook.tolerance)
            given = [value for name, _, value in parts if name == "v1"]
            _check_any(given, _hex(secret.encode(), at.encode() + b"." + body))
            delivery = _delivery("", None, body)
        case "standard":
            id, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
            _check_age(at, now, hook.tolerance)
            signed = hmac.digest(_standard_key(secret), f"{id}.{at}.".encode() + body, hashlib.sha256)
            entries = [entry.partition(",") for entry in headers.get("webhook-signature", "").split()]
            given = [value for version, _, value in entries if version == "v1"]
            _check_any(given, base64.b64encode(signed).decode())
            delivery = _delivery(id, None, body)
    fields = delivery.content if isinstance(delivery.content, dict) else {}
    event = fields.get("type")
    id = delivery.id or str(fields.get("id") or hashlib.sha256(body).hexdigest())
    return Delivery(_short(id), event if isinstance(event, str) else None, delivery.content)


def _delivery(id: str, event: str | None, body: bytes) -> Delivery:
    try:
        content = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadBody from None
    return Delivery(_short(id), event, content)


class BadBody(Exception):
    """The body is signed as it should be, and is no JSON."""


def _check_plain(secret: str, header: str, body: bytes) -> str:
    given = header.rpartition("=")[2].strip().lower()
    _check_any([given], _hex(secret.encode(), body))
    return given


def _check_any(given: list[str], expected: str) -> None:
    """In constant time, so that nothing can be learned of the right one from how long it takes."""
    if not any(hmac.compare_digest(one.encode("utf-8", "replace"), expected.encode()) for one in given):
        raise BadSignature


def _check_age(at: str, now: int, tolerance: int) -> None:
    if not (at.isascii() and at.isdigit() and len(at) < 16):
        raise BadSignature("The delivery has no signed time. Sign it as the scheme of the hook says.")
    if abs(now - int(at)) > tolerance:
        raise BadSignature(f"The delivery was signed more than {tolerance} s ago, or ahead. Send it anew.")


def _standard_key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        return secret.encode()


def _hex(key: bytes, signed: bytes) -> str:
    return hmac.new(key, signed, hashlib.sha256).hexdigest()


def _short(id: str) -> str:
    return id if len(id) <= ID_MAX else f"sha256:{hashlib.sha256(id.encode('utf-8', 'replace')).hexdigest()}"
