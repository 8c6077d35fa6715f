"""Deliverers of one reply, and the stored progress of its parts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from assistant_queue.channels.base import Deliverer, DeliveryProgress
from assistant_queue.channels.channel import channel_of
from assistant_queue.config import Config
from assistant_queue.core.delivery import (
    MAX_CHANNEL_DEATHS,
    MAX_DELIVERY_DEATHS,
    DeliveryState,
)
from assistant_queue.models import Batch, RunResult
from assistant_queue.observing import (
    NOTHING,
    UNOBSERVED,
    Delivering,
    Observers,
    Outcome,
    SendingPart,
    ended_with,
    error_code,
)
from assistant_queue.store.calls import Namespace
from assistant_queue.store.ops.reply_outbox import DeliveryLease
from assistant_queue.store.ops.statuses import read_result
from assistant_queue.store.transport.stores import AsyncStore
from assistant_queue.user_code.caller import UserCode
from assistant_queue.user_code.running_calls import RunningCall
from assistant_queue.worker import callbacks

Save = Callable[[DeliveryState], Awaitable[None]]


class StoredProgress:
    """Progress of one delivery, stored after each part."""

    def __init__(
        self,
        state: DeliveryState,
        save: Save,
        preview: str | None = None,
        observers: Observers = UNOBSERVED,
    ) -> None:
        """Continue from `state`.

        Args:
            state: The stored progress.
            save: Stores each step, or raises LeaseLost.
            preview: The id of the message that shows half of the reply.
            observers: Are notified of each part of a delivery that is observed.
        """
        self.state = state
        self.delivering: Delivering | None = None
        self._observers = observers
        self._part = NOTHING
        self._preview = preview
        self._save = save

    @property
    def parts_sent(self) -> int:
        """Return the number of confirmed parts."""
        return len(self.state.part_ids)

    @property
    def part_ids(self) -> tuple[str | None, ...]:
        """Return the platform's ids of the confirmed parts, in order."""
        return self.state.part_ids

    @property
    def uncertain_part(self) -> int | None:
        """Return the index of the part with the unknown outcome."""
        return self.state.unsure

    @property
    def preview(self) -> str | None:
        """The id of the message that shows half of the reply; stored with the next step."""
        return self.state.preview or self._preview

    @preview.setter
    def preview(self, part_id: str | None) -> None:
        if part_id != self.preview:
            self.state = replace(self.state, preview=part_id)

    async def sending(self, index: int, total: int) -> None:
        """Store that the part is about to be sent."""
        state = replace(self.state, unsure=index)
        await self._save(state)
        self.state = state
        if self.delivering is not None:
            self._part = self._observers.begin(
                SendingPart(
                    thread_id=self.delivering.thread_id,
                    batch_id=self.delivering.batch_id,
                    channel=self.delivering.channel,
                    index=index,
                    total=total,
                )
            )

    async def sent(self, index: int, total: int, part_id: str | None) -> None:  # noqa: ARG002
        """Store that the platform has the part; parts are confirmed in order."""
        state = replace(self.state, part_ids=(*self.state.part_ids[:index], part_id), unsure=None)
        self.state = state  # known here, even if Redis is away
        self._part.end(Outcome(part_id=part_id))
        await self._save(state)

    def end_part(self, error: BaseException) -> None:
        """End the observation of the part that was not confirmed, if there is one."""
        self._part.end(Outcome(error=error_code(error)))


class CallbackDelivery:
    """Delivery by the user's `on_reply`: one part, which the function is responsible for."""

    def __init__(
        self,
        function: Callable[..., Any],
        code: UserCode,
        limit_s: float,
        on_abandoned: Callable[[str, RunningCall], None],
    ) -> None:
        """Call nothing yet; `on_abandoned` gets the batch id and a call that is still running."""
        self._function = function
        self._code = code
        self._limit_s = limit_s
        self._on_abandoned = on_abandoned

    async def deliver(self, result: RunResult, progress: DeliveryProgress) -> None:  # noqa: ARG002
        """Call the function; raise as `callbacks.deliver` does."""
        await callbacks.deliver(
            self._function,
            self._code,
            result,
            self._limit_s,
            on_abandoned=lambda running: self._on_abandoned(result.batch_id, running),
        )


class NoDelivery:
    """Delivery of a thread that is on no channel, in a queue without `on_reply`."""

    async def deliver(self, result: RunResult, progress: DeliveryProgress) -> None:
        """Do nothing: the reply is read from the queue."""


def most_deaths(deliverer: Deliverer) -> int:
    """Return the number of workers that may die in the delivery of one reply."""
    return MAX_DELIVERY_DEATHS if isinstance(deliverer, CallbackDelivery) else MAX_CHANNEL_DEATHS


async def deliver_observed(
    config: Config, deliverer: Deliverer, result: RunResult, progress: StoredProgress
) -> None:
    """Deliver, with an observation of this try and of each part."""
    channel = name_of_deliverer(config, result.thread_id)
    if config.observers.observer is None or channel is None:
        await deliverer.deliver(result, progress)
        return
    progress.delivering = Delivering(
        thread_id=result.thread_id,
        batch_id=result.batch_id,
        messages=result.messages,
        channel=channel,
        tries=progress.state.tries + progress.state.refusals,
    )
    seen = config.observers.begin(progress.delivering)
    with ended_with(seen), seen.active():
        try:
            await deliverer.deliver(result, progress)
        except BaseException as error:
            progress.end_part(error)
            raise


async def result_of(
    store: AsyncStore, namespace: Namespace, lease: DeliveryLease
) -> RunResult | None:
    """Return what is to be delivered; None if it cannot be read any more."""
    if lease.reply is not None:
        return lease.reply.result
    found: RunResult | None = await store.run(read_result(namespace, lease.batch_id))
    return found


def name_of_deliverer(config: Config, thread_id: str) -> str | None:
    """Return the name of a thread's channel, or "on_reply"; None if nothing is delivered."""
    channel = channel_of(thread_id, config.channels)
    if channel is not None:
        return channel.name
    return None if config.on_reply is None else "on_reply"


def deliverer_of(
    config: Config,
    thread_id: str,
    code: UserCode,
    on_abandoned: Callable[[str, RunningCall], None],
) -> Deliverer:
    """Return the deliverer of a thread: its channel, else `on_reply`."""
    channel = channel_of(thread_id, config.channels)
    if channel is not None:
        return channel
    if config.on_reply is None:
        return NoDelivery()
    return CallbackDelivery(config.on_reply, code, config.callback_limit, on_abandoned)


def batch_of(lease: DeliveryLease) -> Batch:
    """Return what the named points of a delivery are given."""
    return Batch(id=lease.batch_id, thread_id=lease.thread_id, messages=(), attempts=1)
