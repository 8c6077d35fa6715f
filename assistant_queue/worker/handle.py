"""The handle that `queue.start_worker()` returns: a worker on a thread of the calling process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from assistant_queue.abandoned import ABANDONED
from assistant_queue.clock import Clock
from assistant_queue.config import Config
from assistant_queue.worker.asyncio_worker import AsyncioWorker
from assistant_queue.worker.backend import check_backend
from assistant_queue.worker.listeners import listen
from assistant_queue.worker.loop import run
from assistant_queue.worker.rq_concurrent import RqBooks

START_TIMEOUT_S = 30.0
"""Seconds to wait for the worker's loop and its first word with Redis. Chosen."""


class WorkerHandle:
    """A running worker: no signals, no fork.

    `on("completed", fn)` calls `fn(result)`; `on("failed", fn)` calls `fn(failed_batch, error)` for final failures. A sync listener is
    called on a thread, an async one on the worker's loop; each may take `callback_timeout`.
    """

    def __init__(self, config: Config, *, clock: Clock | None = None, probe: Any = None) -> None:
        """Starts the thread and waits until the worker listens.

        Raises:
            ConfigurationError: No backend, or no key. Nothing was started.
            StoreUnavailable: Redis did not answer. Nothing was started.
        """
        check_backend(config)
        self._config, self._clock, self._probe = config, clock, probe
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: AsyncioWorker | None = None
        self._error: BaseException | None = None
        self._stop_timeout_s = 30.0
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="assistant-queue-worker", daemon=True)
        self._thread.start()
        self._started.wait(START_TIMEOUT_S)
        if self._error is not None:
            raise self._error

    def on(self, event: str, listener: Callable[..., Any]) -> WorkerHandle:
        """Listen to `completed` or `failed`; returns the handle.

        Raises:
            InvalidArgument: There is no such event, or the listener cannot be called.
        """
        listen(None if self._worker is None or not self._thread.is_alive() else self._worker.runtime, event, listener)
        return self

    def stop(self, timeout: float = 30) -> None:
        """Take no more messages; let runs finish for `timeout` seconds, hand the others back where they stand. Idempotent."""
        loop, worker = self._loop, self._worker
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
        """Calls of functions in this process that were given up at their time limit and go on, by the function's name."""
        return ABANDONED.by_function

    def _run(self) -> None:
        try:
            run(self._main())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that started the worker
            self._error = error
        finally:
            self._started.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._worker = worker = AsyncioWorker(self._config, clock=self._clock, records=RqBooks(self._config, [self._config.queue_prefix]))
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
