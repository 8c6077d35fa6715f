"""Send answers to the client: whole, as a stream, cut short or not at all."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.types import Receive, Scope, Send

from assistant_queue.testing.provider.actions import CutStream, Side
from assistant_queue.testing.provider.sse import StreamAnswer

OK = 200

Drop = Callable[[Any], None]


class Client:
    """Client side of one request."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, drop: Drop) -> None:
        self._peer = scope.get("client")
        self._receive = receive
        self._send = send
        self._drop = drop

    async def send_bytes(
        self, status: int, raw: bytes, content_type: str, headers: Mapping[str, str]
    ) -> None:
        """Send a whole answer that need not be JSON; no `Content-Type` for ""."""
        typed = {"content-type": content_type} if content_type else {}
        await self._start(status, {**typed, "content-length": str(len(raw)), **headers})
        await self._send({"type": "http.response.body", "body": raw})

    async def send_stream(
        self, answer: StreamAnswer, cut: CutStream | None, headers: Mapping[str, str]
    ) -> bool:
        """Send a stream; return True at its end, False if it is cut."""
        typed = {"content-type": answer.content_type} if answer.content_type else {}
        await self._start(OK, {**typed, **headers})
        # Sent at once, so that the client has the headers while the first event is still to come.
        await self._send({"type": "http.response.body", "body": b"", "more_body": True})
        if answer.left is None:
            return await self._send_events(answer, cut)
        watching = asyncio.ensure_future(self._tell_when_gone(answer.left))
        try:
            is_whole = await self._send_events(answer, cut)
        finally:
            watching.cancel()
        if not is_whole:
            answer.left()
        return is_whole

    async def _tell_when_gone(self, left: Callable[[], None]) -> None:
        await self.gone()
        left()

    async def _send_events(self, answer: StreamAnswer, cut: CutStream | None) -> bool:
        scissors = _Scissors(cut)
        async for frames in answer.tape.follow(answer.start):
            body = scissors.trim(frames)
            if body:
                await self._send({"type": "http.response.body", "body": body, "more_body": True})
            if scissors.is_through:
                break
        is_cut = scissors.is_through or answer.tape.is_broken
        if is_cut and not (cut is not None and cut.is_orderly):
            await self.drop()
            return False
        await self._send({"type": "http.response.body", "body": b""})
        return not is_cut

    async def drop(self) -> None:
        """Cut the connection, after what was sent has gone out."""
        self._drop(self._peer)
        await self.gone()

    async def gone(self) -> None:
        """Wait until the client has disconnected."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _start(self, status: int, headers: Mapping[str, str]) -> None:
        raw = [(name.encode(), held.encode()) for name, held in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})


class _Scissors:
    """Count the events of a stream and their bytes, and determine the place of a cut."""

    def __init__(self, cut: CutStream | None) -> None:
        self._cut = cut
        self._events = None if cut is None else cut.after_events
        self._bytes = None if cut is None else cut.after_bytes
        self.is_through = self._events == 0 or self._bytes == 0

    def trim(self, frames: Sequence[bytes]) -> bytes:
        """Return the part of these events that may still be sent."""
        if self.is_through:
            return b""
        if self._cut is not None and self._cut.found is not None:
            return self._search(frames, self._cut.found, self._cut.side)
        if self._events is not None:
            frames = frames[: self._events]
            self._events -= len(frames)
        body = b"".join(frames)
        if self._bytes is not None:
            body = body[: self._bytes]
            self._bytes -= len(body)
        self.is_through = self._events == 0 or self._bytes == 0
        return body

    def _search(self, frames: Sequence[bytes], found: re.Pattern[bytes], side: Side) -> bytes:
        for place, frame in enumerate(frames):
            hit = found.search(frame)
            if hit is not None:
                self.is_through = True
                rest = {"before": b"", "at": frame[: hit.start()], "after": frame}[side]
                return b"".join(frames[:place]) + rest
        return b"".join(frames)
