"""One listener of a room, which takes new frames at its own pace."""

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
"""Bytes that a listener takes at once, or one frame if that is longer. Chosen: the buffer of a
connection."""

_log = logging.getLogger(__name__)


class Listener:
    """One subscriber of a room."""

    def __init__(self, room: Room, after: str, caller: Caller) -> None:
        self.room = room
        self.caller = caller
        self.last = place_of(after)
        self.is_over = False
        self.must_check = False
        self._position: int | None = None
        self._came_at = room.count
        self._own: deque[Frame] = deque()
        self._behind: AsyncIterator[list[Frame]] | None = None
        self._awake = asyncio.Event()

    def wake(self) -> None:
        """Wake up `frames`."""
        self._awake.set()

    def end(self) -> None:
        """End after the frames that are already taken."""
        self.is_over = True
        self.wake()

    def send(self, frame: Frame) -> None:
        """Add a frame for this listener alone."""
        self._own.append(frame)
        self.wake()

    async def catch_up(self, pages: AsyncIterator[list[Frame]]) -> None:
        """Take stored events page by page, on demand.

        The first page is read now, so that a failure is raised here.
        """
        self._own.extend(await anext(pages, []))
        self._behind = pages
        self.wake()

    def start_at(self, position: int) -> None:
        """Take the room's frames from this number on; before this call, none are taken."""
        self._position = position
        self.wake()

    async def frames(self) -> list[Frame]:
        """Wait for new frames that the caller may see.

        Empty if the listener is over or has to be authorized again.
        """
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
            self._behind = None  # live from here on
        except AssistantQueueError as error:
            _log.info(
                "%s: stored events cannot be read at the moment, the listener reconnects: %s",
                self.room.name,
                error,
            )
            self.is_over = True
        return []

    def _new(self) -> list[Frame]:
        room = self.room
        if self._position is None:
            return []
        if self._position < room.oldest_kept:
            _log.info(
                "a listener of %s is too slow and is disconnected; it resumes where it was",
                room.name,
            )
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
            return number >= self._came_at  # presence from before it joined is outdated
        # The room reads independently and may be at a place that this listener has passed.
        if frame.place is None:
            self.last = (0, 0)  # a gap: Redis may have restarted empty, with smaller ids
        elif frame.place is not None and frame.place <= self.last:
            return False
        return self.caller.may_see(frame.event)
