"""Calls of hooks and listeners, beside the batches of one event loop."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Any

from assistant_queue.user_code.abandoned import ABANDONED
from assistant_queue.user_code.caller import Function, Late, Raised, UserCode
from assistant_queue.user_code.error_text import log_raised, said
from assistant_queue.user_code.hooks import Hook

_log = logging.getLogger(__name__)

MOST_WAITING = 10_000
"""Events that wait for their calls. Chosen: some megabytes; a hook that is slower than the worker
for that long does not catch up."""
CALLS_AT_ONCE = 20
"""Calls of one function at the same time. Chosen: enough for requests of a tenth of a second beside
a hundred batches a second, and few threads if it hangs."""
MOST_HANGING = 10
"""Abandoned calls of one function that still run, from which it is not called. Chosen: a tenth of
those at which a worker starts again: a hook alone never makes it."""


@dataclass(frozen=True, slots=True)
class _HookEvent:
    """One event: its value, and the functions that get it."""

    name: str
    hooks: tuple[Hook, ...]
    value: Any
    thread_id: str
    batch_id: str
    limit_s: float


class HookCalls:
    """Calls hooks and listeners, and keeps what they do away from the batches.

    1. an event costs a batch an entry in its thread's line
    2. calls for one thread one after the other, in the order of its events; threads do not wait for
       each other
    3. bounds and contains each call, on threads beside those of other callbacks; logs a failure of
       each kind once, at DEBUG from then on
    4. drops events, and logs that once, if too many wait or a function hangs again and again
    """

    def __init__(self) -> None:
        """Call nothing yet; start no thread."""
        self._code = UserCode(2 * CALLS_AT_ONCE)
        self._places: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(CALLS_AT_ONCE)
        )
        self._lines: dict[str, deque[_HookEvent]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._reported: set[tuple[str, ...]] = set()

    def emit(  # noqa: PLR0917 - what a log line has
        self,
        name: str,
        hooks: tuple[Hook, ...],
        value: Any,
        thread_id: str,
        batch_id: str,
        limit_s: float,
    ) -> None:
        """Have the hooks called with the value; return at once. Call it on the loop.

        Each call may take `limit_s` seconds.
        """
        if self._waiting >= MOST_WAITING:
            self._report(
                ("full",),
                "%d events wait for the calls of hooks, which are too slow; thread %r, batch %s: "
                "%r is dropped, as others will be",
                self._waiting,
                thread_id,
                batch_id,
                name,
            )
            return
        event = _HookEvent(name, hooks, value, thread_id, batch_id, limit_s)
        self._waiting += 1
        line = self._lines.get(thread_id)
        if line is not None:
            line.append(event)
            return
        self._lines[thread_id] = line = deque([event])
        task = asyncio.get_running_loop().create_task(self._call_all(thread_id, line))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self, timeout_s: float) -> None:
        """Wait until all events have been handled, at most so long."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        while self._tasks and (left_s := until - loop.time()) > 0:
            await asyncio.wait(self._tasks, timeout=left_s)

    def cut_off(self) -> None:
        """Drop the events that wait, and end the calls that run, as far as they can be ended."""
        if self._waiting:
            _log.warning(
                "the worker ends: %d event(s) of hooks are dropped, or their calls cut off",
                self._waiting,
            )
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """Cut off what is left, and end the idle threads."""
        self.cut_off()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._code.close()

    async def _call_all(self, thread_id: str, line: deque[_HookEvent]) -> None:
        try:
            while line:
                event = line[0]
                for hook in event.hooks:
                    async with self._places[hook.name]:
                        await self._call(hook, event)
                line.popleft()
                self._waiting -= 1
        finally:
            self._waiting -= len(line)
            del self._lines[thread_id]

    async def _call(self, hook: Hook, event: _HookEvent) -> None:
        where = (event.thread_id, event.batch_id, event.name, hook.name)
        if ABANDONED.by_function.get(hook.name, 0) >= MOST_HANGING:
            self._report(
                ("hangs", hook.name),
                "thread %r, batch %s: the hook %r, %s, is not called: %d abandoned calls of it are "
                "still running",
                *where,
                MOST_HANGING,
            )
            return
        function = _on_loop(hook.function) if hook.on_loop else hook.function
        try:
            await self._code.call(function, event.value, limit_s=event.limit_s, name=hook.name)
        except Late as late:
            what = "it is still running and is abandoned" if late.is_abandoned else "it was ended"
            self._report(
                ("late", hook.name, event.name),
                "thread %r, batch %s: the hook %r, %s, %s; %s",
                *where,
                late,
                what,
            )
        except Raised as raised:
            self._report_raised(hook, where, raised.error)

    def _report_raised(
        self, hook: Hook, where: tuple[str, str, str, str], error: BaseException
    ) -> None:
        words = "thread %r, batch %s: the hook %r, %s, raised"
        if hook.is_listener:
            words = "thread %r, batch %s: the %r listener %s raised"
        kind = ("raised", hook.name, where[2], type(error).__qualname__)
        if kind in self._reported:
            _log.debug(f"{words}: %s", *where, said(error))
            return
        self._reported.add(kind)
        log_raised(_log, words, *where, error=error)

    def _report(self, kind: tuple[str, ...], words: str, *args: object) -> None:
        """Log a failure: the first of its kind as a warning."""
        level = logging.DEBUG if kind in self._reported else logging.WARNING
        self._reported.add(kind)
        _log.log(level, words, *args)


def _on_loop(function: Function) -> Function:
    """Return a coroutine function that calls the function on the event loop."""

    async def here(value: Any) -> None:
        answer = function(value)
        if inspect.isawaitable(answer):
            await answer

    return here
