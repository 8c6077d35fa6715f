"""One claimed batch and its lease: what the handlers of its steps share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from assistant_queue.core import steps
from assistant_queue.core.progress import Progress
from assistant_queue.core.thread_state import Phase
from assistant_queue.core.wishes import Wish
from assistant_queue.models import Message
from assistant_queue.store.calls import Operation
from assistant_queue.store.ops import leases
from assistant_queue.store.ops.reply_outbox import DeliveryLease
from assistant_queue.worker import store_writes
from assistant_queue.worker.lease import HeldLease

if TYPE_CHECKING:
    from assistant_queue.worker.runtime import Runtime

_SENT_WITHIN_MS = 1000
"""From the claim to the request, if the claim has the time of the request. Chosen: a small part of
the grace, which begins with that time."""


class LeasedBatch:
    """A batch, as far as this worker has taken it.

    1. writes through a Redis that is away or refuses, until the batch's deadline: every script can
       be repeated
    2. makes sure that the lease is held for long enough before a call with an effect

    Attributes:
        runtime: The worker's.
        held: The lease, renewed by the keeper.
        lease: As it was claimed.
        claimed: The batch, as it was claimed.
        phase: The phase that is stored.
        progress: The progress that is stored.
        is_marked: The messages are stored as members of the batch.
        delivery: The lease of its reply's delivery, if this worker got it at the end.
        ended_at: The monotonic time just before that.
        wait_s: Seconds until it is looked at again, if it was postponed.
        seen: The wish that the flow knows of.
    """

    def __init__(self, runtime: Runtime, held: HeldLease[leases.Lease]) -> None:
        """Read the claim; write nothing yet."""
        self.runtime = runtime
        self.held = held
        self.lease = held.lease
        self.claimed = held.lease.claimed
        self.phase: Phase = self.claimed.phase
        self.progress: Progress = self.claimed.progress
        # A claim that marks its batch as sent leaves the messages to the next write.
        self.is_marked = self.phase not in {Phase.FROZEN, Phase.SENDING}
        self._is_stored_as_sent = held.lease.is_sending
        self.delivery: DeliveryLease | None = None
        self.ended_at = 0.0
        self.wait_s = 0.0
        self.seen: Wish | None = self.claimed.wish
        self._started = runtime.clock.monotonic()

    def joined_by(self, messages: tuple[Message, ...]) -> None:
        """Continue with other messages than those that were claimed."""
        batch = replace(self.claimed.batch, messages=messages)
        self.claimed = replace(self.claimed, batch=batch)
        self.lease = replace(self.lease, claimed=self.claimed)
        self.is_marked = False
        self.seen = None

    def keep(self, count: int) -> None:
        """Continue with the first messages alone: the others are no part of it any more."""
        batch = replace(self.claimed.batch, messages=self.claimed.batch.messages[:count])
        self.claimed = replace(self.claimed, batch=batch)
        self.lease = replace(self.lease, claimed=self.claimed)

    def is_sent_by_claim(self, step: steps.Save) -> bool:
        """Return whether the claim has stored what a step is about to store.

        Asked once: what is stored after the claim is stored over that.
        """
        is_stored, self._is_stored_as_sent = self._is_stored_as_sent, False
        first_send = self.runtime.first_send
        return (
            is_stored
            and first_send is not None
            and step.phase is Phase.SENDING
            and self.now_ms() - self.lease.now_ms <= _SENT_WITHIN_MS
            and first_send.is_of(step.progress, self.claimed.anchor)
        )

    def refused(self) -> None:
        """Record that an interruption was refused: a later message may ask for another."""
        if self.held.wish is Wish.INTERRUPT:
            self.held.wish_obeyed(None)
            self.seen = None

    def now_ms(self) -> int:
        """Return the store's time: the claim's time, and the time since then on this machine."""
        store_ms = self.runtime.clock.store_now_ms()
        if store_ms is not None:
            return store_ms
        return self.lease.now_ms + round((self.runtime.clock.monotonic() - self._started) * 1000)

    def message_ids(self) -> list[str]:
        """Return the ids of the batch's messages."""
        return [message.id for message in self.claimed.batch.messages]

    async def probe(self, name: str) -> None:
        """Pass a named point, where tests wait or crash."""
        await self.runtime.probe(name, self.claimed.batch)

    # --- the lease --------------------------------------------------------------------------------

    async def ensure_lease(self) -> None:
        """Renew the lease if it ends so soon that another worker could make the same call.

        Raises:
            LeaseLost: Another worker holds the thread.
        """
        await store_writes.ensure_lease(
            self.runtime, self.held, f"the lease on thread {self.lease.thread_id!r}"
        )

    def with_lease(self, call: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        """Return the handler with `ensure_lease` before it."""

        async def handle(step: Any) -> Any:
            await self.ensure_lease()
            return await call(step)

        return handle

    # --- writes -----------------------------------------------------------------------------------

    async def write(self, operation: Callable[[], Operation[Any]]) -> Any:
        """Write to Redis, again and again until it is done or the batch's deadline has passed."""
        return await store_writes.write(self.runtime, self.held, operation)

    async def write_once(self, operation: Callable[[], Operation[Any]]) -> Any:
        """Write to Redis; do not retry."""
        return await store_writes.write_once(self.runtime, operation)

    async def release(self, operation: Callable[[], Operation[Any]]) -> Any:
        """Write the step that gives the lease back.

        A renewal that comes after it is refused, which does not mean that another worker holds the
        thread.
        """
        self.held.is_ending = True
        return await self.write(operation)
