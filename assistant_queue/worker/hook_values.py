"""Values that hooks and listeners are given, and the events of deliveries."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from assistant_queue.approvals import Approval
from assistant_queue.core import steps
from assistant_queue.core.delivery import DeliveryState
from assistant_queue.core.progress import moment
from assistant_queue.core.settlements import OpenCall, approval_of
from assistant_queue.models import (
    DeliveredReply,
    ErrorInfo,
    FailedBatch,
    FailureReason,
    PostponedBatch,
    RunResult,
)
from assistant_queue.store.ops.leases import Lease, NoLease
from assistant_queue.store.ops.reply_outbox import DeliveryLease
from assistant_queue.worker.deliverers import name_of_deliverer
from assistant_queue.worker.leased_batch import LeasedBatch

if TYPE_CHECKING:
    from assistant_queue.worker.runtime import Runtime


def emit_end(runtime: Runtime, batch: LeasedBatch, ending: steps.Ending) -> None:
    """Emit the end of a batch, or of an attempt at it."""
    where = (batch.lease.thread_id, batch.claimed.batch.id)
    if isinstance(ending, steps.Failed):
        runtime.emit("failed", *where, lambda: failed_batch(batch.lease, ending))
    elif isinstance(ending, steps.Postponed):
        runtime.emit("retrying", *where, lambda: postponed_batch(batch, ending))
    elif isinstance(ending, steps.Parked):
        for call in ending.new:
            runtime.emit("approval_requested", *where, partial(asked_for, batch, call))
    elif isinstance(ending, steps.Stopped):
        runtime.emit("stopped", *where, lambda: ending.result)
    elif isinstance(ending, steps.Completed) and is_answered(ending):
        runtime.emit("completed", *where, lambda: ending.result)


def is_answered(ending: steps.Ending | NoLease | None) -> bool:
    """Return whether a run has answered the batch."""
    return isinstance(ending, steps.Completed) and bool(ending.result.run_id)


def asked_for(batch: LeasedBatch, call: OpenCall) -> Approval:
    """Return what `approval_requested` hooks are given."""
    thread_id = batch.lease.thread_id
    return approval_of(thread_id, call.ask(batch.claimed.batch), batch.now_ms(), call.until_ms)


def failed_batch(lease: Lease, ending: steps.Failed) -> FailedBatch:
    """Return what `failed` hooks and listeners are given."""
    batch = lease.claimed.batch
    return FailedBatch(
        batch_id=batch.id,
        thread_id=batch.thread_id,
        message_ids=tuple(message.id for message in batch.messages),
        reason=cast("FailureReason", ending.reason),
        error=ending.error,
        attempts=ending.progress.attempts,
        known_run_id=ending.progress.run_id,
        failed_at=datetime.now(UTC),
    )


def postponed_batch(batch: LeasedBatch, ending: steps.Postponed) -> PostponedBatch:
    """Return what `retrying` hooks are given."""
    progress = batch.progress
    return PostponedBatch(
        batch_id=batch.claimed.batch.id,
        thread_id=batch.lease.thread_id,
        message_ids=tuple(batch.message_ids()),
        state=cast("Any", ending.state.value),
        error=ending.error,
        attempts=progress.attempts,
        known_run_id=progress.run_id,
        retry_at=moment(batch.now_ms() + batch.wait_s * 1000),
    )


def emit_delivered(
    runtime: Runtime, lease: DeliveryLease, result: RunResult | None, state: DeliveryState
) -> None:
    """Emit that a platform has a reply; a queue without a platform delivers nothing."""
    channel = name_of_deliverer(runtime.config, lease.thread_id)
    if result is None or channel is None:
        return
    runtime.emit(
        "delivered",
        lease.thread_id,
        lease.batch_id,
        lambda: DeliveredReply(
            batch_id=lease.batch_id,
            thread_id=lease.thread_id,
            channel=channel,
            tries=state.tries + state.refusals,
            result=result,
        ),
    )


def emit_undelivered(
    runtime: Runtime, lease: DeliveryLease, result: RunResult | None, reason: str, error: ErrorInfo
) -> None:
    """Emit that a reply is in the failed list."""
    runtime.emit(
        "undelivered",
        lease.thread_id,
        lease.batch_id,
        lambda: FailedBatch(
            batch_id=lease.batch_id,
            thread_id=lease.thread_id,
            message_ids=() if result is None else result.message_ids,
            reason=cast("FailureReason", reason),
            error=error,
            attempts=0 if result is None else result.attempts,
            known_run_id=None if result is None else result.run_id or None,
            failed_at=datetime.now(UTC),
        ),
    )
