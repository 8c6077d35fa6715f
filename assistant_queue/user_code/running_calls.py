"""Calls of user functions in progress: on a thread or on an event loop."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from assistant_queue.user_code.abandoned import ABANDONED

_log = logging.getLogger(__name__)

CANCEL_PATIENCE_S = 1.0
"""Seconds that a cancelled coroutine has to end. Chosen: enough for a `finally` that closes a
connection."""


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """The end of a call: a value, or an exception of any kind."""

    value: Any = None
    error: BaseException | None = None


async def contained(awaitable: Awaitable[Any]) -> CallOutcome:
    """Await; return an exception as a value, so that the event loop never sees a SystemExit.

    Run it as a separate task: then cancelling the task and a CancelledError raised inside remain
    distinguishable.
    """
    try:
        return CallOutcome(await awaitable)
    except BaseException as error:  # noqa: BLE001 - the caller decides what it means
        return CallOutcome(error=error)


def post(loop: asyncio.AbstractEventLoop, act: Callable[[], Any]) -> None:
    """Call `act` on the loop, from any thread; do nothing if the loop is closed."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(act)


def resolve(future: asyncio.Future[None]) -> None:
    """Set the result of a future that may be done already."""
    if not future.done():
        future.set_result(None)


class RunningCall:
    """One call of a user function.

    1. settles once, with an outcome, and notifies its listeners
    2. counts as abandoned in the process's ledger from `abandon` until it settles

    Its methods may be called on any thread.
    """

    def __init__(self, name: str) -> None:
        """`name` is the function's, for logs and the ledger."""
        self.name = name
        self._lock = threading.Lock()
        self._outcome: CallOutcome | None = None
        self._is_abandoned = False
        self._listeners: list[Callable[[CallOutcome], None]] = []

    @property
    def outcome(self) -> CallOutcome | None:
        """The outcome; None while the call runs."""
        return self._outcome

    @property
    def is_abandoned(self) -> bool:
        """Nothing waits for it any more."""
        return self._is_abandoned

    @property
    def is_running(self) -> bool:
        """The function may still have effects."""
        return self._outcome is None

    def settle(self, outcome: CallOutcome) -> None:
        """Record the outcome and notify the listeners; later calls do nothing."""
        with self._lock:
            if self._outcome is not None:
                return
            self._outcome = outcome
            listeners, self._listeners = self._listeners, []
        if self._is_abandoned:
            ABANDONED.remove(self.name)
            _log.info("%s, which was abandoned, has ended", self.name)
        for listener in listeners:
            listener(outcome)

    def abandon(self) -> bool:
        """Stop waiting for the call; True if it is still running, and counts as abandoned now."""
        with self._lock:
            if self._outcome is not None or self._is_abandoned:
                return False
            self._is_abandoned = True
        ABANDONED.add(self.name)
        return True

    def when_settled(self, listener: Callable[[CallOutcome], None]) -> None:
        """Call with the outcome, on any thread; at once if there is one."""
        with self._lock:
            if self._outcome is None:
                self._listeners.append(listener)
                return
        listener(self._outcome)

    async def ended(self, timeout_s: float | None = None) -> CallOutcome | None:
        """Wait on this event loop for the outcome; None if there is none within `timeout_s`."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self.when_settled(lambda _: post(loop, lambda: resolve(future)))
        await asyncio.wait({future}, timeout=timeout_s)
        return self._outcome


class ThreadCall(RunningCall):
    """A call on a thread, or waiting for one.

    Attributes:
        on_started: Called on the thread, just before the function is.
    """

    def __init__(self, function: Callable[[], Any], name: str) -> None:
        """The function will see the context variables of the caller."""
        super().__init__(name)
        self.on_started: Callable[[], None] | None = None
        self._function = function
        self._context = contextvars.copy_context()
        self._ended = threading.Event()

    def wait(self, timeout_s: float) -> CallOutcome | None:
        """Block until the outcome; None if there is none within `timeout_s`."""
        self._ended.wait(timeout_s)
        return self._outcome

    def run(self) -> CallOutcome:
        """Call the function on this thread; an exception, even SystemExit, is an outcome."""
        if self.on_started is not None:
            self.on_started()
        try:
            outcome = CallOutcome(self._context.run(self._function))
        except BaseException as error:  # noqa: BLE001 - the caller decides what it means
            outcome = CallOutcome(error=error)
        self.settle(outcome)
        return outcome

    def settle(self, outcome: CallOutcome) -> None:
        """Record the outcome, wake `wait` and notify the listeners."""
        super().settle(outcome)
        self._ended.set()

    def start(self, thread_name: str) -> None:
        """Run on a new daemon thread, which ends with the call.

        Raises:
            RuntimeError: The operating system gives no thread.
        """
        threading.Thread(target=self.run, name=thread_name, daemon=True).start()


class TaskCall(RunningCall):
    """A coroutine, as a separate task of the running event loop.

    Attributes:
        task: The task; it never raises.
    """

    def __init__(self, awaitable: Awaitable[Any], name: str) -> None:
        """Start the task."""
        super().__init__(name)
        self._loop = asyncio.get_running_loop()
        self.task = asyncio.ensure_future(contained(awaitable))
        self.task.add_done_callback(self._done)

    @property
    def is_running(self) -> bool:
        """The coroutine may still have effects: its event loop is not closed."""
        return super().is_running and not self._loop.is_closed()

    def _done(self, task: asyncio.Task[CallOutcome]) -> None:
        is_cancelled = task.cancelled()
        self.settle(CallOutcome(error=asyncio.CancelledError()) if is_cancelled else task.result())

    def settle(self, outcome: CallOutcome) -> None:
        """Record the outcome and notify the listeners."""
        super().settle(outcome)
        _LEFT.discard(self)

    def abandon(self) -> bool:
        """Stop waiting for the call; True if it is still running, and counts as abandoned now."""
        is_new = super().abandon()
        if is_new:
            _LEFT.add(self)
        return is_new

    async def ended(self, timeout_s: float | None = None) -> CallOutcome | None:
        """Wait for the outcome; None if there is none within `timeout_s`."""
        if self._outcome is None:
            await asyncio.wait({self.task}, timeout=timeout_s)
        return self._outcome

    async def stop(self) -> None:
        """Cancel the coroutine; abandon it if it does not end within `CANCEL_PATIENCE_S`."""
        if self._outcome is None:
            self.task.cancel()
            try:
                await self.ended(CANCEL_PATIENCE_S)
            finally:
                self.abandon()

    def belongs_to(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Return whether the coroutine runs on this loop."""
        return self._loop is loop


_LEFT: set[TaskCall] = set()
"""Abandoned coroutines of this process that have not ended."""


def settle_calls_of(loop: asyncio.AbstractEventLoop) -> None:
    """Settle the abandoned coroutines of a loop that is about to be closed, as cancelled."""
    for call in list(_LEFT):
        if call.belongs_to(loop):
            call.settle(CallOutcome(error=asyncio.CancelledError()))
