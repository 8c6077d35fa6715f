"""Rooms: the events of a thread, read once for all who listen to it in this process."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, cast

from assistant_queue.integrations.fastapi.frames import Frame, frame_of, id_of, note, place_of
from assistant_queue.integrations.fastapi.listener import Listener
from assistant_queue.integrations.fastapi.presence import Presence
from assistant_queue.store import events

if TYPE_CHECKING:
    from assistant_queue.aio import AsyncAssistantMessageQueue
    from assistant_queue.event_models import Event
    from assistant_queue.integrations.fastapi.access import Caller

KEPT = 2048
"""Frames of a room that a slow listener may lag behind; one that lags more is sent away and resumes from Redis. Chosen."""

KEPT_BYTES = 4_000_000
"""The same, in bytes of their entries; one frame is always kept. Chosen: a thousand rooms of the longest messages are far from usual."""
OPENED = 4
"""Listeners that are let in at once. Chosen: the answers of Redis for all of them come in one turn of the event loop."""
PAGE = 20
"""Events that are read at once for a listener that comes back. Chosen: each may have a message of 256,000 characters."""

_log = logging.getLogger(__name__)


def _closing(found: AsyncIterator[Event]) -> aclosing[AsyncGenerator[Event, None]]:
    """Let go of what is listened to where the block ends, not whenever the garbage is collected."""
    return aclosing(cast("AsyncGenerator[Event, None]", found))


class Room:
    """A thread that somebody listens to.

    Attributes:
        kept: The latest frames; `count` were there in all.
        floor: The place of the newest event that is no longer kept, or at which the room began.
    """

    def __init__(self, queue: AsyncAssistantMessageQueue, thread_id: str, after: str) -> None:
        self.queue, self.thread_id = queue, thread_id
        self.kept: deque[Frame] = deque()
        self.count = 0
        self.floor = place_of(after)
        self._bytes = 0
        self.listeners: set[Listener] = set()
        self.reading = asyncio.create_task(self._read(after), name=f"events of {thread_id}")

    def publish(self, frame: Frame) -> None:
        """Tell everybody."""
        self.kept.append(frame)
        self.count += 1
        self._bytes += len(frame.sse)
        while len(self.kept) > KEPT or (self._bytes > KEPT_BYTES and len(self.kept) > 1):
            gone = self.kept.popleft()
            self._bytes -= len(gone.sse)
            if gone.event is not None:
                self.floor = gone.place or self.floor
        for listener in self.listeners:
            listener.wake()

    async def _read(self, after: str) -> None:
        try:
            async with _closing(self.queue.events(self.thread_id, after)) as found:
                async for event in found:
                    self.publish(frame_of(event))
        except Exception as error:  # noqa: BLE001 - whatever it is, listeners come back and resume
            _log.warning("thread %r: its events cannot be read at the moment: %s", self.thread_id, error)
        finally:
            for listener in self.listeners:
                listener.end()

    @property
    def oldest_kept(self) -> int:
        """The number of the first frame that is still here."""
        return self.count - len(self.kept)


class Rooms:
    """The rooms of one process.

    1. `listen` opens a room for its first listener and closes it behind its last
    2. gives who comes with an older id what is kept behind it, then says `caught_up`
    3. tells who is here
    """

    def __init__(self, queue: AsyncAssistantMessageQueue) -> None:
        """There are none."""
        self._queue = queue
        self._rooms: dict[str, Room] = {}
        self._opening = asyncio.Semaphore(OPENED)
        self.presence = Presence(queue, self._tell_presence)

    @asynccontextmanager
    async def listen(self, thread_id: str, after: str | None, caller: Caller, name: str | None) -> AsyncIterator[Listener]:
        """A listener, for as long as the block lasts.

        Args:
            thread_id: The thread.
            after: The last event that is known; None: from now on.
            caller: Sees what it may.
            name: Is here under this name; None is not told to others.

        Raises:
            InvalidArgument: `after` is no id.
            ConfigurationError: Events are switched off.
        """
        async with self._opening:
            newest = await self._queue.open_events(thread_id)
        # The room begins at the newest event, or did so earlier; whatever is older is read here, and the two overlap.
        room = self._room(thread_id, newest)
        listener = Listener(room, newest if after is None else after, caller)
        room.listeners.add(listener)
        try:
            async with self.presence.here(thread_id, name):
                listener.tell(self.presence.frame(thread_id))
                async with aclosing(self._pages(listener, after, place_of(newest))) as pages:
                    await listener.catch_up(pages)
                    yield listener
        finally:
            room.listeners.discard(listener)
            if not room.listeners:
                await self._close(room)

    def _room(self, thread_id: str, start: str) -> Room:
        room = self._rooms.get(thread_id)
        if room is None or room.reading.done():
            room = self._rooms[thread_id] = Room(self._queue, thread_id, start)
        return room

    async def _pages(self, listener: Listener, after: str | None, newest: tuple[int, int]) -> AsyncGenerator[list[Frame], None]:
        """Read what is kept behind an id, then let the listener take what the room has.

        Up to where the stream ended when the listener came; a listener that took its time goes on to where the room begins by then.
        """
        room, place = listener.room, (0, 0) if after is not None else newest
        cursor, is_kept = id_of(listener.last), True
        listener.last = place
        while is_kept and place < max(newest, room.floor):
            page = await self._queue._store.run(events.read(self._queue._door.space, room.thread_id, cursor, PAGE))  # noqa: SLF001 - its own Redis
            found = [note("events_missed", room.thread_id, after=cursor)] if page.missed else []
            found += [frame_of(event) for event in page.events if listener.caller.may_see(event)]
            is_kept = page.last != cursor
            cursor, place = page.last, place_of(page.last)
            if page.missed and not is_kept:
                place = (0, 0)
            listener.last = place
            if found:
                yield found
        listener.start_at(room.oldest_kept)
        yield [note("caught_up", room.thread_id, at=id_of(listener.last))]

    def _tell_presence(self, thread_id: str) -> None:
        room = self._rooms.get(thread_id)
        if room is not None:
            room.publish(self.presence.frame(thread_id))

    async def _close(self, room: Room) -> None:
        if self._rooms.get(room.thread_id) is room:
            del self._rooms[room.thread_id]
        room.reading.cancel()
        with suppress(asyncio.CancelledError):
            await room.reading

    async def close(self) -> None:
        """End every listener, then the rooms."""
        for room in list(self._rooms.values()):
            for listener in room.listeners:
                listener.end()
            await self._close(room)
        await self.presence.close()

    def end_listeners(self) -> None:
        """Let every stream end by itself."""
        for room in self._rooms.values():
            for listener in room.listeners:
                listener.end()
