"""Store operations that require a thread's lease.

Each raises `LeaseLost` if the caller no longer holds it.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import field
from typing import Any

from assistant_queue.config import to_ms
from assistant_queue.core import measures
from assistant_queue.core.first_send import FirstSend
from assistant_queue.core.flow import Claimed
from assistant_queue.core.progress import Progress
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.core.wishes import Wish, wish_in
from assistant_queue.errors import LeaseLost, NotReplicated, StoreError
from assistant_queue.models import Batch, ErrorInfo
from assistant_queue.store import wakeups
from assistant_queue.store.calls import (
    Call,
    Namespace,
    Operation,
    each_or_error,
    text,
    texts,
    whole_number,
)
from assistant_queue.store.message_codec import unpack_readable
from assistant_queue.store.ops.event_log import NewEvent, dump_events
from assistant_queue.store.ops.replication import REPLICA_WAIT_S, replicated
from assistant_queue.store.ops.reply_outbox import DeliveryLease, renewal_of
from assistant_queue.store.ops.statuses import read_result
from assistant_queue.store.rq_jobs import NO_JOB, RqJob, claim_arguments
from assistant_queue.store.sendable import is_text
from assistant_queue.values import valueclass

_log = logging.getLogger(__name__)

EARLY_MS = 1000
"""A wake-up at most this early waits in place. Source: RQ's scheduler works in whole seconds."""
MAX_BATCH = 1000
"""Messages of one batch. Chosen: bounds one claim's work; the rest is the next batch."""


RENEWAL_SHARE = 1 / 3
"""The part of a lease after which its holder renews it. Chosen: two renewals in a row may fail."""


def renewal_s(lease_s: float) -> float:
    """Return the seconds from one renewal of a lease to the next."""
    return lease_s * RENEWAL_SHARE


@valueclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A thread's lease, and the batch frozen under it.

    Attributes:
        token: Random; sent with every write of the holder.
        now_ms: The store's time when it was taken.
        until_ms: When it expires unless it is renewed.
        guard_id: The wake-up that fires if it expires.
        has_subscribers: The thread's events have subscribers, or are always kept.
        published: How much of the run's text an earlier holder published, in that holder's form; ""
            for nothing.
        is_sending: The claim has marked the batch as sent, with the `FirstSend` it was given.
        numbers: Numbers of the holder's writes: a copy of a write that arrives after a later one
            changes nothing.
    """

    thread_id: str
    token: str
    now_ms: int
    until_ms: int
    guard_id: str
    claimed: Claimed
    has_subscribers: bool = False
    published: str = ""
    is_sending: bool = False
    numbers: Iterator[int] = field(
        default_factory=lambda: itertools.count(1), compare=False, repr=False
    )


@valueclass(frozen=True, slots=True, kw_only=True)
class NoLease:
    """A refused claim: a value, not an error.

    Attributes:
        reason: `refused` another worker holds it; `early` it is not due; `idle` nothing waits that
            wants a reply; `paused`; `over` this is a late copy of a call that took effect.
        until_ms: When the lease expires, or the thread is due; 0 otherwise.
        wait_ms: How long until it is due, if it is early.
    """

    reason: str
    until_ms: int = 0
    wait_ms: int = 0


def claim(
    namespace: Namespace,
    thread_id: str,
    *,
    token: str,
    batch_id: str,
    lease_s: float,
    max_take: int = MAX_BATCH,
    job: RqJob = NO_JOB,
    first_send: FirstSend | None = None,
) -> Operation[Lease | NoLease]:
    """Take the lease if it is free, and freeze the batch.

    Repeating it with the same token returns the same claim, or none once that is over. With
    `first_send`, a new batch is marked as sent, unless a step must come before that.

    `token` and `batch_id` must be fresh, and never used again.
    """
    constants, told = claim_arguments(job)
    reply: list[Any] = yield namespace.call(
        "claim",
        thread_id,
        keys={"known": namespace.keys.record(batch_id), "taken": wakeups.job_key(job.id)},
        constants=constants,
        token=token,
        lease_ms=to_ms(lease_s),
        batch_id=batch_id,
        max_take=min(max_take, MAX_BATCH),
        largest=MAX_BATCH,
        early_ms=EARLY_MS,
        sending=first_send.template if first_send else "",
        needs=first_send.needs_of(thread_id) if first_send else "",
        run_ms=first_send.run_ms if first_send else 0,
        **told,
    )
    word = text(reply[0])
    if word == "early":
        return NoLease(reason=word, until_ms=int(reply[1]), wait_ms=int(reply[1]) - int(reply[2]))
    if word != "claimed":
        return NoLease(reason=word, until_ms=int(reply[1]) if len(reply) > 1 else 0)
    now, until, batch, phase, progress_text, deaths, claimed_ms, guard = texts(reply[1:9])
    conversation, anchor, opened = texts(reply[9])
    messages, invalid = unpack_readable(texts(reply[10]))
    unreadable = f"{invalid} of its entries are not messages" if invalid else None
    if not is_text(conversation + anchor):
        unreadable = "the stored conversation id or anchor is not UTF-8"
    progress = Progress()
    try:
        progress = Progress.load(progress_text)
    except ValueError as error:
        unreadable = str(error)
        if phase == Phase.DELIVERING.value:  # the batch's record has the result, too
            result = yield from read_result(namespace, batch)
            progress = (
                Progress(attempts=result.attempts, run_id=result.run_id, result=result)
                if result
                else progress
            )
    return Lease(
        thread_id=thread_id,
        token=token,
        now_ms=int(now),
        until_ms=int(until),
        guard_id=guard,
        claimed=Claimed(
            batch=Batch(
                id=batch, thread_id=thread_id, messages=messages, attempts=progress.attempts + 1
            ),
            phase=Phase(phase),
            progress=progress,
            deaths=int(deaths),
            claimed_ms=int(claimed_ms),
            conversation_id=conversation or None,
            anchor=anchor or None,
            open_calls=_open_calls(thread_id, opened),
            unreadable=unreadable,
            due_ms=whole_number(text(reply[13])),
            wish=wish_in(text(reply[14])),
        ),
        has_subscribers=text(reply[11]) == "1",
        published=text(reply[12]),
        is_sending=text(reply[15]) == "1",
    )


def _open_calls(thread_id: str, opened: str) -> tuple[str, ...]:
    with suppress(ValueError):
        found = json.loads(opened or "[]")
        if isinstance(found, list) and all(isinstance(one, str) for one in found):
            return tuple(found)
    _log.error(
        "thread %r: the open tool calls of its conversation cannot be read; treated as none",
        thread_id,
    )
    return ()


@valueclass(frozen=True, slots=True)
class Renewed:
    """A renewed lease: its new end, its guard, subscribers of the thread, a wish for the batch."""

    until_ms: int
    guard_id: str
    has_subscribers: bool = False
    wish: Wish | None = None


def renew(
    namespace: Namespace, lease: Lease | DeliveryLease, lease_s: float
) -> Operation[Renewed | None]:
    """Extend the lease; None if it is lost."""
    return _renewed((yield _renewal(namespace, lease, lease_s)))


def renew_all(
    namespace: Namespace, leases: Sequence[Lease | DeliveryLease], lease_s: float
) -> Operation[list[Renewed | StoreError | None]]:
    """Extend several leases in one round trip: for each the result of `renew`, or its own error."""
    replies = yield from each_or_error([_renewal(namespace, lease, lease_s) for lease in leases])
    return [reply if isinstance(reply, StoreError) else _renewed(reply) for reply in replies]


def _renewal(namespace: Namespace, lease: Lease | DeliveryLease, lease_s: float) -> Call:
    if isinstance(lease, DeliveryLease):
        return renewal_of(namespace, lease, lease_s)
    return namespace.call("renew", lease.thread_id, token=lease.token, lease_ms=to_ms(lease_s))


def _renewed(reply: Any) -> Renewed | None:
    word, *rest = texts(reply)
    if word != "held":
        return None
    return Renewed(int(rest[0]), rest[1], rest[2] == "1", wish_in(rest[3]))


def check(word: str, thread_id: str) -> None:
    """Raise `LeaseLost` if a script returned `lost`."""
    if word == "lost":
        msg = f"The lease on thread {thread_id!r} is another worker's now; nothing was written"
        raise LeaseLost(msg)


@valueclass(frozen=True, slots=True)
class Saved:
    """The reply to a write of progress: subscribers of the thread, a wish for the batch."""

    has_subscribers: bool
    wish: Wish | None = None


def message_keys(namespace: Namespace, message_ids: Sequence[str]) -> list[str]:
    """Return the keys of these messages' records."""
    return [namespace.keys.message(message_id) for message_id in message_ids]


