"""The asyncio worker: runs as coroutines of one loop, sync callbacks on a thread pool."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from redis import exceptions

from assistant_queue.abandoned import ABANDONED
from assistant_queue.clock import Clock
from assistant_queue.config import Config
from assistant_queue.errors import StoreError
from assistant_queue.store import wakeups
from assistant_queue.store.connect import disconnect, fresh
from assistant_queue.store.lane import AsyncLane
from assistant_queue.store.refusals import translate, translated
from assistant_queue.store.rq_jobs import NOT_OURS_TO_RECORD, RqJob
from assistant_queue.user_errors import log_raised
from assistant_queue.worker.outage import PASSES, pause_s
from assistant_queue.worker.room import Room
from assistant_queue.worker.runtime import Runtime, worker_sync_client
from assistant_queue.worker.taking import Popped, pop, read_wake_up
from assistant_queue.worker.watchman import Watchman

_log = logging.getLogger(__name__)

POP_TIMEOUT_S = 2
"""Seconds one blocking pop waits; below every socket time-out. Chosen."""
_PROBE_S = 0.1
"""The same right after a pop that failed: whether Redis takes it shows when it ends. Chosen."""
AWAY_S = 1.0
"""Seconds until a Redis that is away or refuses is asked again. Chosen."""
BEAT_S = 1.0
"""Seconds between two looks whether RQ's workers are suspended; RQ's own look as often. Source: rq/worker, check_for_suspension."""


class RqWorkerRecords(Protocol):
    """How a worker stands in RQ's own books; each method blocks, and is called on a thread. Made by `rq_concurrent.py`."""

    @property
    def name(self) -> str:
        """The worker's name, unique in this Redis; '' while it is not registered."""

    def born(self, on_shutdown: Callable[[], None]) -> None:
        """Register; `on_shutdown` is called (on any thread) when RQ's shutdown command comes."""

    def beat(self) -> bool:
        """Say that the worker is alive; True if RQ's workers are suspended."""

    def died(self) -> None:
        """Unregister."""


