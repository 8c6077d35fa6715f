"""The ledger of abandoned calls of user code: one per process, because each may hold a thread."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable

_log = logging.getLogger(__name__)

MAX_ABANDONED = 100
"""Calls at which a worker process drains and starts again. Chosen: a hundred threads cost a process
little, a thousand do."""


class Abandoned:
    """The ledger of one process.

    1. counts the abandoned calls that are still running, also by function
    2. notifies workers when there are `MAX_ABANDONED`
    3. hands over how many there were since the last time, for the metrics
    """

    def __init__(self, most: int = MAX_ABANDONED) -> None:
        """`most`: the count from which watchers are called."""
        self.most = most
        self._lock = threading.Lock()
        self._names: Counter[str] = Counter()
        self._new = 0
        self._watchers: list[Callable[[], None]] = []

    @property
    def count(self) -> int:
        """Abandoned calls that are still running."""
        with self._lock:
            return _sum(self._names)

    @property
    def by_function(self) -> dict[str, int]:
        """Abandoned calls that are still running, by the function's name."""
        with self._lock:
            return dict(self._names)

    def add(self, name: str) -> None:
        """Count an abandoned call of this function."""
        with self._lock:
            self._names[name] += 1
            self._new += 1
            self._tidy(name)
            count = _sum(self._names)
            watchers = list(self._watchers) if count >= self.most else []
        _log.warning(
            "a call of %s was abandoned and is still running; this process has %d such calls",
            name,
            count,
        )
        for watcher in watchers:
            watcher()

    def remove(self, name: str) -> None:
        """Count one less: the call has ended after all."""
        with self._lock:
            self._names[name] -= 1  # below 0 if the call ends before it is known to be abandoned
            self._tidy(name)

    def _tidy(self, name: str) -> None:
        if not self._names[name]:
            del self._names[name]

    def take_new(self) -> int:
        """Return how many calls were abandoned since this was asked last."""
        with self._lock:
            count, self._new = self._new, 0
            return count

    def give_back(self, count: int) -> None:
        """Undo `take_new`: the count was not written."""
        with self._lock:
            self._new += count

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call `watcher`, on any thread, for each call from the bound on."""
        with self._lock:
            self._watchers.append(watcher)

    def unwatch(self, watcher: Callable[[], None]) -> None:
        """Stop calling `watcher`."""
        with self._lock:
            if watcher in self._watchers:
                self._watchers.remove(watcher)


def _sum(names: Counter[str]) -> int:
    return sum(count for count in names.values() if count > 0)


ABANDONED = Abandoned()
"""The ledger of this process."""
