"""Threads for calls of user code, which may raise anything and may never return."""

from __future__ import annotations

import contextvars
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

THREAD_NAME = "assistant-queue-callback"
IDLE_S = 30.0
"""Seconds after which a thread without work ends. Chosen: longer than the pauses of a worker that is in use."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended: with a value, or with an exception of any kind."""

    value: Any = None
    error: BaseException | None = None


async def contained(awaitable: Awaitable[Any]) -> Outcome:
    """Await; whatever comes out of it is a value, so that the event loop never sees a SystemExit.

    Run it as a task of its own: then cancelling it, and a CancelledError that was raised, are two things.
    """
    try:
        return Outcome(await awaitable)
    except BaseException as error:  # noqa: BLE001 - the caller decides what it means
        return Outcome(error=error)


class ThreadCall:
    """One call on a thread, or on its way to one.

    Attributes:
        outcome: How it ended; None until then.
        on_started: Called on the thread, just before the function is.
        listeners: Called with the outcome on the thread.
    """

    def __init__(self, function: Callable[[], Any]) -> None:
        self.outcome: Outcome | None = None
        self.on_started: Callable[[], None] | None = None
        self.listeners: list[Callable[[Outcome], None]] = []
        self.is_abandoned = False
        self._function = function
        self._context = contextvars.copy_context()
        self._ended = threading.Event()

    def wait(self, timeout_s: float) -> Outcome | None:
        """Block until it has ended; None if it has not within `timeout_s`."""
        self._ended.wait(timeout_s)
        return self.outcome

    def run(self) -> Outcome:
        """Call the function on this thread; what it raises, be it a SystemExit, ends the call and not the thread."""
        if self.on_started is not None:
            self.on_started()
        try:
            return Outcome(self._context.run(self._function))
        except BaseException as error:  # noqa: BLE001 - the caller decides what it means
            return Outcome(error=error)

    def end(self, outcome: Outcome) -> None:
        """Announce the outcome."""
        self._ended.set()
        for listener in self.listeners:
            listener(outcome)


class CallThreads:
    """A set of daemon threads that grows as it is needed.

    1. runs each call on an idle thread, else on a new one; beyond `most` at once, calls wait
    2. replaces the thread of an abandoned call at once: calls never wait for abandoned ones
    3. keeps no process from ending
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._waiting: deque[ThreadCall] = deque()
        self._threads = self._idle = 0
        self._is_closed = False

    def submit(self, call: ThreadCall) -> bool:
        """Have the call made; whether it is at once.

        Raises:
            RuntimeError: The operating system gives no thread, and there is none to wait for.
        """
        if self._pid != os.getpid():
            self._reset()  # forked: the threads are the parent's
        with self._changed:
            self._waiting.append(call)
            if len(self._waiting) <= self._idle:
                self._changed.notify()
                return True
            if self._grow():
                return True
            if not self._threads:
                self._waiting.remove(call)
                raise RuntimeError("no thread can be started for a call of user code: the operating system's limit is reached")
            return False

    def abandon(self, call: ThreadCall) -> bool:
        """Wait for it no more; True if it goes on all the same: then its thread is replaced, and ends with it."""
        with self._changed:
            if call in self._waiting:
                self._waiting.remove(call)
                return False
            if call.outcome is not None or call.is_abandoned:
                return False
            call.is_abandoned = True
            self._threads -= 1
            if len(self._waiting) > self._idle:
                self._grow()
            return True

    def close(self) -> None:
        """End the idle threads, and each other one with its call."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _grow(self) -> bool:
        if self._threads >= self._most:
            return False
        self._threads += 1
        try:
            threading.Thread(target=self._work, name=THREAD_NAME, daemon=True).start()
        except RuntimeError:
            self._threads -= 1  # what waits is taken by the threads there are
            return False
        return True

    def _next(self) -> ThreadCall | None:
        with self._changed:
            self._idle += 1
            try:
                while not self._waiting and not self._is_closed:
                    if not self._changed.wait(IDLE_S) and not self._waiting:
                        break
            finally:
                self._idle -= 1
            if self._waiting:
                return self._waiting.popleft()
            self._threads -= 1
            return None

    def _work(self) -> None:
        while (call := self._next()) is not None:
            outcome = call.run()
            with self._changed:
                call.outcome = outcome
                is_abandoned = call.is_abandoned
            call.end(outcome)
            del outcome
            if is_abandoned:
                return
            del call
