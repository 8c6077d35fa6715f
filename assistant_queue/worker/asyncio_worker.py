"""The asyncio worker: runs as coroutines of one loop, sync callbacks on a thread pool."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from redis import exceptions

from assistant_queue.clock import Clock
from assistant_queue.config import Config
from assistant_queue.errors import StoreError
from assistant_queue.store import wakeups
from assistant_queue.store.rq_jobs import NO_JOB, RqJob, WorkerRoom
from assistant_queue.store.transport.connect import disconnect, fresh
from assistant_queue.store.transport.pinned import AsyncPinnedConnection
from assistant_queue.store.transport.refusals import translate, translated
from assistant_queue.store.transport.stores import SyncStore
from assistant_queue.user_code.abandoned import ABANDONED
from assistant_queue.user_code.error_text import log_raised
from assistant_queue.user_code.running_calls import post
from assistant_queue.worker.audit_drain import AuditDrain
from assistant_queue.worker.capacity import Capacity
from assistant_queue.worker.delivery_loop import DeliveryLoop
from assistant_queue.worker.fetcher import Popped, pop, read_wake_up
from assistant_queue.worker.loop_monitor import LoopMonitor
from assistant_queue.worker.outage import PASSES, pause_s
from assistant_queue.worker.question_loop import QuestionLoop
from assistant_queue.worker.runtime import Runtime, worker_sync_client
from assistant_queue.worker.scheduler import Scheduler

_log = logging.getLogger(__name__)

POP_TIMEOUT_S = 2
"""Seconds of one blocking pop. Chosen: below every socket time-out."""
_PROBE_S = 0.1
"""The same after a pop that failed. Chosen: short, because its end shows whether Redis takes it."""
AWAY_S = 1.0
"""Seconds until a Redis that is away or refuses is asked again. Chosen: an outage of a moment is
over by then."""
BEAT_S = 1.0
"""Seconds between two looks whether RQ's workers are suspended; RQ's own look as often. Source:
rq/worker, check_for_suspension."""


class RqWorkerRecords(Protocol):
    """A worker's records in RQ's registry; each method blocks, and is called on a thread.

    Implemented in `rq_concurrent_worker.py`.
    """

    @property
    def name(self) -> str:
        """The worker's name, unique in this Redis; '' while it is not registered."""

    def born(self, on_shutdown: Callable[[], None]) -> None:
        """Register; `on_shutdown` is called (on any thread) when RQ's shutdown command comes."""

    def beat(self) -> bool:
        """Renew the records; True if RQ's workers are suspended."""

    def died(self) -> None:
        """Unregister."""


