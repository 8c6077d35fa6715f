"""The handle that `queue.start_worker()` returns: a worker on a thread of the calling process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Literal, Self, overload

from assistant_queue.callback_types import CompletedListener, FailedListener
from assistant_queue.clock import Clock
from assistant_queue.config import Config
from assistant_queue.user_code.abandoned import ABANDONED
from assistant_queue.worker.asyncio_worker import AsyncioWorker
from assistant_queue.worker.event_loop import run
from assistant_queue.worker.result_listeners import listen
from assistant_queue.worker.rq_concurrent_worker import RqBooks
from assistant_queue.worker.startup_checks import check_options


class WorkerHandle:
    """A running worker: no signals, no fork.

    `on("completed", fn)` calls `fn(result)`; `on("failed", fn)` calls `fn(failed_batch, error)` for
    final failures. A sync listener is called on a thread, an async one on the worker's loop; each
    may take `callback_timeout`.
    """

    def __init__(self, config: Config, *, clock: Clock | None = None, probe: Any = None) -> None:
        """Start the thread and wait until the worker listens.

        Raises:
            ConfigurationError: No backend, or no key. Nothing was started.
            StoreUnavailable: Redis did not answer. Nothing was started.
        """
        check_options(config)
        self._config = config
        self._clock = clock
        self._probe = probe
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: AsyncioWorker | None = None
        self._error: BaseException | None = None
        self._stop_timeout_s = 30.0
        self._started = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="assistant-queue-worker", daemon=True
        )
        self._thread.start()
        # Without a limit: Redis answers or times out, and a busy machine may take long.
        self._started.wait()
        if self._error is not None:
            raise self._error

    @overload
    def on(self, event: Literal["completed"], listener: CompletedListener) -> Self: ...
    @overload
    def on(self, event: Literal["failed"], listener: FailedListener) -> Self: ...
    def on(self, event: str, listener: Callable[..., Any]) -> Self:
        """Listen to `completed` or `failed`; returns the handle.

        Raises:
            InvalidArgument: There is no such event, or the listener cannot be called.
        """
        listen(
            None if self._worker is None or not self._thread.is_alive() else self._worker.runtime,
            event,
            listener,
        )
        return self

    def stop(self, timeout: float = 30) -> None:
        """Stop; let runs finish for `timeout` seconds, hand the others back. Idempotent."""
        loop = self._loop
        worker = self._worker
        if loop is None or worker is None or not self._thread.is_alive():
            return
        self._stop_timeout_s = timeout
        try:
            loop.call_soon_threadsafe(worker.stop)
        except RuntimeError:
            return  # the loop closed at this moment
        self._thread.join(timeout + 10)

    @property
    def is_alive(self) -> bool:
        """The worker's thread is running."""
        return self._thread.is_alive()

    @property
    def abandoned_calls(self) -> dict[str, int]:
        """Abandoned calls still running in this process, by the function's name."""
        return ABANDONED.by_function

    def _run(self) -> None:
        try:
            run(self._main())
        except BaseException as error:  # noqa: BLE001 - raised in the starting thread
            self._error = error
        finally:
            self._started.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._worker = worker = AsyncioWorker(
            self._config,
            clock=self._clock,
            records=RqBooks(self._config, [self._config.queue_prefix]),
        )
        if self._probe is not None:
            worker.runtime.watch_steps(self._probe)
        work = asyncio.create_task(self._work(worker))
        ready = asyncio.create_task(worker.ready.wait())
        await asyncio.wait({work, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if not work.done():
            self._started.set()
        await work

    async def _work(self, worker: AsyncioWorker) -> None:
        await worker.run(lambda: self._stop_timeout_s)
