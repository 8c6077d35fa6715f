"""Strict fakes of chat platforms over real HTTP, and the conformance suite of channels.

`from assistant_queue.testing.channels import StandInTelegram`. The suite needs pytest and is
imported by its own name: `assistant_queue.testing.channels.conformance`.
"""

from __future__ import annotations

from assistant_queue.testing.channels.memory_progress import DeliveryCrash, MemoryProgress
from assistant_queue.testing.channels.platform_server import (
    AnswerWith,
    LoseAnswer,
    PlatformAnswer,
    PlatformFault,
    PlatformRequest,
    PlatformServer,
)
from assistant_queue.testing.channels.telegram_chats import TelegramChat, TelegramMessage
from assistant_queue.testing.channels.telegram_server import StandInTelegram
from assistant_queue.testing.channels.webhook_receiver import WebhookReceiver

__all__ = [
    "AnswerWith",
    "DeliveryCrash",
    "LoseAnswer",
    "MemoryProgress",
    "PlatformAnswer",
    "PlatformFault",
    "PlatformRequest",
    "PlatformServer",
    "StandInTelegram",
    "TelegramChat",
    "TelegramMessage",
    "WebhookReceiver",
]
