"""Status of a message, from its record, its batch's record and its thread. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast, get_args

from assistant_queue.core.account import load_timeline, time_of, timeline_of, with_account
from assistant_queue.core.progress import Progress, load_error, load_result
from assistant_queue.core.settlements import open_calls
from assistant_queue.core.stored_rows import load_usage
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.models import (
    DeliveryStatus,
    MessageState,
    MessageStatus,
    RunResult,
    ThreadStateName,
    Timeline,
)
from assistant_queue.store.calls import whole_number
from assistant_queue.store.message_codec import unpack_labels
from assistant_queue.store.ops.packed_fields import PROGRESS, progress_in

RECORD = ("thread", "batch", "state", "seq", "at", "due", "labels", "said")
"""Fields that are read of a message's record."""

OUTCOME = ("state", "result", "failure", "account", "delivery", "delivered_at")
"""Fields that are read of a batch's record."""

BATCH = ("batch", "state", "claimed", "was_due", "phase", "shut", "asks", *PROGRESS)
"""Fields that are read of the thread of a message in a batch."""

LINE = ("head", "state", "due", "own_due", *BATCH)
"""Fields that are read of the thread of a message that waits, or is about to be sent."""

_DELIVERY = frozenset(get_args(DeliveryStatus))


def known_of(message_id: str, record: Mapping[str, str]) -> MessageStatus:
    """Return what a message's record has: its labels, and a batch if it is in one."""
    labels = unpack_labels(record["labels"])
    queued_at = time_of(whole_number(record["at"]))
    due_at = time_of(whole_number(record["due"]))
    batch_id = record["batch"] or None
    return MessageStatus(
        message_id=message_id,
        thread_id=record["thread"],
        status=MessageState.PROCESSING.value if batch_id else MessageState.QUEUED.value,
        batch_id=batch_id,
        author=labels.author,
        metadata=labels.metadata,
        tenant=labels.tenant,
        queued_at=queued_at,
        due_at=due_at,
        timeline=Timeline(queued_at=queued_at, due_at=due_at),
    )


def waiting_status(status: MessageStatus, seq: str, line: Sequence[str]) -> MessageStatus:
    """Return the status of a message without a mark of its batch.

    It waits, or it is in a batch whose request has no answer yet. The error of one that was not
    sent is why not.

    Raises:
        ValueError: The progress cannot be read.
    """
    thread = dict(zip(LINE, line, strict=True))
    head = thread["head"]
    is_taken = (
        bool(thread["batch"])
        and seq.lstrip("-").isdigit()
        and head.lstrip("-").isdigit()
        and int(seq) < int(head)
    )
    if not is_taken:
        due_ms = whole_number(thread["own_due"])
        if thread["state"] == ThreadState.RETRYING.value:
            due_ms = max(due_ms, whole_number(thread["due"]))
        return _due(status, due_ms)
    progress = Progress.load(progress_in(thread))
    # Marked as sent by its claim, which leaves the messages to the next write.
    is_sent = thread["phase"] == Phase.SENDING and progress.sent_ms > 0
    if progress.attempts and (is_sent or thread["state"] == ThreadState.RETRYING):
        return _at_work(replace(status, batch_id=thread["batch"]), progress, thread)
    return replace(_in_batch(status, progress, thread), error=progress.error)


def settled_or_taken(
    status: MessageStatus, outcome: Sequence[str], thread: Sequence[str]
) -> MessageStatus | None:
    """Return the status of a message in a batch; None if its batch has just ended.

    Raises:
        ValueError, TypeError, KeyError, IndexError: The batch's record cannot be read.
    """
    record = dict(zip(OUTCOME, outcome, strict=True))
    batch = dict(zip(BATCH, thread, strict=True))
    if record["state"] == "completed":
        is_pending = batch["batch"] == status.batch_id and batch["phase"] == Phase.DELIVERING.value
        delivery = _delivery(record, is_pending=is_pending)
        if not record["result"]:
            # The record expired, and was written again when the reply could not be delivered.
            return replace(status, status=MessageState.COMPLETED.value, delivery=delivery)
        return _completed(status, result_of(outcome), delivery)
    if record["state"] == "stopped":
        stopped = _completed(status, result_of(outcome), "none")
        return replace(stopped, status=MessageState.CANCELLED.value)
    if record["state"]:
        return _failed(status, record)
    if batch["batch"] != status.batch_id:
        return None
    return _at_work(status, Progress.load(progress_in(batch)), batch)


