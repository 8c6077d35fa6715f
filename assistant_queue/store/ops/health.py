"""Health of a queue: live workers, overdue threads, and keys that need an operator."""

from __future__ import annotations

from typing import Any

from assistant_queue.errors import NotPermitted, StoreError
from assistant_queue.store import wakeups
from assistant_queue.store.calls import Call, Namespace, Operation, each_or_error, plain, text
from assistant_queue.values import valueclass


@valueclass(frozen=True, slots=True, kw_only=True)
class WorkerCount:
    """The workers of a queue, as far as its own Redis database shows.

    Attributes:
        has_leader: A scheduler is the queue's leader. It renews its term of `TERM_MS` at least once
            a second (`store/ops/sweeping.py`).
        registered: Workers that RQ lists for the queue, including this package's.
    """

    has_leader: bool
    registered: int


def read_workers(namespace: Namespace) -> Operation[WorkerCount]:
    """Count the workers of this queue in this database; a channel would reach all databases.

    Raises:
        NotPermitted: The Redis user may not read the keys.
    """
    has_leader, registered = yield [
        plain("EXISTS", namespace.keys.leader),
        plain("SCARD", wakeups.workers_key(namespace.prefix)),
    ]
    return WorkerCount(has_leader=bool(has_leader), registered=int(registered))


def read_readiness(namespace: Namespace) -> Operation[tuple[int | None, bool]]:
    """Count the worker processes of this queue, and say whether the whole queue is paused.

    The count is None if this user of Redis may not look.
    """
    paused = bool((yield plain("EXISTS", namespace.keys.paused)))
    try:
        found = yield from read_workers(namespace)
    except NotPermitted:
        return None, paused
    return max(int(found.has_leader), found.registered), paused


def read_abandoned(namespace: Namespace) -> Operation[int]:
    """Count the abandoned calls that this queue's workers report, each of them once a second.

    Raises:
        NotPermitted: The Redis user may not read the keys.
    """
    names = yield plain("SMEMBERS", wakeups.workers_key(namespace.prefix))
    counts = (
        (yield [plain("HGET", name, wakeups.ABANDONED_FIELD) for name in names]) if names else []
    )
    return sum(
        int(text(count)) for count in counts if count is not None and text(count).isdecimal()
    )


def read_longest_life(namespace: Namespace) -> Operation[int]:
    """Return the longest time in ms for which RQ believes in a worker without a sign of it.

    RQ sets it to `--worker-ttl` + 60 s whenever the worker begins to wait for a job; 0 if there is
    no worker.

    Raises:
        NotPermitted: The Redis user may not read the keys.
    """
    names = yield plain("SMEMBERS", wakeups.workers_key(namespace.prefix))
    lives = (yield [plain("PTTL", name) for name in names]) if names else []
    return max((int(life) for life in lives), default=0)


@valueclass(frozen=True, slots=True, kw_only=True)
class QueueHealth:
    """Figures of a queue; None for those that the Redis user may not read.

    Attributes:
        overdue: Threads that a worker should have handled long ago.
        failed: Batches in the failed list.
        paused: The whole queue is paused.
        completed: Messages that were ever answered.
        moved: Quarantined keys.
        foreign: Keys with content that this queue did not write.
        refused: Commands that the user may not send.
        overdue_deliveries: Threads with a reply that should have been tried long ago.
        undelivered: Replies in the failed list.
    """

    overdue: int | None
    failed: int | None
    paused: bool | None
    completed: int | None
    moved: int | None
    foreign: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    overdue_deliveries: int | None = None
    undelivered: int | None = None


def read_health(namespace: Namespace, overdue_ms: int) -> Operation[QueueHealth]:
    """Return the queue's figures, each read by itself: an unreadable one hides no other.

    Args:
        namespace: The queue.
        overdue_ms: Threads that are overdue by more are counted.
    """
    keys = namespace.keys
    (time,) = yield from each_or_error([plain("TIME")])
    now = int(time[0]) * 1000 + int(time[1]) // 1000 if isinstance(time, list | tuple) else 0
    calls = [
        plain("ZCOUNT", keys.due, "-inf", now - overdue_ms),
        plain("ZCARD", keys.failed),
        plain("EXISTS", keys.paused),
        plain("HGET", keys.counters, "completed"),
        plain("ZCARD", keys.quarantine),
        plain("ZCOUNT", keys.deliveries, "-inf", now - overdue_ms),
        plain("HGET", keys.counters, "undelivered"),
    ]
    replies = yield from each_or_error(calls)
    overdue, failed, paused, completed, moved, late, undelivered = (
        None if isinstance(reply, StoreError) else reply for reply in replies
    )
    said = "0" if completed is None else text(completed)
    parked = "0" if undelivered is None else text(undelivered)
    return QueueHealth(
        overdue=overdue if now else None,
        failed=failed,
        paused=None if paused is None else bool(paused),
        completed=None
        if isinstance(replies[3], StoreError)
        else int(said)
        if said.isdecimal()
        else 0,
        moved=moved,
        overdue_deliveries=late if now else None,
        undelivered=int(parked) if parked.isdecimal() else 0,
        foreign=tuple(
            _key(call) for call, reply in zip(calls, replies, strict=True) if _is_foreign(reply)
        ),
        refused=tuple(
            str(call.words[0])
            for call, reply in zip([plain("TIME"), *calls], [time, *replies], strict=True)
            if _is_refused(reply)
        ),
    )


def _key(call: Call) -> str:
    return str(call.words[1])


def _is_refused(reply: Any) -> bool:
    return isinstance(reply, NotPermitted)


def _is_foreign(reply: Any) -> bool:
    return isinstance(reply, StoreError) and not _is_refused(reply)
