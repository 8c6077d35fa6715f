"""One subscriber: a bounded buffer that the hub fills, and pages from Redis when it is full."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from assistant_queue.errors import AssistantQueueError
from assistant_queue.events import Event
from assistant_queue.store.ops.event_log import START, order

if TYPE_CHECKING:
    from assistant_queue.client.event_hub import EventHub

BUFFER = 256
"""Events that wait for one slow subscriber. Chosen: two full reads; a slower one reads from Redis
again, and costs no memory."""

Place = tuple[int, int]
"""The position of an entry in its stream: its id, as numbers."""


class Subscription:
    """The events of one thread for one subscriber, in order, none twice.

    1. buffers what the hub publishes, as long as the subscriber keeps up
    2. a subscriber that does not keep up, or that begins in the past, reads pages from Redis until
       it has caught up with the hub
    """

    def __init__(self, hub: EventHub, thread_id: str, cursor: str, *, is_behind: bool) -> None:
        self.thread_id = thread_id
        self.is_over = False
        self._hub = hub
        self._cursor = cursor  # up to where it was read, by the hub or here
        self._place = order(cursor)
        self._buffer: deque[Event] = deque()
        self._is_behind = is_behind
        self._error: AssistantQueueError | None = None
        self._changed = asyncio.Event()

    def offer(self, event: Event, place: Place | None) -> None:
        """Buffer an event of the hub, unless the subscriber has read it from a page, or will.

        Args:
            event: The event.
            place: Its position; None for an `EventsMissed`, which has none; (0, 0) for one after
                which the stream begins again.
        """
        if self._is_behind or (place is not None and place[0] and place <= self._place):
            return
        if len(self._buffer) >= BUFFER:
            self._is_behind = True
            return
        self._buffer.append(event)
        if place is not None:
            self._cursor, self._place = (event.id, place) if place[0] else (START, place)
        self._changed.set()

    def end(self, error: AssistantQueueError | None) -> None:
        """End the subscription: the queue was closed, or Redis refused."""
        self.is_over = True
        self._error = error
        self._changed.set()

    async def next(self, timeout_s: float | None = None) -> Event | None:
        """Return the next event; None after `timeout_s`, or if the subscription has ended.

        Pages of older events are read without that limit.

        Raises:
            StoreError: Redis refused, or did not answer while the past was read.
        """
        while True:
            if self._buffer:
                return self._buffer.popleft()
            if self._error is not None:
                raise self._error
            if self.is_over:
                return None
            if self._is_behind:
                await self._catch_up()
                continue
            self._changed.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
            except TimeoutError:
                return None

    async def _catch_up(self) -> None:
        page = await self._hub.page(self.thread_id, self._cursor)
        if self.is_over:
            return
        if page.missed:
            self._buffer.append(self._hub.missed(self.thread_id, self._cursor))
        self._buffer.extend(page.events)
        self._cursor = page.last
        self._place = order(page.last)
        # Nothing is awaited from here on: the hub publishes the events after its cursor, and those
        # before it were just read.
        if self._place >= order(self._hub.cursor_of(self.thread_id)) or (
            page.missed and not page.events
        ):
            self._is_behind = False

    def leave(self) -> None:
        """End the subscription. Idempotent."""
        self.is_over = True
        self._hub.leave(self)
