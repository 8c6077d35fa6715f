"""A clock for tests."""

from __future__ import annotations

START_MS = 1_700_000_000_000
"""Initial time of a fake clock, ms: a whole second, so that rounding to seconds shows."""


class FakeClock:
    """Stands still until it is advanced; the store takes its time, too."""

    def __init__(self, start_ms: int = START_MS) -> None:
        self.ms = start_ms

    def store_now_ms(self) -> int:
        """Return the time for the store, ms."""
        return self.ms

    def monotonic(self) -> float:
        """The same time in seconds, for time-outs."""
        return self.ms / 1000

    def advance(self, seconds: float) -> None:
        """Advance the time by some seconds, not below 0."""
        if seconds < 0:
            msg = f"time does not go back: {seconds} s"
            raise ValueError(msg)
        self.ms += round(seconds * 1000)
