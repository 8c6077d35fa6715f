"""An event loop on its own thread, for calls from blocking code."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, wait
from typing import Any, Generic, TypeVar

from assistant_queue.errors import OutcomeUnknown

R = TypeVar("R")
T = TypeVar("T")

CLEANUP_S = 10.0
"""Seconds that an interrupted caller waits for its call to clean up. Chosen: a Redis command may
take as long."""

SLICE_S = 0.5
"""Seconds between two checks for signals while a caller is blocked. Chosen: Ctrl-C takes effect
before it is pressed again."""


def _cut_off() -> Exception:
    return OutcomeUnknown("the queue was closed during a direct call; its outcome is unknown")


class Portal(Generic[R]):
    """Runs coroutines for blocking callers.

    1. the first call starts the thread and opens the resource of all calls there
    2. a call blocks until its coroutine has ended; several threads may call at once
    3. an interrupted call (Ctrl-C) cancels its coroutine and waits until that has cleaned up
    4. starts again in a forked process, which has no such thread, and after `close`
    """

    def __init__(
        self,
        open_resource: Callable[[], R],
        close_resource: Callable[[R], Awaitable[None]],
        *,
        name: str = "assistant-queue-direct",
        cut_off: Callable[[], Exception] = _cut_off,
    ) -> None:
        """Start nothing yet.

        Args:
            open_resource: Called on the loop; its result is passed to every call.
            close_resource: Called on the loop, at its end.
            name: Of the thread.
            cut_off: Returns the error of a call during which the portal was closed.
        """
        self._open = open_resource
        self._close = close_resource
        self._name = name
        self._cut_off = cut_off
        self._changing = threading.Lock()
        self._life: _Life[R] | None = None
        self._pid = os.getpid()

    def call(self, work: Callable[[R], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine; return its result, or raise its error."""
        future: Future[T] = Future()
        try:
            self._begin(work, future)
            # In slices: Python handles a Ctrl-C that comes right before the wait only after it.
            while not wait([future], SLICE_S).done:
                pass
            return future.result()
        except BaseException:
            # An interrupt may come at any line above: the call may not have begun, may be running,
            # or may be over.
            life = self._life
            if life is not None and not future.done():
                life.cancel(future)
                wait([future], CLEANUP_S)
            raise

    def _begin(self, work: Callable[[R], Coroutine[Any, Any, T]], future: Future[T]) -> None:
        if self._pid != os.getpid():
            # Forked: neither the thread nor, perhaps, the lock's owner is here.
            self._pid = os.getpid()
            self._changing = threading.Lock()
            self._life = None
        with self._changing:  # no call may begin after the end of a life
            if self._life is None or not self._life.is_alive:
                self._life = None
                self._life = _Life(self._open, self._close, self._name, self._cut_off)
            self._life.begin(work, future)

    def close(self) -> None:
        """End the loop; calls that are not over are cancelled. Idempotent."""
        if self._pid != os.getpid():
            return
        with self._changing:
            life, self._life = self._life, None
        if life is not None:
            life.end()


class _Life(Generic[R]):
    """One thread with one loop, from its start to its end."""

    def __init__(
        self,
        open_resource: Callable[[], R],
        close_resource: Callable[[R], Awaitable[None]],
        name: str,
        cut_off: Callable[[], Exception],
    ) -> None:
        """Start the thread; raises the errors of `open_resource`."""
        self._open = open_resource
        self._close = close_resource
        self._cut_off = cut_off
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._tasks: dict[Future[Any], asyncio.Task[Any]] = {}
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error

    @property
    def is_alive(self) -> bool:
        """True while the thread runs."""
        return self._thread.is_alive()

    def begin(self, work: Callable[[R], Coroutine[Any, Any, T]], future: Future[T]) -> None:
        """Start a coroutine; its result or error is set on the future."""
        # The caller's, such as its trace: spans of the call belong to it.
        context = contextvars.copy_context()

        def start() -> None:
            task = self._loop.create_task(work(self._resource), context=context)
            self._tasks[future] = task
            task.add_done_callback(lambda done: self._hand_over(done, future))

        self._loop.call_soon_threadsafe(start)

    def cancel(self, future: Future[Any]) -> None:
        """Cancel the coroutine of a future; a future without one is cancelled itself."""

        def stop() -> None:
            if future in self._tasks:
                self._tasks[future].cancel()
            else:
                future.cancel()

        self._loop.call_soon_threadsafe(stop)

    def end(self) -> None:
        """Cancel unfinished calls, close the resource, end the thread."""
        self._loop.call_soon_threadsafe(self._stop.set)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _hand_over(self, task: asyncio.Task[T], future: Future[T]) -> None:
        del self._tasks[future]
        error: BaseException | None
        error = self._cut_off() if task.cancelled() else task.exception()
        if error is None:
            future.set_result(task.result())
        else:
            future.set_exception(error)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 - raised in the thread of the first call
            self._error = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._resource = self._open()
        self._ready.set()
        try:
            await self._stop.wait()
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._close(self._resource)
