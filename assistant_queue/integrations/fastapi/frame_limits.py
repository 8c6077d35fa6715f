"""Rate limits of socket frames, counted in this process without Redis."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from limits import RateLimitItem

SOCKETS = 4
"""Factor by which all sockets of a client together may exceed the limit of one. Chosen: a person
with several windows."""
PATIENCE = 50
"""Consecutive frames that are delayed; one more closes the socket. Chosen: more than a client sends
to join all its rooms again."""
LONGEST_WAIT_S = 5.0
"""Seconds of delay beyond which a frame closes the socket. Chosen: a client that waits longer takes
the connection for broken."""
KEPT = 1000
"""Clients with a known pace before those below their limits are dropped. Chosen: some hundred
kilobytes."""
_SHORTEST_WAIT_S = 0.001


class TooFast(Exception):
    """A client keeps sending although it was slowed down."""


class Pace:
    """Token buckets for limits such as "20/second": that many at once, refilled evenly."""

    def __init__(self, limits: Sequence[RateLimitItem], times: int = 1) -> None:
        self._buckets = [
            (limit.get_expiry(), limit.get_expiry() / (limit.amount * times)) for limit in limits
        ]
        self._full_at = [0.0] * len(self._buckets)

    def take(self, now: float) -> float:
        """Count one frame and return the seconds it has to wait.

        Args:
            now: Seconds of a monotonic clock.
        """
        wait = 0.0
        for number, (period, interval) in enumerate(self._buckets):
            full_at = max(self._full_at[number], now) + interval
            self._full_at[number] = full_at
            wait = max(wait, full_at - now - period)
        return wait if wait > _SHORTEST_WAIT_S else 0.0

    def is_full(self, now: float) -> bool:
        """Return whether all buckets are full, as those of a new pace."""
        return all(full_at <= now for full_at in self._full_at)


class Paces:
    """The paces of all clients of a process; a client keeps its pace when it reconnects."""

    def __init__(self, limits: Sequence[RateLimitItem]) -> None:
        self._limits = limits
        self._paces: dict[str, Pace] = {}
        self._open: Counter[str] = Counter()

    @contextmanager
    def throttle(self, client_key: str) -> Iterator[Throttle]:
        """Limit one socket of a client for the duration of the block."""
        if len(self._paces) >= KEPT:
            now = time.monotonic()
            self._paces = {
                key: pace
                for key, pace in self._paces.items()
                if self._open[key] or not pace.is_full(now)
            }
        shared = self._paces.setdefault(client_key, Pace(self._limits, SOCKETS))
        self._open[client_key] += 1
        try:
            yield Throttle(Pace(self._limits), shared)
        finally:
            self._open[client_key] -= 1
            if not self._open[client_key]:
                del self._open[client_key]


class Throttle:
    """Delays the frames of one socket, by its own pace and by that of its client."""

    def __init__(self, own: Pace, shared: Pace) -> None:
        self._own = own
        self._shared = shared
        self._late = 0

    async def turn(self) -> None:
        """Wait until the next frame may be handled, at least one iteration of the event loop.

        Raises:
            TooFast: The socket was delayed too often, or the delay would be too long.
        """
        now = time.monotonic()
        wait = max(self._own.take(now), self._shared.take(now))
        self._late = self._late + 1 if wait else 0
        if self._late > PATIENCE or wait > LONGEST_WAIT_S:
            raise TooFast
        await asyncio.sleep(wait)
