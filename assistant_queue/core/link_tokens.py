"""Tokens of links that settle a tool call without a login: what they say, signed.

A token is `1.<claims>.<signature>`, each part URL-safe base64 without padding. The claims are a
JSON list; the signature is HMAC-SHA256 over the form's number, the queue's prefix and the claims.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

LinkVerdict = Literal["approve", "deny"]
_FORM = "1"
_PURPOSE = b"assistant_queue approval link"
"""First in what is signed, so that a secret that signs other things, too, signs none of these."""
MAX_TOKEN = 4096
"""Characters. Chosen: the longest call id and name fit four times, the address fits in a mail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkClaims:
    """The call and the verdict of a link.

    Attributes:
        call_id: The call, by the id under which it is listed.
        verdict: What the link does.
        until_ms: When it expires, ms.
        by: The name that the settlement gets; None for none.
    """

    call_id: str
    verdict: LinkVerdict
    until_ms: int
    by: str | None = None


def sign(claims: LinkClaims, prefix: str, secret: str) -> str:
    """Return the token of a link of a queue."""
    fields = [claims.call_id, claims.verdict, claims.until_ms, claims.by]
    body = _packed(json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode())
    return f"{_FORM}.{body}.{_packed(_signature(body, prefix, secret))}"


def read(token: str, prefix: str, secrets: Sequence[str]) -> LinkClaims | None:
    """Return the claims of a token that one of the secrets signed; None for any other text."""
    form, _, rest = token.partition(".")
    body, _, given = rest.partition(".")
    signature = _unpacked(given)
    # All of them, without an early end: the time does not depend on the secret.
    is_signed = [
        hmac.compare_digest(_signature(body, prefix, secret), signature) for secret in secrets
    ]
    if form != _FORM or not any(is_signed) or _packed(signature) != given:
        return None
    try:
        call_id, verdict, until_ms, by = json.loads(_unpacked(body))
    except (ValueError, TypeError):
        return None
    if verdict not in get_args(LinkVerdict):
        return None
    return LinkClaims(call_id=call_id, verdict=verdict, until_ms=until_ms, by=by)


def _signature(body: str, prefix: str, secret: str) -> bytes:
    parts = (_PURPOSE, _FORM.encode(), prefix.encode(), body.encode("utf-8", "replace"))
    return hmac.digest(secret.encode(), b"\0".join(parts), "sha256")


def _packed(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unpacked(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return b""
