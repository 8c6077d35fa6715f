"""uvicorn's protocols within limits: what arrives is handled in slices, heads have a deadline and a size, floods of frames are cut.

uvicorn itself handles up to 256 kB of tiny requests or frames in one turn of the event loop, waits for ever for the head of a request, and
answers pings that are never read.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from assistant_queue.integrations.fastapi.connections import Connections, Lingering
from assistant_queue.integrations.fastapi.problems import MEDIA_TYPE, Refusal, problem_dict
from assistant_queue.integrations.fastapi.service import SLOW_DOWN
from assistant_queue.integrations.fastapi.sockets import POLICY

SLICE, SOCKET_SLICE = 4096, 1024
"""Bytes that are read in one turn of the event loop. Chosen: some hundred of the smallest requests or frames, about a millisecond."""
HEAD_S = 10.0
"""Seconds in which the head of a request has to arrive, from the connection or the last answer on. Chosen: uvicorn keeps idle ones 5."""
MAX_HEAD = 32_768
"""Bytes of a head. Chosen: as nginx by default."""
MAX_URL = 8000
"""Bytes of an address. Source: RFC 9112 recommends to take at least 8,000; the WebSocket library takes lines of 8,192."""
MAX_HEADERS = 100
"""Headers of a request. Source: as Apache and Go's proxies by default; the WebSocket library takes 128."""
PIPELINED = 16
"""Requests that a connection may send before the first of them is answered. Chosen: browsers send one."""
WRITE_S = 40.0
"""Seconds in which a client has to take some of what was written to it. Chosen: more than the routes' own 30."""
CONTROL_BURST, CONTROL_RATE = 100, 10
"""Pings, pongs and small pieces of messages of one socket: at once, and per second from then on. Chosen: clients ping every few seconds."""
SMALL_PIECE = 1024
"""Bytes of a piece of a message that counts; larger ones are bounded by the length of the message. Chosen: libraries send 4 kB or more."""
AFTER_CLOSE = 16_384
"""Bytes that a socket may still send after it was sent a close frame. Chosen: what was on its way."""


class _Refused(Exception):
    """Ends the parsing of a request that has been given up."""


class _Guarded(asyncio.BufferedProtocol):
    """What both protocols have: slices, and a limit on how long a client may read nothing."""

    if TYPE_CHECKING:
        loop: asyncio.AbstractEventLoop
        client: tuple[str, int] | None
        _all: Connections
        transport: asyncio.Transport

        def data_received(self, data: bytes) -> None: ...

    slice = SLICE
    _reading_late: asyncio.TimerHandle | None = None

    def get_buffer(self, sizehint: int) -> bytearray:
        """Read no more than a slice."""
        del sizehint
        self._buffer = bytearray(self.slice)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Handle a slice; the event loop has other things to do before the next."""
        data = bytes(memoryview(self._buffer)[:nbytes])
        del self._buffer
        self.data_received(data)

    def eof_received(self) -> None:
        """Close: half a connection is no use."""

    def pause_writing(self) -> None:
        """Give the client some time to read."""
        super().pause_writing()
        if self._reading_late is None:
            self._reading_late = self.loop.call_later(WRITE_S, self.cut)

    def resume_writing(self) -> None:
        """It does."""
        super().resume_writing()
        self._forget()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        super().connection_lost(exc)
        self._forget()

    def cut(self) -> None:
        """End at once, whatever was not sent yet."""
        self.transport.abort()

    def slow_down(self) -> None:
        """Read the client's next connections and requests slowly: it was refused because it sends too much."""
        if self.client:
            self._all.refused(self.client[0], self.loop.time())

    def _forget(self) -> None:
        if self._reading_late is not None:
            self._reading_late.cancel()
            self._reading_late = None


