"""The connections of one server: how many there are, which of them have sent nothing yet, and that each really ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

GRACE_S = 1.0
"""Seconds in which a new connection is left alone, however many wait for their first request. Chosen."""
BURST, RATE = 4, 500.0
"""New connections of an address that are read at once, and in a second from then on. Chosen: what a core can answer, spread evenly."""
REFUSED_S = 10.0
"""Seconds in which the connections of an address are read slowly after it was refused for sending too much. Chosen."""
REFUSED_RATE = 20.0
"""Connections, or requests on one, that such an address has in a second. Chosen: each refusal costs half a millisecond."""
PATIENCE_S = 5.0
"""A connection that would have to wait longer for its turn is cut. Chosen: below the deadline of a head."""
KEPT = 2000
"""Addresses whose pace is known; the one that was seen longest ago is forgotten. Chosen: some hundred kilobytes."""
LINGER_S = 5.0
"""Seconds in which a closed connection may still be sent what was written to it; then it is cut. Chosen."""


class Waiting(Protocol):
    """A connection that has not sent the head of its next request yet."""

    def cut(self) -> None:
        """End at once, whatever was not sent yet."""


class Connections:
    """Count the connections of a server.

    If there are as many as there may be, the one that has waited longest for the head of a request makes room for a new one: connections
    that are opened and left cannot keep others out.

    New connections of one address are read one after the other, so that those of others come between them, and slowly after it was
    refused: a refusal costs something, too.
    """

    def __init__(self, most: int, is_proxy: Callable[[str], bool] = lambda _: False) -> None:
        """`is_proxy` tells of an address whether it sends for others: it has no pace of its own."""
        self._most, self._is_proxy = most, is_proxy
        self._open: set[object] = set()
        self._waiting: dict[Waiting, float] = {}
        self._paces: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, connection: object, now: float) -> bool:
        """Count one more and return whether there is room for it; if not, it has to be answered so and closed."""
        if len(self._open) >= self._most:
            oldest, since = next(iter(self._waiting.items()), (None, now))
            if oldest is not None and now - since >= GRACE_S:
                self.closed(oldest)
                oldest.cut()
        self._open.add(connection)
        return len(self._open) <= self._most

    def refused(self, address: str, now: float) -> None:
        """Note that an address was refused because it sends too much."""
        turn, _ = self._paces.get(address, (now, now))
        self._note(address, turn, now + REFUSED_S)

    def wait_s(self, address: str, now: float, *, is_new: bool) -> float | None:
        """Return the seconds before a connection is read: a new one, or for its next request; None if it is to be cut."""
        turn, refused_until = self._paces.get(address, (now, now))
        is_refused = refused_until > now
        if not (is_new or is_refused) or self._is_proxy(address):
            return 0.0
        interval = 1 / (REFUSED_RATE if is_refused else RATE)
        turn = max(turn, now)
        wait = max(0.0, turn - now - (0.0 if is_refused else (BURST - 1) * interval))
        if wait > PATIENCE_S:
            return None
        self._note(address, turn + interval, refused_until)
        return wait

    def _note(self, address: str, turn: float, refused_until: float) -> None:
        self._paces.pop(address, None)
        self._paces[address] = (turn, refused_until)
        if len(self._paces) > KEPT:
            del self._paces[next(iter(self._paces))]

    def waits(self, connection: Waiting, now: float) -> None:
        """Note that a connection waits for a request."""
        self._waiting.pop(connection, None)
        self._waiting[connection] = now

    def asks(self, connection: Waiting) -> None:
        """Note that the head of its request has come."""
        self._waiting.pop(connection, None)

    def closed(self, connection: Any) -> None:
        """No longer count it."""
        self._open.discard(connection)
        self._waiting.pop(connection, None)


class Lingering:
    """A transport that ends within `LINGER_S` of its `close`, also if the other side reads nothing."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop

    def close(self) -> None:
        """Close when all is sent, or cut."""
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._loop.call_later(LINGER_S, self._transport.abort)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
