"""From blocking code to an event loop on a thread of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, wait
from typing import Any, Generic, TypeVar

from assistant_queue.errors import OutcomeUnknown

R = TypeVar("R")
T = TypeVar("T")

CLEANUP_S = 10.0
"""How long an interrupted caller waits for its call to clean up behind itself. Chosen: a Redis command may take as long."""

SLICE_S = 0.5
"""The longest a blocked caller goes without looking for signals. Chosen: a person who pressed Ctrl-C does not press it again."""


def _cut_off() -> Exception:
    return OutcomeUnknown("the queue was closed during a direct call; whether it was done is not known")


class Portal(Generic[R]):
    """Carries out coroutines for blocking callers.

    1. starts its thread, and opens what the calls work with there, at the first call
    2. a call blocks until its coroutine has ended; several threads may call at once
    3. an interrupted call (Ctrl-C) cancels its coroutine and waits until that has cleaned up
    4. starts anew in a forked process, where the thread is missing, and after `close`
    """

    def __init__(
        self,
        open_resource: Callable[[], R],
        close_resource: Callable[[R], Awaitable[None]],
        *,
        name: str = "assistant-queue-direct",
        cut_off: Callable[[], Exception] = _cut_off,
    ) -> None:
        """Starts nothing yet.

        Args:
            open_resource: Called on the loop; what it returns is given to every call.
            close_resource: Called on the loop, at its end.
            name: Of the thread.
            cut_off: What a call raises during which the portal was closed.
        """
        self._open, self._close, self._name, self._cut_off = open_resource, close_resource, name, cut_off
        self._changing = threading.Lock()
        self._life: _Life[R] | None = None
        self._pid = os.getpid()

    def call(self, work: Callable[[R], Coroutine[Any, Any, T]]) -> T:
        """What the coroutine returns, or raises."""
        future: Future[T] = Future()
        try:
            self._begin(work, future)
            # In slices: Python sees a Ctrl-C that comes right before the wait only when the wait is over.
            while not wait([future], SLICE_S).done:
                pass
            return future.result()
        except BaseException:
            # An interrupt may come at any line above: the call may be about to begin, on its way, or over.
            life = self._life
            if life is not None and not future.done():
                life.cancel(future)
                wait([future], CLEANUP_S)
            raise

    def _begin(self, work: Callable[[R], Coroutine[Any, Any, T]], future: Future[T]) -> None:
        if self._pid != os.getpid():
            # Forked: neither the thread nor, perhaps, the lock's owner is here.
            self._pid, self._changing, self._life = os.getpid(), threading.Lock(), None
        with self._changing:  # so that no call begins behind the end of a life
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
        """Starts the thread; raises what opening raises."""
        self._open, self._close, self._cut_off = open_resource, close_resource, cut_off
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
        """The thread runs."""
        return self._thread.is_alive()

    def begin(self, work: Callable[[R], Coroutine[Any, Any, T]], future: Future[T]) -> None:
        """Start a coroutine; its end is the future's."""

        def start() -> None:
            task = self._tasks[future] = self._loop.create_task(work(self._resource))
            task.add_done_callback(lambda done: self._hand_over(done, future))

        self._loop.call_soon_threadsafe(start)

    def cancel(self, future: Future[Any]) -> None:
        """Cancel the coroutine behind a future; a future behind which there is none is over at once."""

        def stop() -> None:
            if future in self._tasks:
                self._tasks[future].cancel()
            else:
                future.cancel()

        self._loop.call_soon_threadsafe(stop)

    def end(self) -> None:
        """Cancel what is not over, close the resource, end the thread."""
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
        except BaseException as error:  # noqa: BLE001 - handed to the thread that made the first call
            self._error = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
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
