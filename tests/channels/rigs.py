"""The rigs of the conformance suite: each channel with the fake of its platform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from assistant_queue.channels import Payload, Signer, Telegram, Webhook
from assistant_queue.testing.channels import (
    AnswerWith,
    LoseAnswer,
    StandInTelegram,
    WebhookReceiver,
)
from assistant_queue.testing.channels.conformance import ChannelRig, Trouble

SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"
TRIES = 20


def hurried(channel: Telegram) -> Telegram:
    """The channel without pauses between parts."""
    channel.limits = replace(
        channel.limits, parts_interval=0.0, total_interval=0.0, edits_interval=0.01
    )
    return channel


class TelegramRig(ChannelRig):
    def __init__(self, platform: StandInTelegram) -> None:
        self.platform = platform
        self.secret = "a-secret-of-webhooks"
        self.channel = hurried(
            Telegram(platform.token, api_url=platform.url, secret_token=self.secret)
        )
        self.address = "77"
        self.chat = platform.chat(77)
        self.secrets = (platform.token, platform.token.partition(":")[2], self.secret)

    def request(self, text: str, message_id: str) -> tuple[Payload, Mapping[str, str]]:
        update = self.platform.update_of(77, text)
        update["message"]["message_id"] = int(message_id)
        return update, {SECRET_HEADER: self.secret}

    def unsigned(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        return {SECRET_HEADER: "another"}

    def signed(self, body: bytes) -> Mapping[str, str]:
        return {SECRET_HEADER: self.secret}

    def shown(self) -> list[str]:
        return self.chat.shown

    def trouble(self, kind: Trouble) -> float | None:
        if kind == "later":
            body = {
                "ok": False,
                "error_code": 429,
                "description": "Too Many Requests: retry after 7",
                "parameters": {"retry_after": 7},
            }
            self.platform.fault(AnswerWith(429, body), of="sendMessage")
            return 7.0
        if kind == "gone":
            self.platform.block(77)
        else:
            lost = LoseAnswer(accept=kind == "lost after")
            self.platform.fault(lost, of="sendMessage")
        return None


class WebhookRig(ChannelRig):
    def __init__(self, platform: WebhookReceiver) -> None:
        self.platform = platform
        self.channel = Webhook(f"{platform.url}/hook?key=hidden-in-url", platform.secret)
        self.address = "room-5"
        self.secrets = (platform.secret, "hidden-in-url")

    def request(self, text: str, message_id: str) -> tuple[Payload, Mapping[str, str]]:
        return self.platform.message("room-5", text, message_id=message_id)

    def unsigned(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        return {**headers, "webhook-signature": "v1,AAAA v2,BBBB"}

    def signed(self, body: bytes) -> Mapping[str, str]:
        return Signer(self.platform.secret).sign("m1", body)

    def shown(self) -> list[str]:
        return [str(reply) for reply in self.platform.replies]

    def trouble(self, kind: Trouble) -> float | None:
        if kind == "later":
            self.platform.fault(AnswerWith(503, headers={"retry-after": "7"}))
            return 7.0
        if kind == "gone":
            self.platform.fault(AnswerWith(410))
        else:
            self.platform.fault(LoseAnswer(accept=kind == "lost after"))
        return None
