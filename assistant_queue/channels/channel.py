"""The base class of all channels: a platform implements a few methods and inherits the rest."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, overload

from assistant_queue.approvals import Approval
from assistant_queue.channels import intake, media, part_delivery
from assistant_queue.channels.base import (
    Attachment,
    ChannelLimits,
    DeliveryProgress,
    FetchedFile,
    IncomingMessage,
    Part,
    PartNotSent,
    PartOutcome,
    PartSent,
    PartsInMemory,
    Payload,
    SettledQuestion,
)
from assistant_queue.channels.chat_pacer import Pacer
from assistant_queue.channels.intake import Received
from assistant_queue.channels.live_replies import Previews
from assistant_queue.channels.splitting import check_installed, split_markdown
from assistant_queue.errors import (
    InvalidArgument,
    InvalidPayload,
    PayloadTooLarge,
    RetryLater,
    Undeliverable,
)
from assistant_queue.models import RunResult

if TYPE_CHECKING:
    from fastapi import APIRouter

GroupRule = Literal["addressed", "mentioned", "replied_to", "always"]
ReplyWhen = GroupRule | Callable[[IncomingMessage], bool | None]
"""Choice of the messages of a group that are answered."""

Transcribe = Callable[[Attachment, FetchedFile], str | Awaitable[str]]
"""Function that returns the words of a voice message."""


class Channel(ABC):
    """One chat platform: from a person's message to the reply on the screen.

    A platform implements `parse` and `send`; `edit`, `typing`, `find` and `fetch` if it can. Each
    of them makes at most one attempt and decides nothing: splitting, order, progress, pauses,
    duplicates and retries are the same for all channels.

    Attributes:
        name: First part of the channel's thread ids, `"<name>:<address>"`.
        limits: Limits of the platform.
        deduplicates: The receiver recognises a part that is sent twice by `Part.key`, so that a
            part with an unknown outcome is sent again.
        asks: The channel asks whether a tool may be called: `ask` and `settled` are called.
        pacer: Spaces the parts and edits of one chat.
        previews: Messages that show half a reply, for the whole one to replace.
    """

    limits = ChannelLimits()
    deduplicates = False
    asks = False

    def __init__(
        self,
        name: str,
        *,
        reply_when: ReplyWhen = "addressed",
        transcribe: Transcribe | None = None,
        album_hold: float | None = 2.0,
        voice_hold: float | None = None,
    ) -> None:
        """Check the name, and that long replies can be split.

        Args:
            name: First part of the channel's thread ids; without a colon.
            reply_when: Messages of groups that are answered: `addressed` those that mention the
                bot, command it or reply to it, `mentioned` or `replied_to` only those, `always`
                all. Or a function that returns True; None for a message that is not queued. All
                others are queued with `wants_reply=False`, and read with the next answered one.
            transcribe: Function that returns the words of a voice message, sync or async.
            album_hold: Seconds for which the window stays open after each message of an album, for
                the others; at most 60, None for no hold.
            voice_hold: Seconds for which it stays open after a voice message, for the text that
                follows; at most 60.

        Raises:
            InvalidArgument: The name is empty, too long, or has a colon, `reply_when` is no rule,
                or a hold is no number of seconds.
            MissingExtra: The platform needs the splitter, which is not installed.
        """
        self.name = intake.check_name(name)
        if not callable(reply_when) and reply_when not in get_args(GroupRule):
            raise InvalidArgument(
                f"Invalid reply_when {reply_when!r}: expected one of "
                f"{', '.join(get_args(GroupRule))}, or a function"
            )
        self.reply_when = reply_when
        self.transcribe = transcribe
        self.album_hold = intake.check_hold(album_hold, "album_hold")
        self.voice_hold = intake.check_hold(voice_hold, "voice_hold")
        self.pacer = Pacer()
        self.previews = Previews()
        self._progress: OrderedDict[str, PartsInMemory] = OrderedDict()
        if self.limits.units is not None:
            check_installed()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"

    # --- implemented by a platform ----------------------------------------------------------------

    @abstractmethod
    def parse(self, payload: Payload, headers: Mapping[str, str]) -> Sequence[IncomingMessage]:
        """Check a request of the platform and return its messages.

        Args:
            payload: The body, never longer than `limits.payload_bytes`.
            headers: By lower-case names.

        Raises:
            NotAuthenticated: The signature or the secret is missing or wrong.
            InvalidPayload: The body is not what the platform sends.
        """

    @abstractmethod
    async def send(self, address: str, part: Part) -> PartOutcome:
        """Send one part, once; return its outcome and raise nothing on purpose."""

    async def edit(self, address: str, part_id: str, part: Part) -> PartOutcome:
        """Replace a part that was sent; platforms that cannot do it refuse."""
        _ = address, part_id, part
        return PartNotSent("this platform cannot edit", final=True)

    async def preview(self, address: str, part_id: str | None, part: Part) -> PartOutcome:
        """Show the beginning of a reply that is being written.

        Args:
            address: The chat.
            part_id: The message that shows it, None at first.
            part: The text so far.
        """
        if part_id is None:
            return await self.send(address, part)
        return await self.edit(address, part_id, part)

    def streams(self, address: str) -> bool:
        """Return whether replies in this chat are shown while they are written."""
        _ = address
        return self.limits.edits_interval is not None

    def preview_lasts(self, address: str) -> float | None:
        """Return the seconds after which a preview has to be shown again; None if it stays."""
        _ = address
        return None

    async def retract(self, address: str, part_id: str) -> None:
        """Remove a part from the screen, as far as the platform can."""
        await self.edit(address, part_id, Part(text="…"))

    async def typing(self, address: str) -> None:  # noqa: B027 - optional
        """Show a typing indicator for `limits.typing_interval` seconds; failures are ignored."""

    async def find(self, address: str, part: Part) -> PartSent | PartNotSent | None:
        """Ask whether the platform has a part; None if it cannot be asked."""
        _ = address, part
        return None

    async def fetch(self, attachment: Attachment) -> FetchedFile:
        """Read a file of a message; called in the worker.

        Raises:
            InvalidArgument: The file is gone or too large, or the platform has none.
        """
        raise InvalidArgument(f"channel {self.name!r} has no files, so no {attachment.kind}")

    async def content_parts(
        self, attachment: Attachment, file: FetchedFile
    ) -> Sequence[Mapping[str, Any]]:
        """Return a file as content parts of the provider."""
        return await media.default_parts(attachment, file, self.transcribe)

    def measure(self, text: str) -> int:
        """Return the length of a text in the platform's units."""
        return len(text)

    def interval_of(self, address: str) -> float:
        """Return the seconds between two parts in this chat."""
        _ = address
        return self.limits.parts_interval

    async def close(self) -> None:  # noqa: B027 - optional
        """Close the connections of the running event loop."""

    # --- the same for all -------------------------------------------------------------------------

    def thread_id(self, address: str) -> str:
        """Return the thread id of a chat."""
        return f"{self.name}:{address}"

    def address_of(self, thread_id: str) -> str:
        """Return the chat of a thread id.

        Raises:
            InvalidArgument: The thread is not one of this channel.
        """
        name, colon, address = thread_id.partition(":")
        if name != self.name or not colon or not address:
            raise InvalidArgument(f"thread {thread_id!r} is not one of channel {self.name!r}")
        return address

    def split(self, text: str) -> list[str]:
        """Return the parts of a text, each at most `limits.units` long."""
        units = self.limits.units
        if units is None:
            return [text] if text.strip() else []
        return split_markdown(text, lambda part: self.measure(part) <= units)

    def split_result(self, result: RunResult) -> list[str]:
        """Return the texts of the parts of a result; none if the model said nothing."""
        return self.split(result.reply or "")

    async def ask(self, approval: Approval) -> PartOutcome | None:
        """Ask whether a tool call may be made, once; called again after anything but `PartSent`.

        Returns:
            `PartSent` with the id by which `settled` finds the question, or why it was not sent.
            None stands for a `PartSent` without an id.
        """
        _ = approval
        return None

    async def settled(self, question: SettledQuestion) -> PartOutcome | None:
        """Show how a call was settled that the channel has asked about, in any worker.

        Called again, as `ask` is, until it returns `PartSent` or None.
        """
        _ = question
        return None

    def wants_reply(self, message: IncomingMessage) -> bool | None:
        """Return whether a message is answered, by `reply_when`; None if it is not queued."""
        if callable(self.reply_when):
            answer = self.reply_when(message)
            return None if answer is None else bool(answer)
        by_rule = {
            "addressed": message.is_addressed,
            "mentioned": message.is_mentioned,
            "replied_to": message.is_reply,
            "always": True,
        }
        return not message.is_group or by_rule[self.reply_when]

    def hold_of(self, message: IncomingMessage) -> float:
        """Return the seconds for which the window stays open for what belongs to a message."""
        is_spoken = any(one.kind in {"voice", "audio"} for one in message.attachments)
        of_voice = self.voice_hold if is_spoken else 0.0
        return max(of_voice, self.album_hold if message.album else 0.0)

    async def deliver(self, result: RunResult, progress: DeliveryProgress) -> None:
        """Deliver what is left of a result; raises as `Deliverer.deliver` says."""
        await part_delivery.deliver(self, result, progress)

    async def on_reply(self, result: RunResult) -> None:
        """Deliver a result with the progress in memory: for use in a function of your own.

        Called again for the same result in this process, it continues after the last part that was
        sent. In another process it begins with the first part.
        """
        progress = self._progress.setdefault(result.batch_id, PartsInMemory())
        self._progress.move_to_end(result.batch_id)
        while len(self._progress) > _MOST_PROGRESS:
            self._progress.popitem(last=False)
        try:
            await self.deliver(result, progress)
        except (RetryLater, Undeliverable):
            progress.uncertain_part = None  # the part was not sent
            raise

    @overload
    def receive(self, queue: _AsyncQueue, payload: Payload, headers: Headers) -> _Awaited: ...
    @overload
    def receive(self, queue: Any, payload: Payload, headers: Headers) -> Received: ...
    def receive(
        self, queue: Any, payload: Payload, headers: Headers
    ) -> Received | Awaitable[Received]:
        """Put the messages of one request of the platform in the queue.

        Args:
            queue: An `AsyncAssistantMessageQueue`, and then the call is awaited, or an
                `AssistantMessageQueue`.
            payload: The body; raw if the platform signs it.
            headers: The headers of the request, with names in any case.

        Raises:
            NotAuthenticated: The signature or the secret is missing or wrong. Nothing was queued.
            InvalidPayload: The body is not what the platform sends. Nothing was queued.
            PayloadTooLarge: The body is longer than `limits.payload_bytes`. Nothing was queued.
            ThreadFull, StoreUnavailable: Not everything was queued; the same request again adds
                what is missing.
        """
        return intake.run(queue, intake.take(self, queue, self._parsed(payload, headers)))

    @overload
    def take(self, queue: _AsyncQueue, messages: Iterable[IncomingMessage]) -> _Awaited: ...
    @overload
    def take(self, queue: Any, messages: Iterable[IncomingMessage]) -> Received: ...
    def take(
        self, queue: Any, messages: Iterable[IncomingMessage]
    ) -> Received | Awaitable[Received]:
        """Put messages in the queue that another library has received.

        Args:
            queue: As of `receive`.
            messages: New messages, edits and deletions, in their order.

        Raises:
            ThreadFull, StoreUnavailable: Not everything was queued; the same messages again add
                what is missing.
        """
        return intake.run(queue, intake.take(self, queue, messages))

    def _parsed(self, payload: Payload, headers: Headers) -> Sequence[IncomingMessage]:
        if isinstance(payload, bytes | bytearray | str):
            size = len(payload.encode() if isinstance(payload, str) else payload)
            if size > self.limits.payload_bytes:
                raise PayloadTooLarge(
                    f"Invalid payload of {size:,} bytes: channel {self.name!r} reads at most "
                    f"{self.limits.payload_bytes:,}"
                )
        elif not isinstance(payload, Mapping):
            raise InvalidPayload(
                f"Invalid payload of type {type(payload).__name__}: expected bytes, a string or a "
                "parsed JSON object"
            )
        lowered = {str(name).lower(): str(value) for name, value in headers.items()}
        return self.parse(payload, lowered)

    def router(self, queue: Any) -> APIRouter:
        """Return a FastAPI router with one route, `POST /<name>`, for the platform's requests.

        Raises:
            MissingExtra: FastAPI is not installed.
        """
        from assistant_queue.channels.routes import build_router

        return build_router(self, queue)


def json_object(payload: Payload) -> Mapping[str, Any]:
    """Return a payload as a JSON object.

    Raises:
        InvalidPayload: It is none.
    """
    if isinstance(payload, Mapping):
        return payload
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise InvalidPayload(f"Invalid payload: not JSON ({type(error).__name__})") from None
    if not isinstance(value, dict):
        raise InvalidPayload(f"Invalid payload: expected a JSON object, got {type(value).__name__}")
    return cast("Mapping[str, Any]", value)


def channel_of(thread_id: str, channels: Sequence[Channel]) -> Channel | None:
    """Return the channel of a thread; None if it belongs to none."""
    name, colon, address = thread_id.partition(":")
    if not colon or not address:
        return None
    return intake.channel_named(name, channels)


_MOST_PROGRESS = 1_000
"""Deliveries that `on_reply` remembers. Chosen: more than are repeated at once in one process."""

Headers = Mapping[str, str]
_Awaited = Awaitable[Received]

if TYPE_CHECKING:
    from typing import Protocol

    class _AsyncQueue(Protocol):
        """An asyncio queue."""

        def add_message_to_thread(
            self, thread_id: str, message: Any, instructions: str | None = None, **more: Any
        ) -> Awaitable[Any]: ...
