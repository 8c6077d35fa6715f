"""The connections of one server: their number, the idle ones, and the end of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

GRACE_S = 1.0
"""Seconds before a new connection may be closed in favour of another. Chosen: a client on a slow
network sends its head within one."""
BURST = 4
RATE = 500.0
"""New connections of an address that are read at once, and in a second from then on. Chosen: what a
core can answer, spread evenly."""
REFUSED_S = 10.0
"""Seconds in which the connections of an address are read slowly after it was refused for sending
too much. Chosen: a client that was refused by mistake is slowed down no longer than that."""
REFUSED_RATE = 20.0
"""Connections, or requests on one, that such an address has in a second. Chosen: each refusal costs
half a millisecond."""
PATIENCE_S = 5.0
"""A connection that would have to wait longer for its turn is cut. Chosen: below the deadline of a
head."""
KEPT = 2000
"""Addresses with a known pace; the least recently seen one is dropped. Chosen: some hundred
kilobytes."""
LINGER_S = 5.0
"""Seconds for sending the rest to a closed connection before it is cut. Chosen: below uvicorn's
shutdown limit."""


class Waiting(Protocol):
    """A connection that has not sent the head of its next request yet."""

    def cut(self) -> None:
        """Close at once, without sending the rest."""


class Connections:
    """Count the connections of a server.

    At the limit, the connection that has waited longest for the head of a request is closed in
    favour of a new one, so that idle connections cannot exhaust the server.

    New connections of one address are read one after the other, so that other addresses take turns
    with it, and slowly after it was refused: a refusal costs work, too.
    """

    def __init__(self, most: int, is_proxy: Callable[[str], bool] = lambda _: False) -> None:
        """`is_proxy` returns whether an address forwards for other clients: it has no pace."""
        self._most = most
        self.is_proxy = is_proxy
        self._open: set[object] = set()
        self._waiting: dict[Waiting, float] = {}
        self._paces: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, connection: object, now: float) -> bool:
        """Count a connection; return whether there is room for it, else it must be refused."""
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
        """Return the seconds until a connection is read, or None if it must be cut.

        `is_new`: the connection was just opened, and does not wait for its next request.
        """
        turn, refused_until = self._paces.get(address, (now, now))
        is_refused = refused_until > now
        if not (is_new or is_refused) or self.is_proxy(address):
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
    """A transport that ends within `LINGER_S` of its `close`, even if the peer reads nothing."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop

    def close(self) -> None:
        """Close when all is sent, or cut."""
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._loop.call_later(LINGER_S, self._transport.abort)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
