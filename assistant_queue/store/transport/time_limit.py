"""One timer for all round trips of a connection."""

from __future__ import annotations

import asyncio
from typing import Any

from redis import exceptions


class TimeLimit:
    """Limits each wait of one connection to its `socket_timeout`.

    redis-py arms a timer for each command and each reply, and before Python 3.12 sends each command
    in a separate task. Here a wait only notes its deadline: the one timer, when it fires, is moved
    to the deadline that holds then.
    """

    def __init__(self) -> None:
        """Arm no timer yet."""
        self._connection: Any = None
        self._task: asyncio.Task[Any] | None = None
        self._cancellations = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timeout_s = 0.0
        self._deadline = 0.0
        self._has_expired = False

    def of(self, connection: Any) -> TimeLimit:
        """Limit what the current task does with the connection in a `with` block.

        redis-py arms no timer meanwhile. The block raises `redis.TimeoutError` if a wait was longer
        than the connection's `socket_timeout`.
        """
        self._connection = connection
        return self

    def __enter__(self) -> None:
        """Begin the first wait."""
        task = asyncio.current_task()
        timeout_s = self._connection.socket_timeout
        if not timeout_s or task is None or not self._connection.is_connected:
            return  # connecting has more than one limit
        self._task = task
        self._timeout_s = timeout_s
        self._has_expired = False
        self._cancellations = task.cancelling()
        self.extend()
        if self._timer is not None and self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = task.get_loop().call_at(self._deadline, self._look)
        self._connection.socket_timeout = None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the last wait."""
        task, self._task = self._task, None
        if task is None:
            return
        self._connection.socket_timeout = self._timeout_s
        if not self._has_expired:
            return
        if task.uncancel() <= self._cancellations and kind is asyncio.CancelledError:
            msg = f"No answer from Redis within {self._timeout_s:g} s"
            raise exceptions.TimeoutError(msg) from None

    def extend(self) -> None:
        """Begin the limit of the next wait."""
        if self._task is not None:
            self._deadline = self._task.get_loop().time() + self._timeout_s

    def _look(self) -> None:
        self._timer = None
        task = self._task
        if task is None:
            return
        loop = task.get_loop()
        if loop.time() < self._deadline:
            self._timer = loop.call_at(self._deadline, self._look)
        else:
            self._has_expired = True
            task.cancel()
