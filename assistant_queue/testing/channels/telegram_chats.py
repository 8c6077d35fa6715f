"""Chats of the fake Telegram, and its checks of texts."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Literal

ChatType = Literal["private", "group", "supergroup"]

_DRAFT_S = 30.0
"""Seconds for which a draft is seen. Source: the Bot API, sendMessageDraft."""


class TelegramProblem(Exception):
    """A refusal in Telegram's words."""

    def __init__(self, status: int, description: str, **parameters: Any) -> None:
        """Describe the refusal."""
        super().__init__(description)
        self.status = status
        self.description = description
        self.parameters = parameters


@dataclass(slots=True)
class TelegramMessage:
    """A message on a person's screen.

    Attributes:
        id: `message_id`.
        text: As shown.
        entities: Its formatting.
        from_bot: False for a person's message.
        topic: Topic of a forum.
        reply_to: The message it replies to.
        versions: All texts that it had.
        buttons: Its inline keyboard: the data of each button by its label.
        had_buttons: The last one that it had: a screen may still show it.
    """

    id: int
    text: str
    entities: list[dict[str, Any]] = field(default_factory=list)
    from_bot: bool = True
    topic: int | None = None
    reply_to: int | None = None
    versions: list[str] = field(default_factory=list)
    buttons: dict[str, str] = field(default_factory=dict)
    had_buttons: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class TelegramChat:
    """A chat.

    Attributes:
        id: `chat_id`; negative for groups.
        type: Private, group or supergroup.
        messages: By their ids.
        drafts: Texts of drafts, in order.
        draft_at: When the last one was shown, on the monotonic clock; None if a message has been
            sent since.
        typing: How often the bot was shown typing.
        topics: Topics of a forum.
        blocked: The person has blocked the bot, or the group has removed it.
        migrated_to: The supergroup that a group has become.
    """

    id: int
    type: ChatType
    messages: dict[int, TelegramMessage] = field(default_factory=dict)
    drafts: list[str] = field(default_factory=list)
    draft_at: float | None = None
    typing: int = 0
    topics: set[int] = field(default_factory=set)
    blocked: bool = False
    migrated_to: int | None = None

    @property
    def shown(self) -> list[str]:
        """Texts of the bot's messages, as they are now."""
        return [message.text for message in self.messages.values() if message.from_bot]

    @property
    def draft(self) -> str | None:
        """The draft that is seen now: for 30 seconds, and until a message is sent."""
        is_seen = self.draft_at is not None and time.monotonic() - self.draft_at < _DRAFT_S
        return self.drafts[-1] if is_seen else None


def units(text: str) -> int:
    """Return the length of a text in UTF-16 units."""
    return len(text.encode("utf-16-le")) // 2


_LONGEST = 4096


def check_text(body: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """Return the text and entities of a call, checked as Telegram does."""
    text = body.get("text")
    if not isinstance(text, str) or not text.strip():
        raise TelegramProblem(400, "Bad Request: message text is empty")
    entities = body.get("entities") or []
    if body.get("parse_mode") is not None:
        _check_markup(text, str(body["parse_mode"]))
    if units(text) > _LONGEST:
        raise TelegramProblem(400, "Bad Request: message is too long")
    for entity in entities:
        start, length = entity.get("offset"), entity.get("length")
        if not isinstance(start, int) or not isinstance(length, int) or start < 0 or length <= 0:
            raise TelegramProblem(400, "Bad Request: can't parse MessageEntity")
        if start + length > units(text):
            raise TelegramProblem(400, "Bad Request: ENTITY_BOUNDS_INVALID")
        if _tears(text, start) or _tears(text, start + length):
            raise TelegramProblem(
                400, "Bad Request: entity beginning or end is in the middle of a UTF-16 symbol"
            )
    return text, entities


_LONGEST_DATA = 64


def check_buttons(body: dict[str, Any]) -> dict[str, str]:
    """Return the buttons of a call, checked as Telegram does: the data of each by its label."""
    markup = body.get("reply_markup")
    if markup is None:
        return {}
    rows = markup.get("inline_keyboard") if isinstance(markup, dict) else None
    if not isinstance(rows, list) or set(markup) != {"inline_keyboard"}:
        raise TelegramProblem(400, "Bad Request: object expected as reply markup")
    found: dict[str, str] = {}
    for button in (one for row in rows for one in row):
        if set(button) != {"text", "callback_data"} or not button["text"]:
            raise TelegramProblem(400, "Bad Request: can't parse inline keyboard button")
        if not 1 <= len(button["callback_data"].encode()) <= _LONGEST_DATA:
            raise TelegramProblem(400, "Bad Request: BUTTON_DATA_INVALID")
        found[button["text"]] = button["callback_data"]
    return found


def _tears(text: str, place: int) -> bool:
    """Return whether a place is inside a surrogate pair."""
    raw = text.encode("utf-16-le")
    high = raw[2 * place - 2 : 2 * place]
    return len(high) == 2 and 0xD8 <= high[1] <= 0xDB  # noqa: PLR2004 - UTF-16


def _check_markup(text: str, mode: str) -> None:
    if mode == "HTML" and text.count("<") != text.count(">"):
        raise TelegramProblem(400, "Bad Request: can't parse entities: Unclosed start tag")
    if mode == "MarkdownV2":
        before = ""
        for character in text:
            if character in ".!-=+{}|#" and before != "\\":
                raise TelegramProblem(
                    400,
                    f"Bad Request: can't parse entities: Character '{character}' is reserved and "
                    "must be escaped with the preceding '\\'",
                )
            before = character
        if text.replace("\\*", "").count("*") % 2:
            raise TelegramProblem(
                400, "Bad Request: can't parse entities: Can't find end of Bold entity"
            )
