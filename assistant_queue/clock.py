"""Time behind one interface, so that tests can control it.

The store decides by Redis `TIME`. A clock is read only to override that time (tests) and to measure
waits within a process.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """The interface of a clock."""

    def store_now_ms(self) -> int | None:
        """Return the store's time in ms since the epoch; None for Redis `TIME` (production)."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start that never go back, for time-outs."""


class SystemClock:
    """The real clock: Redis `TIME` for decisions, the machine's monotonic clock for waiting."""

    def store_now_ms(self) -> int | None:
        """Return None: Redis `TIME` decides, so that machines need no common time."""
        return None

    def monotonic(self) -> float:
        """Return seconds of the machine's monotonic clock."""
        return time.monotonic()
