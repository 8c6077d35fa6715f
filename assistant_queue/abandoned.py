"""Calls of user code that were given up while they went on: counted for the whole process, because each may hold a thread of it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

_log = logging.getLogger(__name__)

MAX_ABANDONED = 100
"""Calls at which a worker process drains and starts again. Chosen: a hundred threads cost a process little, a thousand do."""


class Abandoned:
    """The ledger of one process.

    1. counts the calls that go on now, and by function
    2. tells workers when there are `MAX_ABANDONED`
    """

    def __init__(self, most: int = MAX_ABANDONED) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._names: Counter[str] = Counter()
        self._tasks: dict[asyncio.Task[Any], str] = {}
        self._watchers: list[Callable[[], None]] = []

    @property
    def count(self) -> int:
        """How many go on now."""
        with self._lock:
            return _sum(self._names)

    @property
    def by_function(self) -> dict[str, int]:
        """How many go on now, by the function's name."""
        with self._lock:
            return dict(self._names)

    def add(self, name: str) -> None:
        """A call of this function was given up and goes on."""
        with self._lock:
            self._names[name] += 1
            self._tidy(name)
            count = _sum(self._names)
            watchers = list(self._watchers) if count >= self.most else []
        _log.warning("a call of %s was given up and goes on; there are %d of such calls in this process", name, count)
        for watcher in watchers:
            watcher()

    def remove(self, name: str) -> None:
        """It has ended after all."""
        with self._lock:
            self._names[name] -= 1  # below 0 if the call ends before it is known to be abandoned
            self._tidy(name)

    def add_task(self, name: str, task: asyncio.Task[Any]) -> None:
        """A coroutine of this function does not let itself be cancelled; it counts until it ends, or its loop is closed."""
        self.add(name)
        self._tasks[task] = name
        task.add_done_callback(self._remove_task)

    def close_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop is about to be closed: its coroutines do not go on."""
        for task in [task for task in list(self._tasks) if task.get_loop() is loop]:
            self._remove_task(task)

    def _remove_task(self, task: asyncio.Task[Any]) -> None:
        name = self._tasks.pop(task, None)
        if name is not None:
            self.remove(name)

    def _tidy(self, name: str) -> None:
        if not self._names[name]:
            del self._names[name]

    def watch(self, watcher: Callable[[], None]) -> None:
        """Have `watcher` called, on any thread, with each call from the bound on."""
        with self._lock:
            self._watchers.append(watcher)

    def unwatch(self, watcher: Callable[[], None]) -> None:
        """The opposite of `watch`."""
        with self._lock:
            if watcher in self._watchers:
                self._watchers.remove(watcher)


def _sum(names: Counter[str]) -> int:
    return sum(count for count in names.values() if count > 0)


ABANDONED = Abandoned()
"""Of this process."""
