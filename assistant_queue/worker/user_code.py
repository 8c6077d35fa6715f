"""Calls of user functions on behalf of a loop: sync ones on threads, async ones as tasks; each bounded, contained and counted."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

from assistant_queue.abandoned import ABANDONED
from assistant_queue.call_threads import CallThreads, Outcome, ThreadCall, contained

_log = logging.getLogger(__name__)

Function = Callable[..., Any]

CANCEL_PATIENCE_S = 1.0
"""How long a coroutine may take to end once it is cancelled. Chosen: enough for a `finally` that closes a connection."""
MIN_THREADS, THREADS_PER_RUN = 32, 4
"""Threads that calls may hold at once, for each worker at least, and for each run. Chosen: a run rarely calls more tools in parallel."""


class Raised(Exception):
    """User code raised `error`, an exception of any kind."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(type(error).__name__)
        self.error = error


class Late(Exception):
    """User code took longer than `limit_s`. If `goes_on`, it could not be ended: it is abandoned."""

    def __init__(self, limit_s: float, *, goes_on: bool) -> None:
        super().__init__(f"did not return within {limit_s:g} s")
        self.limit_s = limit_s
        self.goes_on = goes_on


def name_of(function: Function) -> str:
    """Return a function's name for logs and errors."""
    while isinstance(function, partial):
        function = function.func
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', type(function).__name__)}"


