"""Log once that Redis is away or refuses, and once that it is back, for all calls of a worker."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from assistant_queue.errors import NotPermitted, StoreUnavailable

_log = logging.getLogger(__name__)

PASSES = (StoreUnavailable, NotPermitted)
"""Errors that a running worker waits through: a Redis that is away or refuses, a password that is
being rotated."""
_DENIED_RETRY_S = 5.0
"""Seconds between two tries if Redis does not let the user in. Chosen: a person has to act, and
each try may be logged there."""
_QUIET_S = 10.0
"""Seconds after the end of an outage in which another is reported only when it has lasted as long.
Chosen: one that comes and goes is one."""


class Outage:
    """One worker's view of whether Redis takes its commands; for all its threads.

    1. logs one line when the first of its subjects (writes, renewals ...) fails, and one when each
       that failed has succeeded again
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
        """A subject has failed and has not succeeded since."""
        return bool(self._failing)

    def failed(self, subject: str, error: Exception) -> None:
        """Record that Redis is away, or refuses; the caller tries again."""
        with self._lock:
            now = self._now()
            if not self._failing:
                self._began = now
                self._is_reported = False
            self._failing.add(subject)
            if self._is_reported or (
                self._began < self._ended + _QUIET_S and now < self._began + _QUIET_S
            ):
                return
            self._is_reported = True
        _log.warning("%s; waiting, and trying again", error)

    def passed(self, subject: str) -> None:
        """Record that Redis has accepted a command."""
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
    """Return the seconds until the next try."""
    return max(usual_s, _DENIED_RETRY_S) if isinstance(error, NotPermitted) else usual_s
