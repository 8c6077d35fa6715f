"""Handlers of the steps that only write to Redis."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from assistant_queue.channels.live_replies import LiveReply
from assistant_queue.core import steps
from assistant_queue.core.runs import FoundBy
from assistant_queue.core.settlements import Settlement
from assistant_queue.core.thread_state import Phase
from assistant_queue.core.wishes import Wish
from assistant_queue.store.calls import Operation
from assistant_queue.store.ops import (
    batch_changes,
    event_log,
    leases,
    outcomes,
    parking,
    runs_at_work,
    settling,
)
from assistant_queue.worker.leased_batch import LeasedBatch

_log = logging.getLogger(__name__)


class StoreSteps:
    """Stores how far the batch is, its result, or its failure."""

    def __init__(self, batch: LeasedBatch, live: LiveReply | None = None) -> None:
        """Write nothing yet; `live` shows the reply on a chat platform."""
        self._batch = batch
        self._live = live
        self._runtime = batch.runtime
        self._namespace = batch.runtime.namespace

    async def trim(self, step: steps.Trim) -> None:
        """Leave the later messages to the next batch."""
        batch = self._batch
        ttl_s = self._runtime.config.result_ttl
        await batch.write(
            lambda: batch_changes.trim(self._namespace, batch.lease, step.keep, result_ttl_s=ttl_s)
        )
        batch.keep(step.keep)

    async def join(self, step: steps.Join) -> steps.Joined:
        """Let the messages that wait join the batch."""
        batch = self._batch
        config = self._runtime.config
        most = config.max_batch_size or leases.MAX_BATCH
        messages, unreadable, wish = await batch.write(
            lambda: batch_changes.join(
                self._namespace,
                batch.lease,
                step.phase,
                step.progress,
                most=most,
                most_chars=config.max_batch_chars,
                own_authors=config.separate_authors is not False,
                event=step.event,
                run_id=step.run_id,
            )
        )
        batch.joined_by(messages)
        batch.held.wish_obeyed(wish)
        batch.phase = step.phase
        batch.progress = step.progress
        return steps.Joined(messages=messages, unreadable=unreadable)

    async def read_revisions(self, _: steps.ReadRevisions) -> steps.Revisions:
        """Read the edits and removals of the batch's messages."""
        messages, count = await self._batch.write(
            lambda: batch_changes.read_revisions(self._namespace, self._batch.lease)
        )
        return steps.Revisions(messages=messages, count=count)

    async def revise(self, step: steps.Revise) -> bool:
        """Make the edits and removals."""
        batch = self._batch
        done: bool = await batch.write(
            lambda: batch_changes.make_revisions(
                self._namespace,
                batch.lease,
                step.phase,
                step.progress,
                messages=step.messages,
                revisions=step.revisions.messages,
                count=step.revisions.count,
                result_ttl_s=self._runtime.config.result_ttl,
            )
        )
        if done:
            seen = batch.seen
            batch.joined_by(step.messages)
            batch.seen = seen
            batch.phase = step.phase
            batch.progress = step.progress
        return done

    async def refuse(self, step: steps.DeclineInterrupt) -> None:
        """Publish that the batch is not interrupted."""
        batch = self._batch
        await batch.write(lambda: batch_changes.refuse(self._namespace, batch.lease, step.reason))
        batch.refused()

    async def save(self, step: steps.Save) -> None:
        """Store phase and progress, and publish the events of the round."""
        batch = self._batch
        if batch.is_sent_by_claim(step):  # the messages are marked with the next write
            batch.phase = step.phase
            batch.progress = step.progress
            return
        marks = [] if batch.is_marked else batch.message_ids()
        batch_id = batch.claimed.batch.id
        run_id = step.progress.run_id or ""
        outputs = step.progress.outputs
        news = [event_log.tool_called(batch_id, run_id, call) for call in step.asked]
        news += [
            event_log.tool_answered(batch_id, run_id, call_id, outputs[call_id])
            for call_id in step.answered
        ]
        to_replica = step.leaves and self._runtime.config.durability == "replicated"
        saved: leases.Saved = await batch.write(
            lambda: leases.save(
                self._namespace,
                self._batch.lease,
                step.phase,
                step.progress,
                marks,
                to_replica=to_replica,
                new_events=news,
            )
        )
        batch.held.listened = saved.has_subscribers
        batch.held.note_wish(saved.wish)
        batch.is_marked = True
        batch.phase = step.phase
        batch.progress = step.progress

    async def finish(self, step: steps.Finish) -> None:
        """End the batch and give the lease back."""
        if step.undelivered is not None:
            _log.error(
                "thread %r, batch %s: there is no reply to deliver: %s",
                self._batch.lease.thread_id,
                step.result.batch_id,
                step.undelivered.message,
            )
        rules = self._runtime.result_rules
        # An abandoned call of a version 0.1 worker may still run: its delivery is claimed.
        is_ours = self._batch.claimed.phase is not Phase.DELIVERING
        wish = (
            self._runtime.delivery_wish(self._batch.lease.thread_id, at_once=is_ours)
            if step.delivers
            else None
        )
        preview = None if self._live is None else self._live.hand_over()
        await self._end(
            wish,
            lambda: outcomes.finish(
                self._namespace,
                self._batch.lease,
                guard_id=self._batch.held.guard_id,
                result=step.result,
                anchor=step.anchor,
                rules=rules,
                tools=self._batch.progress.tools,
                shown=self._batch.progress.shown,
                delivery=wish,
                preview=preview,
                is_lost=step.undelivered is not None,
                seen=self._batch.seen,
            ),
        )

    async def stop(self, step: steps.Stop) -> None:
        """End a batch that was to be stopped, and give the lease back."""
        await self._batch.release(
            lambda: outcomes.stopped(
                self._namespace,
                self._batch.lease,
                guard_id=self._batch.held.guard_id,
                result=step.result,
                anchor=step.anchor,
                keep_anchor=step.keep_anchor,
                open_calls=step.open_calls,
                rules=self._runtime.result_rules,
                tools=self._batch.progress.tools,
            )
        )

    async def _end(
        self,
        wish: outcomes.DeliveryWish | None,
        operation: Callable[[], Operation[outcomes.Ended]],
    ) -> None:
        self._batch.ended_at = self._runtime.clock.monotonic()
        try:
            ended: outcomes.Ended = await self._batch.release(operation)
            self._batch.delivery = ended.delivery
        finally:
            loop = self._runtime.delivery_loop
            if wish is not None and loop is not None and self._batch.delivery is None:
                loop.release(
                    wish.token
                )  # another reply is delivered before it, or the lease is lost

    async def postpone(self, step: steps.Postpone) -> None:
        """Give the lease back; the batch is continued later."""
        self._batch.wait_s = step.wait_s
        await self._batch.release(
            lambda: leases.postpone(
                self._namespace,
                self._batch.lease,
                state=step.state,
                wait_s=step.wait_s,
                phase=step.phase,
                progress=step.progress,
                failed=step.failed,
                seen=self._batch.seen,
            )
        )

    async def await_run(self, step: steps.AwaitRun) -> None:
        """Give the lease back; the batch is parked while the provider works."""
        self._batch.wait_s = step.wait_s
        await self._batch.release(
            lambda: runs_at_work.await_run(
                self._namespace,
                self._batch.lease,
                run_id=step.run_id,
                wait_s=step.wait_s,
                most_s=step.most_s,
                phase=step.phase,
                progress=step.progress,
                seen=self._batch.seen,
            )
        )

    async def park(self, step: steps.ParkBatch) -> bool:
        """Give the lease back; the batch waits without a worker."""
        self._batch.wait_s = step.wait_s
        questions = self._runtime.questions
        asks = questions.channel_of(self._batch.lease.thread_id) is not None
        done: bool = await self._batch.release(
            lambda: parking.park(
                self._namespace,
                self._batch.lease,
                wait_s=step.wait_s,
                phase=step.phase,
                progress=step.progress,
                calls=step.calls,
                new=step.new,
                seen=self._batch.seen,
                asks=asks,
            )
        )
        if asks:
            questions.kick()
        return done

    async def read_settlements(self, step: steps.ReadSettlements) -> Mapping[str, Settlement]:
        """Read what came of calls that are answered from outside."""
        found: Mapping[str, Settlement] = await self._batch.write(
            lambda: settling.read_settlements(self._namespace, step.ids, step.expired)
        )
        await self._runtime.questions.show(self._batch.lease.thread_id, found)
        return found

    async def close_calls(self, step: steps.CloseCalls) -> None:
        """Remove the texts of calls that need no answer any more."""
        ttl_s = self._runtime.config.result_ttl
        await self._batch.write(
            lambda: parking.close(self._namespace, self._batch.lease, step.ids, ttl_s)
        )
        self._runtime.questions.kick()

    async def bury(self, step: steps.Bury) -> None:
        """Move the batch to the failed list and give the lease back."""
        wish = (
            self._runtime.delivery_wish(self._batch.lease.thread_id)
            if step.result is not None
            else None
        )
        ended_ms = self._batch.now_ms()
        await self._end(
            wish,
            lambda: outcomes.bury(
                self._namespace,
                self._batch.lease,
                self._batch.held.guard_id,
                reason=step.reason,
                error=step.error,
                progress=step.progress,
                message_ids=self._batch.message_ids(),
                open_calls=step.open_calls,
                fallback=step.fallback,
                result=step.result,
                delivery=wish,
                pause=self._runtime.config.after_failure == "pause",
                ended_ms=ended_ms,
                keep_anchor=self._runtime.backend.capabilities.found_by is FoundBy.NOT_AT_ALL,
                seen=Wish.STOP if step.even_stopped else self._batch.seen,
            ),
        )