class AsyncioWorker:
    """Takes wake-ups from RQ's queues and handles each as a coroutine.

    1. takes no more wake-ups than it has room for (`concurrency`, fewer while Redis is too slow for their leases), none while RQ's workers
       are suspended, from several queues in turn
    2. reads a job's thread id without running or unpickling anything else; foreign jobs go to RQ's failed registry
    3. keeps a watchman for each queue: timer and sweeper
    4. stands in RQ's books while it lives
    5. on stop, and where it has to restart, takes no more, lets runs finish for a while, and hands back the rest where they stand
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock | None = None,
        prefixes: Sequence[str] = (),
        records: RqWorkerRecords | None = None,
        max_wake_ups: int | None = None,
    ) -> None:
        """Connects to nothing yet; raises ConfigurationError as `Runtime` does.

        Args:
            config: The queue's options.
            clock: For tests.
            prefixes: Queues to serve; none for the queue of `config` alone.
            records: How it stands in RQ's books; None to stay out of them.
            max_wake_ups: It stops by itself when it has taken so many; None for no limit.
        """
        self.config = config
        first, *others = prefixes or (config.queue_prefix,)
        self.runtime = Runtime(config.model_copy(update={"queue_prefix": first}), clock=clock)
        self.runtimes = {wakeups.queue_key(first): self.runtime}
        for prefix in others:
            runtime = Runtime(config.model_copy(update={"queue_prefix": prefix}), clock=clock, beside=self.runtime)
            self.runtimes[wakeups.queue_key(prefix)] = runtime
        self.ready = asyncio.Event()
        self.taken = 0
        self._max_wake_ups = max_wake_ups
        self._records = records
        self._room = Room(config.concurrency, config.lock_duration)
        self._outage = self.runtime.outage
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self.has_to_restart = False
        self._has_failed_to_pop = False
        self._refused_until: float | None = None  # when the next claim may be tried, by the loop's time, while they are refused
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._taker: asyncio.Task[None] | None = None
        self._popping: asyncio.Task[Popped | None] | None = None

    @property
    def is_suspended(self) -> bool:
        """RQ's workers are suspended, and this one is, too."""
        return not self._resumed.is_set()

    @property
    def running(self) -> int:
        """Wake-ups that are being handled."""
        return len(self._tasks)

    async def run(self, stop_timeout_s: Callable[[], float] = lambda: 30.0) -> None:
        """Work until `stop` is called; then finish or hand back within `stop_timeout_s()` seconds.

        Raises:
            StoreUnavailable: Redis did not answer at the start. Nothing was taken.
        """
        loop = asyncio.get_running_loop()
        client = worker_sync_client(self.config)
        popper = fresh(self.runtime.store.client)
        watchmen = [Watchman(runtime.space, client, self._outage) for runtime in self.runtimes.values()]
        beating: asyncio.Task[None] | None = None
        try:
            for runtime in self.runtimes.values():
                runtime.keeper.on_renewed = lambda share: _soon(loop, lambda: self._room.renewed(share))
                await runtime.check_in()  # says at once that Redis is away, or that this is another queue's worker
                await runtime.sweep(limit=100)
            if self._records is not None:
                with translated():
                    await loop.run_in_executor(None, self._records.born, lambda: _soon(loop, self.stop))
                beating = asyncio.create_task(self._beat(self._records))
            for watchman in watchmen:
                watchman.start()
            self.ready.set()
            await self._take_until_stopped(AsyncLane(popper))
            await self._drain(stop_timeout_s())
        finally:
            for runtime in self.runtimes.values():
                runtime.is_stopping = True
            if beating is not None:
                beating.cancel()
            for watchman in watchmen:
                await loop.run_in_executor(None, watchman.stop)
            if self._records is not None and beating is not None:
                await loop.run_in_executor(None, _quietly, self._records.died)
            await disconnect(popper)
            client.close()
            for runtime in reversed(self.runtimes.values()):
                await runtime.close()

    def stop(self) -> None:
        """Take no more wake-ups; call it on the loop."""
        self._stopping = True
        for runtime in self.runtimes.values():
            runtime.is_stopping = True
        if self._taker is not None:
            self._taker.cancel()  # a wake-up that is popped at this moment is lost, and issued again by the next sweep

    def restart(self) -> None:
        """Stop, because the process holds too many abandoned calls; call it on the loop."""
        if not self._stopping:
            _log.error(
                "%d abandoned calls go on in this process (%s): the worker lets its runs finish and starts again",
                ABANDONED.count,
                ", ".join(f"{name}: {count}" for name, count in ABANDONED.by_function.items()),
            )
            self.has_to_restart = True
            self.stop()

    def hand_back(self) -> None:
        """Stop, and hand back at once what is running, each batch where it stands; call it on the loop."""
        self.stop()
        for task in self._tasks:
            task.cancel()

    # --- taking -----------------------------------------------------------------------------------------------------

    async def _take_until_stopped(self, lane: AsyncLane) -> None:
        if self._stopping:
            return
        self._taker = asyncio.create_task(self._take(lane))
        try:
            await self._taker
        except asyncio.CancelledError:
            if not self._stopping:
                raise

    async def _take(self, lane: AsyncLane) -> None:
        queues = list(self.runtimes)
        # Asked again each time: a pop that is answered at the moment it is cancelled ends as if nothing had been said, and so does this.
        while not self._stopping:
            await self._room.acquire()
            await self._until_claims_pass()
            await self._resumed.wait()  # last: what is suspended while it waits for anything else takes nothing
            self._popping = asyncio.create_task(self._pop(lane, queues))
            try:
                popped = await self._popping
            except asyncio.CancelledError:
                if not self.is_suspended:
                    raise
                popped = None
            if popped is None:
                self._room.release()
                continue
            queues.remove(popped.queue)
            queues.append(popped.queue)  # the others come first now: none starves
            self.taken += 1
            task = asyncio.create_task(self._handle(self.runtimes[popped.queue], popped))
            self._tasks.add(task)
            task.add_done_callback(self._done)
            if self.taken == self._max_wake_ups:
                self.stop()

    async def _pop(self, lane: AsyncLane, queues: list[str]) -> Popped | None:
        """The next wake-up; None if there was none for a while."""
        try:
            popped = await pop(lane, queues, _PROBE_S if self._has_failed_to_pop else POP_TIMEOUT_S)
        except (exceptions.RedisError, OSError) as error:
            self._has_failed_to_pop = True
            ours = translate(error, has_served=True)
            self._outage.failed("taking", ours)
            await asyncio.sleep(pause_s(ours, AWAY_S))
            return None
        self._has_failed_to_pop = False
        self._outage.passed("taking")
        return popped

    async def _until_claims_pass(self) -> None:
        """A wake-up that is taken while claims are refused is lost until the next sweep: take one at a time, and not at once."""
        if self._refused_until is not None:
            await asyncio.sleep(max(self._refused_until - asyncio.get_running_loop().time(), 0.0))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.release()

    async def _handle(self, runtime: Runtime, popped: Popped) -> None:
        job = RqJob(popped.job_id, self._records.name if self._records is not None else "")
        thread_id = None
        try:
            thread_id = await runtime.store.run(read_wake_up(runtime.config.queue_prefix, job, popped.data))
            if thread_id is not None:
                await runtime.handle(thread_id, job if job.worker else NOT_OURS_TO_RECORD)  # without a worker's name it has been deleted
            self._refused_until = None
            self._outage.passed("writes")
        except PASSES as error:
            self._outage.failed("writes", error)
            self._refused_until = asyncio.get_running_loop().time() + pause_s(error, AWAY_S)
            _log.debug("thread %r: %s; it is looked at again when Redis answers", thread_id, error)
        except StoreError as error:
            _log.warning("thread %r: %s; it is looked at again when Redis answers", thread_id, error)
        except asyncio.CancelledError:
            _log.info("thread %r: handed back", thread_id)
        except KeyboardInterrupt:
            raise  # a signal's: what user code raises does not come here
        except BaseException as error:  # noqa: BLE001 - one thread's trouble must not stop the worker
            what = "thread %r: the worker failed; the thread is looked at again when its lease has lapsed"
            log_raised(_log, what, thread_id, error=error, is_ours=True)

    async def _drain(self, timeout_s: float) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        left = list(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    # --- RQ's books ---------------------------------------------------------------------------------------------------

    async def _beat(self, records: RqWorkerRecords) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                suspended = await loop.run_in_executor(None, records.beat)
            except (exceptions.RedisError, OSError) as error:
                self._outage.failed("records", translate(error, has_served=True))
            else:
                self._outage.passed("records")
                self._suspend(suspended)
            await asyncio.sleep(BEAT_S)

    def _suspend(self, suspended: bool) -> None:
        if suspended == self.is_suspended:
            return
        if suspended:
            _log.info("suspended by RQ: nothing more is taken until `rq resume`")
            self._resumed.clear()
            if self._popping is not None:
                self._popping.cancel()
        else:
            _log.info("resumed")
            self._resumed.set()


def _soon(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: the worker is over
        loop.call_soon_threadsafe(act)


def _quietly(act: Callable[[], None]) -> None:
    """The end of a worker does not fail because Redis is away: what it leaves expires."""
    try:
        act()
    except (exceptions.RedisError, OSError) as error:
        _log.warning("the worker could not sign off with RQ: %s; its records expire", error)
