"""Operations on the outbox of a thread: replies that wait for their delivery.

Each that is given a lease raises `LeaseLost` if the caller no longer holds it.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import field
from typing import Any

from assistant_queue.config import to_ms
from assistant_queue.core import measures
from assistant_queue.core.compact_json import to_json
from assistant_queue.core.delivery import DeliveryState
from assistant_queue.core.journal_entries import dump_delivery
from assistant_queue.core.progress import dump_error
from assistant_queue.errors import LeaseLost
from assistant_queue.models import DeliveryStatus, ErrorInfo
from assistant_queue.store import wakeups
from assistant_queue.store.calls import Call, Namespace, Operation, each, plain, text, texts
from assistant_queue.store.ops.replication import replicated
from assistant_queue.store.reply_codec import WaitingReply, unpack_reply
from assistant_queue.store.sendable import is_text
from assistant_queue.values import valueclass

_log = logging.getLogger(__name__)

DUE_LIMIT = 100
"""Deliveries found in one look, longest overdue first. Chosen: as many as threads in one sweep."""
WAKE_SPARE_MS = 1000
"""Delay of a due delivery before a wake-up is enqueued for it. Chosen: a worker that delivers by
itself looks at least once a second."""
_SEARCH = 2000
_PATIENCE_MS = 60_000
"""As those of the sweep of threads (`sweeping.py`)."""
_ANY_TIME = "-1"


@valueclass(frozen=True, slots=True, kw_only=True)
class DeliveryLease:
    """The lease of the delivery at the head of a thread's outbox.

    Attributes:
        token: Random; sent with every write of the holder.
        now_ms: The store's time when it was taken.
        until_ms: When it expires unless it is renewed.
        guard_id: The wake-up that fires if it expires; "" for none.
        needs_guard: No process of this package may look: renewals write a wake-up.
        deaths: Leases that expired over this reply while user code may have run.
        state: Tries, parts and the last error, as the last holder stored them.
        reply: The reply; None if the stored one cannot be read.
        numbers: Numbers of the holder's writes: a copy of a write that arrives after a later one
            changes nothing.
    """

    thread_id: str
    token: str
    batch_id: str
    now_ms: int
    until_ms: int
    guard_id: str = ""
    needs_guard: bool = False
    deaths: int = 0
    state: DeliveryState
    reply: WaitingReply | None
    numbers: Iterator[int] = field(
        default_factory=lambda: itertools.count(1), compare=False, repr=False
    )


@valueclass(frozen=True, slots=True, kw_only=True)
class DueDelivery:
    """A thread with a delivery to check, and the time of that check as it is stored."""

    thread_id: str
    at: str


@valueclass(frozen=True, slots=True, kw_only=True)
class DueDeliveries:
    """The result of a look.

    Attributes:
        due: Longest overdue first.
        next_due_in_s: Seconds until the next check is due; None if there is none.
    """

    due: tuple[DueDelivery, ...]
    next_due_in_s: float | None


def find_due(
    namespace: Namespace, limit: int = DUE_LIMIT, late_ms: int = 0, offset: int = 0
) -> Operation[DueDeliveries]:
    """Return the threads with a delivery that is due; a paused queue has none.

    The `offset` longest overdue ones are left out.
    """
    now, later, *found = texts(
        (yield namespace.call("due_deliveries", limit=limit, late_ms=late_ms, offset=offset))
    )
    due = [
        DueDelivery(thread_id=thread_id, at=at)
        for thread_id, at in zip(found[::2], found[1::2], strict=True)
        if is_text(thread_id)
    ]
    return DueDeliveries(
        due=tuple(due), next_due_in_s=max(0.0, (int(later) - int(now)) / 1000) if later else None
    )


def find_check(namespace: Namespace, thread_id: str) -> Operation[DueDelivery | None]:
    """Return the next check of one thread's delivery; None if no reply waits, or it is paused."""
    (score,) = yield from each([plain("ZSCORE", namespace.keys.deliveries, thread_id)])
    return None if score is None else DueDelivery(thread_id=thread_id, at=f"{float(score):.0f}")


def has_waiting(namespace: Namespace, thread_id: str) -> Operation[bool]:
    """Return whether replies of a thread wait for their delivery, or are being delivered."""
    (count,) = yield from each([plain("LLEN", namespace.keys.outbox(thread_id))])
    return int(count) > 0


