"""Rooms: the events of a thread, read once for all its listeners in this process.

The feed of all threads has a room, too: that of `ALL_THREADS`, without presence.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, cast

from assistant_queue.client import arguments
from assistant_queue.integrations.fastapi.frames import Frame, frame_of, id_of, note, place_of
from assistant_queue.integrations.fastapi.listener import Listener
from assistant_queue.integrations.fastapi.presence import Presence
from assistant_queue.store.ops import event_log
from assistant_queue.store.ops.event_log import ALL_THREADS

if TYPE_CHECKING:
    from assistant_queue.client.async_queue import AsyncAssistantMessageQueue
    from assistant_queue.events import Event
    from assistant_queue.integrations.fastapi.access import Caller

KEPT = 2048
"""Frames by which a listener may lag; beyond, it is disconnected and resumes from Redis. Chosen:
the tokens of some long replies."""

KEPT_BYTES = 4_000_000
"""The same, in bytes of their entries; one frame is always kept. Chosen: a thousand rooms of the
longest messages are far from usual."""
OPENED = 4
"""Listeners that are opened at once. Chosen: Redis' answers for all of them may come in one
iteration of the event loop."""
PAGE = 20
"""Stored events in one read. Chosen: each may have a message of 256,000 characters."""

_log = logging.getLogger(__name__)


def _closing(found: AsyncIterator[Event]) -> aclosing[AsyncGenerator[Event, None]]:
    """Close the subscription at the end of the block, not at the next garbage collection."""
    return aclosing(cast("AsyncGenerator[Event, None]", found))


class Room:
    """A thread, or all threads, with listeners.

    Attributes:
        name: Its name in the log.
        kept: The latest frames.
        count: The number of all frames so far.
        floor: The place of the newest event that is no longer kept, or at which the room began.
    """

    def __init__(self, queue: AsyncAssistantMessageQueue, thread_id: str, after: str) -> None:
        self.queue = queue
        self.thread_id = thread_id
        self.name = "the feed" if thread_id == ALL_THREADS else f"thread {thread_id!r}"
        self.kept: deque[Frame] = deque()
        self.count = 0
        self.floor = place_of(after)
        self._bytes = 0
        self.listeners: set[Listener] = set()
        self.reading = asyncio.create_task(self._read(after), name=f"events of {self.name}")

    def publish(self, frame: Frame) -> None:
        """Add a frame and wake up all listeners."""
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
            if self.thread_id == ALL_THREADS:
                events = self.queue.feed(after)
            else:
                events = self.queue.events(self.thread_id, after)
            async with _closing(events) as found:
                async for event in found:
                    self.publish(frame_of(event))
        except Exception as error:  # noqa: BLE001 - after any failure, listeners reconnect and resume
            _log.warning("%s: its events cannot be read at the moment: %s", self.name, error)
        finally:
            for listener in self.listeners:
                listener.end()

    @property
    def oldest_kept(self) -> int:
        """The number of the oldest frame in `kept`."""
        return self.count - len(self.kept)


class Rooms:
    """The rooms of one process.

    1. `listen` opens a room for its first listener and closes it after its last
    2. replays stored events to a listener with an older id, then sends `caught_up`
    3. publishes presence
    """

    def __init__(self, queue: AsyncAssistantMessageQueue) -> None:
        """Open no room yet."""
        self._queue = queue
        self._rooms: dict[str, Room] = {}
        self._opening = asyncio.Semaphore(OPENED)
        self.presence = Presence(queue, self._publish_presence)

    def listen(
        self, thread_id: str, after: str | None, caller: Caller, name: str | None
    ) -> AbstractAsyncContextManager[Listener]:
        """Listen to a thread for the duration of the block.

        Args:
            thread_id: The thread.
            after: The last event that the client has; None: from now on.
            caller: Its `sees` filters events.
            name: Name in the thread's presence; None: not listed.

        Raises:
            InvalidArgument: `after` is not an event id, or `thread_id` none of a thread.
            ConfigurationError: Events are switched off.
        """
        return self._listen(arguments.check_thread_id(thread_id), after, caller, name)

    def follow_all(
        self, after: str | None, caller: Caller
    ) -> AbstractAsyncContextManager[Listener]:
        """Listen to the feed of all threads; arguments and errors as `listen`."""
        return self._listen(ALL_THREADS, after, caller, None)

    @asynccontextmanager
    async def _listen(
        self, thread_id: str, after: str | None, caller: Caller, name: str | None
    ) -> AsyncIterator[Listener]:
        core = self._queue.core
        async with self._opening:
            stream = await core.store.run(event_log.listen(core.namespace, thread_id))
        newest = stream.newest
        # The room begins at the newest event or earlier; older events are read here, and the two
        # overlap.
        room = self._room(thread_id, newest)
        listener = Listener(room, newest if after is None else after, caller)
        room.listeners.add(listener)
        try:
            async with (
                self._present(listener, name),
                aclosing(self._pages(listener, after, place_of(newest))) as pages,
            ):
                await listener.catch_up(pages)
                yield listener
        finally:
            room.listeners.discard(listener)
            if not room.listeners:
                await self._close(room)

    @asynccontextmanager
    async def _present(self, listener: Listener, name: str | None) -> AsyncIterator[None]:
        """Have the listener in its thread's presence, and send it that; the feed has none."""
        thread_id = listener.room.thread_id
        if thread_id == ALL_THREADS:
            yield
            return
        async with self.presence.here(thread_id, name):
            listener.send(self.presence.frame(thread_id))
            yield

    def _room(self, thread_id: str, start: str) -> Room:
        room = self._rooms.get(thread_id)
        if room is None or room.reading.done():
            room = self._rooms[thread_id] = Room(self._queue, thread_id, start)
        return room

    async def _pages(
        self, listener: Listener, after: str | None, newest: tuple[int, int]
    ) -> AsyncGenerator[list[Frame], None]:
        """Read the stored events after an id, then let the listener take the room's frames.

        Reads up to the end of the stream when the listener joined; for a slow listener, up to where
        the room begins by then.
        """
        room = listener.room
        place = (0, 0) if after is not None else newest
        cursor = id_of(listener.last)
        is_kept = True
        listener.last = place
        while is_kept and place < max(newest, room.floor):
            core = self._queue.core
            page = await core.store.run(
                event_log.read(core.namespace, room.thread_id, cursor, PAGE)
            )
            found = [note("events_missed", room.thread_id, after=cursor)] if page.missed else []
            found += [frame_of(event) for event in page.events if listener.caller.may_see(event)]
            is_kept = page.last != cursor
            cursor = page.last
            place = place_of(page.last)
            if page.missed and not is_kept:
                place = (0, 0)
            listener.last = place
            if found:
                yield found
        listener.start_at(room.oldest_kept)
        yield [note("caught_up", room.thread_id, at=id_of(listener.last))]

    def _publish_presence(self, thread_id: str) -> None:
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
        """End all listeners, then close the rooms."""
        for room in list(self._rooms.values()):
            for listener in room.listeners:
                listener.end()
            await self._close(room)
        await self.presence.close()

    def end_listeners(self) -> None:
        """End all listeners; each stream then ends itself."""
        for room in self._rooms.values():
            for listener in room.listeners:
                listener.end()
