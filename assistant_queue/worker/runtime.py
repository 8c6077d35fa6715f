"""What a worker needs to handle threads: made once per event loop, closed with it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from typing import Any

from assistant_queue.backends.base import Backend
from assistant_queue.backends.reasoning_tags import ReasoningTags
from assistant_queue.clock import Clock, SystemClock
from assistant_queue.config import DEFAULT_INSTRUCTIONS, Config
from assistant_queue.core import steps
from assistant_queue.core.flow import Rules
from assistant_queue.core.retry import Backoff
from assistant_queue.errors import LeaseLost, StoreError
from assistant_queue.models import Batch, FailedBatch, RunResult
from assistant_queue.store import holding
from assistant_queue.store.calls import Space
from assistant_queue.store.connect import async_from, fresh, sync_from
from assistant_queue.store.ending import ResultRules
from assistant_queue.store.events import event_rules
from assistant_queue.store.holding import NoLease
from assistant_queue.store.rq_jobs import NOT_OURS_TO_RECORD, RqJob, job_over
from assistant_queue.store.stores import AsyncStore, SyncStore
from assistant_queue.store.sweeping import sweep
from assistant_queue.user_errors import tracebacks
from assistant_queue.worker import callbacks
from assistant_queue.worker.backend import make_workers_backend, tags_of
from assistant_queue.worker.checking_in import check_in
from assistant_queue.worker.deliveries import OpenDeliveries
from assistant_queue.worker.driver import BatchDriver
from assistant_queue.worker.lease import LeaseKeeper
from assistant_queue.worker.outage import PASSES, Outage
from assistant_queue.worker.turns import Turns
from assistant_queue.worker.user_code import UserCode

_log = logging.getLogger(__name__)

Probe = Callable[[str, Batch], Any]


def worker_sync_client(config: Config) -> Any:
    """A blocking client of the worker's own."""
    client = sync_from(config.redis, config.redis_url)
    return fresh(client) if client is config.redis else client


def _worker_async_client(config: Config) -> Any:
    client = async_from(config.redis, config.redis_url)
    return fresh(client) if client is config.redis else client


def rules_of(config: Config, *, takes_default: bool) -> Rules:
    """The options that the flow decides by."""
    instructions = config.default_instructions
    if instructions == DEFAULT_INSTRUCTIONS and not takes_default:
        instructions = None
    return Rules(
        max_attempts=config.max_attempts,
        backoff=Backoff(type=config.backoff.type, delay_s=config.backoff.delay),
        retry_for_s=config.retry_for,
        run_timeout_s=config.run_timeout,
        grace_s=config.grace,
        max_tool_rounds=config.max_tool_rounds,
        thread_ids=config.thread_ids,
        instructions=True if callable(instructions) else instructions,
        delivers=config.on_reply is not None,
        fallback=True if callable(config.fallback_reply) else config.fallback_reply,
    )


async def _no_probe(_: str, __: Batch) -> None:
    """Nobody watches the steps."""