def save(
    namespace: Namespace,
    lease: Lease,
    phase: Phase,
    progress: Progress,
    mark: Sequence[str] = (),
    *,
    to_replica: bool = False,
    about: str = "a request over it",
    new_events: Sequence[NewEvent] = (),
) -> Operation[Saved]:
    """Store the batch's progress, mark the messages in `mark` as its members, publish `new_events`.

    Raises:
        NotReplicated: The write had to reach a replica (`to_replica`), and did not in time. It may
            be kept or not.
    """
    call = namespace.call(
        "progress",
        lease.thread_id,
        rest=message_keys(namespace, mark),
        token=lease.token,
        number=next(lease.numbers),
        phase=phase.value,
        progress=progress.dump(),
        batch_id=lease.claimed.batch.id,
        run_id=(progress.run_id or "") if phase is Phase.RUNNING else "",
        new_events=dump_events(new_events),
    )
    if to_replica:
        (reply,), is_kept = yield from replicated(namespace, [call])
    else:
        reply = yield call
        is_kept = True
    check(text(reply[0]), lease.thread_id)
    if not is_kept:
        raise NotReplicated(
            f"thread {lease.thread_id!r}: the note that {about} is about to be sent did not reach "
            f"a replica of Redis within {REPLICA_WAIT_S:g} s; nothing was sent, and the batch is "
            "retried: check that a replica is connected"
        )
    return Saved(text(reply[1]) == "1", wish_in(text(reply[2])))


def set_conversation(
    namespace: Namespace, thread_id: str, conversation_id: str, *, token: str = ""
) -> Operation[tuple[str, str | None]]:
    """Store a mapped thread's conversation unless it has one; return its conversation and anchor.

    Args:
        namespace: The queue.
        thread_id: The thread.
        conversation_id: The conversation that was created for it.
        token: The lease under which it was created; "" if it was created under none.

    Raises:
        LeaseLost: The lease is another worker's, and the thread has no conversation. Nothing was
            changed.
    """
    found, anchor = texts(
        (
            yield namespace.call(
                "set_conversation", thread_id, token=token, conversation_id=conversation_id
            )
        )
    )
    if not found:
        check("lost", thread_id)
    return found, anchor or None


def move_conversation(
    namespace: Namespace,
    lease: Lease,
    *,
    old_id: str,
    conversation_id: str,
    anchor: str | None,
    phase: Phase,
    progress: Progress,
) -> Operation[str]:
    """Continue a mapped thread in another conversation, and store the batch's progress.

    Returns:
        The conversation that the thread has now. Without effect if it had another one than
        `old_id`.
    """
    reply = yield namespace.call(
        "move_conversation",
        lease.thread_id,
        token=lease.token,
        number=next(lease.numbers),
        old_id=old_id,
        conversation_id=conversation_id,
        anchor=anchor or "",
        phase=phase.value,
        progress=progress.dump(),
    )
    check(text(reply[0]), lease.thread_id)
    return text(reply[1])


def postpone(
    namespace: Namespace,
    lease: Lease,
    *,
    state: ThreadState,
    wait_s: float,
    phase: Phase,
    progress: Progress,
    failed: ErrorInfo | None = None,
    seen: Wish | None = None,
) -> Operation[None]:
    """Release the thread; the same batch is due again after `wait_s`.

    `failed`: the error of the attempt that ends with this; None if none was made. A batch that is to
    be stopped is due at once, unless that is the wish that the caller has `seen`.
    """
    reply = yield namespace.call(
        "postpone",
        lease.thread_id,
        token=lease.token,
        seen=seen or "",
        state=state.value,
        wait_ms=to_ms(wait_s),
        phase=phase.value,
        progress=progress.dump(),
        counts=""
        if failed is None
        else namespace.counted(lambda: measures.attempt_failed(failed.code)),
    )
    check(text(reply[0]), lease.thread_id)
