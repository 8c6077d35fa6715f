"""Telegram: a bot's chats, groups and topics as threads."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import mimetypes
import re
import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from assistant_queue.approvals import Approval
from assistant_queue.channels import intake
from assistant_queue.channels.base import (
    Attachment,
    ChannelLimits,
    FetchedFile,
    IncomingMessage,
    Part,
    PartNotSent,
    PartOutcome,
    PartSent,
    PartUnknown,
    Payload,
    SettledQuestion,
)
from assistant_queue.channels.channel import Channel, ReplyWhen, Transcribe, json_object
from assistant_queue.channels.telegram_api import BotRefusal, MethodDone, TelegramApi
from assistant_queue.channels.telegram_buttons import ApprovalButtons
from assistant_queue.channels.telegram_polling import poll, wait_for_bot
from assistant_queue.channels.telegram_presses import read_press
from assistant_queue.channels.telegram_text import render, unformatted, units
from assistant_queue.channels.telegram_updates import ALLOWED_UPDATES, BotIdentity, read_update
from assistant_queue.errors import ConfigurationError, InvalidArgument, NotAuthenticated
from assistant_queue.user_code.scrubbing import remember

_log = logging.getLogger(__name__)

_TOKEN = re.compile(r"\d{1,20}:[\w-]{10,100}\Z")
_ADDRESS = re.compile(r"-?\d{1,20}(/\d{1,20})?\Z")
_SECRET = re.compile(r"[\w-]{1,256}\Z")
_SECRET_HEADER = "x-telegram-bot-api-secret-token"  # noqa: S105 - a header's name

_MAX_FILE_BYTES = 20_000_000
"""Longest file that a bot can read. Source: the Bot API, getFile."""


class Telegram(Channel):
    """A Telegram bot.

    1. `router(queue)` or `receive(...)` takes updates by webhook, `poll(queue)` by long polling.
    2. A thread id is `telegram:<chat id>`, in a forum `telegram:<chat id>/<topic>`.
    3. Replies are formatted, split at 4,096 UTF-16 units, and sent at Telegram's pace.
    """

    # Source: the Bot API: 4,096 units of a text; about one message a second in a chat, twenty a
    # minute in a group, thirty a second in all; a typing indicator of five seconds.
    limits = ChannelLimits(
        units=4096,
        parts_interval=1.0,
        total_interval=1 / 30,
        edits_interval=1.2,
        typing_interval=4.5,
    )
    _group_interval = 3.0
    # Source: the Bot API: a draft vanishes after 30 seconds. Chosen: with ten to spare for a
    # platform that is slow, or refuses once.
    _draft_lasts_s = 20.0

    def __init__(
        self,
        token: str,
        *,
        name: str = "telegram",
        stream: Literal["edit", "draft", "off"] = "edit",
        username: str | None = None,
        secret_token: str | None = None,
        reply_when: ReplyWhen = "addressed",
        transcribe: Transcribe | None = None,
        album_hold: float | None = 2.0,
        voice_hold: float | None = None,
        mentions: bool = False,
        link_previews: bool = False,
        approvers: Collection[int] | None = None,
        approval_chat: int | str | None = None,
        api_url: str = "https://api.telegram.org",
        timeout: float = 30.0,
    ) -> None:
        """Describe a bot; nothing is sent.

        Args:
            token: The bot's token, of @BotFather.
            name: First part of the channel's thread ids.
            stream: Show a reply while it is written: `edit` by a message that is edited, `draft`
                in private chats by a draft, which needs no message, `off` not at all.
            username: The bot's name without @, by which a group mentions it; `poll` and
                `set_webhook` ask Telegram for it.
            secret_token: The secret of webhook requests, 1 to 256 letters, digits, `_` and `-`;
                None derives one from the token.
            reply_when: Messages of groups that are answered, as of `Channel`; the others are read
                with the next answered one. Telegram shows them to a bot without privacy mode.
            transcribe: Function that returns the words of a voice message, sync or async; without
                it the model reads that there was one.
            album_hold: Seconds for which the window stays open after each picture of an album, for
                the others; at most 60, None for no hold.
            voice_hold: Seconds for which it stays open after a voice message, for the text that
                follows; at most 60.
            mentions: Whether names in replies (@name) notify people.
            link_previews: Whether links in replies are shown with a preview.
            approvers: Numbers of the users that may press the buttons under a question whether a
                tool may be called. There are no buttons without this or `approval_chat`.
            approval_chat: The chat with these questions, such as a group of your staff, all of
                which may press unless there are `approvers`; None for the thread's chat.
            api_url: Address of the Bot API server.
            timeout: Seconds for one request.

        Raises:
            InvalidArgument: The token, the secret, the name, a hold, the approvers or their chat
                cannot be used.
            MissingExtra: The extra `telegram` is not installed.
        """
        super().__init__(
            name,
            reply_when=reply_when,
            transcribe=transcribe,
            album_hold=album_hold,
            voice_hold=voice_hold,
        )
        if not isinstance(token, str) or not _TOKEN.match(token):
            raise InvalidArgument("Invalid token: expected 123456:ABC..., as @BotFather gives it")
        if stream not in {"edit", "draft", "off"}:
            raise InvalidArgument(f"Invalid stream {stream!r}: expected 'edit', 'draft' or 'off'")
        secret = secret_token if secret_token is not None else _derived_secret(token)
        if not _SECRET.match(secret):
            raise InvalidArgument(
                "Invalid secret_token: expected 1 to 256 letters, digits, _ and -"
            )
        remember(token)
        remember(secret)
        self._secret = secret
        self._bot = BotIdentity(int(token.partition(":")[0]), username)
        self._mentions = mentions
        self._link_previews = link_previews
        self.stream: Literal["edit", "draft", "off"] = stream
        self._moved: dict[str, str] = {}
        self.api = TelegramApi(token, api_url, timeout)
        self._buttons = ApprovalButtons(self, approvers, approval_chat)
        self.asks = self._buttons.is_on

    # --- receiving --------------------------------------------------------------------------------

    def parse(self, payload: Payload, headers: Mapping[str, str]) -> Sequence[IncomingMessage]:
        """Check the secret and return the message of an update."""
        given = headers.get(_SECRET_HEADER, "")
        if not hmac.compare_digest(given.encode(), self._secret.encode()):
            raise NotAuthenticated("the secret token of the webhook is missing or wrong")
        return self.messages_of(json_object(payload))

    def messages_of(self, update: Mapping[str, Any]) -> Sequence[IncomingMessage]:
        """Return the message of an update; none for other kinds of updates.

        Raises:
            InvalidPayload: It is no update of Telegram.
        """
        content = read_update(update, self._bot)
        if content.moved is not None:
            self._moved[content.moved[0]] = content.moved[1]
        return content.messages

    async def poll(self, queue: Any) -> None:
        """Take updates by long polling until cancelled; no public address is needed.

        Waits for a Telegram or a Redis that is away.

        Args:
            queue: A queue object of either class; the blocking one is called on a thread.

        Raises:
            ConfigurationError: Telegram does not know the token, or the bot has a webhook.
        """
        if self._bot.username is None:
            self._know(await wait_for_bot(self.api))
        await poll(self.api, ALLOWED_UPDATES, lambda update: self._take(queue, update))

    def receive(self, queue: Any, payload: Payload, headers: Mapping[str, str]) -> Any:
        """Put the message of an update in the queue, or settle a call by the button in it.

        Args and errors are those of `Channel.receive`.
        """
        messages = self._parsed(payload, headers)
        press = read_press(json_object(payload))
        if press is None:
            return intake.run(queue, intake.take(self, queue, messages))
        if intake.is_asyncio(queue):
            return self._buttons.press(queue, press)
        return self._buttons.press_now(queue, press)

    async def _take(self, queue: Any, update: Mapping[str, Any]) -> None:
        press = read_press(update)
        if press is not None:
            await self._buttons.press_in_turn(queue, press)
            return
        steps = intake.take(self, queue, self.messages_of(update))
        if intake.is_asyncio(queue):
            await intake.run_async(steps)
        else:
            await asyncio.to_thread(intake.run_sync, steps)

    async def set_webhook(self, url: str) -> None:
        """Have Telegram send updates to an address, with this channel's secret.

        Raises:
            ConfigurationError: Telegram refuses it, or does not answer.
        """
        await self.learn_name()
        await self._must(
            "setWebhook",
            {
                "url": url,
                "secret_token": self._secret,
                "allowed_updates": list(ALLOWED_UPDATES),
            },
        )

    async def learn_name(self) -> None:
        """Ask Telegram for the bot's name, unless it is known.

        Raises:
            ConfigurationError: Telegram does not know the token, or does not answer.
        """
        if self._bot.username is None:
            self._know(await self._must("getMe", {}))

    def _know(self, me: Any) -> None:
        name = me.get("username") if isinstance(me, Mapping) else None
        self._bot = BotIdentity(self._bot.id, name if isinstance(name, str) else None)

    async def _must(self, method: str, arguments: Mapping[str, Any]) -> Any:
        answer = await self.api.call(method, arguments)
        if isinstance(answer, MethodDone):
            return answer.result
        why = answer.description if isinstance(answer, BotRefusal) else answer.reason
        raise ConfigurationError(f"channel {self.name!r}: Telegram refuses {method}: {why}")

    async def fetch(self, attachment: Attachment) -> FetchedFile:
        """Read a file of a message."""
        answer = await self.api.call("getFile", {"file_id": attachment.ref})
        path = answer.result.get("file_path") if isinstance(answer, MethodDone) else None
        data = await self.api.read_file(path, _MAX_FILE_BYTES) if isinstance(path, str) else None
        if data is None:
            raise InvalidArgument(
                f"channel {self.name!r}: the {attachment.kind} cannot be read: it is gone, or "
                f"longer than {_MAX_FILE_BYTES // 1_000_000} MB"
            )
        return FetchedFile(data, attachment.media_type or _media_type_of(str(path)))

    # --- sending ----------------------------------------------------------------------------------

    def measure(self, text: str) -> int:
        """Return the length in UTF-16 units, with formatting or without, whichever is longer."""
        return max(
            units(render(text, mentions=self._mentions).text),
            units(unformatted(text, mentions=self._mentions).text),
        )

    def interval_of(self, address: str) -> float:
        """Return a second, or three in a group."""
        return self._group_interval if address.startswith("-") else self.limits.parts_interval

    async def send(self, address: str, part: Part) -> PartOutcome:
        """Send one part; as plain text if Telegram refuses its formatting."""
        extra: dict[str, Any] = {}
        if not self._link_previews:
            extra["link_preview_options"] = {"is_disabled": True}
        replied = self._replied(address, part)
        if replied is not None:
            extra["reply_parameters"] = {
                "message_id": replied,
                "allow_sending_without_reply": True,
            }
        answer = await self._write("sendMessage", address, part, extra)
        if isinstance(answer, MethodDone):
            sent = answer.result.get("message_id") if isinstance(answer.result, dict) else None
            return PartSent(None if sent is None else str(sent))
        return answer.outcome() if isinstance(answer, BotRefusal) else answer

    async def edit(self, address: str, part_id: str, part: Part) -> PartOutcome:
        """Replace the text of a message."""
        extra: dict[str, Any] = {"message_id": int(part_id)}
        if not self._link_previews:
            extra["link_preview_options"] = {"is_disabled": True}
        answer = await self._write("editMessageText", address, part, extra)
        if isinstance(answer, MethodDone) or (
            isinstance(answer, BotRefusal) and answer.is_unchanged
        ):
            return PartSent(part_id)
        return answer.outcome() if isinstance(answer, BotRefusal) else answer

    def streams(self, address: str) -> bool:
        """Return whether `stream` is on."""
        _ = address
        return self.stream != "off"

    async def preview(self, address: str, part_id: str | None, part: Part) -> PartOutcome:
        """Show the beginning of a reply: in a draft, or in a message that is edited."""
        if self._drafts(address):
            return await self.draft(address, part)
        return await super().preview(address, part_id, part)

    def preview_lasts(self, address: str) -> float | None:
        """Return the time for which a draft is seen; a message stays."""
        return self._draft_lasts_s if self._drafts(address) else None

    def _drafts(self, address: str) -> bool:
        return self.stream == "draft" and not address.startswith("-")

    async def retract(self, address: str, part_id: str) -> None:
        """Delete a message of the bot."""
        target = self.target_of(address)
        await self.api.call(
            "deleteMessage", {"chat_id": target["chat_id"], "message_id": int(part_id)}
        )

    async def draft(self, address: str, part: Part) -> PartOutcome:
        """Show a text as the draft of a private chat.

        It vanishes when a message is sent, and after 30 seconds.
        """
        # The same for each draft of a reply, so that it is one draft whichever worker shows it.
        extra = {"draft_id": zlib.crc32(part.key.encode()) or 1}
        answer = await self._write("sendMessageDraft", address, part, extra)
        if isinstance(answer, MethodDone):
            return PartSent(None)
        return answer.outcome() if isinstance(answer, BotRefusal) else answer

    async def ask(self, approval: Approval) -> PartOutcome | None:
        """Send a question with buttons to approve and deny."""
        return await self._buttons.ask(approval)

    async def settled(self, question: SettledQuestion) -> PartOutcome | None:
        """Show the verdict in place of the buttons."""
        return await self._buttons.settled(question)

    async def typing(self, address: str) -> None:
        """Show "typing" for five seconds."""
        await self.api.call("sendChatAction", {**self.target_of(address), "action": "typing"})

    async def close(self) -> None:
        """Close the connections of the running event loop."""
        await self.api.close()

    async def _write(
        self, method: str, address: str, part: Part, extra: Mapping[str, Any]
    ) -> MethodDone | BotRefusal | PartNotSent | PartUnknown:
        """Call a method with a text: each further call follows a refusal, so nothing is doubled."""
        mentions = self._mentions or not address.startswith("-")
        text = render(part.text, mentions=mentions)
        answer = await self._call(method, address, text, extra)
        if isinstance(answer, BotRefusal) and answer.is_about_markup and text.entities:
            _log.warning("channel %r: sent without formatting: %s", self.name, answer.description)
            text = unformatted(part.text, mentions=mentions)
            answer = await self._call(method, address, text, extra)
        if isinstance(answer, BotRefusal) and answer.moved_to is not None:
            self.note_moved(address, answer.moved_to)
            answer = await self._call(method, address, text, extra)
        return answer

    async def _call(
        self, method: str, address: str, text: Any, extra: Mapping[str, Any]
    ) -> MethodDone | BotRefusal | PartNotSent | PartUnknown:
        target = self.target_of(address)
        if "message_id" in extra:
            target.pop("message_thread_id", None)  # an edit names its message
        entities = list(text.entities) or None
        return await self.api.call(
            method, {**target, "text": text.text, "entities": entities, **extra}
        )

    def note_moved(self, address: str, chat_id: str) -> None:
        """Note that a group has become a supergroup with another number."""
        self._moved[address.partition("/")[0]] = chat_id

    def chat_id_of(self, address: str) -> str:
        """Return the number that the chat of an address has now."""
        chat = address.partition("/")[0]
        return self._moved.get(chat, chat)

    def target_of(self, address: str) -> dict[str, Any]:
        """Return the fields that name a chat and its topic.

        Raises:
            InvalidArgument: It is no address of Telegram.
        """
        if not _ADDRESS.match(address):
            raise InvalidArgument(
                f"Invalid address {address!r} of channel {self.name!r}: expected a chat id, or "
                "chat id/topic"
            )
        topic = address.partition("/")[2]
        target: dict[str, Any] = {"chat_id": int(self.chat_id_of(address))}
        return {**target, "message_thread_id": int(topic)} if topic else target

    def _replied(self, address: str, part: Part) -> int | None:
        """Return the message that the first part replies to; only in groups."""
        if part.result is None or part.index or not address.startswith("-"):
            return None
        last = part.result.message_ids[-1] if part.result.message_ids else ""
        prefix = f"{self.thread_id(address)}:"
        number = last.removeprefix(prefix)
        return int(number) if last.startswith(prefix) and number.isdigit() else None


def _media_type_of(path: str) -> str:
    return mimetypes.guess_type(path)[0] or "application/octet-stream"


def _derived_secret(token: str) -> str:
    return hmac.digest(token.encode(), b"assistant-queue webhook", hashlib.sha256).hex()
