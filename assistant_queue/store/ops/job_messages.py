"""The messages behind an id: of a thread those that wait, of a wake-up those that it was for."""

from __future__ import annotations

from datetime import UTC, datetime

from assistant_queue.models import MessageStatus
from assistant_queue.store.calls import Namespace, Operation, plain
from assistant_queue.store.message_codec import unpack_readable
from assistant_queue.store.ops.record_scans import entries_in, keys_with
from assistant_queue.store.ops.statuses import read_message

_NEVER = datetime.max.replace(tzinfo=UTC)


def messages_of(namespace: Namespace, thread_id: str) -> Operation[list[MessageStatus]]:
    """Return the statuses of a thread's waiting and processing messages, in order."""
    rows = yield [
        plain("LRANGE", key, 0, -1)
        for key in (namespace.keys.frozen(thread_id), namespace.keys.pending(thread_id))
    ]
    statuses: list[MessageStatus] = []
    messages, _ = unpack_readable(list(entries_in(rows)))
    for message in messages:
        status = yield from read_message(namespace, message.id)
        if status is not None:
            statuses.append(status)
    return statuses


def messages_of_job(namespace: Namespace, job_id: str) -> Operation[list[MessageStatus]]:
    """Return the statuses of the messages with receipts that name this wake-up, in order.

    Each record of a message has that id for as long as it lives: RQ forgets its job when a worker
    takes it. All records are scanned, so that an add writes no index.
    """
    start = namespace.keys.message("")
    statuses: list[MessageStatus] = []
    found = yield from keys_with(namespace.keys.message("*"), "job", job_id)
    for name in dict.fromkeys(found):  # a scan may return a key twice
        status = yield from read_message(namespace, name.removeprefix(start))
        if status is not None:
            statuses.append(status)
    return sorted(statuses, key=lambda one: (one.queued_at or _NEVER, one.message_id))
