"""Signatures of the Standard Webhooks specification, symmetric scheme `v1`."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping

from assistant_queue.errors import InvalidArgument, NotAuthenticated

_TOLERANCE_S = 300.0
"""Greatest age of a signed request. Source: the specification recommends five minutes."""

_LEAST_BYTES = 24
_MOST_BYTES = 64
"""Bytes of a key. Source: the specification: between 24 and 64."""


class Signer:
    """Signs and checks requests with one secret."""

    def __init__(self, secret: str, now: Callable[[], float] = time.time) -> None:
        """Read the secret, `whsec_` and base64.

        Raises:
            InvalidArgument: It is no such secret.
        """
        self._now = now
        try:
            self._key = base64.b64decode(str(secret).removeprefix("whsec_"), validate=True)
        except (binascii.Error, ValueError):
            self._key = b""
        if not _LEAST_BYTES <= len(self._key) <= _MOST_BYTES:
            raise InvalidArgument(
                f"Invalid webhook secret: expected whsec_ and {_LEAST_BYTES} to {_MOST_BYTES} "
                'bytes in base64, as of `python -c "import secrets, base64; '
                "print('whsec_' + base64.b64encode(secrets.token_bytes(32)).decode())\"`"
            )

    def sign(self, message_id: str, body: bytes) -> dict[str, str]:
        """Return the headers of a request."""
        timestamp = str(int(self._now()))
        return {
            "webhook-id": message_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": self._signature(message_id, timestamp, body),
        }

    def check(self, headers: Mapping[str, str], body: bytes) -> str:
        """Return the id of a signed request; header names in lower case.

        Raises:
            NotAuthenticated: A header is missing, the signature is wrong, or the request is older
                than five minutes.
        """
        message_id = headers.get("webhook-id", "")
        timestamp = headers.get("webhook-timestamp", "")
        given = headers.get("webhook-signature", "")
        if not message_id or not given or not (timestamp.isascii() and timestamp.isdigit()):
            raise NotAuthenticated("a signed request has webhook-id, -timestamp and -signature")
        if len(timestamp) > _DIGITS or abs(self._now() - int(timestamp)) > _TOLERANCE_S:
            raise NotAuthenticated("the request was signed more than five minutes ago, or ahead")
        expected = self._signature(message_id, timestamp, body).encode()
        # A header may hold several, while a secret is being replaced.
        if not any(hmac.compare_digest(one.encode(), expected) for one in given.split(" ")):
            raise NotAuthenticated("the signature is wrong")
        return message_id

    def _signature(self, message_id: str, timestamp: str, body: bytes) -> str:
        signed = f"{message_id}.{timestamp}.".encode() + body
        return f"v1,{base64.b64encode(hmac.digest(self._key, signed, hashlib.sha256)).decode()}"


_DIGITS = 12
