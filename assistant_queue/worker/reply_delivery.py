"""Delivery of a thread's replies by the worker that holds their lease."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from assistant_queue.channels.base import Deliverer
from assistant_queue.core.delivery import (
    DeliveryDecision,
    DeliveryOpen,
    DeliveryState,
    judge,
    was_tried,
)
from assistant_queue.errors import (
    AssistantQueueError,
    CallbackError,
    LeaseLost,
    NotReplicated,
    RetryLater,
    Undeliverable,
)
from assistant_queue.models import RunResult
from assistant_queue.store.calls import Operation
from assistant_queue.store.ops import delivery_marks, reply_outbox
from assistant_queue.store.ops.replication import REPLICA_WAIT_S
from assistant_queue.store.ops.reply_outbox import DeliveryLease
from assistant_queue.user_code.error_text import log_raised, said, words_of
from assistant_queue.user_code.running_calls import post
from assistant_queue.worker.batch_log import log_delivered
from assistant_queue.worker.deliverers import (
    StoredProgress,
    batch_of,
    deliver_observed,
    most_deaths,
    name_of_deliverer,
    result_of,
)
from assistant_queue.worker.hook_values import emit_delivered, emit_undelivered
from assistant_queue.worker.lease import HeldLease
from assistant_queue.worker.outage import PASSES
from assistant_queue.worker.store_writes import ensure_lease, write

if TYPE_CHECKING:
    from assistant_queue.worker.runtime import Runtime

_log = logging.getLogger(__name__)

Held = HeldLease[DeliveryLease]


class ReplyDelivery:
    """Delivers the replies of one thread, one after the other.

    1. has the lease renewed while the platform is asked
    2. calls nothing before an abandoned call for the same reply has ended
    3. stores what follows from a failure: another try, or the failed list
    4. continues with the next reply under the same lease, unless the worker stops
    """

    def __init__(self, runtime: Runtime, deliverer: Deliverer) -> None:
        """Deliver nothing yet."""
        self._runtime = runtime
        self._deliverer = deliverer
        self._config = runtime.config
        self._was_marked_done = False

    async def run(self, lease: DeliveryLease, claimed_at: float, *, is_claimed: bool) -> None:
        """Deliver the reply at the head of the line, and those after it.

        Args:
            lease: Of the first reply.
            claimed_at: The monotonic time just before it was taken.
            is_claimed: Another worker may have tried this reply.

        Raises:
            asyncio.CancelledError: The worker stops; the reply was handed back.
        """
        following: DeliveryLease | None = lease
        while following is not None:
            began_at = self._runtime.clock.monotonic()
            following = await self._take_turn(following, claimed_at, is_claimed=is_claimed)
            # The next lease was taken by a write that came later.
            claimed_at = began_at
            is_claimed = False

    async def _take_turn(
        self, lease: DeliveryLease, claimed_at: float, *, is_claimed: bool
    ) -> DeliveryLease | None:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        is_over = False

        def give_up() -> None:
            if task is not None and not is_over:
                task.cancel()

        held = self._runtime.keeper.hold(
            lease, claimed_at, self._deadline_s(), lambda: post(loop, give_up)
        )
        progress = StoredProgress(
            lease.state,
            lambda state: self._save(held, state),
            None if lease.reply is None else lease.reply.preview,
            observers=self._config.observers,
        )
        try:
            return await self._deliver(held, progress, is_claimed=is_claimed)
        except asyncio.CancelledError:
            if held.is_lost and (task is None or task.cancelling() <= 1):
                return None
            await self._hand_back(held, progress.state)
            raise
        except (LeaseLost, *PASSES) as error:
            _log.warning("thread %r, batch %s: %s", lease.thread_id, lease.batch_id, error)
            return None
        finally:
            is_over = True
            self._runtime.keeper.drop(held)

    def _deadline_s(self) -> float:
        """Return the seconds after which the lease is not renewed any more."""
        limit_s = max(self._config.callback_limit, self._config.run_timeout)
        return limit_s + 2 * self._config.lock_duration

    async def _deliver(
        self, held: Held, progress: StoredProgress, *, is_claimed: bool
    ) -> DeliveryLease | None:
        result = await result_of(self._runtime.store, self._runtime.namespace, held.lease)
        self._was_marked_done = False
        error: Exception
        try:
            await self._attempt(held, result, progress, is_claimed=is_claimed)
        except NotReplicated as problem:
            error = problem
        except (LeaseLost, *PASSES):
            raise
        except Exception as problem:  # noqa: BLE001 - a channel may raise anything
            error = problem
        else:
            following: DeliveryLease | None = await self._settle(
                "Delivered", held, lambda: self._delivered(held, progress.state)
            )
            emit_delivered(self._runtime, held.lease, result, progress.state)
            return following
        return await self._after_failure(held, result, progress.state, error)

    async def _attempt(
        self,
        held: Held,
        result: RunResult | None,
        progress: StoredProgress,
        *,
        is_claimed: bool,
    ) -> None:
        lease = held.lease
        if result is None:
            raise Undeliverable("its record in Redis was changed by another program")
        if lease.deaths >= most_deaths(self._deliverer):
            raise Undeliverable(f"{lease.deaths} workers died in its delivery")
        may_be_open = is_claimed or lease.deaths > 0 or lease.state != DeliveryState()
        if may_be_open and await self._has_been_delivered(held):
            return
        batch = batch_of(lease)
        async with AsyncExitStack() as stack:
            if lease.deaths:
                await self._runtime.probe("before EnterExclusive", batch)
                # Two suspects at once would be blamed for each other's crash.
                await stack.enter_async_context(self._runtime.exclusive)
                await self._save(held, progress.state)
            if self._config.durability == "replicated":
                await self._replicate(held)
            await self._runtime.probe("before Deliver", batch)
            await ensure_lease(
                self._runtime,
                held,
                f"the delivery of batch {lease.batch_id!r} of thread {lease.thread_id!r}",
            )
            began_at = self._runtime.clock.monotonic()
            try:
                await deliver_observed(self._config, self._deliverer, result, progress)
            except Exception as error:
                if isinstance(error, DeliveryOpen):
                    # Before the reply is released: its next holder must know.
                    await self._announce(held)
                await self._runtime.probe("after Deliver", batch)
                raise
            log_delivered(result, self._runtime.clock.monotonic() - began_at)
            await self._runtime.probe("after Deliver", batch)

    async def _has_been_delivered(self, held: Held) -> bool:
        """Return whether an abandoned call has returned since.

        Raises:
            DeliveryOpen: It is still running, here or in another process.
        """
        runtime = self._runtime
        found = await write(
            runtime, held, lambda: delivery_marks.look(runtime.namespace, held.lease.batch_id)
        )
        if held.lease.batch_id in runtime.deliveries or found == delivery_marks.OPEN:
            raise DeliveryOpen("an earlier call for this reply is still running", is_new=False)
        self._was_marked_done = found == delivery_marks.DONE
        return self._was_marked_done

    async def _replicate(self, held: Held) -> None:
        """Wait until a replica has the reply: a failover must not forget a delivered one."""
        runtime = self._runtime
        lease_s = self._config.lock_duration
        if not await write(
            runtime,
            held,
            lambda: reply_outbox.renew_on_replica(runtime.namespace, held.lease, lease_s),
        ):
            raise NotReplicated(
                f"thread {held.lease.thread_id!r}: the reply did not reach a replica of Redis within "
                f"{REPLICA_WAIT_S:g} s; it is not delivered before one has it: check that a "
                "replica is connected"
            )

    async def _announce(self, held: Held) -> None:
        runtime = self._runtime
        await write(
            runtime,
            held,
            lambda: delivery_marks.announce(
                runtime.namespace, held.lease.batch_id, self._config.lock_duration
            ),
        )

    async def _save(self, held: Held, state: DeliveryState) -> None:
        await write(
            self._runtime,
            held,
            lambda: reply_outbox.save_delivery(self._runtime.namespace, held.lease, state),
        )

    # --- the end of a try -------------------------------------------------------------------------

    async def _settle(
        self,
        step: str,
        held: Held,
        operation: Callable[[], Operation[Any]],
    ) -> Any:
        await self._runtime.probe(f"before {step}", batch_of(held.lease))
        held.is_ending = True
        answer = await write(self._runtime, held, operation)
        await self._runtime.probe(f"after {step}", batch_of(held.lease))
        return answer

    def _delivered(self, held: Held, state: DeliveryState) -> Operation[DeliveryLease | None]:
        following = yield from reply_outbox.delivered(
            self._runtime.namespace,
            held.lease,
            held.guard_id,
            result_ttl_s=self._config.result_ttl,
            lease_s=self._config.lock_duration,
            takes_next=not self._runtime.is_stopping,
            state=state,
            channel=name_of_deliverer(self._config, held.lease.thread_id),
        )
        if self._was_marked_done:
            yield from delivery_marks.clear(self._runtime.namespace, held.lease.batch_id)
        return following

    async def _after_failure(
        self, held: Held, result: RunResult | None, state: DeliveryState, error: Exception
    ) -> DeliveryLease | None:
        lease = held.lease
        runtime = self._runtime
        where = (lease.thread_id, lease.batch_id)
        channel = name_of_deliverer(self._config, lease.thread_id)
        if not isinstance(error, AssistantQueueError):
            log_raised(_log, "thread %r, batch %s: the channel raised", *where, error=error)
            error = CallbackError(f"the channel raised {said(error)}")
        if isinstance(error, RetryLater) and lease.state.unsure is None:
            state = replace(state, unsure=None)  # the part that this try began was refused
        words = words_of(error)  # the function, or the platform, may have said secrets
        verdict = judge(error, state, runtime.delivery_rules, self._waited_s(lease), words)
        if verdict.decision in {DeliveryDecision.PARK, DeliveryDecision.GIVE_UP}:
            is_unknown = verdict.decision is DeliveryDecision.PARK
            reason = "delivery_unknown" if is_unknown else "undelivered"
            assert verdict.state.error is not None
            _log.error(
                "thread %r, batch %s: the reply goes to the failed list (%s): %s",
                *where,
                reason,
                words,
            )
            info = verdict.state.error
            following: DeliveryLease | None = await self._settle(
                "Park",
                held,
                lambda: reply_outbox.park_delivery(
                    runtime.namespace,
                    lease,
                    held.guard_id,
                    reason=reason,
                    error=info,
                    state=verdict.state,
                    lease_s=self._config.lock_duration,
                    takes_next=not runtime.is_stopping,
                    channel=channel,
                ),
            )
            emit_undelivered(runtime, lease, result, reason, info)
            return following
        _log.warning(
            "thread %r, batch %s: the reply is delivered again in %.1f s: %s",
            *where,
            verdict.wait_s,
            words,
        )
        await self._settle(
            "Postpone",
            held,
            lambda: reply_outbox.postpone_delivery(
                runtime.namespace,
                lease,
                verdict.state,
                verdict.wait_s,
                channel=channel if was_tried(error) else None,
            ),
        )
        runtime.delivery_postponed(verdict.wait_s)
        return None

    def _waited_s(self, lease: DeliveryLease) -> float:
        if lease.reply is None:
            return 0.0
        store_ms = self._runtime.clock.store_now_ms()
        return ((lease.now_ms if store_ms is None else store_ms) - lease.reply.since_ms) / 1000

    async def _hand_back(self, held: Held, state: DeliveryState) -> None:
        """Release the reply, with what was sent of it, because the worker stops.

        Its call may still run on a thread.
        """
        lease = held.lease
        if held.is_lost or held.is_ending:
            return

        async def release() -> None:
            if lease.batch_id in self._runtime.deliveries:
                await self._announce(held)
            after = replace(state, refusals=state.refusals + 1)
            await self._runtime.store.run(
                reply_outbox.postpone_delivery(self._runtime.namespace, lease, after, 0.0)
            )

        with contextlib.suppress(AssistantQueueError):  # else the lease lapses
            await asyncio.shield(release())
