"""Rooms: the events of a thread, read once for all who listen to it in this process."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, cast

from assistant_queue.integrations.fastapi.frames import Frame, frame_of, id_of, note, place_of
from assistant_queue.integrations.fastapi.presence import Presence
from assistant_queue.store import events

if TYPE_CHECKING:
    from assistant_queue.aio import AsyncAssistantMessageQueue
    from assistant_queue.event_models import Event
    from assistant_queue.integrations.fastapi.access import Caller

KEPT = 2048
"""Frames of a room that a slow listener may lag behind; one that lags more is sent away and resumes from Redis. Chosen."""

PAGE = 100
"""Events that are read at once for a listener that comes back. Chosen: as the queue's own listeners."""

_log = logging.getLogger(__name__)


def _closing(found: AsyncIterator[Event]) -> aclosing[AsyncGenerator[Event, None]]:
    """Let go of what is listened to where the block ends, not whenever the garbage is collected."""
    return aclosing(cast("AsyncGenerator[Event, None]", found))


class Listener:
    """One who listens: what is new for it, and what else it has to look at."""

    def __init__(self, room: Room, after: str, caller: Caller) -> None:
        self.room, self.caller = room, caller
        self.last = place_of(after)
        self.is_over = False
        self.must_check = False
        self._position: int | None = None
        self._came_at = room.count
        self._own: deque[Frame] = deque()
        self._awake = asyncio.Event()

    def wake(self) -> None:
        """There is something to look at."""
        self._awake.set()

    def end(self) -> None:
        """Nothing more comes."""
        self.is_over = True
        self.wake()

    def tell(self, frame: Frame) -> None:
        """Something for this listener alone."""
        self._own.append(frame)
        self.wake()

    def start_at(self, position: int) -> None:
        """From that frame on, the room's are for this listener; before this is said, none is."""
        self._position = position
        self.wake()

    async def frames(self) -> list[Frame]:
        """What is new and may be seen; empty when there is something else to look at. Waits for either."""
        while True:
            await self._awake.wait()
            self._awake.clear()
            found = [*self._own, *self._new()]
            self._own.clear()
            if found or self.is_over or self.must_check:
                return found

    def _new(self) -> list[Frame]:
        room = self.room
        if self._position is None:
            return []
        if self._position < room.oldest_kept:
            _log.info("a listener of thread %r is too slow and is sent away; it resumes where it was", room.thread_id)
            self.is_over = True
            return []
        first, self._position = self._position, room.count
        fresh = islice(room.kept, first - room.oldest_kept, None)
        return [frame for number, frame in enumerate(fresh, first) if self._is_for_me(frame, number)]

    def _is_for_me(self, frame: Frame, number: int) -> bool:
        if frame.event is None:
            return number >= self._came_at  # who was here once is no news
        # The room reads on its own and may still be where this listener was long ago.
        if frame.place is None:
            self.last = (0, 0)  # something was missed: Redis may have begun anew, with smaller ids
        elif frame.place is not None and frame.place <= self.last:
            return False
        return self.caller.may_see(frame.event)


class Room:
    """A thread that somebody listens to.

    Attributes:
        kept: The latest frames; `count` were there in all.
    """

    def __init__(self, queue: AsyncAssistantMessageQueue, thread_id: str, after: str) -> None:
        self.queue, self.thread_id = queue, thread_id
        self.kept: deque[Frame] = deque(maxlen=KEPT)
        self.count = 0
        self.listeners: set[Listener] = set()
        self.reading = asyncio.create_task(self._read(after), name=f"events of {thread_id}")

    def publish(self, frame: Frame) -> None:
        """Tell everybody."""
        self.kept.append(frame)
        self.count += 1
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
        newest = await self._queue.open_events(thread_id)
        # The room begins at the newest event, or did so earlier; whatever is older is read here, and the two overlap.
        room = self._room(thread_id, newest)
        listener = Listener(room, newest if after is None else after, caller)
        room.listeners.add(listener)
        try:
            async with self.presence.here(thread_id, name):
                listener.tell(self.presence.frame(thread_id))
                if after is not None:
                    await self._catch_up(listener, after, place_of(newest))
                listener.tell(note("caught_up", thread_id, at=id_of(listener.last)))
                listener.start_at(room.oldest_kept)
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

    async def _catch_up(self, listener: Listener, after: str, goal: tuple[int, int]) -> None:
        """Read what is kept behind an id, up to where the stream ended when the listener came."""
        thread_id, place = listener.room.thread_id, (0, 0)
        cursor = id_of(place_of(after))
        while place < goal:
            page = await self._queue._store.run(events.read(self._queue._door.space, thread_id, cursor, PAGE))  # noqa: SLF001 - its own Redis
            if page.missed:
                listener.tell(note("events_missed", thread_id, after=cursor))
            for event in page.events:
                if listener.caller.may_see(event):
                    listener.tell(frame_of(event))
            is_at_the_end = page.last == cursor
            cursor, place = page.last, place_of(page.last)
            if is_at_the_end:
                place = (0, 0) if page.missed else place
                break
        listener.last = place

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
