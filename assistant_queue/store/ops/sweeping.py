"""Recovery: find overdue threads and wake them, and elect the leader among a queue's schedulers."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import field
from typing import Any

from assistant_queue.errors import NotPermitted, StoreError
from assistant_queue.store.calls import (
    OVERDUE_MS,
    Call,
    Namespace,
    Operation,
    each,
    plain,
    text,
    texts,
)
from assistant_queue.store.quarantine import without
from assistant_queue.store.scripts import Constants
from assistant_queue.store.sendable import is_text
from assistant_queue.values import valueclass

_log = logging.getLogger(__name__)

SWEEP_LIMIT = 100
"""Threads checked in one sweep, longest overdue first. Chosen: about 5 ms of Redis' time."""
TERM_MS = 1500
"""Time for which a scheduler stays the leader without polling again. Chosen: it polls at least once
a second."""
SPARE_MS = 250
"""Delay of a due thread before a follower wakes it. Chosen: longer than a busy leader
takes."""
_SEARCH = 2000
"""Entries of the RQ queue that are searched for a wake-up. Chosen: 2,000 take Redis about 50
microseconds."""
_PATIENCE_MS = 60_000
"""Time for which a wake-up beyond the searched entries is assumed to be in the queue, if workers do
not record which ones they take. Chosen: workers need about that long for a queue of so many jobs,
and a duplicate costs nothing but its job."""
_GLANCE = 2
"""Overdue threads that a reading call wakes. Chosen: as many as an add does; their jobs check ten
more each."""
NOT_BACK: Constants = (("back_ms", 0),)
"""Redis' clock is not known to have been set back."""
_LOOKED_AT = frozenset({"woken", "waiting"})
"""Words that a script returns for an overdue thread."""


@valueclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """The result of a sweep.

    Attributes:
        overdue: Threads that were checked.
        woken: Wake-ups that were enqueued.
        next_due_in_ms: Time until the next thread is due; None if none is. A sweep rounds it up to
            whole ms.
    """

    overdue: int
    woken: int
    next_due_in_ms: float | None


@valueclass(frozen=True, slots=True, kw_only=True)
class DueScan(Swept):
    """The result of a scheduler's poll.

    Attributes:
        is_leader: The scheduler is the queue's leader: it polls again at the next due time.
            Followers need not.
        next_thread: The thread that is due then; "" if none is.
        now_ms: The time by Redis' clock.
    """

    is_leader: bool
    next_thread: str = ""
    now_ms: float = field(default=0.0, compare=False)


def sweep(
    namespace: Namespace, limit: int = SWEEP_LIMIT, *, even_paused: bool = False, leave: str = ""
) -> Operation[Swept]:
    """Check the overdue threads, at most `limit`: each gets a wake-up unless one is on its way.

    A paused queue has only those with a batch that is to be stopped, unless `even_paused`: then due
    messages are counted as waiting, and no other thread is woken. `leave` is a thread that the
    caller is about to check itself.
    """
    _, left_ms, _, _, _, found = _parse_scan(
        (yield _overdue(namespace, limit=limit, even_paused="1" if even_paused else ""))
    )
    overdue = [thread_id for thread_id in found if thread_id != leave]
    woken = yield from wake(namespace, overdue)
    return Swept(
        overdue=len(overdue),
        woken=woken,
        next_due_in_ms=None if left_ms is None else math.ceil(left_ms),
    )


def watch(namespace: Namespace, scheduler: str, expected: str = "") -> Operation[DueScan]:
    """Poll as a scheduler: sweep, and become or stay the leader unless another scheduler is.

    Args:
        namespace: The queue.
        scheduler: The scheduler's id, unique among all processes.
        expected: The thread that should be due by now, by an earlier poll (`next_thread`): if it
            is, it is woken in the same round trip. "" for none. A thread that is not due, or no
            longer, does not change.
    """
    now_ms, left_ms, role, next_thread, word, overdue = _parse_scan(
        (yield from _scan(namespace, scheduler, expected))
    )
    woken = yield from wake(namespace, overdue)
    return DueScan(
        overdue=len(overdue) + (word in _LOOKED_AT),
        woken=woken + (word == "woken"),
        next_due_in_ms=left_ms,
        is_leader=role == "leader",
        next_thread=next_thread if is_text(next_thread) else "",
        now_ms=now_ms,
    )


def _scan(namespace: Namespace, scheduler: str, expected: str) -> Operation[Any]:
    if expected:
        try:
            return (
                yield namespace.call(
                    "watch",
                    expected,
                    limit=SWEEP_LIMIT - 1,
                    scheduler=scheduler,
                    term_ms=TERM_MS,
                    spare_ms=SPARE_MS,
                    patience_ms=_PATIENCE_MS,
                    search=_SEARCH,
                    constants=NOT_BACK,
                )
            )
        except NotPermitted:
            raise
        except StoreError:
            pass  # `wake` logs a thread that cannot be woken; the others are still scanned
    return (yield _overdue(namespace, limit=SWEEP_LIMIT, scheduler=scheduler))