class Runtime:
    """One event loop's share of a worker: handles wake-ups, one thread each.

    1. waits for its turn, claims the thread, waits out the last second of a window in place
    2. has the lease renewed while the driver takes the batch to its end
    3. tells listeners how the batch ended
    """

    def __init__(self, config: Config, *, clock: Clock | None = None, beside: Runtime | None = None) -> None:
        """Connects to nothing yet.

        Args:
            config: The queue's options.
            clock: For tests.
            beside: A runtime of another queue on the same loop, whose provider, connections and callback threads this one uses, too. It
                is closed last.

        Raises:
            ConfigurationError: No backend is configured, or its key is missing.
        """
        self.config = config
        self.clock: Clock = clock or SystemClock()
        self.space = Space(config.queue_prefix, self.clock, event_rules(config))
        self._is_guest = beside is not None
        self.backend: Backend = beside.backend if beside else make_workers_backend(config)
        self.tags: ReasoningTags | None = beside.tags if beside else tags_of(config)
        self.solitude: asyncio.Lock = beside.solitude if beside else asyncio.Lock()
        self.rules = rules_of(config, takes_default=config.prompt is None)
        self.result_rules = ResultRules(result_ttl_s=config.result_ttl, keep_text=not config.remove_on_complete)
        self.lease_margin_s = config.lock_duration / 6
        self.store: AsyncStore = beside.store if beside else AsyncStore(_worker_async_client(config))
        self.store.serve(self.space)
        self.outage: Outage = beside.outage if beside else Outage()
        self.keeper = LeaseKeeper(self.space, SyncStore(worker_sync_client(config), has_served=True), config.lock_duration, self.outage)
        self.code: UserCode = beside.code if beside else UserCode(config.concurrency)
        self.deliveries = OpenDeliveries(
            self.space,
            lambda: SyncStore(worker_sync_client(config), has_served=True),
            lease_s=config.lock_duration,
            result_ttl_s=config.result_ttl,
            outage=self.outage,
        )
        self.is_stopping = False
        self.listens_on_loop = False
        self.on_completed: list[Callable[[RunResult], Any]] = []
        self.on_failed: list[Callable[[FailedBatch, Exception], Any]] = []
        self._probe: Callable[[str, Batch], Awaitable[None]] = _no_probe
        self.turns: Turns = beside.turns if beside else Turns()

    def watch_steps(self, probe: Probe) -> None:
        """Have `probe(name, batch)` called around each step: where tests wait, and where they crash."""

        async def watch(name: str, batch: Batch) -> None:
            result = probe(name, batch)
            if inspect.isawaitable(result):
                await result

        self._probe = watch

    async def probe(self, name: str, batch: Batch) -> None:
        """A named point of the driver."""
        await self._probe(name, batch)

    async def close(self) -> None:
        """Give everything back."""
        await asyncio.get_running_loop().run_in_executor(None, self.keeper.close)
        if self._is_guest:
            return
        self.code.close()
        await self.backend.close()
        await self.store.close()

    async def check_in(self, *, quietly: bool = False) -> None:
        """The worker's first word to its queue; raises as `checking_in.check_in` does."""
        await self.store.run(check_in(self.space, self.config, quietly=quietly))

    async def sweep(self, limit: int, *, leave: str = "") -> None:
        """Look at a bounded number of overdue threads, `leave` excepted."""
        await self.store.run(sweep(self.space, limit, leave=leave))

    async def handle(self, thread_id: str, job: RqJob = NOT_OURS_TO_RECORD) -> steps.Ending | NoLease | None:
        """A wake-up: take the thread's batch as far as it goes.

        Args:
            thread_id: The thread to look at.
            job: The RQ job that said so, where our scripts keep RQ's records of it.

        Returns:
            How the batch ended, why there was nothing to do, or None where another worker has taken over.
        """
        tracebacks.set(self.config.log_tracebacks)
        token, batch_id = secrets.token_hex(8), secrets.token_hex(12)
        ending: steps.Ending | NoLease | None = None
        failed = True
        try:
            await self.turns.wait()
            ending = await self._take_batch(thread_id, token, batch_id, job)
            failed = False
        finally:
            # Whoever gives the thread back ends the records in the same step; what is left is a job without a batch that ended.
            if job.worker and (failed or ending is None or isinstance(ending, NoLease)):
                with contextlib.suppress(StoreError):  # then RQ's records run out by themselves
                    await asyncio.shield(self.store.run(job_over(self.space, thread_id, token, job, failed=failed)))
        return ending

    async def _take_batch(self, thread_id: str, token: str, batch_id: str, job: RqJob) -> steps.Ending | NoLease | None:
        if self.keeper.outlives_its_lease(thread_id):
            return NoLease(reason="refused")  # the batch goes on here: taken over, it would be asked for a second time
        while True:
            claimed_at = self.clock.monotonic()
            lease = await self.store.run(
                holding.claim(
                    self.space,
                    thread_id,
                    token=token,
                    batch_id=batch_id,
                    lease_s=self.config.lock_duration,
                    max_take=self.config.max_batch_size or holding.MAX_BATCH,
                    job=job,
                )
            )
            if not isinstance(lease, NoLease):
                break
            if lease.reason != "early" or lease.wait_ms > holding.EARLY_MS:
                return lease
            # RQ's scheduler works in whole seconds: wait the rest out here, without the lease.
            await asyncio.sleep(lease.wait_ms / 1000)
        return await self._handle(lease, claimed_at)

    async def _handle(self, lease: holding.Lease, claimed_at: float) -> steps.Ending | None:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        config = self.config
        # Long enough for one attempt, the cancelling of its run, and three callbacks: instructions, fallback, delivery. A worker that hangs
        # longer loses the thread.
        deadline_s = config.run_timeout + 2 * config.request_timeout + 3 * config.callback_limit + config.lock_duration

        def on_lost() -> None:
            _log.warning("thread %r: the lease is lost, another worker goes on", lease.thread_id)
            loop.call_soon_threadsafe(give_up)

        def give_up() -> None:
            # Where the driver has noticed by itself, the task may be at something else by now: the cancelling would hit that.
            if task is not None and not is_over:
                task.cancel()

        is_over = False
        held = self.keeper.hold(lease, claimed_at, deadline_s, on_lost)
        try:
            ending = await BatchDriver(self, held).drive()
        except asyncio.CancelledError:
            if held.is_lost and not _is_stopping(task):
                return None
            raise
        except (LeaseLost, *PASSES) as error:
            _log.warning("thread %r: %s", lease.thread_id, error)
            return None
        finally:
            is_over = True
            self.keeper.drop(held)
        await self._tell(lease, ending)
        return ending

    async def _tell(self, lease: holding.Lease, ending: steps.Ending) -> None:
        batch_id = lease.claimed.batch.id
        if isinstance(ending, steps.Completed):
            for completed in self.on_completed:
                await self._notify(completed, lease.thread_id, batch_id, ending.result)
        elif isinstance(ending, steps.Failed):
            failure = _failed_batch(lease, ending)
            _log.error(
                "thread %r: batch %s goes to the failed list (%s): %s",
                lease.thread_id, failure.batch_id, ending.reason, ending.error.message,
            )  # fmt: skip
            for failed in self.on_failed:
                await self._notify(failed, lease.thread_id, batch_id, failure, RuntimeError(ending.error.message))
        else:
            _log.info("thread %r is %s: %s", lease.thread_id, ending.state.value, ending.error.message)

    async def _notify(self, listener: Callable[..., Any], thread_id: str, batch_id: str, *args: Any) -> None:
        limit_s, on_loop = self.config.callback_limit, self.listens_on_loop
        await callbacks.notify(listener, self.code, thread_id, batch_id, *args, limit_s=limit_s, on_loop=on_loop)


def _is_stopping(task: asyncio.Task[Any] | None) -> bool:
    """The task was cancelled by somebody else than the keeper as well; only Python 3.11 and later can tell."""
    cancelling = getattr(task, "cancelling", None)
    return cancelling is not None and cancelling() > 1


def _failed_batch(lease: holding.Lease, ending: steps.Failed) -> FailedBatch:
    batch = lease.claimed.batch
    return FailedBatch(
        batch_id=batch.id,
        thread_id=batch.thread_id,
        message_ids=tuple(message.id for message in batch.messages),
        reason=ending.reason,
        error=ending.error,
        attempts=ending.progress.attempts,
        known_run_id=ending.progress.run_id,
        failed_at=datetime.now(timezone.utc),
    )
