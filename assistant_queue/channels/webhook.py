"""A channel to the user's own address: signed requests, in and out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from assistant_queue.channels.base import (
    IncomingMessage,
    Part,
    PartNotSent,
    PartOutcome,
    PartSent,
    PartUnknown,
    Payload,
)
from assistant_queue.channels.channel import Channel, json_object
from assistant_queue.channels.http_client import HttpClient
from assistant_queue.channels.standard_webhooks import Signer
from assistant_queue.errors import InvalidArgument, InvalidPayload
from assistant_queue.models import RunResult
from assistant_queue.user_code.scrubbing import remember

_KINDS = {"message.created": "message", "message.edited": "edit", "message.deleted": "delete"}
_OK = range(200, 300)
_GONE = 410
"""The receiver wants no more requests. Source: Standard Webhooks."""
_OVERLOADED = (429, 503)


class Webhook(Channel):
    """Delivers results by a signed POST to one address, and receives messages the same way.

    Requests follow Standard Webhooks: receivers check `webhook-signature` with any of its libraries
    and recognise a repeated request by `webhook-id`. Because they do, a request without an answer
    is sent again. A result is one request, also if the model said nothing.
    """

    deduplicates = True

    def __init__(
        self, url: str, secret: str, *, name: str = "webhook", timeout: float = 15.0
    ) -> None:
        """Describe a receiver; nothing is sent.

        Args:
            url: The receiver's address.
            secret: `whsec_` and a key in base64, shared with the receiver.
            name: First part of the channel's thread ids.
            timeout: Seconds for one request.

        Raises:
            InvalidArgument: The address or the secret cannot be used.
        """
        parts = urlsplit(str(url))
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InvalidArgument(
                f"Invalid url of channel {name!r}: expected http(s)://host[:port]/path"
            )
        remember(secret)
        self._url = str(url)
        self._signer = Signer(secret)
        self._http = HttpClient(timeout)
        super().__init__(name, reply_when="always")

    def split_result(self, result: RunResult) -> list[str]:
        """Return one part, whatever the reply."""
        return [result.reply or ""]

    def parse(self, payload: Payload, headers: Mapping[str, str]) -> Sequence[IncomingMessage]:
        """Check the signature and return the message of a request."""
        if isinstance(payload, Mapping):
            raise InvalidPayload("Invalid payload: expected the raw body, which is signed")
        body = payload.encode() if isinstance(payload, str) else bytes(payload)
        self._signer.check(headers, body)
        event = json_object(body)
        kind = _KINDS.get(str(event.get("type")))
        data = event.get("data")
        if kind is None:
            raise InvalidPayload(f"Invalid type: expected one of {', '.join(_KINDS)}")
        if not isinstance(data, Mapping):
            raise InvalidPayload("Invalid data: expected an object with id, address and text")
        return [_message(kind, data)]

    async def send(self, address: str, part: Part) -> PartOutcome:
        """Send one result."""
        body = json.dumps(_event(self, address, part), ensure_ascii=False).encode()
        headers = {
            **self._signer.sign(part.key, body),
            "content-type": "application/json",
            "user-agent": "assistant-queue",
        }
        answer = await self._http.post(self._url, body, headers)
        if isinstance(answer, PartNotSent | PartUnknown):
            return answer
        if answer.status in _OK:
            return PartSent(part.key)
        reason = f"the receiver answered {answer.status}"
        if answer.status == _GONE:
            return PartNotSent(reason, final=True)
        after = answer.retry_after if answer.status in _OVERLOADED else None
        return PartNotSent(reason, retry_after=after)

    async def close(self) -> None:
        """Close the connections of the running event loop."""
        await self._http.close()


def _message(kind: Any, data: Mapping[str, Any]) -> IncomingMessage:
    given = {"id": data.get("id"), "address": data.get("address")}
    for name, value in given.items():
        if not isinstance(value, str) or not value:
            raise InvalidPayload(f"Invalid data.{name}: expected a string")
    text, author, metadata = data.get("text", ""), data.get("author"), data.get("metadata", {})
    if not isinstance(text, str):
        raise InvalidPayload("Invalid data.text: expected a string")
    if author is not None and not isinstance(author, str):
        raise InvalidPayload("Invalid data.author: expected a string")
    if not isinstance(metadata, Mapping):
        raise InvalidPayload("Invalid data.metadata: expected an object of strings")
    return IncomingMessage(
        id=str(given["id"]),
        address=str(given["address"]),
        kind=kind,
        text=text,
        author=author,
        metadata=dict(metadata),
    )


def _event(channel: Webhook, address: str, part: Part) -> dict[str, Any]:
    result = part.result
    data: dict[str, Any] = {
        "thread_id": channel.thread_id(address),
        "address": address,
        "reply": part.text or None,
    }
    if result is not None:
        data |= {
            "batch_id": result.batch_id,
            "run_id": result.run_id,
            "message_ids": list(result.message_ids),
            "status": result.status,
            "incomplete_reason": result.incomplete_reason,
            "replies": list(result.replies),
            "fallback": result.fallback,
        }
    at = datetime.now(UTC) if result is None else result.ended_at
    return {"type": "reply.created", "timestamp": at.isoformat(), "data": data}