def claim_delivery(
    namespace: Namespace, due: DueDelivery, *, token: str, lease_s: float, guard: bool = False
) -> Operation[DeliveryLease | None]:
    """Take the lease of the reply at the head of the line; None if it cannot be delivered now.

    Repeating it with the same token returns the same claim. `token` must be fresh, and never used
    again.
    """
    reply: list[Any] = yield namespace.call(
        "claim_delivery",
        due.thread_id,
        token=token,
        lease_ms=to_ms(lease_s),
        expected=due.at,
        guard="1" if guard else "",
    )
    if text(reply[0]) != "claimed":
        return None
    now, until, deaths, guard_id, progress, entry = texts(reply[1:])
    return DeliveryLease(
        thread_id=due.thread_id,
        token=token,
        now_ms=int(now),
        until_ms=int(until),
        guard_id=guard_id,
        needs_guard=guard,
        deaths=int(deaths),
        **_head(due.thread_id, entry, progress),
    )


def _head(thread_id: str, entry: str, progress: str) -> dict[str, Any]:
    """Return the fields of a lease that its reply has."""
    return {
        "batch_id": entry.partition(" ")[0],
        "state": DeliveryState.load(progress),
        "reply": unpack_reply(thread_id, entry),
    }


def renewal_of(namespace: Namespace, lease: DeliveryLease, lease_s: float) -> Call:
    """Return the call that extends the lease; its reply is that of a thread's renewal."""
    return namespace.call(
        "renew_delivery",
        lease.thread_id,
        token=lease.token,
        lease_ms=to_ms(lease_s),
        guard="1" if lease.needs_guard else "",
    )


def renew_on_replica(namespace: Namespace, lease: DeliveryLease, lease_s: float) -> Operation[bool]:
    """Extend the lease; return whether a replica has that, and with it the reply."""
    _, is_kept = yield from replicated(namespace, [renewal_of(namespace, lease, lease_s)])
    return is_kept


def _check(reply: Sequence[Any], lease: DeliveryLease) -> None:
    if text(reply[0]) == "lost":
        raise LeaseLost(
            f"The delivery of batch {lease.batch_id!r} of thread {lease.thread_id!r} is another "
            "worker's now; nothing was written"
        )


def save_delivery(
    namespace: Namespace, lease: DeliveryLease, state: DeliveryState, *, waits: bool = False
) -> Operation[None]:
    """Store the progress of a delivery; `waits` if the holder calls nothing before it says so."""
    reply = yield namespace.call(
        "save_delivery",
        lease.thread_id,
        token=lease.token,
        batch_id=lease.batch_id,
        number=next(lease.numbers),
        progress=state.dump(),
        waits="1" if waits else "",
    )
    _check(reply, lease)


def delivered(
    namespace: Namespace,
    lease: DeliveryLease,
    guard_id: str,
    *,
    result_ttl_s: float,
    lease_s: float,
    takes_next: bool,
    state: DeliveryState | None = None,
    channel: str | None = None,
) -> Operation[DeliveryLease | None]:
    """Remove a delivered reply; return the lease of the next one if the caller delivers it, too.

    `state`, with the parts that the platform has, is for the journal; the name of the `channel` is
    for the metrics, too. It is `on_reply` for the callback, None if there is nothing to deliver to.
    """
    last = lease.state if state is None else state
    reply = yield namespace.call(
        "delivered",
        lease.thread_id,
        keys={
            "record": namespace.keys.record(lease.batch_id),
            "guard": wakeups.job_key(guard_id),
        },
        result_ttl_ms=max(to_ms(result_ttl_s), 1),
        journal=(
            dump_delivery(lease.batch_id, "delivered", channel, last, tries=last.tries + 1)
            if namespace.journal.most
            else ""
        ),
        counts=_counts_of(namespace, lease, channel, "delivered"),
        **_settling(lease, guard_id, lease_s, takes_next=takes_next),
    )
    _check(reply, lease)
    return _next(lease, reply[1])


