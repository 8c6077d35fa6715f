"""Threads for calls of user code, which may raise anything and may never return."""

from __future__ import annotations

import os
import threading
from collections import deque

from assistant_queue.user_code.running_calls import ThreadCall

THREAD_NAME = "assistant-queue-callback"
IDLE_S = 30.0
"""Seconds after which a thread without work ends. Chosen: longer than the pauses of a worker that
is in use."""


class CallThreads:
    """A set of daemon threads that grows on demand.

    1. runs each call on an idle thread, else on a new one; beyond `most` at once, calls wait
    2. replaces the thread of an abandoned call at once: calls never wait for abandoned ones
    3. never keeps the process from ending
    """

    def __init__(self, most: int) -> None:
        """Start no thread yet."""
        self._most = most
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._waiting: deque[ThreadCall] = deque()
        self._threads = self._idle = 0
        self._is_closed = False

    def submit(self, call: ThreadCall) -> bool:
        """Run the call on a thread; True if a thread is free for it now, False if it waits.

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
                raise RuntimeError(
                    "no thread can be started for a call of user code: "
                    "the operating system's limit is reached"
                )
            return False

    def abandon(self, call: ThreadCall) -> bool:
        """Stop waiting for the call; True if it is still running: its thread is replaced.

        A call that has not begun is never made.
        """
        with self._changed:
            if call in self._waiting:
                self._waiting.remove(call)
                return False
        if not call.abandon():
            return False
        with self._changed:
            self._threads -= 1  # the thread ends with the call
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
            self._threads -= 1  # waiting calls are taken by the existing threads
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
            call.run()
            if call.is_abandoned:
                return
            del call