def is_async(function: Function) -> bool:
    """Whether calling it gives a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - an object with an async __call__


class Running:
    """A call in progress, whichever way it is made."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.started = asyncio.get_running_loop().create_future()
        self.ended = asyncio.get_running_loop().create_future()
        self.thread: ThreadCall | None = None
        self.task: asyncio.Task[Outcome] | None = None
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._outcome: Outcome | None = None
        self._is_abandoned = False
        self._on_ended: Callable[[Outcome], None] | None = None

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None until then."""
        return self._outcome or (self.thread.outcome if self.thread is not None else None)

    @property
    def goes_on(self) -> bool:
        """Whether it can still do something: not once it has ended, nor when its event loop is closed."""
        return self.outcome is None and not (self.task is not None and self._loop.is_closed())

    def soon(self, act: Callable[[], Any]) -> None:
        """Call on the loop; not at all once it is closed."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(act)

    def begin(self) -> None:
        """The function starts; on any thread."""
        if not self.started.done():
            self.soon(lambda: _settle(self.started))

    def end(self, outcome: Outcome) -> None:
        """It has ended; on any thread."""
        with self._lock:
            if self._outcome is not None:
                return
            self._outcome = outcome
            on_ended = self._on_ended
            _LEFT.discard(self)
        if self._is_abandoned:
            ABANDONED.remove(self.name)
            _log.info("%s, which was abandoned, has ended", self.name)
        if on_ended is not None:
            on_ended(outcome)
        self.soon(lambda: _settle(self.ended))

    def abandon(self) -> bool:
        """Count it as abandoned; False if it has ended."""
        with self._lock:
            if self._outcome is None:
                self._is_abandoned = True
                ABANDONED.add(self.name)
                if self.task is not None:
                    _LEFT.add(self)
            return self._is_abandoned

    def ends_with(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether it cannot go on without this loop."""
        return self._loop is loop

    def when_ended(self, act: Callable[[Outcome], None]) -> None:
        """Call with the outcome, on any thread; at once if it has ended."""
        with self._lock:
            if self._outcome is None:
                self._on_ended = act
                return
        act(self._outcome)


_LEFT: set[Running] = set()
"""Abandoned coroutines of this process."""


def end_with(loop: asyncio.AbstractEventLoop) -> None:
    """End the abandoned coroutines of a loop that is about to be closed: they will not be resumed."""
    for running in list(_LEFT):
        if running.ends_with(loop):
            running.end(Outcome(error=asyncio.CancelledError()))


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class UserCode:
    """Calls user functions.

    1. bounds each call, from the moment when the function starts
    2. contains what it raises: nothing of it cancels, or ends, the calling task
    3. gives up what cannot be ended, replaces its thread and counts it (`abandoned.py`)
    """

    def __init__(self, runs: int) -> None:
        """`runs`: batches that may call at once."""
        self._threads = CallThreads(max(MIN_THREADS, THREADS_PER_RUN * runs))

    def close(self) -> None:
        """End the idle threads."""
        self._threads.close()

    async def call(
        self,
        function: Function,
        *args: Any,
        limit_s: float | None = None,
        name: str | None = None,
        on_abandoned: Callable[[Running], None] | None = None,
    ) -> Any:
        """Call a sync or async function and return what it returns.

        Args:
            function: The user's.
            args: What it is given.
            limit_s: Seconds that it may take from its start; None for no limit.
            name: For logs; None for its own.
            on_abandoned: Called on the loop if the call goes on after this returns, because it is late or because the caller was cancelled.

        Raises:
            Raised: It raised, whatever it was.
            Late: It took longer. A coroutine was cancelled; a thread, and a coroutine that does not end, are abandoned.
        """
        running = self._start(function, args, name or name_of(function))
        loop = asyncio.get_running_loop()
        try:
            if not running.started.done():
                await asyncio.wait({running.started})
            until = None if limit_s is None else loop.time() + limit_s
            value = await self._result(running, until)
            if inspect.isawaitable(value):
                running = self._on_loop(value, running.name)
                value = await self._result(running, until)
        except _Over:
            await self._stop(running)
            goes_on = self._abandon(running, on_abandoned)
            return _last_word(running, Late(limit_s or 0.0, goes_on=goes_on))
        except asyncio.CancelledError:  # the caller is cancelled: what is raised within comes as an outcome
            try:
                await self._stop(running)
            finally:
                self._abandon(running, on_abandoned)
            raise
        return value

    def _start(self, function: Function, args: tuple[Any, ...], name: str) -> Running:
        if not is_async(function):
            return self._on_thread(partial(function, *args), name)
        try:
            return self._on_loop(function(*args), name)
        except Exception as error:
            raise Raised(error) from error

    def _on_loop(self, awaitable: Awaitable[Any], name: str) -> Running:
        running = Running(name)
        running.started.set_result(None)
        running.task = asyncio.ensure_future(contained(awaitable))

        def end(task: asyncio.Task[Outcome]) -> None:
            running.end(Outcome(error=asyncio.CancelledError()) if task.cancelled() else task.result())

        running.task.add_done_callback(end)
        return running

    def _on_thread(self, call: Callable[[], Any], name: str) -> Running:
        running = Running(name)
        running.thread = ThreadCall(call)
        running.thread.on_started = running.begin
        running.thread.listeners.append(running.end)
        try:
            if self._threads.submit(running.thread):
                running.started.set_result(None)
        except RuntimeError as error:
            raise Raised(error) from error
        return running

    async def _result(self, running: Running, until: float | None) -> Any:
        left_s = None if until is None else max(0.0, until - asyncio.get_running_loop().time())
        await asyncio.wait({running.ended}, timeout=left_s)
        outcome = running.outcome
        if outcome is None:
            raise _Over
        if outcome.error is not None:
            raise Raised(outcome.error)
        return outcome.value

    async def _stop(self, running: Running) -> None:
        """End a coroutine, as far as it lets itself be ended."""
        if running.task is not None and running.outcome is None:
            running.task.cancel()
            await asyncio.wait({running.ended}, timeout=CANCEL_PATIENCE_S)

    def _abandon(self, running: Running, on_abandoned: Callable[[Running], None] | None) -> bool:
        if running.thread is not None and not self._threads.abandon(running.thread):
            return False  # it has ended, or has not begun
        if not running.abandon():
            return False
        if on_abandoned is not None:
            on_abandoned(running)
        return True


def _last_word(running: Running, late: Late) -> Any:
    """Return what a call returned just in time, or in spite of being cancelled."""
    outcome = running.outcome
    if outcome is None or inspect.isawaitable(outcome.value):
        raise late
    if outcome.error is None:
        return outcome.value
    if running.task is not None:
        raise late
    raise Raised(outcome.error)


class _Over(Exception):
    """The time is over."""
