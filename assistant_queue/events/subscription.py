"""One subscriber: a bounded buffer that the hub fills, and what to do when it is full."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from assistant_queue.errors import AssistantQueueError
from assistant_queue.event_models import Event
from assistant_queue.store.events import START, order

if TYPE_CHECKING:
    from assistant_queue.events.hub import EventHub

BUFFER = 256
"""Events that wait for one slow listener. Chosen: two full reads; a slower one reads from Redis again, and costs no memory."""

Place = tuple[int, int]
"""Where an entry stands in its stream: its id, as numbers."""


class Subscription:
    """The events of one thread for one listener, in order, none twice.

    1. takes what the hub hands on, as long as its listener keeps up
    2. a listener that does not, and one that begins in the past, reads pages from Redis until it has caught up with the hub
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
        """The hub has read an event; it is left out where the listener has read it for itself, or will.

        Args:
            event: The event.
            place: None for one that stands nowhere: something was missed. (0, 0): and the stream begins again.
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
        """Nothing more will come: the queue was closed, or Redis refused."""
        self.is_over, self._error = True, error
        self._changed.set()

    async def next(self, timeout_s: float | None = None) -> Event | None:
        """The next event; None if none comes within the time, or ever. Reading what came already takes the time it takes.

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
                await asyncio.wait_for(self._changed.wait(), timeout_s)
            except (asyncio.TimeoutError, TimeoutError):
                return None

    async def _catch_up(self) -> None:
        page = await self._hub.page(self.thread_id, self._cursor)
        if self.is_over:
            return
        if page.missed:
            self._buffer.append(self._hub.missed(self.thread_id, self._cursor))
        self._buffer.extend(page.events)
        self._cursor, self._place = page.last, order(page.last)
        # Nothing is awaited here: what is behind the hub's cursor will be handed on, what is before it was just read.
        if self._place >= order(self._hub.cursor_of(self.thread_id)) or (page.missed and not page.events):
            self._is_behind = False

    def leave(self) -> None:
        """Listen no longer. Idempotent."""
        self.is_over = True
        self._hub.leave(self)
