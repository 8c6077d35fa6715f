"""The number of runs that a worker has at once: fewer while Redis is too slow for their leases."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

_log = logging.getLogger(__name__)

SLOW_SHARE = 1 / 3
"""Renewals that take more of a lease than that are too slow. Chosen: due at a third, they leave a
third for a try that fails."""
_GROWTH = 2
"""Factor by which the room shrinks and grows in one step. Chosen: a thousand runs are sixty after
four slow rounds."""


class Capacity:
    """The places of a worker, on its event loop.

    1. `acquire` waits for a place; there are `most`, or as many as there are leases that can be
       renewed in time
    2. a round of renewals that takes more than `SLOW_SHARE` of a lease halves the places, again
       only when no more than those are taken
    3. a lease without such a round doubles them
    4. logs one line when it begins to take fewer, and one when it takes all again
    """

    def __init__(
        self, most: int, lease_s: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        """`now` is for tests."""
        self.limit = most
        self.taken = 0
        self._most = most
        self._lease_s = lease_s
        self._now = now
        self._grows_at = 0.0
        self._changed = asyncio.Event()

    async def acquire(self) -> None:
        """Take a place; one coroutine waits at a time."""
        while True:
            self._grow()
            if self.taken < self.limit:
                break
            self._changed.clear()
            wait_s = None if self.limit == self._most else max(self._grows_at - self._now(), 0.0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
        self.taken += 1

    @property
    def free(self) -> int:
        """Places that are free now."""
        return max(self.limit - self.taken, 0)

    def take(self, count: int) -> None:
        """Take places that are free."""
        self.taken += count

    def release(self) -> None:
        """Give a place back."""
        self.taken -= 1
        self._changed.set()

    def renewed(self, share: float) -> None:
        """Adapt to a round of renewals that took this share of a lease."""
        if share <= SLOW_SHARE:
            return
        self._grows_at = self._now() + self._lease_s
        left = max(min(self.limit, self.taken) // _GROWTH, 1)
        if self.taken > self.limit or left == self.limit:
            return
        if self.limit == self._most:
            _log.warning(
                "renewing leases took %.1f s, and they last %g s: Redis, the way to it or this "
                "machine is too slow for so many; taking fewer runs at once (%d) until renewals "
                "are quick again",
                share * self._lease_s,
                self._lease_s,
                left,
            )
        self.limit = left

    def _grow(self) -> None:
        now = self._now()
        if self.limit == self._most or now < self._grows_at:
            return
        self.limit = min(self.limit * _GROWTH, self._most)
        self._grows_at = now + self._lease_s
        if self.limit == self._most:
            _log.warning(
                "leases are renewed in time again: taking up to %d runs at once", self._most
            )
