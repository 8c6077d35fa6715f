"""The values of a delivery and of what a platform sends, and the seam to the outbox.

A delivery is a result, an address and parts. A channel says for each part `PartSent`,
`PartNotSent` or `PartUnknown`; the outbox stores the progress between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from assistant_queue.approvals import Approval
from assistant_queue.models import RunResult


class DeliveryProgress(Protocol):
    """Stored progress of one delivery: a crash resumes at the part that follows.

    Attributes:
        parts_sent: Parts that the platform has confirmed.
        part_ids: The platform's ids of these parts, None for a part without one.
        uncertain_part: Index of a part that was begun, with an unknown outcome: the process
            ended, or the answer was lost. None if there is none.
        preview: The platform's id of the message that shows half of this reply; None if there is
            none. Set before a part is sent, it is stored with it.
    """

    preview: str | None

    @property
    def parts_sent(self) -> int:
        """Return the number of confirmed parts."""
        ...

    @property
    def part_ids(self) -> tuple[str | None, ...]:
        """Return the platform's ids of the confirmed parts, in order."""
        ...

    @property
    def uncertain_part(self) -> int | None:
        """Return the index of the part with the unknown outcome."""
        ...

    async def sending(self, index: int, total: int) -> None:
        """Store that the part is about to be sent.

        May be skipped if the platform can be asked for the part.

        Raises:
            LeaseLost: Another worker delivers this reply: send nothing.
        """
        ...

    async def sent(self, index: int, total: int, part_id: str | None) -> None:
        """Store that the platform has the part, and under which id.

        Raises:
            LeaseLost: Another worker delivers this reply: send nothing more.
        """
        ...


class Deliverer(Protocol):
    """Delivery of one reply: `on_reply`, or a channel."""

    async def deliver(self, result: RunResult, progress: DeliveryProgress) -> None:
        """Deliver the parts that `progress` lacks; return when the platform has all of them.

        Raises:
            RetryLater: The platform takes nothing now; not counted.
            Undeliverable: It never will.
            DeliveryUnknown: A part may have been taken, and the platform cannot be asked.
            Exception: Anything else is a failed attempt, repeated after `delivery_backoff`.

        `RetryLater` and `Undeliverable` say that the part announced last, if it was not confirmed,
        was not sent. After any other error its outcome is not known.
        """
        ...


@dataclass(frozen=True, slots=True)
class PartSent:
    """The platform has the part.

    Attributes:
        id: The platform's id of it, needed to edit it; None if it has none.
    """

    id: str | None = None


@dataclass(frozen=True, slots=True)
class PartNotSent:
    """The platform does not have the part, and says so.

    Attributes:
        reason: What it said, without texts or secrets.
        retry_after: Seconds until it may be tried again; None for the usual back-off.
        final: It will never be accepted: the chat is gone, or the bot is blocked.
    """

    reason: str
    retry_after: float | None = None
    final: bool = False


@dataclass(frozen=True, slots=True)
class PartUnknown:
    """The platform may have the part: the answer was lost, or was a server error.

    Attributes:
        reason: What happened, without texts or secrets.
    """

    reason: str


PartOutcome = PartSent | PartNotSent | PartUnknown
"""Outcome of sending or editing one part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a reply, as a channel sends it.

    Attributes:
        text: Markdown, as the model wrote it; at most `ChannelLimits.units`.
        index: Number of the part, from 0.
        total: Number of parts of the reply.
        key: The same whenever this part is sent, and for no other part: an idempotency key.
        result: The result that the part belongs to; None for a preview of a running reply.
    """

    text: str
    index: int = 0
    total: int = 1
    key: str = ""
    result: RunResult | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelLimits:
    """Limits of a platform.

    Attributes:
        units: Longest text of one part, in the units that `Channel.measure` counts; None for no
            limit, and then a reply is one part.
        parts_interval: Seconds between two parts in one chat.
        total_interval: Seconds between two parts in any chats, from one process.
        edits_interval: Seconds between two edits of a streamed reply; None if the platform cannot
            edit, and then replies are not streamed.
        typing_interval: Seconds after which a typing indicator has to be sent again; None if the
            platform has none.
        payload_bytes: Longest payload that `receive` reads.
    """

    units: int | None = None
    parts_interval: float = 0.0
    total_interval: float = 0.0
    edits_interval: float | None = None
    typing_interval: float | None = None
    payload_bytes: int = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file of a message, which stays at the platform until a worker needs it.

    Attributes:
        kind: What the platform calls it.
        ref: The platform's reference, as `Channel.fetch` takes it.
        media_type: As the platform says, None if it does not.
        file_name: As the platform says, None if it does not.
        size: Bytes, None if the platform does not say.
    """

    kind: Literal["photo", "voice", "audio", "video", "document"]
    ref: str
    media_type: str | None = None
    file_name: str | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingMessage:
    """One message, its edit or its deletion, as a platform reports it.

    Attributes:
        id: The message's id, unique within the address.
        address: The chat, as it follows the channel's name in a thread id.
        kind: A new message, an edit, or a deletion of an earlier one.
        text: Its text, "" if it has none.
        author: Its author's name, None if unknown.
        attachments: Its files.
        album: Mark that this message shares with others that were sent at once; None if there are
            none.
        metadata: Pairs that are kept with the message, such as the author's id.
        is_group: More people than one read the chat.
        is_addressed: The message mentions the bot, commands it or replies to it; True outside
            groups.
        is_mentioned: It mentions or commands the bot.
        is_reply: It replies to a message of the bot.
    """

    id: str
    address: str
    kind: Literal["message", "edit", "delete"] = "message"
    text: str = ""
    author: str | None = None
    attachments: tuple[Attachment, ...] = ()
    album: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    is_group: bool = False
    is_addressed: bool = True
    is_mentioned: bool = False
    is_reply: bool = False


@dataclass(frozen=True, slots=True)
class SettledQuestion:
    """A tool call that a channel asked about, and that is settled.

    Attributes:
        call_id: `Approval.call_id`.
        verdict: `approved`, `denied`, `answered`, `expired` or `withdrawn`; None if this worker
            does not know.
        by: The name that was given with that; None for none.
        part_ids: The ids that `Channel.ask` returned; more than one if it was asked again.
        approval: The call; None if its texts were removed meanwhile.
    """

    call_id: str
    verdict: str | None = None
    by: str | None = None
    part_ids: tuple[str, ...] = ()
    approval: Approval | None = None


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A file that a worker has read from the platform.

    Attributes:
        data: Its bytes.
        media_type: Its media type.
    """

    data: bytes
    media_type: str


class PartsInMemory:
    """Progress of one delivery, kept by this process alone."""

    def __init__(self) -> None:
        """Begin a delivery."""
        self.parts_sent = 0
        self.part_ids: tuple[str | None, ...] = ()
        self.uncertain_part: int | None = None
        self.preview: str | None = None

    async def sending(self, index: int, total: int) -> None:
        """Note that a part is about to be sent."""
        _ = total
        self.uncertain_part = index

    async def sent(self, index: int, total: int, part_id: str | None) -> None:
        """Note that the platform has a part."""
        _ = index, total
        self.uncertain_part = None
        self.part_ids = (*self.part_ids, part_id)
        self.parts_sent += 1


Payload = bytes | str | Mapping[str, Any]
"""Body of a platform's request: raw, or parsed if the platform signs no bodies."""
