"""Delivery of one result in parts, the same for all channels."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from assistant_queue.channels.base import (
    DeliveryProgress,
    Part,
    PartNotSent,
    PartOutcome,
    PartSent,
)
from assistant_queue.errors import DeliveryUnknown, RetryLater, Undeliverable
from assistant_queue.models import RunResult

if TYPE_CHECKING:
    from assistant_queue.channels.channel import Channel

_log = logging.getLogger(__name__)


def parts_of(channel: Channel, result: RunResult) -> list[Part]:
    """Return the parts of a result; the same parts whenever it is asked."""
    texts = channel.split_result(result)
    return [
        Part(
            text=text,
            index=index,
            total=len(texts),
            key=f"{result.batch_id}.{index}",
            result=result,
        )
        for index, text in enumerate(texts)
    ]


async def deliver(channel: Channel, result: RunResult, progress: DeliveryProgress) -> None:
    """Send the parts that `progress` lacks.

    1. settles a part with an unknown outcome: asks the platform, or sends it again if the
       platform recognises it
    2. announces each part before it is sent, and stores the platform's answer after it
    3. stops at the first part that is not sent

    Raises:
        RetryLater, Undeliverable, DeliveryUnknown: As `Deliverer.deliver` says.
    """
    address = channel.address_of(result.thread_id)
    parts = parts_of(channel, result)
    if not parts:
        await _take_back(channel, address, result, progress)
    start = progress.parts_sent
    if progress.uncertain_part is not None and not channel.deduplicates:
        # Settled before anything else: the parts have an order.
        start = progress.uncertain_part
        found = await _found(channel, address, parts[start], progress) if parts[start:] else None
        if found is None:
            raise DeliveryUnknown(
                f"part {start + 1} of {len(parts)} of batch {result.batch_id} was begun, and "
                f"{channel.name!r} cannot be asked about it"
            )
        if isinstance(found, PartSent):
            await progress.sent(start, len(parts), found.id)
            start += 1
    for part in parts[start:]:
        await channel.pacer.wait(address, channel.interval_of(address))
        await channel.pacer.wait_in_all(channel.limits.total_interval)
        if part.index == 0:
            await _note_preview(channel, result, progress)
        await progress.sending(part.index, part.total)
        outcome = await _send(channel, address, part, progress)
        await _settle(channel, part, outcome, progress)


async def _note_preview(channel: Channel, result: RunResult, progress: DeliveryProgress) -> None:
    """Take the preview that this process has shown; one that was stored may be of another."""
    shown = await channel.previews.settled(result.batch_id)
    if shown is not None:
        progress.preview = shown


async def _take_back(
    channel: Channel, address: str, result: RunResult, progress: DeliveryProgress
) -> None:
    """Remove the preview of a reply that has no text to replace it."""
    await _note_preview(channel, result, progress)
    if progress.preview is not None:
        channel.previews.forget(result.batch_id)
        await channel.retract(address, progress.preview)


async def _found(
    channel: Channel, address: str, part: Part, progress: DeliveryProgress
) -> PartSent | PartNotSent | None:
    """Find out what became of a part; None if there is no way to.

    The first part of a streamed reply replaces its preview: doing it again doubles nothing.

    Raises:
        RetryLater: The preview cannot be edited now.
    """
    shown = progress.preview if part.index == 0 else None
    if shown is None:
        return await channel.find(address, part)
    outcome = await channel.edit(address, shown, part)
    if isinstance(outcome, PartSent):
        return outcome
    if isinstance(outcome, PartNotSent) and outcome.final:
        return await channel.find(address, part)  # it is gone: the part may be a new message
    raise RetryLater(getattr(outcome, "retry_after", None))


async def _send(
    channel: Channel, address: str, part: Part, progress: DeliveryProgress
) -> PartOutcome:
    """Send a part; the first one replaces the preview of its reply, if there is one."""
    batch_id = "" if part.result is None else part.result.batch_id
    shown = progress.preview if part.index == 0 else None
    if shown is None:
        return await channel.send(address, part)
    outcome = await channel.edit(address, shown, part)
    if isinstance(outcome, PartNotSent) and outcome.final:
        # The preview is gone, or too old to be edited; nothing is said about the chat.
        channel.previews.forget(batch_id)
        return await channel.send(address, part)
    if isinstance(outcome, PartSent):
        channel.previews.forget(batch_id)
    elif not isinstance(outcome, PartNotSent):
        # The same edit again changes nothing: an edit is never doubled.
        return PartNotSent(outcome.reason)
    return outcome


async def _settle(
    channel: Channel, part: Part, outcome: PartOutcome, progress: DeliveryProgress
) -> None:
    if isinstance(outcome, PartSent):
        await progress.sent(part.index, part.total, outcome.id)
        return
    which = f"part {part.index + 1} of {part.total}: {channel.name!r}: {outcome.reason}"
    if not isinstance(outcome, PartNotSent):
        if channel.deduplicates:  # sent again under the same key, it is one part
            _log.info("%s; it is sent again", which)
            raise RetryLater
        raise DeliveryUnknown(which)
    if outcome.final:
        raise Undeliverable(which)
    _log.info("%s; trying again later", which)
    raise RetryLater(outcome.retry_after)