class AsyncioWorker:
    """Takes wake-ups from RQ's queues and handles each as a coroutine.

    1. takes no more wake-ups than it has room for (`concurrency`, fewer while Redis is too slow for
       their leases), none while RQ's workers are suspended, from several queues in turn
    2. reads a job's thread id without running or unpickling anything else; foreign jobs go to RQ's
       failed registry
    3. runs a scheduler for each queue: timer and sweeper
    4. is registered with RQ while it lives
    5. on stop or restart takes no more, lets runs finish for a while, and hands the rest back where
       they stand
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
        """Connect to nothing yet; raise ConfigurationError as `Runtime` does.

        Args:
            config: The queue's options.
            clock: For tests.
            prefixes: Queues to serve; none for the queue of `config` alone.
            records: Its records in RQ's registry; None for none.
            max_wake_ups: Wake-ups after which it stops; None for no limit.
        """
        self.config = config
        first, *others = prefixes or (config.queue_prefix,)
        self.runtime = Runtime(config.model_copy(update={"queue_prefix": first}), clock=clock)
        self.runtimes = {wakeups.queue_key(first): self.runtime}
        for prefix in others:
            runtime = Runtime(
                config.model_copy(update={"queue_prefix": prefix}), clock=clock, beside=self.runtime
            )
            self.runtimes[wakeups.queue_key(prefix)] = runtime
        self.ready = asyncio.Event()
        self.schedulers: list[Scheduler] = []
        self.taken = 0
        self._max_wake_ups = max_wake_ups
        self._records = records
        self._room = Capacity(config.concurrency, config.lock_duration)
        self._outage = self.runtime.outage
        self._tasks: set[asyncio.Task[None]] = set()
        self.deliveries = DeliveryLoop(list(self.runtimes.values()), config.delivery_concurrency)
        self.questions = QuestionLoop(list(self.runtimes.values()))
        self._stopping = False
        self.has_to_restart = False
        self._has_failed_to_pop = False
        # The loop's time at which the next claim may be tried, while claims are refused.
        self._refused_until: float | None = None
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._taker: asyncio.Task[None] | None = None
        self._popping: asyncio.Task[list[Popped]] | None = None

    @property
    def is_stopping(self) -> bool:
        """It takes no more wake-ups."""
        return self._stopping

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
        schedulers = self.schedulers = [
            Scheduler(runtime.namespace, client, self._outage) for runtime in self.runtimes.values()
        ]
        drains = [
            AuditDrain(runtime.namespace, self.config.audit, client, self._outage)
            for runtime in self.runtimes.values()
            if self.config.audit is not None
        ]
        threads: list[Scheduler | AuditDrain] = [*schedulers, *drains]
        beating: asyncio.Task[None] | None = None
        monitor = LoopMonitor(loop)
        try:
            for runtime in self.runtimes.values():
                runtime.keeper.on_renewed = lambda share: post(
                    loop, lambda: self._room.renewed(share)
                )
                # Fails at once if Redis is away, or if this is another queue's worker.
                await runtime.check_in()
                await runtime.sweep(limit=100)
            if self._records is not None:
                with translated():
                    await loop.run_in_executor(
                        None, self._records.born, lambda: post(loop, self.stop)
                    )
                beating = asyncio.create_task(self._beat(self._records, SyncStore(client)))
            for thread in threads:
                thread.start()
            monitor.start()
            self.deliveries.start()
            self.questions.start()
            self.ready.set()
            await self._take_until_stopped(AsyncPinnedConnection(popper))
            await self._drain(stop_timeout_s())
        finally:
            monitor.stop()
            for runtime in self.runtimes.values():
                runtime.is_stopping = True
            if beating is not None:
                beating.cancel()
            for thread in threads:
                await loop.run_in_executor(None, thread.stop)
            if self._records is not None and beating is not None:
                await loop.run_in_executor(
                    None, _quietly, self._write_books, SyncStore(client), self._records.name
                )
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
            # a wake-up that is popped at this moment is lost, and issued again by the next sweep
            self._taker.cancel()

    def restart(self) -> None:
        """Stop, because the process holds too many abandoned calls; call it on the loop."""
        if not self._stopping:
            _log.error(
                "%d abandoned calls are still running in this process (%s): the worker lets its "
                "runs finish and starts again",
                ABANDONED.count,
                ", ".join(f"{name}: {count}" for name, count in ABANDONED.by_function.items()),
            )
            self.has_to_restart = True
            self.stop()

    def hand_back(self) -> None:
        """Stop, and hand back at once each running batch where it stands; call it on the loop."""
        self.stop()
        for task in self._tasks:
            task.cancel()
        self.deliveries.hand_back()
        self.questions.cut_off()
        self.runtime.hook_calls.cut_off()

    # --- wake-ups ---------------------------------------------------------------------------------

    async def _take_until_stopped(self, pinned: AsyncPinnedConnection) -> None:
        if self._stopping:
            return
        self._taker = asyncio.create_task(self._take(pinned))
        try:
            await self._taker
        except asyncio.CancelledError:
            if not self._stopping:
                raise

    async def _take(self, pinned: AsyncPinnedConnection) -> None:
        queues = list(self.runtimes)
        # Checked each time: a pop that is answered at the moment it is cancelled ends without the
        # cancellation, and so would this loop.
        while not self._stopping:
            await self._room.acquire()
            await self._until_claims_pass()
            # Last: a worker that is suspended while it waits for anything else takes nothing.
            await self._resumed.wait()
            self._popping = asyncio.create_task(self._pop(pinned, queues))
            try:
                popped = await self._popping
            except asyncio.CancelledError:
                if not self.is_suspended:
                    raise
                popped = []
            if not popped:
                self._room.release()
                continue
            queue = popped[0].queue
            queues.remove(queue)
            queues.append(queue)  # the others come first now: none starves
            self._room.take(len(popped) - 1)
            self.taken += len(popped)
            for one in popped:
                task = asyncio.create_task(self._handle(self.runtimes[queue], one))
                self._tasks.add(task)
                task.add_done_callback(self._done)
            if self.taken == self._max_wake_ups:
                self.stop()

    async def _pop(self, pinned: AsyncPinnedConnection, queues: list[str]) -> list[Popped]:
        """Take the next wake-ups; none if there was none for a while."""
        wait_s = _PROBE_S if self._has_failed_to_pop else POP_TIMEOUT_S
        try:
            popped = await pop(pinned, queues, wait_s, self._places_left)
        except (exceptions.RedisError, OSError) as error:
            self._has_failed_to_pop = True
            ours = translate(error, has_served=True)
            self._outage.failed("taking", ours)
            await asyncio.sleep(pause_s(ours, AWAY_S))
            return []
        self._has_failed_to_pop = False
        self._outage.passed("taking")
        return popped

    def _places_left(self) -> int:
        """Return how many wake-ups may be taken besides the one that has a place."""
        if self._stopping or self._refused_until is not None:
            return 0
        left = self._room.free
        if self._max_wake_ups is not None:
            left = min(left, self._max_wake_ups - self.taken - 1)
        return left

    async def _until_claims_pass(self) -> None:
        """Pause while claims are refused.

        A wake-up that is taken then is lost until the next sweep: take one at a time.
        """
        if self._refused_until is not None:
            await asyncio.sleep(max(self._refused_until - asyncio.get_running_loop().time(), 0.0))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.release()

    async def _handle(self, runtime: Runtime, popped: Popped) -> None:
        job = RqJob(popped.job_id, self._records.name if self._records is not None else "")
        thread_id = None
        try:
            thread_id = await runtime.store.run(
                read_wake_up(runtime.config.queue_prefix, job, popped.data)
            )
            if thread_id is not None:
                # A job without a worker's name has been deleted.
                await runtime.handle(thread_id, job if job.worker else NO_JOB)
            self._refused_until = None
            self._outage.passed("writes")
        except PASSES as error:
            self._outage.failed("writes", error)
            self._refused_until = asyncio.get_running_loop().time() + pause_s(error, AWAY_S)
            _log.debug("thread %r: %s; it is looked at again when Redis answers", thread_id, error)
        except StoreError as error:
            _log.warning(
                "thread %r: %s; it is looked at again when Redis answers", thread_id, error
            )
        except asyncio.CancelledError:
            _log.info("thread %r: handed back", thread_id)
        except KeyboardInterrupt:
            raise  # a signal's: what user code raises does not come here
        except BaseException as error:  # noqa: BLE001 - one thread must not stop the worker
            what = (
                "thread %r: the worker failed; the thread is looked at again when its lease has "
                "lapsed"
            )
            log_raised(_log, what, thread_id, error=error, is_ours=True)

    async def _drain(self, timeout_s: float) -> None:
        began = asyncio.get_running_loop().time()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        loop = asyncio.get_running_loop()
        await self.deliveries.drain(max(timeout_s - (loop.time() - began), 0.0))
        left = list(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self.questions.drain(max(timeout_s - (loop.time() - began), 0.0))
        await self.runtime.hook_calls.drain(max(timeout_s - (loop.time() - began), 0.0))

    # --- RQ's records -----------------------------------------------------------------------------

    async def _beat(self, records: RqWorkerRecords, store: SyncStore) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                suspended = await loop.run_in_executor(None, records.beat)
                await loop.run_in_executor(None, self._write_books, store, records.name)
            except StoreError as error:
                self._outage.failed("records", error)
            except (exceptions.RedisError, OSError) as error:
                self._outage.failed("records", translate(error, has_served=True))
            else:
                self._outage.passed("records")
                self._suspend(suspended)
            await asyncio.sleep(BEAT_S)

    def _write_books(self, store: SyncStore, worker: str) -> None:
        room = WorkerRoom(concurrency=self._room.limit, running=self.running)
        for runtime in self.runtimes.values():
            runtime.books.write(store, worker, room if runtime is self.runtime else None)

    def _suspend(self, suspended: bool) -> None:
        if suspended == self.is_suspended:
            return
        if suspended:
            _log.info("suspended by RQ: no more wake-ups are taken until `rq resume`")
            self._resumed.clear()
            if self._popping is not None:
                self._popping.cancel()
        else:
            _log.info("resumed")
            self._resumed.set()


def _quietly(act: Callable[..., None], *args: Any) -> None:
    """Call at the end of a worker; log it if Redis is away: the records expire."""
    try:
        act(*args)
    except (exceptions.RedisError, StoreError, OSError) as error:
        _log.warning("the worker could not unregister from RQ: %s; its records expire", error)