def as_said(status: MessageStatus, outcome: Sequence[str]) -> MessageStatus:
    """Return the status of a reply of `say` with its text and its delivery.

    Raises:
        ValueError, TypeError, KeyError, IndexError: The record of its delivery cannot be read.
    """
    record = dict(zip(OUTCOME, outcome, strict=True))
    if not record["result"]:
        return status  # expired
    result = result_of(outcome)
    return replace(
        status,
        reply=result.reply,
        replies=result.replies,
        delivery=_delivery(record),
        timeline=replace(status.timeline, delivered_at=result.timeline.delivered_at),
    )


def result_of(outcome: Sequence[str]) -> RunResult:
    """Return the result in a batch's record.

    Raises:
        ValueError, TypeError, KeyError, IndexError: It cannot be read.
    """
    record = dict(zip(OUTCOME, outcome, strict=True))
    account = json.loads(record["account"] or "{}")
    delivered_ms = whole_number(record["delivered_at"])
    return with_account(load_result(json.loads(record["result"])), account, delivered_ms)


def _completed(status: MessageStatus, result: RunResult, delivery: DeliveryStatus) -> MessageStatus:
    return replace(
        _timed(status, result.timeline),
        status=MessageState.COMPLETED.value,
        run_id=result.run_id,
        reply=result.reply,
        replies=result.replies,
        attempts=result.attempts,
        usage=result.usage,
        delivery=delivery,
        answered_by=result.answered_by,
    )


def _failed(status: MessageStatus, record: Mapping[str, str]) -> MessageStatus:
    failure: dict[str, Any] = json.loads(record["failure"])
    fallback = failure.get("fallback")
    usage = failure.get("usage")
    timeline = replace(
        load_timeline(failure.get("account", {})),
        delivered_at=time_of(whole_number(record["delivered_at"])),  # of the fallback
    )
    return replace(
        _timed(status, timeline),
        status=MessageState.FAILED.value,
        reply=fallback,
        replies=() if fallback is None else (fallback,),
        fallback=fallback is not None,
        run_id=failure["known_run_id"],
        attempts=failure["attempts"],
        error=load_error(failure["error"]),
        usage=None if usage is None else load_usage(usage),
        delivery=_delivery(record),
    )


def _in_batch(
    status: MessageStatus, progress: Progress, thread: Mapping[str, str]
) -> MessageStatus:
    timeline = timeline_of(
        (),
        progress,
        claimed_ms=whole_number(thread["claimed"]),
        due_ms=whole_number(thread["was_due"]),
    )
    return _timed(status, timeline)


def _at_work(status: MessageStatus, progress: Progress, thread: Mapping[str, str]) -> MessageStatus:
    waits = thread["state"] == ThreadState.RETRYING.value
    return replace(
        _in_batch(status, progress, thread),
        status="queued" if waits else "processing",
        run_id=progress.run_id,
        attempts=progress.attempts,
        error=progress.error,
        usage=progress.usage,
        approval=_open_call(progress, thread),
    )


def _open_call(progress: Progress, thread: Mapping[str, str]) -> str | None:
    """Return the first call for which the thread's batch waits, if there is one."""
    calls = open_calls(progress, thread["batch"], thread["shut"], thread["asks"])
    return calls[0] if calls else None


def _timed(status: MessageStatus, timeline: Timeline) -> MessageStatus:
    """Return the status with the times of its batch, and its own where it has some."""
    due_at = timeline.due_at or status.due_at
    own = replace(timeline, queued_at=status.queued_at, due_at=due_at)
    return replace(status, timeline=own, due_at=due_at)


def _due(status: MessageStatus, due_ms: int) -> MessageStatus:
    due_at = time_of(due_ms) or status.due_at
    return replace(status, due_at=due_at, timeline=replace(status.timeline, due_at=due_at))


def _delivery(record: Mapping[str, str], *, is_pending: bool = False) -> DeliveryStatus:
    word = record["delivery"]
    if word in _DELIVERY:
        return cast("DeliveryStatus", word)
    return "pending" if is_pending else "none"


def state_of(state: str, until: str, parked: str, last: str) -> ThreadStateName:
    """Return the state of a thread from its fields, as `lua/_parked.lua` reads them."""
    is_parked = state == "held" and not until and bool(parked) and last.endswith(parked)
    return "parked" if is_parked else cast("ThreadStateName", state or "idle")