def park_delivery(
    namespace: Namespace,
    lease: DeliveryLease,
    guard_id: str,
    *,
    reason: str,
    error: ErrorInfo,
    state: DeliveryState,
    lease_s: float,
    takes_next: bool,
    channel: str | None = None,
) -> Operation[DeliveryLease | None]:
    """Move a reply to the failed list; return the lease of the next one, as `delivered` does."""
    result = lease.reply.result if lease.reply else None
    failure = {
        "reason": reason,
        "error": dump_error(error),
        "attempts": state.tries,
        "known_run_id": result.run_id if result else None,
        "message_ids": list(result.message_ids) if result else [],
    }
    status: DeliveryStatus = "unknown" if reason == "delivery_unknown" else "undelivered"
    reply = yield namespace.call(
        "park_delivery",
        lease.thread_id,
        keys={
            "record": namespace.keys.record(lease.batch_id),
            "reply": namespace.keys.reply(lease.batch_id),
            "guard": wakeups.job_key(guard_id),
        },
        failure=to_json(failure),
        word=status,
        progress=state.dump(),
        journal=(
            dump_delivery(
                lease.batch_id, status, channel, state, tries=state.tries, error_code=error.code
            )
            if namespace.journal.most
            else ""
        ),
        counts=_counts_of(namespace, lease, channel, status),
        **_settling(lease, guard_id, lease_s, takes_next=takes_next),
    )
    _check(reply, lease)
    return _next(lease, reply[1])


def _counts_of(
    namespace: Namespace, lease: DeliveryLease, channel: str | None, outcome: str
) -> str:
    if channel is None:
        return ""
    reply = lease.reply
    return namespace.counted(
        lambda: measures.delivery_tried(
            channel,
            outcome,
            since_ms=reply.since_ms if reply else 0,
            result=reply.result if reply else None,
        )
    )


def _settling(
    lease: DeliveryLease, guard_id: str, lease_s: float, *, takes_next: bool
) -> dict[str, Any]:
    return {
        "token": lease.token,
        "batch_id": lease.batch_id,
        "guard_id": guard_id,
        "lease_ms": to_ms(lease_s),
        "next": "1" if takes_next else "",
    }


def _next(lease: DeliveryLease, row: Sequence[Any]) -> DeliveryLease | None:
    entry, *rest = texts(row)
    if not entry:
        return None
    progress, until, now = rest
    return DeliveryLease(
        thread_id=lease.thread_id,
        token=lease.token,
        now_ms=int(now),
        until_ms=int(until),
        needs_guard=lease.needs_guard,
        **_head(lease.thread_id, entry, progress),
    )


def postpone_delivery(
    namespace: Namespace,
    lease: DeliveryLease,
    state: DeliveryState,
    wait_s: float,
    *,
    channel: str | None = None,
) -> Operation[None]:
    """Release the reply; it is due again after `wait_s`.

    `channel`: as that of `delivered`; None if the reply was not tried.
    """
    reply = yield namespace.call(
        "postpone_delivery",
        lease.thread_id,
        token=lease.token,
        batch_id=lease.batch_id,
        wait_ms=to_ms(wait_s),
        progress=state.dump(),
        guard="1" if lease.needs_guard else "",
        counts=_counts_of(namespace, lease, channel, "retried"),
    )
    _check(reply, lease)


def wake_deliveries(namespace: Namespace, limit: int = DUE_LIMIT) -> Operation[int]:
    """Enqueue wake-ups for deliveries that no process makes; return their number."""
    found = yield from find_due(namespace, limit, WAKE_SPARE_MS)
    if not found.due:
        return 0
    replies = yield from each(
        [
            namespace.call(
                "wake_delivery",
                due.thread_id,
                spare_ms=WAKE_SPARE_MS,
                patience_ms=_PATIENCE_MS,
                search=_SEARCH,
            )
            for due in found.due
        ]
    )
    return sum(reply is not None and text(reply[0]) == "woken" for reply in replies)


def rewind_deliveries(namespace: Namespace, back_ms: int) -> Operation[None]:
    """Move the times of all deliveries back, as `sweeping.rewind` those of threads."""
    (found,) = yield from each([plain("ZRANGE", namespace.keys.deliveries, 0, -1)])
    threads = list(filter(is_text, texts(found or [])))
    for start in range(0, len(threads), DUE_LIMIT):
        yield from each(
            [
                namespace.call("rewind_delivery", thread_id, back_ms=back_ms)
                for thread_id in threads[start : start + DUE_LIMIT]
            ]
        )


def read_counts(namespace: Namespace) -> Operation[tuple[int, int, int]]:
    """Return the replies that wait, that were ever delivered, and that are in the failed list."""
    (reply,) = yield from each(
        [plain("HMGET", namespace.keys.counters, "replies", "delivered", "undelivered")]
    )
    waiting, done, parked = (
        int(said) if said.isdigit() else 0 for said in texts(reply or ["", "", ""])
    )
    return waiting, done, parked
