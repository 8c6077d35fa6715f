"""uvicorn's protocols with limits: small reads, deadlines and sizes of heads, rates of frames.

uvicorn itself handles up to 256 kB of tiny requests or frames in one iteration of the event loop,
waits forever for the head of a request, and answers pings that are never read.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from assistant_queue.integrations.fastapi.connections import Connections, Lingering
from assistant_queue.integrations.fastapi.fair_turns import REQUEST, FairTurns
from assistant_queue.integrations.fastapi.problems import MEDIA_TYPE, ProblemRefusal, problem_dict
from assistant_queue.integrations.fastapi.sliced_reading import SLICE, SlicedReading
from assistant_queue.integrations.fastapi.sockets import POLICY

SOCKET_SLICE = 1024
"""Bytes of frames that are read in one iteration of the event loop. Chosen: as `SLICE`."""
HEAD_S = 10.0
"""Seconds from the connection or the last answer to the end of a request's head. Chosen: uvicorn
keeps idle connections for 5."""
MAX_HEAD = 32_768
"""Bytes of a head. Chosen: as nginx by default."""
MAX_URL = 8000
"""Bytes of an address. Source: RFC 9112 recommends to take at least 8,000; the WebSocket library
takes lines of 8,192."""
MAX_HEADERS = 100
"""Headers of a request. Source: as Apache and Go's proxies by default; the WebSocket library takes
128."""
PIPELINED = 16
"""Requests that a connection may send before the first of them is answered. Chosen: browsers send
one."""
CONTROL_BURST = 100
CONTROL_RATE = 10
"""Pings, pongs and small fragments of one socket: at once, and per second from then on. Chosen: clients ping every few seconds."""
SMALL_PIECE = 1024
"""Bytes of a piece of a message that counts; larger ones are bounded by the length of the message.
Chosen: libraries send 4 kB or more."""
AFTER_CLOSE = 16_384
"""Bytes that a client may send after it was sent a close frame. Chosen: what was in transit."""


class _Refused(Exception):
    """Ends the parsing of a refused request."""


class GuardedHttp(SlicedReading, HttpToolsProtocol):
    """An HTTP connection."""

    def __init__(
        self,
        connections: Connections,
        turns: FairTurns,
        most: int,
        app_state: Any,
        **options: Any,
    ) -> None:
        """`most` is the maximum length of a body; the other options are uvicorn's."""
        super().__init__(app_state=self.with_hooks(app_state), **options)
        self._all = connections
        self._turns = turns
        self._most = most
        self._is_held_back = False
        self._has_room = True
        self._refusal: ProblemRefusal | None = None
        self._in_head = True
        self._size = 0
        self._slice = 0
        self._late: asyncio.TimerHandle | None = None

    # --- the connection ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, and wait for its first request."""
        super().connection_made(
            cast("Any", Lingering(cast("asyncio.Transport", transport), self.loop))
        )
        if self.client is not None:
            self._turns.charge(self.client[0], REQUEST)
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
        """Delay reading if the address has many connections, or was refused."""
        wait_s = (
            self._all.wait_s(self.client[0], self.loop.time(), is_new=is_new)
            if self.client
            else 0.0
        )
        if wait_s is None:
            self.cut()
        elif wait_s:
            # A new transport begins to read after `connection_made`.
            self.loop.call_soon(self._read, False)
            self.loop.call_later(wait_s, self._read, True)

    def _read(self, is_on: bool) -> None:
        self._is_held_back = not is_on
        if not is_on:
            self.transport.pause_reading()
        else:
            self.resume_reading()

    def may_read(self) -> bool:
        """Return whether neither uvicorn nor a pace has paused reading."""
        return not (self._is_held_back or self.flow.read_paused)

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
            self._refusal = ProblemRefusal(
                408, "head_too_slow", "The head of the request did not come in time."
            )
            self.send_400_response("")
        self.transport.close()

    # --- requests ---------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Parse a slice, unless the request has become too long."""
        self._slice = len(data)
        self._size += self._slice
        if self._in_head and self._size > MAX_HEAD + SLICE:
            self._refusal = ProblemRefusal(
                431, "head_too_long", f"The head of the request is longer than {MAX_HEAD:,} bytes."
            )
            self.send_400_response("")
        elif (
            self._size > 2 * (MAX_HEAD + self._most)
            and self.cycle is not None
            and not self.cycle.response_complete
        ):
            self.cut()  # a body that no handler reads, or its trailers
        else:
            super().data_received(data)

    def on_message_begin(self) -> None:
        """Measure the head from the beginning of the slice."""
        self._in_head = True
        self._size = self._slice
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Refuse an address that is too long."""
        super().on_url(url)
        if len(self.url) > MAX_URL:
            self._refuse(
                ProblemRefusal(
                    414, "url_too_long", f"The address is longer than {MAX_URL:,} bytes."
                )
            )

    def on_header(self, name: bytes, value: bytes) -> None:
        """Refuse too many headers, or one that is too long."""
        super().on_header(name, value)
        if len(self.headers) > MAX_HEADERS or len(name) + len(value) > MAX_URL:
            self._refuse(
                ProblemRefusal(
                    431,
                    "head_too_long",
                    f"More than {MAX_HEADERS} headers, or one of more than {MAX_URL:,} bytes.",
                )
            )

    def on_headers_complete(self) -> None:
        """Start the request, if there is room for it."""
        self._in_head = False
        self._stop_waiting()
        if not self._has_room:
            text = "This server has as many connections as it takes."
            self._refuse(
                ProblemRefusal(503, "too_many_connections", text, headers={"Retry-After": "5"})
            )
        if len(self.pipeline) >= PIPELINED:
            self._refuse(
                ProblemRefusal(
                    429,
                    "too_many_requests",
                    f"More than {PIPELINED} requests without waiting for an answer.",
                )
            )
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._await_head()
            self._hold_back(is_new=False)

    # --- refusals ---------------------------------------------------------------------------------

    def _refuse(self, refusal: ProblemRefusal) -> None:
        self._refusal = refusal
        raise _Refused  # the parser ends, and uvicorn calls `send_400_response`

    def send_400_response(self, msg: str) -> None:
        """Answer an unparsable or refused request with a problem, and close."""
        del msg
        if self.cycle is not None and not self.cycle.response_complete:
            self.cut()  # an answer has begun, so no other can be sent
            return
        refusal = self._refusal or ProblemRefusal(
            400, "no_http", "This is not a request of HTTP/1.1."
        )
        body = json.dumps(problem_dict(refusal, None)).encode()
        headers = {
            "Content-Type": MEDIA_TYPE,
            "Content-Length": str(len(body)),
            "Connection": "close",
            **refusal.headers,
        }
        lines = [
            f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.close()


class GuardedSocket(SlicedReading, WebSocketsSansIOProtocol):
    """A WebSocket."""

    slice = SOCKET_SLICE

    def __init__(
        self, connections: Connections, turns: FairTurns, app_state: Any, **options: Any
    ) -> None:
        """The other options are uvicorn's."""
        super().__init__(app_state=self.with_hooks(app_state), **options)
        self._all = connections
        self._turns = turns
        self._free = float(CONTROL_BURST)
        self._since = 0.0
        self._after_close = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it; `transport` is the one that the HTTP protocol had."""
        super().connection_made(transport)
        self._all.opened(self, self.loop.time())

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it no longer."""
        self._all.closed(self)
        super().connection_lost(exc)

    def may_read(self) -> bool:
        """Return whether uvicorn has not paused reading."""
        return not self.read_paused

    def data_received(self, data: bytes) -> None:
        """Parse a slice, unless the client keeps sending after the close frame."""
        if self.close_sent:
            self._after_close += len(data)
            if self._after_close > AFTER_CLOSE:
                self.cut()
                return
            if len(data) >= self.slice:
                return  # more than the close frame of the client: not worth parsing
        super().data_received(data)
        if not self.handshake_initiated:
            self.transport.close()  # the library could not read its head, which came in one piece

    def handle_ping(self, *event: Any) -> None:
        """Answer a ping within the limit."""
        if self._counts():
            super().handle_ping(*event)

    def handle_pong(self, *event: Any) -> None:
        """Count a pong."""
        if self._counts():
            super().handle_pong(*event)

    def handle_cont(self, event: Any) -> None:
        """Count the pieces of a message, if they are small."""
        if len(event.data) > SMALL_PIECE or self._counts():
            super().handle_cont(event)

    def _counts(self) -> bool:
        """Count a frame that no route sees; return whether it is within the limit, else close."""
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
