"""Operations that read the status of messages, threads and the queue."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, cast

from assistant_queue.core.account import time_of
from assistant_queue.core.delivery import DeliveryState
from assistant_queue.core.progress import Progress, moment
from assistant_queue.errors import NotPermitted, StoreError
from assistant_queue.models import (
    MessageStateName,
    MessageStatus,
    QueueStatus,
    RunResult,
    ThreadStatus,
)
from assistant_queue.store.calls import (
    Call,
    Namespace,
    Operation,
    each,
    plain,
    reading,
    text,
    texts,
)
from assistant_queue.store.ops.message_records import (
    BATCH,
    LINE,
    OUTCOME,
    RECORD,
    as_said,
    known_of,
    result_of,
    settled_or_taken,
    state_of,
    waiting_status,
)
from assistant_queue.store.ops.packed_fields import PROGRESS, progress_in
from assistant_queue.store.ops.sweeping import read_and_wake, sweep
from assistant_queue.store.ops.takeovers import TAKEOVER, takeover_of

_PAUSED_AT_ANY_TIME = "1"
"""The value that version 0.1 wrote while the queue was paused."""
_BOOKING_ROUNDS = 20
"""Sweeps before a status is read. Chosen: with the sweep's limit this covers 2,000 threads, more
than become due in a second."""


def read_message(namespace: Namespace, message_id: str) -> Operation[MessageStatus | None]:
    """Return a message's status; None if there is no record of it.

    Wakes overdue threads, at most two.
    """
    status, said = yield from _read_message(namespace, message_id)
    if status is None or not said:
        return status
    key = namespace.keys.record(said)
    outcome = yield plain("HMGET", key, *OUTCOME)
    with reading(key):
        return as_said(status, texts(outcome))


def _read_message(
    namespace: Namespace, message_id: str
) -> Operation[tuple[MessageStatus | None, str]]:
    """Return the status without the delivery of a reply of `say`, and the record that has it."""
    status: MessageStatus | None = None
    said = ""
    for _ in range(3):
        fields = texts((yield plain("HMGET", namespace.keys.message(message_id), *RECORD)))
        record = dict(zip(RECORD, fields, strict=True))
        if not record["thread"]:
            return None, ""
        said = record["said"]
        status = known_of(message_id, record)
        batch_id = record["batch"]
        if record["state"] and not batch_id:
            return replace(status, status=cast("MessageStateName", record["state"])), said
        if not batch_id:
            return (yield from _waiting(namespace, status, record["seq"])), said
        outcome, thread = yield from read_and_wake(
            namespace,
            [
                plain("HMGET", namespace.keys.record(batch_id), *OUTCOME),
                plain("HMGET", namespace.keys.thread(status.thread_id), *BATCH),
            ],
        )
        with reading(namespace.keys.record(batch_id)):
            found = settled_or_taken(status, texts(outcome), texts(thread))
        if found is not None:
            return found, said
        # The batch ended between the two reads: its record is there now.
    return status, said


def _waiting(namespace: Namespace, status: MessageStatus, seq: str) -> Operation[MessageStatus]:
    """Return the status of a message of a batch without a request yet, or of none."""
    (fields,) = yield from read_and_wake(
        namespace, [plain("HMGET", namespace.keys.thread(status.thread_id), *LINE)]
    )
    with reading(namespace.keys.thread(status.thread_id)):
        return waiting_status(status, seq, texts(fields))


def read_result(namespace: Namespace, batch_id: str) -> Operation[RunResult | None]:
    """Return a completed batch's result; None if it has expired or cannot be read."""
    (reply,) = yield from each([plain("HMGET", namespace.keys.record(batch_id), *OUTCOME)])
    with suppress(StoreError), reading(namespace.keys.record(batch_id)):
        found = texts(reply or [""] * len(OUTCOME))
        return result_of(found) if found[1] else None
    return None


def read_status(namespace: Namespace) -> Operation[QueueStatus]:
    """Return the counters, after messages that became due were counted as waiting.

    A Redis user with read access only gets the counters of the workers' last check: at most a
    second old while a worker is alive.
    """
    with suppress(NotPermitted):
        for _ in range(_BOOKING_ROUNDS):
            swept = yield from sweep(namespace, even_paused=True)
            if not swept.overdue:
                break
    return queue_status_of((yield from each(status_calls(namespace))))


