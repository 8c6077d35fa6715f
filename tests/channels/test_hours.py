"""An hour in which a platform takes nothing, on the clock of a rehearsal."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from assistant_queue import AssistantMessageQueue
from assistant_queue.channels import Telegram, Webhook
from assistant_queue.testing.channels import AnswerWith, StandInTelegram, WebhookReceiver
from assistant_queue.testing.provider import Reply
from assistant_queue.testing.rehearsal import Rehearsal
from tests.channels.rigs import hurried

HOUR_S = 3600.0
RETRY_AFTER_S = 120
CHATS = (5, 6)
TOO_MANY = {
    "telegram": AnswerWith(
        429, {"ok": False, "error_code": 429, "parameters": {"retry_after": RETRY_AFTER_S}}
    ),
    "webhook": AnswerWith(429, {}, headers={"retry-after": str(RETRY_AFTER_S)}),
}


def _shown(platform: StandInTelegram | WebhookReceiver) -> list[str]:
    if isinstance(platform, StandInTelegram):
        return [text for chat in CHATS for text in platform.chat(chat).shown if "Heard" in text]
    return sorted(str(reply) for reply in platform.replies)


@pytest.mark.parametrize("name", sorted(TOO_MANY))
def test_replies_are_shown_once_after_an_hour_of_too_many_requests(
    rehearse: Callable[..., Rehearsal], name: str
) -> None:
    platform = StandInTelegram() if name == "telegram" else WebhookReceiver()
    with platform:
        channel: Telegram | Webhook
        if isinstance(platform, StandInTelegram):
            channel = hurried(Telegram(platform.token, api_url=platform.url))
            for chat in CHATS:
                platform.say(chat, "hello")
        else:
            channel = Webhook(platform.url, platform.secret)
        play = rehearse(
            AssistantMessageQueue(model="any", openai_api_key="none", channels=[channel])
        )
        play.provider.model = lambda turn: Reply(f"Heard: {turn.user_texts[-1]}")
        until = play.clock.monotonic() + HOUR_S
        refusals = []

        def is_busy(_: object) -> bool:
            if play.clock.monotonic() < until:
                refusals.append(play.clock.monotonic())
                return True
            return False

        of = "/sendMessage" if name == "telegram" else ""
        platform.fault(TOO_MANY[name], of=of, times=1_000_000, when=is_busy)
        for chat in CHATS:
            play.say(f"{channel.name}:{chat}", f"message {chat}")
        play.run_until_idle()
        assert _shown(platform) == [f"Heard: message {chat}" for chat in CHATS]
        assert play.queue.list_failed() == []
    # Each chat asks after the wait that the platform named, and not before.
    each = HOUR_S / RETRY_AFTER_S
    assert each * len(CHATS) * 0.9 <= len(refusals) <= (each + 1) * len(CHATS)
