"""Telegram's updates as messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assistant_queue.channels.base import Attachment, IncomingMessage
from assistant_queue.errors import InvalidPayload

_KINDS = {"message": "message", "edited_message": "edit"}
_GROUPS = ("group", "supergroup")
_FILES = {
    "voice": "voice",
    "audio": "audio",
    "video": "video",
    "video_note": "video",
    "document": "document",
}
_DESCRIBED = {
    "venue": ("title", "address"),
    "location": ("latitude", "longitude"),
    "contact": ("first_name", "phone_number"),
    "poll": ("question",),
}
"""Contents without a text, and what the model reads of them; a venue has a location, too."""

ALLOWED_UPDATES = (*_KINDS, "callback_query")
"""Kinds of updates that the bot asks for; `telegram_buttons` reads the last one. Telegram never
reports a deletion."""


@dataclass(frozen=True, slots=True)
class BotIdentity:
    """Marks by which the bot is recognised.

    Attributes:
        id: Its number, the first part of its token.
        username: Without @; None while it is not known.
    """

    id: int
    username: str | None = None


@dataclass(frozen=True, slots=True)
class UpdateContent:
    """Content of one update.

    Attributes:
        messages: At most one message.
        moved: A group that has become a supergroup: its old and its new id.
    """

    messages: tuple[IncomingMessage, ...] = ()
    moved: tuple[str, str] | None = None


def read_update(update: Mapping[str, Any], bot: BotIdentity) -> UpdateContent:
    """Read an update; kinds that are not messages of people are empty.

    Raises:
        InvalidPayload: It is no update of Telegram.
    """
    if not _is_int(update.get("update_id")):
        raise InvalidPayload("Invalid update: expected an update_id")
    for name, kind in _KINDS.items():
        message = update.get(name)
        if message is None:
            continue
        if not isinstance(message, Mapping):
            raise InvalidPayload(f"Invalid {name}: expected an object")
        return _read_message(message, kind, bot)
    return UpdateContent()


def _read_message(message: Mapping[str, Any], kind: Any, bot: BotIdentity) -> UpdateContent:
    chat = _object(message, "chat")
    number = message.get("message_id")
    if not _is_int(chat.get("id")) or not _is_int(number):
        raise InvalidPayload("Invalid message: expected a chat with an id, and a message_id")
    moved = message.get("migrate_to_chat_id")
    if _is_int(moved):
        return UpdateContent(moved=(str(chat["id"]), str(moved)))
    sender = _object(message, "from")
    if sender.get("is_bot") is True:
        return UpdateContent()
    text = message.get("text", message.get("caption", ""))
    if not isinstance(text, str):
        raise InvalidPayload("Invalid message: expected a text")
    is_group = chat.get("type") in _GROUPS
    is_mentioned = _mentions_bot(message, text, bot)
    is_reply = _object(_object(message, "reply_to_message"), "from").get("id") == bot.id
    return UpdateContent(
        messages=(
            IncomingMessage(
                id=str(number),
                address=address_of(message),
                kind=kind,
                text=text or _described(message),
                author=name_of_sender(sender),
                attachments=tuple(_attachments(message)),
                album=_album(message),
                metadata=_metadata(message, sender),
                is_group=is_group,
                is_addressed=not is_group or is_mentioned or is_reply,
                is_mentioned=is_mentioned,
                is_reply=is_reply,
            ),
        )
    )


def address_of(message: Mapping[str, Any]) -> str:
    """Return a chat's address, with the topic of a forum: `-100123/7`."""
    chat_id = _object(message, "chat").get("id")
    topic = message.get("message_thread_id")
    in_topic = message.get("is_topic_message") is True and _is_int(topic)
    return f"{chat_id}/{topic}" if in_topic else str(chat_id)


def name_of_sender(sender: Mapping[str, Any]) -> str | None:
    """Return a person's name, as they chose it; None without one."""
    names = [sender.get("first_name"), sender.get("last_name")]
    return " ".join(name for name in names if isinstance(name, str) and name.strip()) or None


def _metadata(message: Mapping[str, Any], sender: Mapping[str, Any]) -> dict[str, str]:
    found = {
        "telegram_user_id": sender.get("id"),
        "telegram_username": sender.get("username"),
        "telegram_reply_to": _object(message, "reply_to_message").get("message_id"),
        "telegram_album": message.get("media_group_id"),
    }
    return {name: str(value) for name, value in found.items() if isinstance(value, int | str)}


def _album(message: Mapping[str, Any]) -> str | None:
    found = message.get("media_group_id")
    return str(found) if isinstance(found, int | str) else None


def _described(message: Mapping[str, Any]) -> str:
    """Return a line of text for what has none; "" for what is not described."""
    sticker = _object(message, "sticker").get("emoji")
    if isinstance(sticker, str):
        return sticker
    for kind, fields in _DESCRIBED.items():
        found = [_object(message, kind).get(name) for name in fields]
        words = ", ".join(str(value) for value in found if isinstance(value, str | int | float))
        if words:
            return f"[{kind}: {words}]"
    return ""


def _attachments(message: Mapping[str, Any]) -> list[Attachment]:
    found: list[Attachment] = []
    photos = message.get("photo")
    if isinstance(photos, Sequence) and not isinstance(photos, str):
        sizes = [one for one in photos if isinstance(one, Mapping) and _has_file(one)]
        if sizes:  # the largest is the last one
            found.append(_attachment("photo", sizes[-1], "image/jpeg"))
    for name, kind in _FILES.items():
        one = _object(message, name)
        if _has_file(one):
            found.append(_attachment(kind, one, None))
    return found


def _attachment(kind: Any, given: Mapping[str, Any], media_type: str | None) -> Attachment:
    named, typed = given.get("file_name"), given.get("mime_type", media_type)
    return Attachment(
        kind=kind,
        ref=str(given["file_id"]),
        media_type=typed if isinstance(typed, str) else None,
        file_name=named if isinstance(named, str) else None,
        size=_whole(given.get("file_size")),
    )


def _mentions_bot(message: Mapping[str, Any], text: str, bot: BotIdentity) -> bool:
    """Return whether a message names the bot or commands it."""
    entities = message.get("entities", message.get("caption_entities", ()))
    return any(
        _names_bot(one, text, bot)
        for one in (entities if isinstance(entities, Sequence) else ())
        if isinstance(one, Mapping)
    )


def _names_bot(entity: Mapping[str, Any], text: str, bot: BotIdentity) -> bool:
    kind, offset, length = entity.get("type"), entity.get("offset"), entity.get("length")
    if kind == "text_mention":
        return _object(entity, "user").get("id") == bot.id
    if kind not in {"mention", "bot_command"} or not (_is_int(offset) and _is_int(length)):
        return False
    start = 2 * int(str(offset))
    word = text.encode("utf-16-le")[start : start + 2 * int(str(length))].decode(
        "utf-16-le", "ignore"
    )
    if kind == "bot_command" and "@" not in word:
        return True
    name = word.rpartition("@")[2]
    return bot.username is not None and name.lower() == bot.username.lower()


def _has_file(given: Mapping[str, Any]) -> bool:
    return isinstance(given.get("file_id"), str)


def _object(given: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = given.get(name)
    return found if isinstance(found, Mapping) else {}


def _whole(value: Any) -> int | None:
    return value if _is_int(value) else None


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
