"""Time, behind one small door, so that tests can own it.

The store decides by Redis `TIME`; a clock is only asked where the store is told what time it is (tests) and where a
process measures its own waiting.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the package asks of a clock."""

    def store_now_ms(self) -> int | None:
        """The time the store shall decide by, in ms since the epoch; None lets Redis say (production)."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never going back; for time-outs within this process."""


class SystemClock:
    """The real clock: Redis `TIME` for decisions, the machine's monotonic clock for waiting."""

    def store_now_ms(self) -> int | None:
        """None: Redis `TIME` decides, so that machines need not agree about the time."""
        return None

    def monotonic(self) -> float:
        """Seconds of the machine's monotonic clock."""
        return time.monotonic()
