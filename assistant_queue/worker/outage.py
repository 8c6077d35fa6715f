"""Says once that Redis is away or refuses, and once that it is back, however many calls of a worker meet it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from assistant_queue.errors import NotPermitted, StoreUnavailable

_log = logging.getLogger(__name__)

PASSES = (StoreUnavailable, NotPermitted)
"""What a running worker waits through: a Redis that is away or refuses, a password that is being rotated."""
_DENIED_RETRY_S = 5.0
"""Seconds between two tries where Redis does not let the user in. Chosen: a person has to act, and each try may be logged there."""
_QUIET_S = 10.0
"""So soon after an outage has ended, another is reported only when it has lasted as long. Chosen: one that comes and goes is one."""


class Outage:
    """One worker's view of whether Redis takes its commands; for all its threads.

    1. logs one line when the first of its subjects (writes, renewals ...) fails, and one when each that failed has succeeded again
    2. a second outage right after the first is not reported unless it lasts
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """`now` is for tests."""
        self._now = now
        self._lock = threading.Lock()
        self._failing: set[str] = set()
        self._began = 0.0
        self._ended = -_QUIET_S
        self._is_reported = False

    @property
    def is_on(self) -> bool:
        """Something failed and has not succeeded since."""
        return bool(self._failing)

    def failed(self, subject: str, error: Exception) -> None:
        """Redis is away, or refuses; it will be tried again."""
        with self._lock:
            now = self._now()
            if not self._failing:
                self._began, self._is_reported = now, False
            self._failing.add(subject)
            if self._is_reported or (self._began < self._ended + _QUIET_S and now < self._began + _QUIET_S):
                return
            self._is_reported = True
        _log.warning("%s; waiting, and trying again", error)

    def passed(self, subject: str) -> None:
        """Redis has taken a command."""
        if not self._failing:  # nearly always: no lock for each write
            return
        with self._lock:
            was_failing = subject in self._failing
            self._failing.discard(subject)
            if self._failing or not was_failing:
                return
            self._ended = self._now()
            if not self._is_reported:
                return
            self._is_reported = False
            lasted_s = self._ended - self._began
        _log.warning("Redis takes commands again, after %.1f s", lasted_s)


def pause_s(error: Exception, usual_s: float) -> float:
    """Seconds until the next try."""
    return max(usual_s, _DENIED_RETRY_S) if isinstance(error, NotPermitted) else usual_s
