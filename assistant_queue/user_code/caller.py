"""Calls of user functions by a worker's event loop: bounded, contained, and abandoned if need be.

A sync function runs on a thread, an async one as a task (`user_code/running_calls.py`).
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from assistant_queue.user_code.call_threads import CallThreads
from assistant_queue.user_code.functions import is_async, name_of
from assistant_queue.user_code.running_calls import (
    CallOutcome,
    RunningCall,
    TaskCall,
    ThreadCall,
    post,
    resolve,
)

Function = Callable[..., Any]

MIN_THREADS = 32
THREADS_PER_RUN = 4
"""Threads that calls may hold at once, for each worker at least, and for each run. Chosen: a run
rarely calls more tools in parallel."""


class Raised(Exception):
    """User code raised `error`, an exception of any kind."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(type(error).__name__)
        self.error = error


class Late(Exception):
    """User code took longer than `limit_s`.

    If `is_abandoned`, the call could not be ended and still runs.
    """

    def __init__(self, limit_s: float, *, is_abandoned: bool) -> None:
        super().__init__(f"did not return within {limit_s:g} s")
        self.limit_s = limit_s
        self.is_abandoned = is_abandoned


class UserCode:
    """Calls user functions.

    1. bounds each call, from the moment when the function starts
    2. contains exceptions: none of them cancels, or ends, the calling task
    3. abandons a call that cannot be ended, and replaces its thread
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
        on_abandoned: Callable[[RunningCall], None] | None = None,
    ) -> Any:
        """Call a sync or async function and return its result.

        Args:
            function: The user's.
            args: Its positional arguments.
            limit_s: Seconds that it may take from its start; None for no limit.
            name: For logs; None for the function's own.
            on_abandoned: Called on the loop if the call is still running when this returns, because
                it is late or because the caller was cancelled.

        Raises:
            Raised: It raised an exception of any kind.
            Late: It took longer. A coroutine was cancelled; a thread, and a coroutine that does not
                end, are abandoned.
        """
        loop = asyncio.get_running_loop()
        started = loop.create_future()
        running = self._start(function, args, name or name_of(function), started)
        try:
            if not started.done():
                await asyncio.wait({started})
            until = None if limit_s is None else loop.time() + limit_s
            value = await _result(running, until)
            if inspect.isawaitable(value):
                running = TaskCall(value, running.name)
                value = await _result(running, until)
        except _Over:
            is_abandoned = await self._give_up(running, on_abandoned)
            return _last_word(running, Late(limit_s or 0.0, is_abandoned=is_abandoned))
        except asyncio.CancelledError:
            # The caller's own cancellation: an exception raised by the function is an outcome.
            await self._give_up(running, on_abandoned)
            raise
        return value

    def _start(
        self, function: Function, args: tuple[Any, ...], name: str, started: asyncio.Future[None]
    ) -> RunningCall:
        try:
            if is_async(function):
                started.set_result(None)
                return TaskCall(function(*args), name)
            return self._on_thread(partial(function, *args), name, started)
        except Exception as error:
            raise Raised(error) from error

    def _on_thread(
        self, function: Callable[[], Any], name: str, started: asyncio.Future[None]
    ) -> ThreadCall:
        loop = asyncio.get_running_loop()
        call = ThreadCall(function, name)

        def on_started() -> None:
            if not started.done():
                post(loop, lambda: resolve(started))

        call.on_started = on_started
        if self._threads.submit(call):
            resolve(started)
        return call

    async def _give_up(
        self, running: RunningCall, on_abandoned: Callable[[RunningCall], None] | None
    ) -> bool:
        """End the call as far as possible; True if it is abandoned."""
        try:
            if isinstance(running, TaskCall):
                await running.stop()
            elif isinstance(running, ThreadCall):
                self._threads.abandon(running)
        finally:
            if running.is_abandoned and on_abandoned is not None:
                on_abandoned(running)
        return running.is_abandoned


async def _result(running: RunningCall, until: float | None) -> Any:
    left_s = None if until is None else max(0.0, until - asyncio.get_running_loop().time())
    outcome = await running.ended(left_s)
    if outcome is None:
        raise _Over
    if outcome.error is not None:
        raise Raised(outcome.error)
    return outcome.value


def _last_word(running: RunningCall, late: Late) -> Any:
    """Return the result of a call that returned just in time, or in spite of being cancelled."""
    outcome: CallOutcome | None = running.outcome
    if outcome is None or late.is_abandoned or inspect.isawaitable(outcome.value):
        raise late
    if outcome.error is None:
        return outcome.value
    if isinstance(running, TaskCall):
        raise late
    raise Raised(outcome.error)


class _Over(Exception):
    """The time limit has passed."""
