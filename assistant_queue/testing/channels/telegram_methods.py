"""Methods of the fake Bot API."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

from assistant_queue.testing.channels.telegram_chats import (
    TelegramChat,
    TelegramMessage,
    TelegramProblem,
    check_buttons,
    check_text,
)

_TEXT = {"chat_id", "text", "entities", "parse_mode", "message_thread_id", "link_preview_options"}

FIELDS: dict[str, set[str]] = {
    "getMe": set(),
    "sendMessage": {
        *_TEXT,
        *("reply_parameters", "disable_notification", "protect_content", "reply_markup"),
    },
    "editMessageText": {*_TEXT, "message_id", "reply_markup"} - {"message_thread_id"},
    "editMessageReplyMarkup": {"chat_id", "message_id", "reply_markup"},
    "answerCallbackQuery": {"callback_query_id", "text", "show_alert", "url", "cache_time"},
    "deleteMessage": {"chat_id", "message_id"},
    "sendMessageDraft": {*_TEXT, "draft_id", "can_stop", "keep_on_stop"} - {"link_preview_options"},
    "sendChatAction": {"chat_id", "message_thread_id", "action"},
    "getFile": {"file_id"},
    "getUpdates": {"offset", "limit", "timeout", "allowed_updates"},
    "setWebhook": {"url", "secret_token", "allowed_updates", "max_connections"},
    "deleteWebhook": {"drop_pending_updates"},
}
"""Fields of each method. A field that is not in it is refused: the real server ignores it."""

_LONGEST_ANSWER = 200


class TelegramMethods:
    """The bot's side of the fake: what its calls do to chats."""

    def __init__(self, bot_id: int, username: str) -> None:
        """Know no chats yet."""
        self.bot = {"id": bot_id, "is_bot": True, "first_name": "Bot", "username": username}
        self.chats: dict[int, TelegramChat] = {}
        self.files: dict[str, bytes] = {}
        self.presses: dict[str, str | None] = {}
        self.numbers = itertools.count(1)
        self.refuses_entities = False
        self.flood_interval_s = 0.0
        self._last_sent: dict[int, float] = {}
        self._methods: dict[str, Callable[[dict[str, Any]], Any]] = {
            "getMe": lambda _: self.bot,
            "sendMessage": self._send,
            "editMessageText": self._edit,
            "editMessageReplyMarkup": self._edit_buttons,
            "deleteMessage": self._delete,
            "sendMessageDraft": self._draft,
            "sendChatAction": self._act,
            "getFile": self._file,
            "answerCallbackQuery": self._answer_press,
        }

    def call(self, method: str, body: dict[str, Any]) -> Any:
        """Carry out a method.

        Raises:
            TelegramProblem: Telegram refuses it.
        """
        if method not in FIELDS:
            raise TelegramProblem(404, "Not Found")
        unknown = set(body) - FIELDS[method]
        if unknown:
            raise TelegramProblem(400, f"Bad Request: unknown fields {sorted(unknown)}")
        return self._methods[method](body)

    def chat_of(self, body: dict[str, Any]) -> TelegramChat:
        """Return the chat of a call, if the bot may write to it."""
        chat = self.chats.get(body.get("chat_id", 0))
        if chat is None:
            raise TelegramProblem(400, "Bad Request: chat not found")
        if chat.migrated_to is not None:
            raise TelegramProblem(
                400,
                "Bad Request: group chat was upgraded to a supergroup chat",
                migrate_to_chat_id=chat.migrated_to,
            )
        if chat.blocked:
            raise TelegramProblem(
                403,
                "Forbidden: bot was blocked by the user"
                if chat.type == "private"
                else f"Forbidden: bot was kicked from the {chat.type} chat",
            )
        topic = body.get("message_thread_id")
        if topic is not None and topic not in chat.topics:
            raise TelegramProblem(400, "Bad Request: message thread not found")
        return chat

    def _checked(self, body: dict[str, Any]) -> tuple[TelegramChat, str, list[dict[str, Any]]]:
        chat = self.chat_of(body)
        text, entities = check_text(body)
        if entities and self.refuses_entities:
            raise TelegramProblem(400, "Bad Request: can't parse entities: unsupported entity")
        now = time.monotonic()
        wait = self._last_sent.get(chat.id, -1e9) + self.flood_interval_s - now
        if self.flood_interval_s and wait > 0:
            after = int(wait) + 1
            raise TelegramProblem(429, f"Too Many Requests: retry after {after}", retry_after=after)
        self._last_sent[chat.id] = now
        return chat, text, entities

    def _send(self, body: dict[str, Any]) -> dict[str, Any]:
        chat, text, entities = self._checked(body)
        reply_to = (body.get("reply_parameters") or {}).get("message_id")
        if (
            reply_to is not None
            and reply_to not in chat.messages
            and not body["reply_parameters"].get("allow_sending_without_reply")
        ):
            raise TelegramProblem(400, "Bad Request: message to be replied not found")
        number = next(self.numbers)
        chat.draft_at = None
        buttons = check_buttons(body)
        chat.messages[number] = TelegramMessage(
            number,
            text,
            entities,
            topic=body.get("message_thread_id"),
            reply_to=reply_to if reply_to in chat.messages else None,
            versions=[text],
            buttons=buttons,
            had_buttons=buttons,
        )
        return self.message_json(chat, number)

    def _edit(self, body: dict[str, Any]) -> dict[str, Any]:
        chat = self.chat_of(body)
        message = _own_message(chat, body)
        chat, text, entities = self._checked(body)
        buttons = check_buttons(body)
        if (text, entities, buttons) == (message.text, message.entities, message.buttons):
            raise _not_modified()
        message.text = text
        message.entities = entities
        message.buttons = buttons
        message.had_buttons = buttons or message.had_buttons
        message.versions.append(text)
        return self.message_json(chat, message.id)

    def _edit_buttons(self, body: dict[str, Any]) -> dict[str, Any]:
        chat = self.chat_of(body)
        message = _own_message(chat, body)
        buttons = check_buttons(body)
        if buttons == message.buttons:
            raise _not_modified()
        message.buttons = buttons
        message.had_buttons = buttons or message.had_buttons
        return self.message_json(chat, message.id)

    def _delete(self, body: dict[str, Any]) -> bool:
        chat = self.chat_of(body)
        if chat.messages.pop(body.get("message_id", 0), None) is None:
            raise TelegramProblem(400, "Bad Request: message to delete not found")
        return True

    def _draft(self, body: dict[str, Any]) -> bool:
        chat, text, _ = self._checked(body)
        if chat.type != "private":
            raise TelegramProblem(400, "Bad Request: TEXTDRAFT_PEER_INVALID")
        if not isinstance(body.get("draft_id"), int) or not body["draft_id"]:
            raise TelegramProblem(400, "Bad Request: invalid draft_id")
        chat.drafts.append(text)
        chat.draft_at = time.monotonic()
        return True

    def _answer_press(self, body: dict[str, Any]) -> bool:
        query_id = str(body.get("callback_query_id"))
        text = body.get("text", "")
        if query_id not in self.presses or self.presses[query_id] is not None:
            raise TelegramProblem(
                400,
                "Bad Request: query is too old and response timeout expired or query ID is invalid",
            )
        if len(text) > _LONGEST_ANSWER:
            raise TelegramProblem(400, "Bad Request: MESSAGE_TOO_LONG")
        self.presses[query_id] = text
        return True

    def _act(self, body: dict[str, Any]) -> bool:
        self.chat_of(body).typing += 1
        return True

    def _file(self, body: dict[str, Any]) -> dict[str, Any]:
        file_id = str(body.get("file_id"))
        if file_id not in self.files:
            raise TelegramProblem(400, "Bad Request: invalid file_id")
        size = len(self.files[file_id])
        return {"file_id": file_id, "file_size": size, "file_path": f"files/{file_id}"}

    def message_json(self, chat: TelegramChat, number: int) -> dict[str, Any]:
        """Return a message as Telegram describes it."""
        message = chat.messages[number]
        found: dict[str, Any] = {
            "message_id": number,
            "date": int(time.time()),
            "chat": {"id": chat.id, "type": chat.type},
            "text": message.text,
        }
        if message.from_bot:
            found["from"] = self.bot
        if message.buttons:
            row = [{"text": text, "callback_data": data} for text, data in message.buttons.items()]
            found["reply_markup"] = {"inline_keyboard": [row]}
        if message.topic is not None:
            found |= {"message_thread_id": message.topic, "is_topic_message": True}
        return found


def _own_message(chat: TelegramChat, body: dict[str, Any]) -> TelegramMessage:
    message = chat.messages.get(body.get("message_id", 0))
    if message is None:
        raise TelegramProblem(400, "Bad Request: message to edit not found")
    if not message.from_bot:
        raise TelegramProblem(400, "Bad Request: message can't be edited")
    return message


def _not_modified() -> TelegramProblem:
    return TelegramProblem(
        400,
        "Bad Request: message is not modified: specified new message content and reply "
        "markup are exactly the same as a current content and reply markup of the message",
    )
