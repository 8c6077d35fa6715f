"""A strict fake of Telegram's Bot API over real HTTP, with people and their messages."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any

from assistant_queue.channels.http_client import HttpClient
from assistant_queue.testing.channels.form_bodies import arguments_of
from assistant_queue.testing.channels.platform_server import (
    PlatformAnswer,
    PlatformRequest,
    PlatformServer,
)
from assistant_queue.testing.channels.telegram_chats import (
    ChatType,
    TelegramChat,
    TelegramMessage,
    TelegramProblem,
)
from assistant_queue.testing.channels.telegram_methods import FIELDS, TelegramMethods

_HOOK_PAUSE_S = 0.05
_WEBHOOK_ACTIVE = (
    "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete "
    "the webhook first"
)


class StandInTelegram(PlatformServer):
    """A fake Telegram.

    1. `token` and `url` are the arguments of a channel: `Telegram(it.token, api_url=it.url)`.
    2. `say` and `edit` are people; their updates reach the bot by polling or webhook.
    3. `chat(id).shown` is what the bot has written, `fault` and `block` are what goes wrong.

    It takes JSON and forms, enforces Telegram's limits in UTF-16 units, checks entities and markup, and refuses in its
    words. Fields that a method does not have are refused, which the real server ignores.
    """

    def __init__(self, username: str = "stand_in_bot") -> None:
        """Describe a server; nothing runs before `start`."""
        super().__init__()
        bot_id = 10_000_000 + secrets.randbelow(90_000_000)
        self.token = f"{bot_id}:{secrets.token_urlsafe(26)}"
        self.methods = TelegramMethods(bot_id, username)
        self.updates: list[dict[str, Any]] = []
        self._next_update = 1 + secrets.randbelow(1000)
        self._webhook: dict[str, Any] | None = None
        self._hooking: asyncio.Task[None] | None = None
        self._news: asyncio.Event | None = None

    # --- people -----------------------------------------------------------------------------------

    def chat(self, chat_id: int, kind: ChatType | None = None) -> TelegramChat:
        """Return a chat; created at first."""
        found = self.methods.chats.get(chat_id)
        if found is None:
            default: ChatType = "private" if chat_id > 0 else "supergroup"
            found = self.methods.chats[chat_id] = TelegramChat(chat_id, kind or default)
        return found

    def say(
        self,
        chat_id: int,
        text: str = "",
        *,
        name: str = "Ann",
        topic: int | None = None,
        reply_to: int | None = None,
        entities: list[dict[str, Any]] | None = None,
        files: dict[str, Any] | None = None,
        album: str | None = None,
    ) -> int:
        """Have a person write; return the message's id.

        Args:
            chat_id: The chat; created at first.
            text: The text, or the caption of a file.
            name: The person.
            topic: A topic of a forum; created at first.
            reply_to: A message of the chat.
            entities: Mentions and commands, as Telegram marks them.
            files: `photo`, `voice`, `audio`, `video` or `document`, with its bytes.
            album: The `media_group_id` of files that are sent at once.
        """
        message_id, update = self._written(chat_id, text, name, topic, reply_to, entities, files)
        if album is not None:
            update["media_group_id"] = album
        self._publish({"message": update})
        return message_id

    def edit(self, chat_id: int, message_id: int, text: str, *, name: str = "Ann") -> None:
        """Have a person edit a message."""
        chat = self.chat(chat_id)
        chat.messages[message_id].text = text
        self._publish({"edited_message": self._message_of(chat, message_id, name)})

    def press(
        self,
        chat_id: int,
        label: str,
        *,
        name: str = "Ann",
        data: str | None = None,
        is_old: bool = False,
    ) -> str:
        """Have a person press a button of the last message that has one; return the press' id.

        Args:
            chat_id: The chat.
            label: The button; also one that the person's screen still shows.
            name: The person.
            data: Sent instead of the button's, as a changed client may.
            is_old: The message is so old that Telegram names it alone.
        """
        chat = self.chat(chat_id)
        known = [one for one in chat.messages.values() if one.from_bot and one.had_buttons]
        message = known[-1]
        query_id = str(next(self.methods.numbers) + 10**15)
        self.methods.presses[query_id] = None
        person = {"id": person_id(name), "is_bot": False, "first_name": name}
        shown = self.methods.message_json(chat, message.id)
        if is_old:
            shown = {**{one: shown[one] for one in ("message_id", "chat")}, "date": 0}
        query = {
            "id": query_id,
            "from": person,
            "message": shown,
            "chat_instance": "1",
            "data": data or message.had_buttons[label],
        }
        self._publish({"callback_query": query})
        return query_id

    def answer_to(self, query_id: str) -> str | None:
        """Return what a person read after a press; None if the bot has not answered it."""
        return self.methods.presses[query_id]

    def update_of(self, chat_id: int, text: str, **given: Any) -> dict[str, Any]:
        """Return the update of a message, as a webhook receives it, without sending it."""
        given = {"name": "Ann", "topic": None, "reply_to": None, **given}
        _, message = self._written(
            chat_id, text, given["name"], given["topic"], given["reply_to"], None, None
        )
        return self._numbered({"message": message})

    def block(self, chat_id: int) -> None:
        """Have a person block the bot, or a group remove it."""
        self.chat(chat_id).blocked = True

    def migrate(self, chat_id: int, new_id: int) -> None:
        """Make a supergroup of a group."""
        chat = self.chat(chat_id)
        chat.migrated_to = new_id
        self.methods.chats[new_id] = TelegramChat(new_id, "supergroup", topics=chat.topics)

    # --- the server -------------------------------------------------------------------------------

    async def answer(self, request: PlatformRequest) -> PlatformAnswer:
        """Carry out a call of the Bot API."""
        file = request.path.removeprefix(f"/file/bot{self.token}/files/")
        if file != request.path:
            data = self.methods.files.get(file)
            return PlatformAnswer(404, {}) if data is None else PlatformAnswer(200, data)
        method = request.path.removeprefix(f"/bot{self.token}/")
        try:
            if method == request.path:
                raise TelegramProblem(401, "Unauthorized")
            body = arguments_of(request)
            if not isinstance(body, dict):
                raise TelegramProblem(400, "Bad Request: can't parse JSON object")
            result = await self._call(method, body)
        except TelegramProblem as problem:
            refusal: dict[str, Any] = {
                "ok": False,
                "error_code": problem.status,
                "description": problem.description,
            }
            if problem.parameters:
                refusal["parameters"] = problem.parameters
            return PlatformAnswer(problem.status, refusal)
        return PlatformAnswer(200, {"ok": True, "result": result})

    async def _call(self, method: str, body: dict[str, Any]) -> Any:
        if method == "getUpdates":
            return await self._get_updates(body)
        if method in {"setWebhook", "deleteWebhook"}:
            unknown = set(body) - FIELDS[method]
            if unknown:
                raise TelegramProblem(400, f"Bad Request: unknown fields {sorted(unknown)}")
            self._set_webhook(body if body.get("url") else None)
            return True
        return self.methods.call(method, body)

    async def _get_updates(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        if self._webhook is not None:
            raise TelegramProblem(409, _WEBHOOK_ACTIVE)
        offset = body.get("offset")
        if isinstance(offset, int):  # confirms all before it
            self.updates = [one for one in self.updates if one["update_id"] >= offset]
        if not self.updates and body.get("timeout"):
            self._news = asyncio.Event()
            try:
                async with asyncio.timeout(float(body["timeout"])):
                    await self._news.wait()
            except TimeoutError:
                return []
        return self.updates[: int(body.get("limit", 100))]

    def _set_webhook(self, body: dict[str, Any] | None) -> None:
        self._webhook = body
        if self._hooking is not None:
            self._hooking.cancel()
            self._hooking = None
        if body is not None:
            self._hooking = asyncio.ensure_future(self._send_to_webhook(body))

    async def _send_to_webhook(self, hook: dict[str, Any]) -> None:
        """Send updates in order; one that is not answered by 2xx is sent again."""
        http = HttpClient(10.0)
        headers = {"content-type": "application/json"}
        if hook.get("secret_token"):
            headers["x-telegram-bot-api-secret-token"] = hook["secret_token"]
        while True:
            if self.updates:
                body = json.dumps(self.updates[0]).encode()
                answer = await http.post(hook["url"], body, headers)
                status = getattr(answer, "status", 0)
                if 200 <= status < 300:  # noqa: PLR2004 - statuses of HTTP
                    del self.updates[0]
                    self.noted()
                    continue
            await asyncio.sleep(_HOOK_PAUSE_S)

    # --- updates ----------------------------------------------------------------------------------

    def _written(  # noqa: PLR0917 - of this class alone
        self,
        chat_id: int,
        text: str,
        name: str,
        topic: int | None,
        reply_to: int | None,
        entities: list[dict[str, Any]] | None,
        files: dict[str, Any] | None,
    ) -> tuple[int, dict[str, Any]]:
        chat = self.chat(chat_id)
        if topic is not None:
            chat.topics.add(topic)
        number = next(self.methods.numbers)
        chat.messages[number] = TelegramMessage(number, text, from_bot=False, topic=topic)
        update = self._message_of(chat, number, name)
        if reply_to is not None:
            update["reply_to_message"] = self.methods.message_json(chat, reply_to)
        words = "text"
        for kind, data in (files or {}).items():
            words = "caption"
            file_id = f"{kind}-{number}"
            self.methods.files[file_id] = data
            one = {"file_id": file_id, "file_unique_id": file_id, "file_size": len(data)}
            small = {**one, "file_id": f"{file_id}-small", "file_size": 1}
            update[kind] = [small, one] if kind == "photo" else one
        if words == "caption":
            update.pop("text")
            if text:
                update["caption"] = text
        if entities:
            update["entities" if words == "text" else "caption_entities"] = entities
        return number, update

    def _message_of(self, chat: TelegramChat, number: int, name: str) -> dict[str, Any]:
        person = {"id": person_id(name), "is_bot": False, "first_name": name}
        return {**self.methods.message_json(chat, number), "from": person}

    def _numbered(self, update: dict[str, Any]) -> dict[str, Any]:
        self._next_update += 1
        return {"update_id": self._next_update, **update}

    def _publish(self, update: dict[str, Any]) -> None:
        def publish() -> None:
            self.updates.append(self._numbered(update))
            if self._news is not None:
                self._news.set()

        # People can write while the bot's side is away; its updates are kept until it is back.
        if self._server.is_running:
            self._server.call(publish)
        else:
            self.updates.append(self._numbered(update))

    def come_back(self) -> None:
        """Serve again at the same address, and send updates to the webhook if there is one."""
        was_away = not self._server.is_running
        super().come_back()
        if was_away and self._webhook is not None:
            self._server.call(lambda: self._set_webhook(self._webhook))

    def stop(self) -> None:
        """Stop serving and cut all connections."""
        if self._hooking is not None:
            self._server.call(self._hooking.cancel)
            self._hooking = None
        super().stop()


def person_id(name: str) -> int:
    """Return the number of a person of this name."""
    return 1000 + sum(name.encode())