class GuardedHttp(_Guarded, HttpToolsProtocol):
    """An HTTP connection."""

    def __init__(self, connections: Connections, most: int, app_state: Any, **options: Any) -> None:
        """`most` is the length of a body; the others are uvicorn's."""
        super().__init__(app_state={**app_state, SLOW_DOWN: self.slow_down}, **options)
        self._all, self._most = connections, most
        self._has_room = True
        self._refusal: Refusal | None = None
        self._in_head, self._size, self._slice = True, 0, 0
        self._late: asyncio.TimerHandle | None = None

    # --- the connection -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it, and wait for its first request."""
        super().connection_made(cast("Any", Lingering(cast("asyncio.Transport", transport), self.loop)))
        self._has_room = self._all.opened(self, self.loop.time())
        self._await_head()
        self._hold_back(is_new=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it no longer."""
        self._stop_waiting()
        self._all.closed(self)
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection to the other protocol."""
        self._all.closed(self)
        super().handle_websocket_upgrade()

    def _hold_back(self, *, is_new: bool) -> None:
        """Read nothing for a while if the address has many connections, or was refused."""
        wait_s = self._all.wait_s(self.client[0], self.loop.time(), is_new=is_new) if self.client else 0.0
        if wait_s is None:
            self.cut()
        elif wait_s:
            self.loop.call_soon(self._read, False)  # a new transport begins to read after `connection_made`
            self.loop.call_later(wait_s, self._read, True)

    def _read(self, is_on: bool) -> None:
        if not self.transport.is_closing():
            (self.transport.resume_reading if is_on else self.transport.pause_reading)()

    def _await_head(self) -> None:
        self._stop_waiting()
        self._all.waits(self, self.loop.time())
        self._late = self.loop.call_later(HEAD_S, self._give_up)

    def _stop_waiting(self) -> None:
        self._all.asks(self)
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        if self._in_head and self._size and not self.transport.is_closing():
            self._refusal = Refusal(408, "head_too_slow", "The head of the request did not come in time.")
            self.send_400_response("")
        self.transport.close()

    # --- what arrives -------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Parse a slice, unless the request has become too long."""
        self._slice = len(data)
        self._size += self._slice
        if self._in_head and self._size > MAX_HEAD + SLICE:
            self._refusal = Refusal(431, "head_too_long", f"The head of the request is longer than {MAX_HEAD:,} bytes.")
            self.send_400_response("")
        elif self._size > 2 * (MAX_HEAD + self._most) and self.cycle is not None and not self.cycle.response_complete:
            self.cut()  # a body that nothing reads, or its trailers
        else:
            super().data_received(data)

    def on_message_begin(self) -> None:
        """Measure from here, or from where the slice began."""
        self._in_head, self._size = True, self._slice
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Refuse an address that is too long."""
        super().on_url(url)
        if len(self.url) > MAX_URL:
            self._refuse(Refusal(414, "url_too_long", f"The address is longer than {MAX_URL:,} bytes."))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Refuse too many headers, or one that is too long."""
        super().on_header(name, value)
        if len(self.headers) > MAX_HEADERS or len(name) + len(value) > MAX_URL:
            self._refuse(Refusal(431, "head_too_long", f"More than {MAX_HEADERS} headers, or one of more than {MAX_URL:,} bytes."))

    def on_headers_complete(self) -> None:
        """Start the request, if there is room for it."""
        self._in_head = False
        self._stop_waiting()
        if not self._has_room:
            text = "This server has as many connections as it takes."
            self._refuse(Refusal(503, "too_many_connections", text, headers={"Retry-After": "5"}))
        if len(self.pipeline) >= PIPELINED:
            self._refuse(Refusal(429, "too_many_requests", f"More than {PIPELINED} requests without waiting for an answer."))
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._await_head()
            self._hold_back(is_new=False)

    # --- what is refused ----------------------------------------------------------------------------------------------

    def _refuse(self, refusal: Refusal) -> None:
        self._refusal = refusal
        raise _Refused  # the parser ends, and uvicorn calls `send_400_response`

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed, or was refused, with a problem, and close."""
        del msg
        if self.cycle is not None and not self.cycle.response_complete:
            self.cut()  # an answer is on its way: there is no place for another
            return
        refusal = self._refusal or Refusal(400, "no_http", "This is not a request of HTTP/1.1.")
        body = json.dumps(problem_dict(refusal, None)).encode()
        headers = {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), "Connection": "close", **refusal.headers}
        lines = [f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}", *(f"{name}: {value}" for name, value in headers.items())]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.close()


class GuardedSocket(_Guarded, WebSocketsSansIOProtocol):
    """A WebSocket."""

    slice = SOCKET_SLICE

    def __init__(self, connections: Connections, app_state: Any, **options: Any) -> None:
        """The others are uvicorn's."""
        super().__init__(app_state={**app_state, SLOW_DOWN: self.slow_down}, **options)
        self._all = connections
        self._free, self._since = float(CONTROL_BURST), 0.0
        self._after_close = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it; `transport` is the one that the HTTP protocol had."""
        super().connection_made(transport)
        self._all.opened(self, self.loop.time())

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it no longer."""
        self._all.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse a slice, unless the socket is closed and goes on."""
        if self.close_sent:
            self._after_close += len(data)
            if self._after_close > AFTER_CLOSE:
                self.cut()
                return
            if len(data) == self.slice:
                return  # more than the other side's close frame: not worth parsing
        super().data_received(data)
        if not self.handshake_initiated:
            self.transport.close()  # its head came in one piece, and the library could not read it

    def handle_ping(self, *event: Any) -> None:
        """Answer it, within the limit."""
        if self._counts():
            super().handle_ping(*event)

    def handle_pong(self, *event: Any) -> None:
        """Count it, too."""
        if self._counts():
            super().handle_pong(*event)

    def handle_cont(self, event: Any) -> None:
        """Count the pieces of a message, if they are small."""
        if len(event.data) > SMALL_PIECE or self._counts():
            super().handle_cont(event)

    def _counts(self) -> bool:
        """Whether a frame that no route sees is within the limit; the first that is not closes the socket."""
        now = self.loop.time()
        self._free = min(float(CONTROL_BURST), self._free + (now - self._since) * CONTROL_RATE) - 1
        self._since = now
        if self._free >= 0:
            return True
        if not self.close_sent:
            self.slow_down()
            self.conn.fail(POLICY, "too many control frames")
            self.handle_parser_exception()
        return False
