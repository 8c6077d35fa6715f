"""The asyncio worker: runs as coroutines of one loop, sync callbacks on a thread pool."""

from __future__ import annotations

import asyncio
import logging
import pickle
import time
from collections.abc import Callable
from typing import Any

from redis import exceptions

from assistant_queue.clock import Clock
from assistant_queue.config import Config
from assistant_queue.errors import StoreError
from assistant_queue.store import wakeups
from assistant_queue.store.connect import disconnect, fresh
from assistant_queue.worker.runtime import Runtime, worker_sync_client
from assistant_queue.worker.watchman import Watchman

_log = logging.getLogger(__name__)

POP_TIMEOUT_S = 2
"""Seconds one blocking pop waits; below every socket time-out. Chosen."""
FOREIGN_TTL_S = 86400 * 7
"""How long a job that is not ours can be looked at in RQ's failed registry. Chosen: a week."""


class AsyncioWorker:
    """Takes wake-ups from RQ's queue and handles each as a coroutine.

    1. takes no more wake-ups than it has room for (`concurrency`)
    2. reads a job's thread id without running or unpickling anything else; foreign jobs go to RQ's failed registry
    3. keeps a watchman: timer and sweeper
    4. on stop takes no more, lets runs finish for a while, and hands back the rest where they stand
    """

    def __init__(self, config: Config, *, clock: Clock | None = None) -> None:
        """Connects to nothing yet; raises ConfigurationError as `Runtime` does."""
        self.runtime = Runtime(config, clock=clock)
        self.config = config
        self._room = asyncio.Semaphore(config.concurrency)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._queue = wakeups.queue_key(config.queue_prefix)
        self.ready = asyncio.Event()

    async def run(self, stop_timeout_s: Callable[[], float] = lambda: 30.0) -> None:
        """Work until `stop` is called; then finish or hand back within `stop_timeout_s()` seconds.

        Raises:
            StoreUnavailable: Redis did not answer at the start. Nothing was taken.
        """
        client = worker_sync_client(self.config)
        popper = fresh(self.runtime.store.client)
        try:
            await self.runtime.check_in()  # says at once that Redis is away, or that this is another queue's worker
            await self.runtime.sweep(limit=100)
            watchman = Watchman(self.runtime.space, client)
            watchman.start()
            self.ready.set()
            try:
                await self._take(popper)
                await self._drain(stop_timeout_s())
            finally:
                await asyncio.get_running_loop().run_in_executor(None, watchman.stop)
        finally:
            await disconnect(popper)
            client.close()
            await self.runtime.close()

    def stop(self) -> None:
        """Take no more wake-ups; call it on the loop."""
        self._stopping.set()

    def hand_back(self) -> None:
        """Stop, and hand back at once what is running, each batch where it stands; call it on the loop."""
        self._stopping.set()
        for task in self._tasks:
            task.cancel()

    async def _take(self, popper: Any) -> None:
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            while not self._stopping.is_set():
                await self._room.acquire()
                pop = asyncio.create_task(self._pop(popper))
                await asyncio.wait({pop, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not pop.done():
                    pop.cancel()  # a wake-up that is popped at this moment is lost, and issued again by the next sweep
                thread_id = await _result_of(pop)
                if thread_id is None:
                    self._room.release()
                    continue
                task = asyncio.create_task(self._handle(thread_id))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            stopping.cancel()

    async def _pop(self, popper: Any) -> str | None:
        """The next wake-up's thread; None if there was none, or it was not ours."""
        try:
            popped = await popper.blpop([self._queue], timeout=POP_TIMEOUT_S)
            return None if popped is None else await self._read_job(popped[1])
        except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:
            _log.warning("Redis does not answer the worker: %s; trying again", error)
        except Exception:  # noqa: BLE001 - one job that cannot be read must not stop the worker
            _log.exception("a wake-up could not be read; it was dropped, its thread is looked at again")
        await asyncio.sleep(1)
        return None

    async def _read_job(self, job_id: Any) -> str | None:
        name = job_id.decode() if isinstance(job_id, bytes) else str(job_id)
        key = wakeups.job_key(name)
        client = self.runtime.store.client
        data: Any = await client.hget(key, "data")
        if data is None:
            return None  # RQ drops such a job, too
        try:
            thread_id = wakeups.thread_of(data)
        except pickle.UnpicklingError as error:
            _log.error("job %s is not a wake-up of ours (%s); it was not run and is now in RQ's failed registry", name, error)
            await client.hset(key, mapping={"status": "failed"})
            await client.zadd(f"rq:failed:{self.config.queue_prefix}", {name: int(time.time()) + FOREIGN_TTL_S})
            return None
        await client.delete(key)
        return thread_id

    async def _handle(self, thread_id: str) -> None:
        try:
            await self.runtime.handle(thread_id)
        except StoreError as error:
            _log.warning("thread %r: %s; it is looked at again when Redis answers", thread_id, error)
        except asyncio.CancelledError:
            _log.info("thread %r: handed back", thread_id)
        except Exception:  # noqa: BLE001 - one thread's trouble must not stop the worker
            _log.exception("thread %r: the worker failed; the thread is looked at again when its lease has lapsed", thread_id)
        finally:
            self._room.release()

    async def _drain(self, timeout_s: float) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        left = list(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _result_of(pop: asyncio.Task[str | None]) -> str | None:
    try:
        return await pop
    except asyncio.CancelledError:
        if pop.cancelled():
            return None
        raise
