"""Put a platform's messages in the queue: adds, edits and deletions."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from assistant_queue.channels.base import Attachment, IncomingMessage
from assistant_queue.core.window import MAX_HOLD_MS
from assistant_queue.errors import (
    InvalidArgument,
    MessageIdConflict,
    MessageNotFound,
    MessageRefused,
    ThreadBusy,
)
from assistant_queue.models import Content, Receipt

if TYPE_CHECKING:
    from assistant_queue.channels.channel import Channel

ATTACHMENT_TYPE = "channel_attachment"
"""`type` of the content part that stands for a file until a worker has read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """Effect of one payload.

    Attributes:
        receipts: Of its messages; `duplicate` for a message that the platform sent before.
        edited: Ids of waiting messages that were replaced.
        deleted: Ids of waiting messages that were cancelled.
        ignored: Ids that changed nothing: a message that `reply_when` leaves out, an edit of a
            message that is being answered or is unknown.
        refused: Ids of messages that a validator refused, with its reason; of those that met a
            batch with `mid_run="reject"`, with `busy`.
    """

    receipts: tuple[Receipt, ...] = ()
    edited: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()


Call = Callable[[], Any]
Steps = Generator[Call, Any, Received]
"""Yields calls of a queue; takes their results, or their errors."""


def take(channel: Channel, queue: Any, messages: Iterable[IncomingMessage]) -> Steps:
    """Put messages in the queue.

    Raises:
        ThreadFull, StoreUnavailable: Not all was done; the same payload again does the rest.
    """
    receipts: list[Receipt] = []
    lists: dict[str, list[str]] = {"edited": [], "deleted": [], "ignored": []}
    refused: list[tuple[str, str]] = []
    for message in messages:
        message_id = f"{channel.thread_id(message.address)}:{message.id}"
        try:
            if message.kind == "message":
                done = yield from _add(channel, queue, message, message_id)
            else:
                done = yield from _change(channel, queue, message, message_id)
        except MessageRefused as refusal:
            refused.append((message_id, refusal.reason))
        except ThreadBusy:
            refused.append((message_id, "busy"))
        else:
            if isinstance(done, Receipt):
                receipts.append(done)
            else:
                lists[done].append(message_id)
    return Received(
        receipts=tuple(receipts),
        refused=tuple(refused),
        **{name: tuple(ids) for name, ids in lists.items()},
    )


def _add(
    channel: Channel, queue: Any, message: IncomingMessage, message_id: str
) -> Generator[Call, Any, Receipt | str]:
    content = content_of(channel, message)
    wants_reply = None if content is None else channel.wants_reply(message)
    if content is None or wants_reply is None:
        return "ignored"
    try:
        receipt: Receipt = yield partial(
            queue.add_message_to_thread,
            channel.thread_id(message.address),
            content,
            message_id=message_id,
            author=message.author,
            metadata=dict(message.metadata),
            wants_reply=wants_reply,
            **_hold_of(channel, message),
        )
    except MessageIdConflict:
        return "ignored"  # taken before, and edited since: the platform repeats itself
    return receipt


def _hold_of(channel: Channel, message: IncomingMessage) -> dict[str, float]:
    """Return the wish of a message to be answered with what belongs to it."""
    hold = channel.hold_of(message)
    return {"hold": hold} if hold else {}


def _change(
    channel: Channel, queue: Any, message: IncomingMessage, message_id: str
) -> Generator[Call, Any, str]:
    if message.kind == "delete":
        return "deleted" if (yield partial(queue.cancel, message_id, running=True)) else "ignored"
    content = content_of(channel, message)
    if content is None:
        return "ignored"
    try:
        return (
            "edited"
            if (yield partial(queue.edit_message, message_id, content, running=True))
            else "ignored"
        )
    except MessageNotFound:
        return "ignored"  # older than the bot, or than `result_ttl`


def content_of(channel: Channel, message: IncomingMessage) -> Content | None:
    """Return the content of a message for the queue; None if it has none."""
    if not message.attachments:
        return message.text if message.text.strip() else None
    text = [{"type": "text", "text": message.text}] if message.text.strip() else []
    return [*text, *(_part_of(channel, one) for one in message.attachments)]


def _part_of(channel: Channel, attachment: Attachment) -> dict[str, Any]:
    named = {
        "kind": attachment.kind,
        "ref": attachment.ref,
        "media_type": attachment.media_type,
        "file_name": attachment.file_name,
        "size": attachment.size,
    }
    given = {name: value for name, value in named.items() if value is not None}
    return {"type": ATTACHMENT_TYPE, "channel": channel.name, **given}


def channel_named(name: object, channels: Sequence[Channel]) -> Channel | None:
    """Return the channel of this name; None if no channel has it."""
    return next((channel for channel in channels if channel.name == name), None)


def is_asyncio(queue: Any) -> bool:
    """Return whether the calls of a queue are awaited."""
    return inspect.iscoroutinefunction(getattr(queue, "add_message_to_thread", None))


class _Walk:
    """Make the steps of one payload, one call at a time.

    Attributes:
        call: The next call of the queue, None after the last.
        received: The effect, after the last call.
    """

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self.received = Received()
        self.call = self._next(partial(next, steps))

    def answered(self, result: Any) -> None:
        """Give the steps the result of the call."""
        self.call = self._next(partial(self._steps.send, result))

    def failed(self, error: Exception) -> None:
        """Let the steps decide on the error of the call; it is raised if they do not take it."""
        self.call = self._next(partial(self._steps.throw, error))

    def _next(self, resume: Callable[[], Call]) -> Call | None:
        try:
            return resume()
        except StopIteration as end:
            self.received = end.value
        return None


def run(queue: Any, steps: Steps) -> Received | Awaitable[Received]:
    """Make the calls of a queue of either class; awaited for an asyncio queue."""
    return run_async(steps) if is_asyncio(queue) else run_sync(steps)


def run_sync(steps: Steps) -> Received:
    """Make the calls of a blocking queue."""
    walk = _Walk(steps)
    while walk.call is not None:
        try:
            result = walk.call()
        except Exception as error:  # noqa: BLE001 - the steps decide
            walk.failed(error)
        else:
            walk.answered(result)
    return walk.received


async def run_async(steps: Steps) -> Received:
    """Make the calls of an asyncio queue."""
    walk = _Walk(steps)
    while walk.call is not None:
        try:
            result = await walk.call()
        except Exception as error:  # noqa: BLE001 - the steps decide
            walk.failed(error)
        else:
            walk.answered(result)
    return walk.received


def check_hold(value: object, what: str) -> float:
    """Return the seconds of a hold, 0 for None.

    Raises:
        InvalidArgument: It is no number, or out of range.
    """
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_HOLD:
        raise InvalidArgument(
            f"Invalid {what} {value!r}: expected seconds, a number from 0 to {MAX_HOLD:g}, or None"
        )
    return float(value)


def check_name(name: object) -> str:
    """Return a channel's name.

    Raises:
        InvalidArgument: It is no name: threads are found by it.
    """
    if not isinstance(name, str) or not name.strip() or ":" in name or len(name) > _MAX_NAME:
        raise InvalidArgument(
            f"Invalid name {name!r}: expected 1 to {_MAX_NAME} characters without a colon"
        )
    return name


MAX_HOLD = MAX_HOLD_MS / 1000

_MAX_NAME = 64
"""Characters of a channel's name. Chosen: leaves most of a thread id to the address."""
