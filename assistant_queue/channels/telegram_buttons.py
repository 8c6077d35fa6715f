"""Buttons in Telegram under the question whether a tool may be called."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
from collections import OrderedDict
from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from assistant_queue.approvals import Approval
from assistant_queue.channels import intake
from assistant_queue.channels.base import (
    PartNotSent,
    PartOutcome,
    PartSent,
    PartUnknown,
    SettledQuestion,
)
from assistant_queue.channels.intake import Call, Received
from assistant_queue.channels.telegram_api import BotRefusal, MethodDone
from assistant_queue.channels.telegram_presses import APPROVE, DENY, ButtonPress
from assistant_queue.channels.telegram_text import unformatted
from assistant_queue.errors import ApprovalNotFound, InvalidArgument

if TYPE_CHECKING:
    from assistant_queue.channels.telegram import Telegram

_log = logging.getLogger(__name__)

_MOST_DATA = 64
"""Bytes of a button's data. Source: the Bot API, InlineKeyboardButton."""
_MOST_KEPT = 10_000
"""Questions of which one process remembers the message. Chosen: some megabytes."""
_TRIES = 5
"""Requests for the edit after a press. Chosen: a flood limit of a minute, or a Telegram that
restarts."""
_AWAY_S = 2.0
_MOST_ARGUMENTS = 1000
"""Characters of the arguments of a call without a question. Chosen: a screen of a phone."""
_PAGE = 1000
_WORDS = {
    "approved": "✅ Approved",
    "denied": "🚫 Denied",
    "answered": "☑️ Answered",
    "expired": "⌛ Expired",
    "withdrawn": "▫️ Withdrawn",
}
_SETTLED_BEFORE = "☑️ Settled elsewhere, or over"


Outcome = MethodDone | PartNotSent | PartUnknown
"""Of a request that was repeated where that could help."""


@dataclass(frozen=True, slots=True)
class PressAnswer:
    """Answer to a press.

    Attributes:
        words: Shown to the presser.
        line: Added to the message in place of its buttons; None to leave it as it is.
        is_alert: The words stay until they are dismissed.
    """

    words: str
    line: str | None = None
    is_alert: bool = False


