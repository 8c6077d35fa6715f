"""Reading of a connection in slices, each in a turn of its client."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from assistant_queue.integrations.fastapi.fair_turns import IS_GONE
from assistant_queue.integrations.fastapi.service import SLOW_DOWN

if TYPE_CHECKING:
    from assistant_queue.integrations.fastapi.connections import Connections
    from assistant_queue.integrations.fastapi.fair_turns import FairTurns

SLICE = 4096
"""Bytes that are read in one iteration of the event loop. Chosen: some hundred of the smallest
requests or frames, about a millisecond."""
WRITE_S = 40.0
"""Seconds without progress in writing to a client before it is cut. Chosen: more than the routes'
own 30."""


class SlicedReading(asyncio.BufferedProtocol):
    """Base of both protocols.

    1. reads in slices, and handles one of them in a turn of its client
    2. cuts clients that read nothing
    """

    if TYPE_CHECKING:
        loop: asyncio.AbstractEventLoop
        client: tuple[str, int] | None
        transport: asyncio.Transport
        _all: Connections
        _turns: FairTurns

        def data_received(self, data: bytes) -> None:
            """Handle a slice."""

        def may_read(self) -> bool:
            """Return whether reading is not paused for another reason."""

    slice = SLICE
    _unhandled: bytes = b""
    _is_in_line = False
    _is_gone = False
    _reading_late: asyncio.TimerHandle | None = None

    def with_hooks(self, app_state: dict[str, Any]) -> dict[str, Any]:
        """Add to the app's state what the app asks of the connection."""
        return {**app_state, SLOW_DOWN: self.slow_down, IS_GONE: lambda: self._is_gone}

    def get_buffer(self, sizehint: int) -> bytearray:
        """Read no more than a slice."""
        del sizehint
        self._buffer = bytearray(self.slice)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Handle a slice in the client's turn; nothing more is read before."""
        self._unhandled += memoryview(self._buffer)[:nbytes]
        del self._buffer
        if self.client is None or self._all.is_proxy(self.client[0]):
            self._handle()
        elif not self._is_in_line:
            self._is_in_line = True
            self._turns.run(self.client[0], self._handle)
        if self._is_in_line:
            self.transport.pause_reading()

    def _handle(self) -> None:
        data, self._unhandled = self._unhandled, b""
        self._is_in_line = False
        if not self.transport.is_closing():
            self.data_received(data)
            self.resume_reading()

    def resume_reading(self) -> None:
        """Read on, unless a slice waits for its turn or reading is paused for another reason."""
        if not (self._is_in_line or self.transport.is_closing()) and self.may_read():
            self.transport.resume_reading()

    def eof_received(self) -> None:
        """Close: half-open connections are not supported."""

    def pause_writing(self) -> None:
        """Start the deadline for reading."""
        super().pause_writing()
        if self._reading_late is None:
            self._reading_late = self.loop.call_later(WRITE_S, self.cut)

    def resume_writing(self) -> None:
        """Cancel the deadline for reading."""
        super().resume_writing()
        self._forget()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the client is gone, and cancel the deadline for reading."""
        self._is_gone = True
        super().connection_lost(exc)
        self._forget()

    def cut(self) -> None:
        """Close at once, without sending the rest."""
        self.transport.abort()

    def slow_down(self) -> None:
        """Read the client's next connections and requests slowly, after it exceeded a limit."""
        if self.client:
            self._all.refused(self.client[0], self.loop.time())

    def _forget(self) -> None:
        if self._reading_late is not None:
            self._reading_late.cancel()
            self._reading_late = None
