"""A clock that a test owns."""

from __future__ import annotations

START_MS = 1_700_000_000_000
"""Where a fake clock begins: a whole second, so that rounding to seconds shows."""


class FakeClock:
    """Stands still until it is advanced; the store, told its time, decides by it."""

    def __init__(self, start_ms: int = START_MS) -> None:
        self.ms = start_ms

    def store_now_ms(self) -> int:
        """The time the store shall decide by, ms."""
        return self.ms

    def monotonic(self) -> float:
        """The same time in seconds, for time-outs."""
        return self.ms / 1000

    def advance(self, seconds: float) -> None:
        """Let time pass; it never goes back."""
        if seconds < 0:
            msg = f"time does not go back: {seconds} s"
            raise ValueError(msg)
        self.ms += round(seconds * 1000)