class ApprovalButtons:
    """Questions of one bot, and the presses of their buttons.

    1. asks in the approval chat, or in the chat of the thread
    2. settles the call at a press that is allowed
    3. edits the message to the verdict, whichever process has asked
    """

    def __init__(
        self,
        channel: Telegram,
        approvers: Collection[int] | None,
        approval_chat: int | str | None,
    ) -> None:
        """Check the approvers, and the chat in which it asks.

        Raises:
            InvalidArgument: `approvers` holds no user ids, or `approval_chat` is no chat.
        """
        self._channel = channel
        self._approvers = _user_ids(approvers)
        self._chat = _chat_address(approval_chat)
        self._texts: OrderedDict[str, str] = OrderedDict()
        self._shown: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._lines: OrderedDict[str, str] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_on(self) -> bool:
        """Whether calls are asked about."""
        return self._approvers is not None or self._chat is not None

    # --- the question -----------------------------------------------------------------------------

    async def ask(self, approval: Approval) -> PartOutcome | None:
        """Send the question with its buttons, once."""
        if not self.is_on or approval.kind != "approval":
            return None
        address = self._chat or self._channel.address_of(approval.thread_id)
        text = self._words(approval)
        key = _short(approval.call_id)
        rows = [[_button("Approve", APPROVE + key), _button("Deny", DENY + key)]]
        given = {"text": text, "reply_markup": {"inline_keyboard": rows}}
        answer = await self._try("sendMessage", address, given)
        if not isinstance(answer, MethodDone):
            return answer
        self._texts[key] = text
        _trim(self._texts)
        sent = answer.result.get("message_id") if isinstance(answer.result, Mapping) else None
        return PartSent(None if sent is None else f"{address}:{sent}")

    def _words(self, approval: Approval) -> str:
        lines = [f"❓ {approval.question or f'Call {approval.tool}?'}"]
        if approval.question is None and approval.arguments:
            lines.append(json.dumps(approval.arguments, ensure_ascii=False)[:_MOST_ARGUMENTS])
        if self._chat is not None:
            whose = f", of {', '.join(approval.authors)}"[:200] if approval.authors else ""
            lines.append(f"In {approval.thread_id}{whose}")
        return unformatted("\n".join(lines), mentions=False).text

    async def settled(self, question: SettledQuestion) -> PartOutcome | None:
        """Show how a call was settled in place of the buttons, in each message that asks."""
        key = _short(question.call_id)
        line = self._lines.get(key) if question.verdict is None else None
        line = line or _line(question.verdict, question.by)
        self._lines[key] = line
        _trim(self._lines)
        text = self._texts.pop(key, None)
        if question.approval is not None:
            text = self._words(question.approval)
        for part_id in question.part_ids:
            address, _, number = part_id.rpartition(":")
            if not number.isdecimal() or (key, part_id) in self._shown:
                continue
            answer = await self._show(address, int(number), text, line)
            if not isinstance(answer, MethodDone) and not _is_final(answer):
                if text is not None:
                    self._texts[key] = text
                return answer
        return PartSent()

    async def _show(self, address: str, message_id: int, text: str | None, line: str) -> Outcome:
        """Replace the buttons of a message; of one with an unknown text, only remove them."""
        if text is None:
            return await self._try("editMessageReplyMarkup", address, {"message_id": message_id})
        return await self._try("editMessageText", address, _edited(message_id, text, line))

    # --- the press --------------------------------------------------------------------------------

    async def press(self, queue: Any, press: ButtonPress) -> Received:
        """Settle a call by a queue of either class, and answer.

        Raises:
            StoreUnavailable: Nothing was settled; the same press again does it.
        """
        received, answers = await self._settled_by(queue, press)
        await self._answer(press, answers)
        return received

    async def press_in_turn(self, queue: Any, press: ButtonPress) -> None:
        """As `press`, but answer beside the updates that follow.

        Raises:
            StoreUnavailable: Nothing was settled; the same press again does it.
        """
        _, answers = await self._settled_by(queue, press)
        task = asyncio.create_task(self._answer(press, answers))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settled_by(
        self, queue: Any, press: ButtonPress
    ) -> tuple[Received, list[PressAnswer]]:
        answers: list[PressAnswer] = []
        steps = self._settle(queue, press, answers)
        if intake.is_asyncio(queue):
            return await intake.run_async(steps), answers
        return await asyncio.to_thread(intake.run_sync, steps), answers

    def press_now(self, queue: Any, press: ButtonPress) -> Received:
        """As `press`, for a blocking queue and a thread without an event loop."""
        answers: list[PressAnswer] = []
        received = intake.run_sync(self._settle(queue, press, answers))

        async def answer() -> None:
            try:
                await self._answer(press, answers)
            finally:
                await self._channel.api.close()

        asyncio.run(answer())
        return received

    def _settle(
        self, queue: Any, press: ButtonPress, answers: list[PressAnswer]
    ) -> Generator[Call, Any, Received]:
        if not self._may(press):
            answers.append(PressAnswer("You may not decide this.", is_alert=True))
            return Received()
        key = press.data[len(APPROVE) :]
        verdict = "approved" if press.data.startswith(APPROVE) else "denied"
        call_id = None
        # A client may send any data with a message that it sees.
        if press.known_data is None or press.data in press.known_data:
            call_id = yield from self._call_id(queue, press, key)
        is_settled = False
        if call_id is not None:
            settle = queue.approve if verdict == "approved" else queue.deny
            try:
                is_settled = yield partial(settle, call_id, by=press.by)
            except (ApprovalNotFound, InvalidArgument):
                is_settled = False
        if is_settled:
            line = _line(verdict, press.by)
            self._lines[key] = line
            _trim(self._lines)
            answers.append(PressAnswer(f"{verdict.capitalize()}.", line))
        else:
            line = self._lines.get(key, _SETTLED_BEFORE)
            answers.append(PressAnswer(f"Too late. {line}", line, is_alert=True))
        return Received()

    def _may(self, press: ButtonPress) -> bool:
        """Return whether a user may decide."""
        if not self.is_on:
            return False
        if self._approvers is not None and press.user_id not in self._approvers:
            return False
        return self._chat is None or self._is_chat(press.address, self._chat)

    def _is_chat(self, address: str, other: str) -> bool:
        return self._channel.chat_id_of(address) == self._channel.chat_id_of(other)

    def _call_id(
        self, queue: Any, press: ButtonPress, key: str
    ) -> Generator[Call, Any, str | None]:
        """Return the open call of a button; in the chat of a thread, one of that thread alone."""
        thread_id = None if self._chat else self._channel.thread_id(press.address)
        if thread_id is None and not key.startswith("#"):
            return key
        after: str | None = None
        while True:
            page = yield partial(queue.list_approvals, _PAGE, after, thread_id)
            for one in page:
                if _short(one.call_id) == key:
                    return str(one.call_id)
            if len(page) < _PAGE:
                return None
            after = page[-1].call_id

    async def _answer(self, press: ButtonPress, answers: list[PressAnswer]) -> None:
        for answer in answers:
            # Once: a press that is not answered in time ends by itself.
            await self._channel.api.call(
                "answerCallbackQuery",
                {
                    "callback_query_id": press.query_id,
                    "text": answer.words[:200],
                    "show_alert": answer.is_alert or None,
                },
            )
            if answer.line is not None and (
                press.known_data is None or press.data in press.known_data
            ):
                await self._show_press(press, answer.line)

    # --- requests ---------------------------------------------------------------------------------

    async def _show_press(self, press: ButtonPress, line: str) -> None:
        """Add a line to the message of a press, and take its buttons away."""
        key = press.data[len(APPROVE) :]
        text = press.text or self._texts.get(key, "")
        given = _edited(press.message_id, text, line)
        if isinstance(await self._send("editMessageText", press.address, given), MethodDone):
            self._shown[key, f"{press.address}:{press.message_id}"] = None
            _trim(self._shown)

    async def _send(self, method: str, address: str, given: Mapping[str, Any]) -> Outcome:
        """Call a method until Telegram has done or refused it, a few times at most."""
        attempt = 0
        while True:
            attempt += 1
            answer = await self._try(method, address, given)
            if isinstance(answer, MethodDone):
                return answer
            if _is_final(answer) or attempt == _TRIES:
                name = self._channel.name
                _log.warning("channel %r: %s for an approval: %s", name, method, answer.reason)
                return answer
            await asyncio.sleep(getattr(answer, "retry_after", None) or _AWAY_S * attempt)

    async def _try(self, method: str, address: str, given: Mapping[str, Any]) -> Outcome:
        channel = self._channel
        if method == "sendMessage":
            await channel.pacer.wait(address, channel.interval_of(address))
        answer = await self._call(method, address, given)
        if isinstance(answer, BotRefusal) and answer.moved_to is not None:
            channel.note_moved(address, answer.moved_to)
            answer = await self._call(method, address, given)
        if isinstance(answer, BotRefusal):
            return MethodDone(None) if answer.is_unchanged else answer.outcome()
        return answer

    async def _call(
        self, method: str, address: str, given: Mapping[str, Any]
    ) -> Outcome | BotRefusal:
        target = self._channel.target_of(address)
        if method != "sendMessage":
            target.pop("message_thread_id", None)  # an edit names its message
        return await self._channel.api.call(method, {**target, **given})


