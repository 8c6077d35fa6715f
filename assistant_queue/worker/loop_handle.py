"""The handle that `await queue.start_worker()` returns: a worker on the caller's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal, Self, overload

from assistant_queue.callback_types import CompletedListener, FailedListener
from assistant_queue.clock import Clock
from assistant_queue.config import Config
from assistant_queue.user_code.abandoned import ABANDONED
from assistant_queue.worker.asyncio_worker import AsyncioWorker
from assistant_queue.worker.result_listeners import listen
from assistant_queue.worker.rq_concurrent_worker import RqBooks
from assistant_queue.worker.startup_checks import check_options


class LoopWorkerHandle:
    """A running worker on this event loop.

    `on` listens as on the thread's handle; `stop` is awaited.
    """

    def __init__(self, config: Config, *, clock: Clock | None = None) -> None:
        """Start nothing yet.

        Raises:
            ConfigurationError: No backend, or no key.
        """
        check_options(config)
        self._worker = AsyncioWorker(
            config, clock=clock, records=RqBooks(config, [config.queue_prefix])
        )
        # Listeners may use objects that belong to the caller's loop.
        self._worker.runtime.listens_on_loop = True
        self._stop_timeout_s = 30.0
        self._work: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start, and wait until the worker listens.

        Raises:
            StoreUnavailable: Redis did not answer. Nothing was taken.
        """
        self._work = asyncio.create_task(self._worker.run(lambda: self._stop_timeout_s))
        ready = asyncio.create_task(self._worker.ready.wait())
        await asyncio.wait({self._work, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._work.done():
            await self._work

    @overload
    def on(self, event: Literal["completed"], listener: CompletedListener) -> Self: ...
    @overload
    def on(self, event: Literal["failed"], listener: FailedListener) -> Self: ...
    def on(self, event: str, listener: Callable[..., Any]) -> Self:
        """Listen to `completed` (the result) or `failed` (the batch, the error); return the handle.

        Raises:
            InvalidArgument: There is no such event, or the listener cannot be called.
        """
        listen(
            None if self._work is None or self._work.done() else self._worker.runtime,
            event,
            listener,
        )
        return self

    async def stop(self, timeout: float = 30) -> None:
        """Stop; let runs finish for `timeout` seconds, hand the others back. Idempotent."""
        if self._work is None or self._work.done():
            return
        self._stop_timeout_s = timeout
        self._worker.stop()
        await self._work

    @property
    def is_alive(self) -> bool:
        """The worker is running."""
        return self._work is not None and not self._work.done()

    @property
    def abandoned_calls(self) -> dict[str, int]:
        """Abandoned calls still running in this process, by the function's name."""
        return ABANDONED.by_function