COUNTED = (
    "active",
    "waiting",
    "delayed",
    "completed",
    "failed",
    "replies",
    "delivered",
    "undelivered",
    "parked",
)
"""The counters of a status, in the order of the fields of `QueueStatus`."""


def status_calls(namespace: Namespace, *more: str) -> list[Call]:
    """Return the calls that read the queue's status, and `more` of the counters."""
    return [
        plain("HMGET", namespace.keys.counters, *COUNTED, *more),
        plain("EXISTS", namespace.keys.paused),
        plain("GET", namespace.keys.paused),
    ]


def counters_in(reply: Any) -> list[int]:
    """Return counters; 0 for one that is no number, which its next change resets."""
    return [int(value) if value.isdecimal() else 0 for value in texts(reply or ())]


def queue_status_of(replies: Sequence[Any]) -> QueueStatus:
    """Return the status from the replies to `status_calls`; None for a reply that was refused."""
    reply, is_paused, since = replies
    counts = counters_in(reply) or [0] * len(COUNTED)
    return QueueStatus(
        active_count=counts[0],
        waiting_count=counts[1],
        delayed_count=counts[2],
        completed_count=counts[3],
        failed_count=counts[4],
        delivering_count=counts[5],
        delivered_count=counts[6],
        undelivered_count=counts[7],
        parked_count=counts[8],
        paused=bool(is_paused),
        paused_since=_paused_since(since),
    )


def _paused_since(reply: Any) -> datetime | None:
    said = "" if reply is None else text(reply)
    is_time = said.isdecimal() and said != _PAUSED_AT_ANY_TIME
    with suppress(OverflowError, ValueError, OSError):
        return moment(int(said)) if is_time else None
    return None


_THREAD = ("state", "n", "batch", "due", "until", "parked", "last", *TAKEOVER, *PROGRESS)
_DELIVERING = ("due", "until", "progress")


def read_thread(namespace: Namespace, thread_id: str) -> Operation[ThreadStatus]:
    """Return a thread's status; an unknown thread is idle. Wakes overdue threads, at most two."""
    calls = thread_calls(namespace, thread_id)
    try:
        replies = yield from read_and_wake(namespace, calls)
    except NotPermitted:  # the rights of a viewer of version 0.1 end here
        replies = yield from read_and_wake(namespace, calls[:1])
    return thread_status_of(namespace, thread_id, replies)


def thread_calls(namespace: Namespace, thread_id: str) -> list[Call]:
    """Return the calls that read a thread's status; the first is enough for all but deliveries."""
    return [
        plain("HMGET", namespace.keys.thread(thread_id), *_THREAD),
        plain("LLEN", namespace.keys.outbox(thread_id)),
        plain("HMGET", namespace.keys.delivering(thread_id), *_DELIVERING),
    ]


def thread_status_of(namespace: Namespace, thread_id: str, replies: Sequence[Any]) -> ThreadStatus:
    """Return the status of a thread from the replies to `thread_calls`, or to the first of them.

    Raises:
        StoreError: This queue did not write them.
    """
    reply, in_outbox, delivery = replies if len(replies) > 1 else (*replies, 0, [None] * 3)
    with reading(namespace.keys.thread(thread_id)):
        delivery_due, delivery_until, delivery_progress = texts(delivery)
        delivery_ms = delivery_until or delivery_due
        fields = dict(zip(_THREAD, texts(reply), strict=True))
        batch = fields["batch"]
        until = fields["until"]
        is_paused, person, since_ms = takeover_of([fields[name] for name in TAKEOVER])
        due_ms = until or fields["due"]
        progress = Progress.load(progress_in(fields) if batch else "")
        return ThreadStatus(
            thread_id=thread_id,
            state=state_of(fields["state"], until, fields["parked"], fields["last"]),
            pending_count=int(fields["n"] or 0),
            batch_id=batch or None,
            run_id=progress.run_id,
            due_at=time_of(int(due_ms or 0)),
            attempts=progress.attempts,
            paused=is_paused,
            delivering_count=int(in_outbox),
            delivery_due_at=moment(int(delivery_ms)) if delivery_ms else None,
            delivery_error=DeliveryState.load(delivery_progress).error,
            taken_over_by=person or None,
            taken_over_since=time_of(since_ms),
        )