def _line(verdict: str | None, by: str | None) -> str:
    return f"{_WORDS.get(verdict or '', _SETTLED_BEFORE)}{f' by {by}' if by else ''}"


def _edited(message_id: int, text: str, line: str) -> dict[str, Any]:
    words = unformatted(f"{text}\n\n{line}".strip(), mentions=False).text
    return {"message_id": message_id, "text": words}


def _is_final(answer: Outcome) -> bool:
    return isinstance(answer, PartNotSent) and answer.final


def _button(text: str, data: str) -> dict[str, str]:
    return {"text": text, "callback_data": data}


def _short(call_id: str) -> str:
    """Return a call's id if it fits into a button, else a digest of it."""
    if len(APPROVE) + len(call_id.encode("utf-8", "replace")) <= _MOST_DATA and call_id[0] != "#":
        return call_id
    return f"#{hashlib.sha256(call_id.encode('utf-8', 'replace')).hexdigest()[:40]}"


def _trim(kept: OrderedDict[Any, Any]) -> None:
    while len(kept) > _MOST_KEPT:
        kept.popitem(last=False)


def _user_ids(approvers: Collection[int] | None) -> frozenset[int] | None:
    if approvers is None:
        return None
    is_collection = isinstance(approvers, Collection) and not isinstance(approvers, str | bytes)
    if not is_collection or not all(
        isinstance(one, int) and not isinstance(one, bool) and one > 0 for one in approvers
    ):
        raise InvalidArgument(
            f"Invalid approvers {approvers!r}: expected numbers of Telegram users, such as [123456]"
        )
    if not approvers:
        raise InvalidArgument(
            "Invalid approvers: empty, so that no press would count; leave it out"
        )
    return frozenset(approvers)


def _chat_address(chat: int | str | None) -> str | None:
    if chat is None:
        return None
    text = str(chat)
    if isinstance(chat, bool) or re.fullmatch(r"-?[1-9]\d{0,19}(/\d{1,20})?", text) is None:
        raise InvalidArgument(
            f"Invalid approval_chat {chat!r}: expected a chat id such as -1001234567890, in a "
            "forum '-1001234567890/7'"
        )
    return text
