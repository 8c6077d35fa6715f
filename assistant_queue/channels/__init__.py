"""Channels: adapters of chat platforms, from a person's message to the reply on the screen."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assistant_queue.channels.base import (
        Attachment,
        ChannelLimits,
        Deliverer,
        DeliveryProgress,
        FetchedFile,
        IncomingMessage,
        Part,
        PartNotSent,
        PartOutcome,
        PartSent,
        PartUnknown,
        Payload,
    )
    from assistant_queue.channels.channel import Channel, channel_of, json_object
    from assistant_queue.channels.http_client import HttpAnswer, HttpClient
    from assistant_queue.channels.intake import Received
    from assistant_queue.channels.standard_webhooks import Signer
    from assistant_queue.channels.telegram import Telegram
    from assistant_queue.channels.webhook import Webhook

__all__ = [
    "Attachment",
    "Channel",
    "ChannelLimits",
    "Deliverer",
    "DeliveryProgress",
    "FetchedFile",
    "HttpAnswer",
    "HttpClient",
    "IncomingMessage",
    "Part",
    "PartNotSent",
    "PartOutcome",
    "PartSent",
    "PartUnknown",
    "Payload",
    "Received",
    "Signer",
    "Telegram",
    "Webhook",
    "channel_of",
    "json_object",
]

_MODULES = {
    "Channel": "channel",
    "HttpAnswer": "http_client",
    "HttpClient": "http_client",
    "Received": "intake",
    "Signer": "standard_webhooks",
    "Telegram": "telegram",
    "Webhook": "webhook",
    "channel_of": "channel",
    "json_object": "channel",
}


if not TYPE_CHECKING:  # a type checker would take any name for one of this package

    def __getattr__(name: str) -> Any:
        """Import a name when it is asked for: a queue without channels needs no HTTP library."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'base')}"), name)