def _parse_scan(reply: Any) -> tuple[float, float | None, str, str, str, list[str]]:
    """Return time, ms until the next due time, role, next thread, word, overdue threads."""
    now, next_due, role, next_thread, word, *overdue = texts(reply)
    return (
        float(now),
        (int(next_due) - float(now) if next_due else None),
        role,
        next_thread,
        word,
        overdue,
    )


def rewind(namespace: Namespace, back_ms: int = 0) -> Operation[int]:
    """Move the times of all threads back, as Redis' clock was. Repeating it moves nothing.

    `back_ms` is the amount that the caller knows of; each thread's own times show whether the clock
    went back, and by how much at least.

    Returns:
        The number of threads that were moved and are not due.
    """
    (found,) = yield from each([plain("ZRANGE", namespace.keys.due, 0, -1)])
    threads = texts(found or [])
    moved = 0
    for start in range(0, len(threads), SWEEP_LIMIT):
        words = yield from _wake_each(namespace, threads[start : start + SWEEP_LIMIT], back_ms)
        moved += words.count("rewound")
    return moved


def step_down(namespace: Namespace, scheduler: str) -> Operation[None]:
    """Let another scheduler become the leader, and notify the followers; no effect on followers."""
    holder = yield plain("GET", namespace.keys.leader)
    if holder is not None and text(holder) == scheduler:
        # Another scheduler could have taken over since the GET; the next poll of either settles it.
        yield [plain("DEL", namespace.keys.leader), plain("PUBLISH", namespace.keys.leader, "")]


def end_waits(namespace: Namespace) -> Operation[None]:
    """Have every scheduler of the queue look now instead of waiting on."""
    yield [
        plain("PUBLISH", namespace.keys.tick, "0"),
        plain("PUBLISH", namespace.keys.leader, ""),
    ]


def takes_writes(namespace: Namespace) -> Operation[None]:
    """Send a write that a full, read-only or diskless Redis refuses; nothing changes.

    Raises:
        StoreUnavailable: Redis refuses, or does not answer.
    """
    try:
        yield plain("SETRANGE", namespace.keys.leader, 0, "")
    except NotPermitted:
        raise
    except StoreError:
        pass  # the key has another type: Redis would have accepted the write


def _overdue(
    namespace: Namespace, *, limit: int, even_paused: str = "", scheduler: str = ""
) -> Call:
    return namespace.call(
        "overdue",
        limit=limit,
        even_paused=even_paused,
        scheduler=scheduler,
        term_ms=TERM_MS,
        spare_ms=SPARE_MS,
    )


def wake(namespace: Namespace, thread_ids: Sequence[str]) -> Operation[int]:
    """Check these threads; return the number of wake-ups that were enqueued.

    A thread that cannot be checked does not prevent the others' check.
    """
    return (yield from _wake_each(namespace, thread_ids)).count("woken")


def _wake_each(
    namespace: Namespace, thread_ids: Sequence[str], back_ms: int = 0
) -> Operation[list[str]]:
    """Return the script's word for each thread that could be checked."""
    if not thread_ids:
        return []
    known = yield from without(namespace.keys.due, thread_ids)
    back: dict[str, Any] = {"back_ms": back_ms} if back_ms else {"constants": NOT_BACK}
    replies = yield from each(
        [
            namespace.call("wake", thread_id, patience_ms=_PATIENCE_MS, search=_SEARCH, **back)
            for thread_id in known
        ]
    )
    for thread_id, reply in zip(known, replies, strict=True):
        if reply is None:
            _log.error("thread %r: Redis refuses its check; inspect its keys", thread_id)
    return [text(reply[0]) for reply in replies if reply is not None]


def read_and_wake(namespace: Namespace, calls: Sequence[Call]) -> Operation[list[Any]]:
    """Make calls that only read, and wake overdue threads that the same round trip finds.

    If a queue has only RQ's own workers, a thread of a worker that died with the scheduler is
    found by callers alone. A Redis user without the right to find or wake threads only reads.
    """
    try:
        *replies, time, rows = yield [
            *calls,
            plain("TIME"),
            plain("ZRANGE", namespace.keys.due, 0, _GLANCE - 1, "WITHSCORES"),
        ]
    except StoreError:  # a call's own error is raised again
        return list((yield list(calls)))
    now_ms = namespace.time_ms(time)
    overdue = [thread_id for thread_id, due_ms in scored(rows) if due_ms <= now_ms - OVERDUE_MS]
    with suppress(StoreError):
        yield from wake(namespace, overdue)
    return list(replies)


def scored(rows: Any) -> Iterator[tuple[str, float]]:
    """Yield members and scores from pairs or from a flat list: redis-py returns either."""
    pairs = (
        rows
        if rows and isinstance(rows[0], list | tuple)
        else zip(rows[::2], rows[1::2], strict=True)
    )
    for member, score in pairs:
        yield text(member), float(score)
