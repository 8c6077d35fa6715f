"""Waits between attempts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MAX_DELAY_S = 3600.0
"""The longest back-off. Chosen: an hour; a message that waits longer is better seen in the failed
list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Growth of the waits between attempts.

    Attributes:
        type: `exponential` doubles the wait each time, `fixed` keeps it.
        delay_s: The first wait, seconds.
    """

    type: Literal["exponential", "fixed"] = "exponential"
    delay_s: float = 5.0

    def wait_s(self, attempt: int, retry_after_s: float | None = None) -> float:
        """Seconds to wait after `attempt` attempts (1 after the first).

        The wait that the provider asked for is obeyed, never undercut.
        """
        doublings = min(max(attempt, 1) - 1, 32) if self.type == "exponential" else 0
        own = min(self.delay_s * 2.0**doublings, MAX_DELAY_S)
        return own if retry_after_s is None else max(retry_after_s, 0.0)
