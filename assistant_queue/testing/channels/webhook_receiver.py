"""A strict receiver of `Webhook`: checks signatures, and recognises repeated requests."""

from __future__ import annotations

import base64
import json
import secrets
from typing import Any

from assistant_queue.channels.standard_webhooks import Signer
from assistant_queue.errors import NotAuthenticated
from assistant_queue.testing.channels.platform_server import (
    PlatformAnswer,
    PlatformRequest,
    PlatformServer,
)


class WebhookReceiver(PlatformServer):
    """Receives what a `Webhook` channel delivers.

    Attributes:
        secret: The shared secret, for `Webhook(receiver.url, receiver.secret)`.
        events: The events that were accepted, each once.
        repeated: Ids of requests that came again, and were recognised.
    """

    def __init__(self, secret: str | None = None) -> None:
        """Describe a receiver; nothing runs before `start`."""
        super().__init__()
        self.secret = secret or f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
        self._signer = Signer(self.secret)
        self._by_id: dict[str, dict[str, Any]] = {}
        self.repeated: list[str] = []

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events that were accepted, each once, in order."""
        return list(self._by_id.values())

    @property
    def replies(self) -> list[str | None]:
        """The replies of these events."""
        return [event["data"]["reply"] for event in self.events]

    def handle(self, request: PlatformRequest) -> PlatformAnswer:
        """Check a request and keep its event."""
        if request.method != "POST":
            return PlatformAnswer(405, {"error": "expected POST"})
        try:
            event_id = self._signer.check(request.headers, request.raw)
        except NotAuthenticated as error:
            return PlatformAnswer(401, {"error": str(error)})
        event = request.body
        if (
            request.headers.get("content-type") != "application/json"
            or not isinstance(event, dict)
            or set(event) != {"type", "timestamp", "data"}
        ):
            return PlatformAnswer(400, {"error": "expected type, timestamp and data in JSON"})
        if event_id in self._by_id:
            self.repeated.append(event_id)
            return PlatformAnswer(200, {})
        self._by_id[event_id] = event
        return PlatformAnswer(204, {})

    def message(
        self,
        address: str,
        text: str,
        *,
        message_id: str,
        author: str | None = None,
        kind: str = "message.created",
    ) -> tuple[bytes, dict[str, str]]:
        """Return the body and headers of a signed request to `Webhook.receive`."""
        data = {"id": message_id, "address": address, "text": text, "author": author}
        body = json.dumps({"type": kind, "data": data}).encode()
        return body, self._signer.sign(f"in-{message_id}-{secrets.token_hex(4)}", body)
