"""One listener of a room: what is new for it, taken at its own pace."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from itertools import islice
from typing import TYPE_CHECKING

from assistant_queue.errors import AssistantQueueError
from assistant_queue.integrations.fastapi.frames import Frame, place_of

if TYPE_CHECKING:
    from assistant_queue.integrations.fastapi.access import Caller
    from assistant_queue.integrations.fastapi.rooms import Room

PIECE_BYTES = 65_536
"""Bytes that a listener is given at once, or one frame if that is longer. Chosen: what a connection buffers."""

_log = logging.getLogger(__name__)


class Listener:
    """One subscriber: what is new for it, and what else it has to look at."""

    def __init__(self, room: Room, after: str, caller: Caller) -> None:
        self.room, self.caller = room, caller
        self.last = place_of(after)
        self.is_over = False
        self.must_check = False
        self._position: int | None = None
        self._came_at = room.count
        self._own: deque[Frame] = deque()
        self._behind: AsyncIterator[list[Frame]] | None = None
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

    async def catch_up(self, pages: AsyncIterator[list[Frame]]) -> None:
        """Take what was kept, page by page, as fast as it is asked for; the first is read now, so that a failure is told."""
        self._own.extend(await anext(pages, []))
        self._behind = pages
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
            if self._behind is not None:
                self.wake()  # there may be more
            found = [*self._own]
            self._own.clear()
            if not found and self._behind is not None:
                found = await self._page()
            if not found:
                found = self._new()
            if found or self.is_over or self.must_check:
                return found

    async def _page(self) -> list[Frame]:
        assert self._behind is not None
        try:
            return await anext(self._behind)
        except StopAsyncIteration:
            self._behind = None  # from here on live
        except AssistantQueueError as error:
            _log.info("thread %r: what was kept cannot be read at the moment, the listener comes back: %s", self.room.thread_id, error)
            self.is_over = True
        return []

    def _new(self) -> list[Frame]:
        room = self.room
        if self._position is None:
            return []
        if self._position < room.oldest_kept:
            _log.info("a listener of thread %r is too slow and is sent away; it resumes where it was", room.thread_id)
            self.is_over = True
            return []
        found: list[Frame] = []
        size = 0
        for frame in islice(room.kept, self._position - room.oldest_kept, None):
            if size and size + len(frame.sse) > PIECE_BYTES:
                self.wake()  # the rest, when this has been sent
                break
            if self._is_for_me(frame, self._position):
                found.append(frame)
                size += len(frame.sse)
            self._position += 1
        return found

    def _is_for_me(self, frame: Frame, number: int) -> bool:
        if frame.event is None:
            return number >= self._came_at  # a name that was here once is no news
        # The room reads on its own and may still be where this listener was long ago.
        if frame.place is None:
            self.last = (0, 0)  # something was missed: Redis may have begun anew, with smaller ids
        elif frame.place is not None and frame.place <= self.last:
            return False
        return self.caller.may_see(frame.event)
