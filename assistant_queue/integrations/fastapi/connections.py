"""The connections of one server: how many there are, which of them have sent nothing yet, and that each really ends."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

GRACE_S = 1.0
"""Seconds in which a new connection is left alone, however many wait for their first request. Chosen."""
REFUSED_S = 10.0
"""Seconds in which the connections of an address are read slowly after it was refused for sending too much. Chosen."""
REFUSED_RATE = 20.0
"""Connections, or requests on one, that such an address has in a second. Chosen: each refusal costs half a millisecond."""
PATIENCE_S = 5.0
"""A connection that would have to wait longer for its turn is cut. Chosen: below the deadline of a head."""
KEPT = 1000
"""Addresses of which it is known that they were refused; the oldest is forgotten. Chosen."""
LINGER_S = 5.0
"""Seconds in which a closed connection may still be sent what was written to it; then it is cut. Chosen."""


class Waiting(Protocol):
    """A connection that has not sent the head of its next request yet."""

    def cut(self) -> None:
        """End at once, whatever was not sent yet."""


class Connections:
    """Count the connections of a server.

    If there are as many as there may be, the one that has waited longest for the head of a request makes room for a new one: connections
    that are opened and left cannot keep others out. Addresses that were refused are read slowly: a refusal costs something, too.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: set[object] = set()
        self._waiting: dict[Waiting, float] = {}
        self._refused: dict[str, tuple[float, float]] = {}

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
        _, turn = self._refused.pop(address, (now, now))
        self._refused[address] = (now + REFUSED_S, turn)
        if len(self._refused) > KEPT:
            del self._refused[next(iter(self._refused))]

    def wait_s(self, address: str, now: float) -> float | None:
        """Return the seconds before a connection of an address is read; None if it is to be cut."""
        until, turn = self._refused.get(address, (now, now))
        if until <= now:
            self._refused.pop(address, None)
            return 0.0
        turn = max(turn, now)
        if turn - now > PATIENCE_S:
            return None
        self._refused[address] = (until, turn + 1 / REFUSED_RATE)
        return turn - now

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
