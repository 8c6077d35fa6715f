"""Publish the text of a run to the thread's subscribers while the model writes it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from assistant_queue.core.delta_tracker import DeltaTracker
from assistant_queue.core.runs import ActionRequired, RunEnded, TextChunk
from assistant_queue.errors import AssistantQueueError
from assistant_queue.store.calls import Namespace, Operation
from assistant_queue.store.ops import event_log
from assistant_queue.store.ops.leases import Lease
from assistant_queue.user_code.running_calls import post
from assistant_queue.worker.lease import HeldLease
from assistant_queue.worker.outage import PASSES

_log = logging.getLogger(__name__)

PACE_S = 0.125
"""Seconds between two pieces of one run. Chosen: an eye sees no difference, and a fast model does
not flood Redis."""

_AWAY_S = 1.0
"""Seconds until the next try while Redis is away. Chosen: a piece that is late by less is not
noticed beside the outage."""

Write = Callable[[Callable[[], Operation[Any]]], Awaitable[Any]]


class DeltaPublisher:
    """Publishes the text of one batch's runs.

    1. buffers the text of the run; without subscribers nothing else happens
    2. publishes the first piece of a run at once, then the buffered text every `PACE_S`, and the
       rest before any later event
    3. stores with each piece how much has been published, so that any worker resumes at the same
       character
    4. waits for no Redis that is away while the run is in progress: its stream has to be read, and
       an unpublished piece is published with the next one
    5. publishes the text so far to a subscriber that comes during the run
    """

    def __init__(
        self,
        namespace: Namespace,
        held: HeldLease[Lease],
        write: Write,
        write_once: Write,
        probe: Callable[[str], Awaitable[None]],
    ) -> None:
        """Publish nothing yet.

        Args:
            namespace: The queue's keys.
            held: The batch's lease.
            write: Executes an operation, through a Redis that is away.
            write_once: Executes it without a retry.
            probe: Called around each.
        """
        self._namespace = namespace
        self._held = held
        self._write = write
        self._write_once = write_once
        self._probe = probe
        self._tracker = DeltaTracker.load(held.lease.published)
        self._batch_id = held.lease.claimed.batch.id
        self._had_subscribers = held.listened
        self._next_at = 0.0
        # Taken from the buffer, and not published yet.
        self._unsent: Callable[[], Operation[Any]] | None = None
        self._writing = asyncio.Lock()
        self._timer: asyncio.Task[None] | None = None
        self._loop = loop = asyncio.get_running_loop()
        held.on_listened = lambda: post(loop, self._schedule)

    def _schedule(self) -> None:
        if self._timer is None:
            self._timer = self._loop.create_task(self._publish_later())

    def cursor_of(self, run_id: str) -> int | None:
        """Return the place after which the reading of a run's stream resumes.

        It is the end of the text published by an earlier holder; 0, the beginning, if there is none
        and the thread has subscribers; None if it does not matter.
        """
        if self._tracker.run_id == run_id and not self._tracker.is_empty:
            return self._tracker.cursor
        return 0 if self._held.listened else None

    def begin(self, run_id: str, *, is_round: bool = False) -> None:
        """Begin the text of a run; `is_round`: it continues after the outputs of a tool round."""
        if run_id != self._tracker.run_id:
            self._next_at = 0.0
            self._unsent = None
        self._tracker.begin(run_id, is_round=is_round)

    def add(self, delta: TextChunk) -> bool:
        """Buffer a piece of text; return whether it is time to `publish`."""
        if not delta.text:
            return False
        self._tracker.append(
            str(delta.part) if delta.item is None else delta.item, delta.text, delta.cursor
        )
        if not self._held.listened or self._timer is not None:
            return False
        if self._loop.time() >= self._next_at:
            return True
        self._schedule()
        return False

    def drop(self) -> None:
        """Publish no more of the run's text."""
        self._unsent = None
        self._tracker.begin("", is_round=False)

    async def finish(self, stop: ActionRequired | RunEnded) -> None:
        """Publish the rest of the text: the run has stopped, and later events follow."""
        is_well = isinstance(stop, ActionRequired) or stop.status in {"completed", "incomplete"}
        if is_well and stop.run_id == self._tracker.run_id:
            self._tracker.complete(stop.replies, whole=stop.whole)
        # A reply of which nothing was published comes whole with `reply_ready`.
        if self._held.listened and (
            self._tracker.has_published or isinstance(stop, ActionRequired)
        ):
            await self._publish(self._write)

    async def _publish_later(self) -> None:
        try:
            while self._held.listened and (
                self._tracker.has_unpublished or self._unsent is not None
            ):
                await asyncio.sleep(self._next_at - self._loop.time())
                await self.publish()
        except AssistantQueueError as error:
            # The next write of the batch meets the same error, and decides.
            _log.debug("a piece of text was not published yet: %s", error)
        finally:
            self._timer = None

    async def publish(self) -> None:
        """Publish the buffered text, if Redis accepts it now."""
        try:
            await self._publish(self._write_once)
        except PASSES as error:
            self._next_at = self._loop.time() + _AWAY_S
            _log.debug("a piece of text was not published yet: %s", error)

    async def _publish(self, write: Write) -> None:
        async with self._writing:
            if self._unsent is not None:
                await self._send(write)
            if not self._had_subscribers:
                self._tracker.restart()
                self._had_subscribers = True
            if not self._tracker.has_unpublished:
                return
            pieces = self._tracker.take()
            run_id = self._tracker.run_id
            news = [
                event_log.text_delta(self._batch_id, run_id, piece.index, piece.offset, piece.text)
                for piece in pieces
            ]
            published = self._tracker.dump()
            self._unsent = lambda: event_log.publish(
                self._namespace, self._held.lease, published, news
            )
            await self._send(write)

    async def _send(self, write: Write) -> None:
        if self._unsent is None:
            return
        self._next_at = self._loop.time() + PACE_S
        await self._probe("before Publish")
        self._held.listened = await write(self._unsent)
        self._unsent = None
        self._had_subscribers = self._held.listened
        await self._probe("after Publish")

    async def close(self) -> None:
        """Publish nothing more."""
        self._held.on_listened = None
        if self._timer is not None:
            self._timer.cancel()
            await asyncio.wait({self._timer})
