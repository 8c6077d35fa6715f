"""The log of batches: a line for each end, delivery, and failure with what happens next."""

from __future__ import annotations

import logging
from typing import Any

from assistant_queue.accounting import ErrorInfo
from assistant_queue.core import steps
from assistant_queue.core.thread_state import ThreadState
from assistant_queue.logs import BATCHES, as_words
from assistant_queue.models import RunResult
from assistant_queue.observing import Outcome
from assistant_queue.store.ops.leases import Lease
from assistant_queue.worker.leased_batch import LeasedBatch

log = logging.getLogger(BATCHES)


def log_takeover(lease: Lease) -> None:
    """Log that a worker left the batch unfinished: it died, or was stopped for too long."""
    claimed = lease.claimed
    if claimed.deaths:
        log.warning(
            "thread %r: a worker that had batch %s is over or lost its lease (%d in this phase); "
            "it continues here from phase %s",
            lease.thread_id,
            claimed.batch.id,
            claimed.deaths,
            claimed.phase.value,
            extra={
                "thread_id": lease.thread_id,
                "batch_id": claimed.batch.id,
                "deaths": claimed.deaths,
            },
        )


def log_end(batch: LeasedBatch, ending: steps.Ending, *, run_s: float) -> None:
    """Log the end of a batch, or of an attempt at it; texts are not logged.

    Args:
        batch: The batch, as far as this worker took it.
        ending: Its end.
        run_s: Seconds that this worker had it.
    """
    if not isinstance(ending, steps.Failed) and not log.isEnabledFor(logging.INFO):
        return  # a program that does not log at INFO does not pay for it
    fields = _fields(batch, ending, run_s)
    if isinstance(ending, steps.Postponed):
        _log_postponed(batch, ending, fields)
        return
    if isinstance(ending, steps.AtWork) and not ending.run_id:
        log.info(
            "thread %r: %s, batch %s is not sent for %.0f s",
            batch.lease.thread_id,
            NO_ROOM,
            batch.claimed.batch.id,
            batch.wait_s,
            extra=fields,
        )
        return
    if isinstance(ending, steps.Parked):
        _log_parked(batch, ending, fields)
        return
    if isinstance(ending, steps.Failed):
        _log_failed(batch, ending, fields)
    log.info("%s", as_words(fields), extra=fields)


def log_delivered(result: RunResult, delivery_s: float) -> None:
    """Log that the platform has accepted a reply, after so many seconds."""
    if not log.isEnabledFor(logging.INFO):
        return
    fields = {
        "thread_id": result.thread_id,
        "batch_id": result.batch_id,
        "delivery_ms": round(delivery_s * 1000),
        "outcome": "delivered",
    }
    log.info("%s", as_words(fields), extra=fields)


def outcome_of(batch: LeasedBatch, ending: steps.Ending) -> Outcome:
    """Return the end of a batch, or of an attempt at it, for the queue's observer."""
    if isinstance(ending, steps.Completed | steps.Stopped):
        result = ending.result
        return Outcome(
            status=result.status,
            run_id=result.run_id,
            attempts=result.attempts,
            usage=result.usage,
            model=result.model,
        )
    if isinstance(ending, steps.AtWork):
        return Outcome(
            status=ThreadState.PARKED.value,
            run_id=ending.run_id,
            attempts=batch.progress.attempts,
            usage=batch.progress.usage,
        )
    if isinstance(ending, steps.Parked):
        waiting = batch.progress
        return Outcome(status="parked", run_id=waiting.run_id, attempts=waiting.attempts)
    progress = ending.progress if isinstance(ending, steps.Failed) else batch.progress
    return Outcome(
        status="failed" if isinstance(ending, steps.Failed) else ending.state.value,
        error=ending.error.code,
        run_id=progress.run_id,
        attempts=progress.attempts,
        usage=progress.usage,
    )


NO_ROOM = "too many runs are at work in the background"

_MOST_REQUESTS = 20
"""Ids of requests in one line. Chosen: more than a burst has, and a line that is still read."""


def _fields(batch: LeasedBatch, ending: steps.Ending, run_s: float) -> dict[str, Any]:
    claimed = batch.claimed
    messages = claimed.batch.messages
    if isinstance(ending, steps.Completed | steps.Stopped):
        result = ending.result
        run_id: str | None = result.run_id
        attempts = result.attempts
        usage = result.usage
        outcome: str = result.status
    else:
        progress = ending.progress if isinstance(ending, steps.Failed) else batch.progress
        run_id = progress.run_id
        attempts = progress.attempts
        usage = progress.usage
        outcome = _word_of(ending)
    fields: dict[str, Any] = {
        "thread_id": batch.lease.thread_id,
        "batch_id": claimed.batch.id,
        "run_id": run_id,
        "messages": len(messages),
        "wait_ms": _wait_ms(batch),
        "run_ms": round(run_s * 1000),
        "attempts": attempts,
        "tokens": None if usage is None else usage.total_tokens,
        "outcome": outcome,
    }
    requests = [message.request_id for message in messages if message.request_id]
    if requests:
        fields["request_ids"] = list(dict.fromkeys(requests))[:_MOST_REQUESTS]
    return fields


def _word_of(ending: steps.Failed | steps.Postponed | steps.AtWork | steps.Parked) -> str:
    if isinstance(ending, steps.AtWork | steps.Parked):
        return ThreadState.PARKED.value
    return "failed" if isinstance(ending, steps.Failed) else ending.state.value


def _wait_ms(batch: LeasedBatch) -> int | None:
    """Return the time from the oldest message to the first claim; None if version 0.1 added it."""
    times = [message.queued_at for message in batch.claimed.batch.messages if message.queued_at]
    if not times:
        return None
    return max(0, batch.claimed.claimed_ms - round(min(times).timestamp() * 1000))


def _log_failed(batch: LeasedBatch, ending: steps.Failed, fields: dict[str, Any]) -> None:
    pauses = batch.runtime.config.after_failure == "pause"
    log.error(
        "thread %r: batch %s goes to the failed list (%s): %s; %s: "
        "assistant-queue failed retry %s, or discard",
        batch.lease.thread_id,
        batch.claimed.batch.id,
        ending.reason,
        ending.error.message,
        "the thread is paused" if pauses else "the thread continues without it",
        batch.claimed.batch.id,
        extra={**fields, "reason": ending.reason, **_error(ending.error)},
    )


def _log_postponed(batch: LeasedBatch, ending: steps.Postponed, fields: dict[str, Any]) -> None:
    wait_s = batch.wait_s
    log.info(
        "thread %r is %s: %s; batch %s is looked at again in %.1f s, after %d attempt(s)",
        batch.lease.thread_id,
        ending.state.value,
        ending.error.message,
        batch.claimed.batch.id,
        wait_s,
        fields["attempts"],
        extra={**fields, "next_in_ms": round(wait_s * 1000), **_error(ending.error)},
    )


def _log_parked(batch: LeasedBatch, ending: steps.Parked, fields: dict[str, Any]) -> None:
    calls = ", ".join(call.id for call in ending.calls)
    log.info(
        "thread %r is parked: batch %s waits for %s, and is looked at again in %.1f s at the latest",
        batch.lease.thread_id,
        batch.claimed.batch.id,
        f"answers to {calls}" if calls else "its run",
        batch.wait_s,
        extra={**fields, "next_in_ms": round(batch.wait_s * 1000)},
    )


def _error(error: ErrorInfo) -> dict[str, str]:
    return {"error_code": error.code, "error": error.message}
