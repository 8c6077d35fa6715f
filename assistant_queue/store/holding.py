"""Operations of the worker that holds a thread's lease. Each is refused, with `LeaseLost`, when it does not any more."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from assistant_queue.config import to_ms
from assistant_queue.core.flow import Claimed
from assistant_queue.core.progress import Progress
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.errors import LeaseLost, NotReplicated, StoreError
from assistant_queue.models import Batch
from assistant_queue.store.calls import Call, Operation, Space, each_or_error, text, texts
from assistant_queue.store.events import News, dump_news
from assistant_queue.store.packing import unpack_readable
from assistant_queue.store.producing import read_result
from assistant_queue.store.replicating import REPLICA_WAIT_S, replicated
from assistant_queue.store.rq_jobs import NOT_OURS_TO_RECORD, RqJob, call_for
from assistant_queue.store.sendable import is_text

_log = logging.getLogger(__name__)

EARLY_MS = 1000
"""A wake-up at most this early waits in place. Source: RQ's scheduler works in whole seconds."""
MAX_BATCH = 1000
"""Messages of one batch. Chosen: bounds one claim's work; what is left is the next batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A thread's lease, and the batch frozen under it.

    Attributes:
        token: Random; every write of the holder carries it.
        now_ms: The store's time when it was taken.
        until_ms: When it lapses unless it is renewed.
        guard_id: The wake-up that fires if it lapses.
        job: Whose records end with the lease.
        listened: Somebody listens to the thread's events, or they are always kept.
        told: How much of the run's text an earlier holder told them, as it wrote it; "" for nothing.
        numbers: Of the holder's writes: a copy of one that arrives after a later one changes nothing.
    """

    thread_id: str
    token: str
    now_ms: int
    until_ms: int
    guard_id: str
    claimed: Claimed
    job: RqJob = NOT_OURS_TO_RECORD
    listened: bool = False
    told: str = ""
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1), compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoLease:
    """A refused claim: a value, not an error.

    Attributes:
        reason: `refused` another worker holds it; `early` it is not due; `idle` nothing waits; `paused`; `over` this very call had its
            effect long ago.
        until_ms: When the lease lapses, or the thread is due; 0 otherwise.
        wait_ms: How long until it is due, if it is early.
    """

    reason: str
    until_ms: int = 0
    wait_ms: int = 0


def claim(
    space: Space,
    thread_id: str,
    *,
    token: str,
    batch_id: str,
    lease_s: float,
    max_take: int = MAX_BATCH,
    job: RqJob = NOT_OURS_TO_RECORD,
) -> Operation[Lease | NoLease]:
    """Take the lease if it is free, and freeze the batch. Repeating it with the same token gives the same claim, or none once that is over.

    `token` and `batch_id` are fresh, and never used again.
    """
    reply: list[Any] = yield call_for(
        job,
        space,
        "claim",
        thread_id,
        keys={"known": space.keys.record(batch_id)},
        token=token,
        lease_ms=to_ms(lease_s),
        batch_id=batch_id,
        max_take=min(max_take, MAX_BATCH),
        early_ms=EARLY_MS,
    )
    word = text(reply[0])
    if word == "early":
        return NoLease(reason=word, until_ms=int(reply[1]), wait_ms=int(reply[1]) - int(reply[2]))
    if word != "claimed":
        return NoLease(reason=word, until_ms=int(reply[1]) if len(reply) > 1 else 0)
    now, until, batch, phase, progress_text, deaths, claimed_ms, guard = texts(reply[1:9])
    conversation, anchor, opened = texts(reply[9])
    messages, strangers = unpack_readable(texts(reply[10]))
    unreadable = f"{strangers} of its entries are no messages" if strangers else None
    if not is_text(conversation + anchor):
        unreadable = "its conversation has no id of the provider's"
    progress = Progress()
    try:
        progress = Progress.load(progress_text)
    except ValueError as error:
        unreadable = str(error)
        if phase == Phase.DELIVERING.value:  # its result stands in the batch's record, too
            result = yield from read_result(space, batch)
            progress = Progress(attempts=result.attempts, run_id=result.run_id, result=result) if result else progress
    return Lease(
        thread_id=thread_id,
        token=token,
        now_ms=int(now),
        until_ms=int(until),
        guard_id=guard,
        job=job,
        claimed=Claimed(
            batch=Batch(id=batch, thread_id=thread_id, messages=messages, attempts=progress.attempts + 1),
            phase=Phase(phase),
            progress=progress,
            deaths=int(deaths),
            claimed_ms=int(claimed_ms),
            conversation_id=conversation or None,
            anchor=anchor or None,
            open_calls=_open_calls(thread_id, opened),
            unreadable=unreadable,
        ),
        listened=text(reply[11]) == "1",
        told=text(reply[12]),
    )


def _open_calls(thread_id: str, opened: str) -> tuple[str, ...]:
    with suppress(ValueError):
        found = json.loads(opened or "[]")
        if isinstance(found, list) and all(isinstance(one, str) for one in found):
            return tuple(found)
    _log.error("thread %r: which calls of its conversation are open cannot be read; none is taken to be", thread_id)
    return ()


