"""Server-sent events: a tape that a run writes and any number of readers follow, now or later."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

EVENT_STREAM = "text/event-stream; charset=utf-8"


def dumps(value: Any) -> bytes:
    """Encode JSON as compact bytes, with escapes if the text has half a surrogate pair."""
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def frame(event: str, data: Any) -> bytes:
    """One event as it goes over the wire."""
    return b"event: " + event.encode() + b"\ndata: " + dumps(data) + b"\n\n"


DONE = b"event: done\ndata: [DONE]\n\n"


Style = Callable[..., bytes]
"""Changes the bytes of an event before they are sent: called with them and with `is_first`."""


def _plain(event: bytes, *, is_first: bool) -> bytes:  # noqa: ARG001 - the form of a style
    return event


class Tape:
    """The events of one run or response, kept so that a background response can be followed again.

    Lives on the server's loop: no lock.
    """

    def __init__(self, style: Style = _plain) -> None:
        self.frames: list[bytes] = []
        self._style = style
        self.is_closed = False
        self.is_broken = False
        self._readers: set[asyncio.Future[None]] = set()
        self._fuse: tuple[int, Callable[[], None]] | None = None

    def put(self, event: bytes) -> None:
        """Add an event and wake the readers."""
        self.frames.append(self._style(event, is_first=not self.frames))
        self._wake()
        self._burn()

    def set_fuse(self, events: int, blow: Callable[[], None]) -> None:
        """Call `blow` as soon as there are so many events.

        It is called in the same step, so that no work is done in between.
        """
        self._fuse = (events, blow)
        self._burn()

    def close(self, *, broken: bool = False) -> None:
        """Close the tape: no event will follow.

        `broken` makes the readers drop the connection instead of ending the answer.
        """
        self.is_closed = True
        self.is_broken = self.is_broken or broken
        self._wake()

    async def follow(self, start: int = 0) -> AsyncIterator[list[bytes]]:
        """Yield the events from number `start` on, in groups, until the tape is closed."""
        position = start
        while True:
            if position < len(self.frames):
                batch = self.frames[position:]
                position += len(batch)
                yield batch
            elif self.is_closed:
                return
            else:
                await self._next()

    async def _next(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._readers.add(future)
        try:
            await future
        finally:
            self._readers.discard(future)

    def _burn(self) -> None:
        if self._fuse is None or len(self.frames) < self._fuse[0]:
            return
        blow, self._fuse = self._fuse[1], None
        blow()

    def _wake(self) -> None:
        for future in self._readers:
            if not future.done():
                future.set_result(None)


@dataclass(frozen=True, slots=True)
class StreamAnswer:
    """Answer that is a stream: its tape, its first event and its `Content-Type`.

    `abort` ends the work that it shows. `left` is called when the client has gone before the end;
    None: the server does not notice.
    """

    tape: Tape
    start: int
    abort: Callable[[], None]
    content_type: str | None = EVENT_STREAM
    left: Callable[[], None] | None = None
