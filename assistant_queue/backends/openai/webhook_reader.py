"""Read webhooks of the provider: signature, kind, and the response that they are about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from assistant_queue.errors import InvalidPayload, NotAuthenticated, PayloadTooLarge

MOST_BYTES = 65_536
"""Most bytes of a webhook. Chosen: the provider's have some 300."""

_MOST_ID = 200
"""Most characters of an id. Chosen: the provider's have about 50."""


@dataclass(frozen=True, slots=True)
class ProviderEvent:
    """A webhook with a valid signature.

    Attributes:
        id: Of the header `webhook-id`: the same when it is delivered again.
        run_id: The response that has ended; None for an event about anything else.
    """

    id: str
    run_id: str | None


def read_event(body: bytes, headers: Mapping[str, str], secret: str) -> ProviderEvent:
    """Check a webhook's signature, by the client library, and read it.

    Raises:
        PayloadTooLarge: The body is longer than any of the provider's; its signature was not read.
        NotAuthenticated: The signature is missing, wrong, or older than five minutes.
        InvalidPayload: The body is no event.
    """
    if len(body) > MOST_BYTES:
        raise PayloadTooLarge(f"Invalid webhook: expected at most {MOST_BYTES:,} bytes")
    import openai

    given = {name.lower(): value for name, value in headers.items()}
    try:
        event: Any = _library().unwrap(body, given, secret=secret)
    except openai.InvalidWebhookSignatureError as error:
        raise NotAuthenticated(
            f"Invalid webhook signature ({error}): expected one by the webhook_secret, which the "
            "provider shows when the endpoint is created"
        ) from None
    except ValueError as error:
        if isinstance(error, UnicodeDecodeError) or "header" in str(error).lower():
            raise NotAuthenticated(
                "Invalid webhook: expected the raw body and the headers webhook-id, "
                "webhook-timestamp and webhook-signature"
            ) from None
        raise InvalidPayload("Invalid webhook: expected an event in JSON") from None
    kind = getattr(event, "type", None)
    ident = given.get("webhook-id", "")
    run_id = getattr(getattr(event, "data", None), "id", None)
    is_about_run = isinstance(kind, str) and kind.startswith("response.")
    if not (is_about_run and isinstance(run_id, str) and 0 < len(run_id) <= _MOST_ID):
        run_id = None
    return ProviderEvent(ident[:_MOST_ID], run_id)


@cache
def _library() -> Any:
    """The part of the client library that reads webhooks; it sends nothing."""
    import openai

    return openai.OpenAI(api_key="not used", base_url="http://localhost").webhooks