@dataclass(frozen=True, slots=True)
class Renewed:
    """A renewed lease: when it lapses now, its guard, and whether somebody listens to the thread."""

    until_ms: int
    guard_id: str
    listened: bool = False


def renew(space: Space, lease: Lease, lease_s: float) -> Operation[Renewed | None]:
    """Move the lease's end; None if it is lost."""
    return _renewed((yield _renewal(space, lease, lease_s)))


def renew_all(space: Space, leases: Sequence[Lease], lease_s: float) -> Operation[list[Renewed | StoreError | None]]:
    """Move the ends of several leases in one round trip: each as `renew` says, or the error that Redis has for it alone."""
    replies = yield from each_or_error([_renewal(space, lease, lease_s) for lease in leases])
    return [reply if isinstance(reply, StoreError) else _renewed(reply) for reply in replies]


def _renewal(space: Space, lease: Lease, lease_s: float) -> Call:
    return call_for(lease.job, space, "renew", lease.thread_id, token=lease.token, lease_ms=to_ms(lease_s))


def _renewed(reply: Any) -> Renewed | None:
    word, *rest = texts(reply)
    return Renewed(int(rest[0]), rest[1], rest[2] == "1") if word == "held" else None


def check(word: str, thread_id: str) -> None:
    """Raise LeaseLost where a script says so."""
    if word == "lost":
        msg = f"the lease on thread {thread_id!r} is another worker's now; nothing was written"
        raise LeaseLost(msg)


def message_keys(space: Space, message_ids: Sequence[str]) -> list[str]:
    """The keys of these messages' records."""
    return [space.keys.message(message_id) for message_id in message_ids]


def save(
    space: Space,
    lease: Lease,
    phase: Phase,
    progress: Progress,
    mark: Sequence[str] = (),
    *,
    to_replica: bool = False,
    about: str = "a request over it",
    news: Sequence[News] = (),
) -> Operation[bool]:
    """Write how far the batch got; whether somebody listens to the thread.

    The messages in `mark` are noted to be in the batch. `news` is told to those who listen, in the same step.

    Raises:
        NotReplicated: It was to reach a replica (`to_replica`), and did not in time. It may be kept or not.
    """
    call = space.call(
        "progress",
        lease.thread_id,
        rest=message_keys(space, mark),
        token=lease.token,
        number=next(lease.numbers),
        phase=phase.value,
        progress=progress.dump(),
        batch_id=lease.claimed.batch.id,
        run_id=(progress.run_id or "") if phase is Phase.RUNNING else "",
        news=dump_news(news),
    )
    if to_replica:
        (reply,), is_kept = yield from replicated(space, [call])
    else:
        reply, is_kept = (yield call), True
    check(text(reply[0]), lease.thread_id)
    if not is_kept:
        raise NotReplicated(
            f"thread {lease.thread_id!r}: that {about} is about to leave had not reached a replica of Redis within {REPLICA_WAIT_S:g} s; "
            "nothing was sent, it is tried again - see that a replica is connected"
        )
    return text(reply[1]) == "1"


def trim(space: Space, lease: Lease, keep: int) -> Operation[None]:
    """Give all but the first `keep` messages back; only before anything was sent."""
    back = [message.id for message in lease.claimed.batch.messages[keep:]]
    reply = yield space.call("trim", lease.thread_id, rest=message_keys(space, back), token=lease.token, keep=keep)
    check(text(reply[0]), lease.thread_id)


def set_conversation(space: Space, thread_id: str, conversation_id: str, *, token: str = "") -> Operation[tuple[str, str | None]]:
    """Remember a mapped thread's conversation unless it has one; the one that counts, and its anchor.

    Args:
        space: The queue.
        thread_id: The thread.
        conversation_id: Which it is to have.
        token: Of the lease under which it was created; "" if it was created under none.

    Raises:
        LeaseLost: The lease is another worker's, and the thread has no conversation. Nothing was changed.
    """
    found, anchor = texts((yield space.call("set_conversation", thread_id, token=token, conversation_id=conversation_id)))
    if not found:
        check("lost", thread_id)
    return found, anchor or None


def move_conversation(
    space: Space, lease: Lease, *, old_id: str, conversation_id: str, anchor: str | None, phase: Phase, progress: Progress
) -> Operation[str]:
    """Have a mapped thread go on in another conversation, and write how far the batch got.

    Returns:
        The conversation that the thread has now: without effect if it had another one than `old_id`.
    """
    reply = yield space.call(
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


def postpone(space: Space, lease: Lease, *, state: ThreadState, wait_s: float, phase: Phase, progress: Progress) -> Operation[None]:
    """Give the thread back; the same batch is looked at again after `wait_s`."""
    reply = yield call_for(
        lease.job,
        space,
        "postpone",
        lease.thread_id,
        token=lease.token,
        state=state.value,
        wait_ms=to_ms(wait_s),
        phase=phase.value,
        progress=progress.dump(),
    )
    check(text(reply[0]), lease.thread_id)
