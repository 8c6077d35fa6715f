"""One event loop's share of a worker: created with the loop, closed with it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from assistant_queue.backends.base import Backend
from assistant_queue.backends.factory import make_reasoning_tags, make_worker_backend
from assistant_queue.backends.reasoning_tags import ReasoningTags
from assistant_queue.clock import Clock, SystemClock
from assistant_queue.config import Config
from assistant_queue.core import steps
from assistant_queue.core.thread_state import Phase
from assistant_queue.errors import LeaseLost, StoreError
from assistant_queue.logs import bound
from assistant_queue.models import Batch
from assistant_queue.observing import Processing, ended_with
from assistant_queue.store.ops import leases, reply_outbox
from assistant_queue.store.ops.leases import NoLease
from assistant_queue.store.ops.namespaces import namespace_of
from assistant_queue.store.ops.outcomes import DeliveryWish, ResultRules
from assistant_queue.store.ops.reply_outbox import DeliveryLease, DueDelivery
from assistant_queue.store.ops.sweeping import sweep
from assistant_queue.store.rq_jobs import NO_JOB, RqJob, remove_job
from assistant_queue.store.transport.connect import async_from, fresh, sync_from
from assistant_queue.store.transport.stores import AsyncStore, SyncStore
from assistant_queue.user_code.caller import UserCode
from assistant_queue.user_code.error_text import tracebacks
from assistant_queue.user_code.hooks import HookName, Hooks
from assistant_queue.user_code.running_calls import post
from assistant_queue.worker import batch_log, channel_questions, deliverers, hook_values
from assistant_queue.worker.abandoned_deliveries import OpenDeliveries
from assistant_queue.worker.background_room import BackgroundRoom
from assistant_queue.worker.driver import BatchDriver
from assistant_queue.worker.hook_calls import HookCalls
from assistant_queue.worker.job_books import JobBooks
from assistant_queue.worker.lease import LeaseKeeper
from assistant_queue.worker.option_rules import delivers, delivery_rules_of, first_sending, rules_of
from assistant_queue.worker.outage import PASSES, Outage
from assistant_queue.worker.reply_delivery import ReplyDelivery
from assistant_queue.worker.start_pacer import StartPacer
from assistant_queue.worker.startup_checks import check_in
from assistant_queue.worker.wish_listener import WishListener

if TYPE_CHECKING:
    from assistant_queue.worker.delivery_loop import DeliveryLoop

_log = logging.getLogger(__name__)

Probe = Callable[[str, Batch], Any]


def worker_sync_client(config: Config) -> Any:
    """Return a blocking client that only the worker uses."""
    client = sync_from(config.redis, config.redis_url)
    return fresh(client) if client is config.redis else client


def _worker_async_client(config: Config) -> Any:
    client = async_from(config.redis, config.redis_url)
    return fresh(client) if client is config.redis else client


async def _no_probe(_: str, __: Batch) -> None:
    """Do nothing: no test watches the steps."""


class Runtime:
    """Handles wake-ups, one thread each.

    1. waits for the start pacer, claims the thread, waits out the last second of a window in place
    2. has the lease renewed while the driver takes the batch to its end
    3. delivers the reply, or leaves that to the worker's delivery loop; as well the questions of
       channels
    4. has hooks and listeners called, beside the batches
    """

    def __init__(
        self, config: Config, *, clock: Clock | None = None, beside: Runtime | None = None
    ) -> None:
        """Connect to nothing yet.

        Args:
            config: The queue's options.
            clock: For tests.
            beside: A runtime of another queue on the same loop; its provider, connections and
                callback threads are shared. It is closed last.

        Raises:
            ConfigurationError: No backend is configured, or its key is missing.
        """
        self.config = config
        self.clock: Clock = clock or SystemClock()
        self.namespace = namespace_of(config, self.clock)
        # Once: pydantic looks for a private name at length.
        self.observers = config.observers
        self.hooks = config.hooks
        self._is_guest = beside is not None
        self.backend: Backend = beside.backend if beside else make_worker_backend(config)
        self.tags: ReasoningTags | None = beside.tags if beside else make_reasoning_tags(config)
        self.exclusive: asyncio.Lock = beside.exclusive if beside else asyncio.Lock()
        self.rules = rules_of(config, takes_default=config.prompt is None)
        self.result_rules = ResultRules(
            result_ttl_s=config.result_ttl, keep_text=not config.remove_on_complete
        )
        self.room = BackgroundRoom(self)
        self.lease_margin_s = config.lock_duration / 6
        self.store: AsyncStore = (
            beside.store if beside else AsyncStore(_worker_async_client(config))
        )
        self.store.serve(self.namespace)
        self.outage: Outage = beside.outage if beside else Outage()
        self.keeper = LeaseKeeper(
            self.namespace,
            SyncStore(worker_sync_client(config), has_served=True),
            config.lock_duration,
            self.outage,
        )
        self.wishes = WishListener(
            self.namespace, worker_sync_client(config), self.keeper, self.outage
        )
        self.books = JobBooks(self.namespace, config.lock_duration)
        self.code: UserCode = (
            beside.code if beside else UserCode(config.concurrency + config.delivery_concurrency)
        )
        self.deliveries = OpenDeliveries(
            self.namespace,
            lambda: SyncStore(worker_sync_client(config), has_served=True),
            lease_s=config.lock_duration,
            result_ttl_s=config.result_ttl,
            outage=self.outage,
        )
        self.delivers = delivers(config)
        self.delivery_rules = delivery_rules_of(config)
        self.delivery_loop: DeliveryLoop | None = None
        self.questions = channel_questions.ChannelQuestions(self)
        self.worker_name = f"{socket.gethostname()}:{os.getpid()}"
        self.first_send = first_sending(config, self.backend, self.rules, self.worker_name)
        self.is_stopping = False
        self.listens_on_loop = False
        self.listeners = Hooks()
        self.hook_calls: HookCalls = beside.hook_calls if beside else HookCalls()
        self._probe: Callable[[str, Batch], Awaitable[None]] = _no_probe
        self.start_pacer: StartPacer = beside.start_pacer if beside else StartPacer()

    def watch_steps(self, probe: Probe) -> None:
        """Call `probe(name, batch)` around each step: tests wait or crash there."""

        async def watch(name: str, batch: Batch) -> None:
            result = probe(name, batch)
            if inspect.isawaitable(result):
                await result

        self._probe = watch

    @property
    def is_watched(self) -> bool:
        """A test watches the steps: their points need not be passed otherwise."""
        return self._probe is not _no_probe

    async def probe(self, name: str, batch: Batch) -> None:
        """Pass a named point of the driver."""
        await self._probe(name, batch)

    async def close(self) -> None:
        """Close connections, threads and the backend."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self.wishes.close)
        await loop.run_in_executor(None, self.keeper.close)
        if self._is_guest:
            return
        await self.hook_calls.close()
        if self.observers.observer is not None:
            # RQ ends the process of a job without the hooks of the interpreter's exit.
            await loop.run_in_executor(None, self.observers.flush)
        self.code.close()
        await self.backend.close()
        for channel in self.config.channels:
            await channel.previews.closed()
            await channel.close()
        await self.store.close()

    async def check_in(self, *, quietly: bool = False) -> None:
        """Check the queue and its Redis at the start; raise as `startup_checks.check_in` does."""
        await self.store.run(check_in(self.namespace, self.config, quietly=quietly))

    async def sweep(self, limit: int, *, leave: str = "") -> None:
        """Wake a bounded number of overdue threads, `leave` excepted."""
        await self.store.run(sweep(self.namespace, limit, leave=leave))

    async def wake_deliveries(self, limit: int) -> None:
        """Wake a bounded number of threads with replies that no process delivers."""
        if self.delivers:
            await self.store.run(reply_outbox.wake_deliveries(self.namespace, limit))

    async def handle(self, thread_id: str, job: RqJob = NO_JOB) -> steps.Ending | NoLease | None:
        """Handle a wake-up: take the thread's batch as far as it goes.

        Args:
            thread_id: The thread.
            job: The RQ job of the wake-up, if this package's scripts keep RQ's records of it.

        Returns:
            The end of the batch, the reason why there was nothing to do, or None if another worker
            has taken over.
        """
        tracebacks.set(self.config.log_tracebacks)
        token, batch_id = secrets.token_hex(8), secrets.token_hex(12)
        ending: steps.Ending | NoLease | None = None
        failed = True
        due: asyncio.Task[None] | None = None
        if self.delivery_loop is not None:
            self.delivery_loop.kick()
        elif self.delivers:
            due = asyncio.create_task(self.deliver_due(thread_id))
        try:
            await self.start_pacer.wait()
            with bound(thread_id=thread_id):
                ending = await self._take_batch(thread_id, token, batch_id, job)
            if not self.delivers and not hook_values.is_answered(ending):
                await self.deliver_due(thread_id)  # what `say` has put in the outbox
            await self.questions.ask_due()
            failed = False
        finally:
            if due is not None:
                if failed:
                    due.cancel()
                await asyncio.gather(due, return_exceptions=True)
            # A claim takes the job's record; that of a job that claimed nothing is removed.
            if job.worker and not self.books.ended(token, failed=failed):
                with contextlib.suppress(StoreError):  # else the record is left over
                    await asyncio.shield(self.store.run(remove_job(job.id)))
        return ending

    async def _take_batch(
        self, thread_id: str, token: str, batch_id: str, job: RqJob
    ) -> steps.Ending | NoLease | None:
        if self.keeper.outlives_its_lease(thread_id):
            # The batch is in progress here: taken over, it would be sent a second time.
            return NoLease(reason="refused")
        while True:
            claimed_at = self.clock.monotonic()
            lease = await self.store.run(
                leases.claim(
                    self.namespace,
                    thread_id,
                    token=token,
                    batch_id=batch_id,
                    lease_s=self.config.lock_duration,
                    max_take=self.config.max_batch_size or leases.MAX_BATCH,
                    job=job,
                    first_send=self.first_send,
                )
            )
            if not isinstance(lease, NoLease):
                break
            if lease.reason != "early" or lease.wait_ms > leases.EARLY_MS:
                return lease
            # RQ's scheduler works in whole seconds: wait for the rest here, without the lease.
            await asyncio.sleep(lease.wait_ms / 1000)
        if job.worker:
            self.books.began(lease, job)
        with bound(batch_id=lease.claimed.batch.id):
            batch_log.log_takeover(lease)
            return await self._handle(lease, claimed_at)

    async def _handle(self, lease: leases.Lease, claimed_at: float) -> steps.Ending | None:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        config = self.config
        # Long enough for one attempt, the cancelling of its run, and three callbacks: instructions,
        # fallback, delivery. A worker that hangs longer loses the thread.
        deadline_s = (
            config.run_timeout
            + 2 * config.request_timeout
            + 3 * config.callback_limit
            + config.lock_duration
        )

        def on_lost() -> None:
            _log.warning("thread %r: the lease is lost, another worker continues", lease.thread_id)
            post(loop, give_up)

        def give_up() -> None:
            # If the driver has noticed first, the task may be at something else by now, which must
            # not be cancelled.
            if task is not None and not is_over:
                task.cancel()

        is_over = False
        batch = lease.claimed.batch
        is_look = self.rules.background and lease.claimed.phase is Phase.RUNNING
        if not is_look and any(message.wants_reply for message in batch.messages):
            self.emit("started", lease.thread_id, batch.id, lambda: batch)
        held = self.keeper.hold(lease, claimed_at, deadline_s, on_lost)
        driver = BatchDriver(self, held)
        seen = self.observers.begin(
            Processing(queue=config.queue_prefix, batch=batch, deaths=lease.claimed.deaths)
        )
        try:
            with ended_with(seen), seen.active():
                ending = await driver.drive()
                seen.end(batch_log.outcome_of(driver.batch, ending))
        except asyncio.CancelledError:
            if held.is_lost and not _is_cancelled_twice(task):
                return None
            raise
        except (LeaseLost, *PASSES) as error:
            _log.warning("thread %r: %s", lease.thread_id, error)
            return None
        finally:
            is_over = True
            self.keeper.drop(held)
        batch_log.log_end(driver.batch, ending, run_s=self.clock.monotonic() - claimed_at)
        hook_values.emit_end(self, driver.batch, ending)
        if driver.batch.delivery is not None:
            await self._start_delivery(driver.batch.delivery, driver.batch.ended_at)
        return ending

    # --- deliveries -------------------------------------------------------------------------------

    def delivery_wish(self, thread_id: str, *, at_once: bool = True) -> DeliveryWish:
        """Return how the reply of a thread's batch that ends here is to be delivered."""
        loop = self.delivery_loop
        token = secrets.token_hex(8) if loop is None else loop.token(self, thread_id)
        return DeliveryWish(
            token=token if at_once else "",
            lease_s=self.config.lock_duration,
            needs_guard=loop is None,
        )

    def delivery_postponed(self, wait_s: float) -> None:
        """Have the delivery loop look again in time."""
        if self.delivery_loop is not None:
            self.delivery_loop.kick_after(wait_s)

    async def deliver(self, lease: DeliveryLease, claimed_at: float, *, is_claimed: bool) -> None:
        """Deliver a thread's replies under a lease that this worker has taken."""
        deliverer = deliverers.deliverer_of(
            self.config, lease.thread_id, self.code, self.deliveries.keep
        )
        with bound(thread_id=lease.thread_id):
            await ReplyDelivery(self, deliverer).run(lease, claimed_at, is_claimed=is_claimed)

    async def _start_delivery(self, lease: DeliveryLease, claimed_at: float) -> None:
        if self.delivery_loop is not None:
            self.delivery_loop.take(self, lease, claimed_at, is_claimed=False)
            return
        # Writes the wake-up that fires if this process dies; the batch's end has written none.
        await self.store.run(leases.renew(self.namespace, lease, self.config.lock_duration))
        await self.deliver(lease, claimed_at, is_claimed=False)

    async def deliver_due(self, thread_id: str) -> None:
        """Deliver what is due in a thread, in a worker without a delivery loop."""
        due = await self.store.run(reply_outbox.find_check(self.namespace, thread_id))
        if due is None:
            return
        claimed_at = self.clock.monotonic()
        lease = await self.claim_delivery(due, guard=True)
        if lease is not None:
            await self.deliver(lease, claimed_at, is_claimed=True)

    async def claim_delivery(self, due: DueDelivery, *, guard: bool) -> DeliveryLease | None:
        """Take the lease of a delivery that is due; None if it cannot be delivered now."""
        found: DeliveryLease | None = await self.store.run(
            reply_outbox.claim_delivery(
                self.namespace,
                due,
                token=secrets.token_hex(8),
                lease_s=self.config.lock_duration,
                guard=guard,
            )
        )
        return found

    # --- hooks ------------------------------------------------------------------------------------

    def emit(
        self, name: HookName, thread_id: str, batch_id: str, value: Callable[[], object]
    ) -> None:
        """Have the hooks and listeners of a name called with a value; return at once."""
        hooks = (*self.listeners.of(name), *self.hooks.of(name))
        if hooks:
            limit_s = self.config.callback_limit
            self.hook_calls.emit(name, hooks, value(), thread_id, batch_id, limit_s)


def _is_cancelled_twice(task: asyncio.Task[Any] | None) -> bool:
    """Return whether the task was cancelled by the worker's stop, besides the lease keeper."""
    return task is not None and task.cancelling() > 1
