"""Pages of threads and of failed batches for the operations page: bounded reads, no scan.

A page reads at most `BUDGET` entries however few of them match a filter, and says how far it got.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import field

from assistant_queue.errors import BatchNotFound
from assistant_queue.models import FailedBatch, ThreadStatus
from assistant_queue.store.calls import Namespace, Operation, each, plain, texts
from assistant_queue.store.ops import paused_threads
from assistant_queue.store.ops.failures import failed_rows
from assistant_queue.store.ops.message_records import state_of
from assistant_queue.store.ops.sweeping import scored
from assistant_queue.store.ops.text_reading import Wanted, read_every
from assistant_queue.store.ops.thread_lists import STUCK_MS, has_mark, read_threads
from assistant_queue.store.quarantine import CORRUPT, without
from assistant_queue.values import valueclass

BUDGET = 1000
"""Entries that one page reads. Chosen: some ten milliseconds of Redis' time."""
CHUNK = 500
"""Entries of one round trip."""
_STATES = frozenset({"pending", "active", "retrying", "held", "parked"})
"""States that a thread's record names."""
COUNTED = 5000
"""Newest failed batches that are counted by reason. Chosen: as `BUDGET`, read less often."""


@valueclass(frozen=True, slots=True, kw_only=True)
class ThreadsSeen:
    """A page of threads.

    Attributes:
        threads: Those that match, in order.
        next: Where the next page begins, as `after`; None at the end.
        read: Threads that were read for it.
        total: Threads of the list that they are from.
    """

    threads: tuple[ThreadStatus, ...]
    next: int | None
    read: int
    total: int


def browse_threads(
    namespace: Namespace, state: str | None, limit: int, after: int = 0
) -> Operation[ThreadsSeen]:
    """Return threads that are not idle, longest due first; or those in one state.

    `after` is the place in the list at which the page begins. The list changes meanwhile, so a
    thread may be on two pages, or on none.
    """
    is_marked = state in {"paused", "taken_over"}
    start = after
    found: list[ThreadStatus] = []
    now_ms = namespace.time_ms((yield plain("TIME")))
    if is_marked:
        total = yield from paused_threads.count(namespace)
    else:
        (total,) = yield from each([plain("ZCARD", namespace.keys.due)])
    is_over = False
    while len(found) < limit and start - after < BUDGET and not is_over:
        size = min(limit - len(found), CHUNK) if state is None else CHUNK
        if is_marked:
            ids = yield from paused_threads.read(namespace, start, size)
            is_over = len(ids) < size
        else:
            (reply,) = yield from each(
                [plain("ZRANGE", namespace.keys.due, start, start + size - 1, "WITHSCORES")]
            )
            pairs = list(scored(reply or []))
            ids = [
                name for name, due_ms in pairs if state != "stuck" or due_ms <= now_ms - STUCK_MS
            ]
            is_over = len(pairs) < size or (state == "stuck" and len(ids) < len(pairs))
        rows = yield from read_threads(
            namespace, (yield from _in_state(namespace, ids, state)) if state in _STATES else ids
        )
        by_id = {row.thread_id: row for row in rows if _matches(row, state)}
        for place, thread_id in enumerate(ids):
            if thread_id in by_id:
                found.append(by_id[thread_id])
            if len(found) == limit:
                start += place + 1
                is_over = is_over and place + 1 == len(ids)
                break
        else:
            start += size
    return ThreadsSeen(
        threads=tuple(found),
        next=None if is_over or start >= int(total or 0) else start,
        read=min(start - after, max(int(total or 0) - after, 0)),
        total=int(total or 0),
    )


def _in_state(namespace: Namespace, ids: list[str], state: str | None) -> Operation[list[str]]:
    """Return the threads in a state: of few threads more than that is read."""
    wanted = Wanted(
        ids=ids, record=namespace.keys.thread, fields=("state", "until", "parked", "last")
    )
    found = yield from read_every(namespace, wanted)
    return [one.id for one in found if one.fields is None or state_of(*one.fields) == state]


def _matches(row: ThreadStatus, state: str | None) -> bool:
    if state in {"paused", "taken_over"}:
        return has_mark(row, state)
    if state in {None, "stuck"}:
        return row.state != "idle" or row.paused
    return row.state == state


@valueclass(frozen=True, slots=True, kw_only=True)
class FailedSeen:
    """A page of failed batches, newest first.

    Attributes:
        failed: Those that match.
        next: The id after which the next page begins; None at the end.
        read: Batches that were read for it.
        total: Batches of the failed list.
    """

    failed: tuple[FailedBatch, ...]
    next: str | None
    read: int
    total: int


def browse_failed(
    namespace: Namespace,
    reasons: Collection[str],
    thread_id: str | None,
    limit: int,
    after: str | None,
    *,
    budget: int = BUDGET,
) -> Operation[FailedSeen]:
    """Return failed batches, newest first; with these reasons (none: any) and of this thread.

    Raises:
        BatchNotFound: `after` is not in the list any more.
    """
    key = namespace.keys.failed
    (total,) = yield from each([plain("ZCARD", key)])
    start = 0
    if after is not None:
        (rank,) = yield from each([plain("ZRANK", key, after)])
        if rank is None:
            raise BatchNotFound(
                f"Batch {after!r} is not in the failed list any more; begin with the first page"
            )
        start = int(total or 0) - int(rank)
    first = start
    found: list[FailedBatch] = []
    last: str | None = None
    is_over = False
    while len(found) < limit and start - first < budget and not is_over:
        rows, ids = yield from _failed_at(namespace, start, CHUNK)
        is_over = len(ids) < CHUNK
        last = ids[-1] if ids else last
        for place, row in enumerate(rows):
            if (not reasons or row.reason in reasons) and thread_id in {None, row.thread_id}:
                found.append(row)
                if len(found) == limit:
                    is_over = is_over and place + 1 == len(rows)
                    last = row.batch_id
                    break
        start += len(ids)
    return FailedSeen(
        failed=tuple(found),
        next=None if is_over else last,
        read=start - first,
        total=int(total or 0),
    )


@valueclass(frozen=True, slots=True, kw_only=True)
class FailedCounts:
    """The newest failed batches by reason.

    Attributes:
        by_reason: Reason -> number.
        counted: Batches that were counted: the newest ones.
        total: Batches of the failed list.
    """

    by_reason: dict[str, int] = field(default_factory=dict)
    counted: int = 0
    total: int = 0


def count_failed(namespace: Namespace) -> Operation[FailedCounts]:
    """Count the newest failed batches by reason."""
    (total,) = yield from each([plain("ZCARD", namespace.keys.failed)])
    counts: Counter[str] = Counter()
    start = 0
    while start < min(COUNTED, int(total or 0)):
        ids, good = yield from _ids_at(namespace, start, CHUNK)
        wanted = Wanted(ids=good, record=namespace.keys.record, fields=("thread", "failure"))
        for one in (yield from read_every(namespace, wanted)):
            if one.fields is None or one.fields[0]:  # else it has left the list meanwhile
                counts[_reason_of(one.fields)] += 1
        if not ids:
            break
        start += len(ids)
    return FailedCounts(by_reason=dict(counts), counted=start, total=int(total or 0))


def _reason_of(fields: Sequence[str] | None) -> str:
    """Return the reason in a record's thread and failure, without reading more of it."""
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        reason = json.loads((fields or ("", ""))[1])["reason"]
        if isinstance(reason, str):
            return reason
    return CORRUPT


def _failed_at(
    namespace: Namespace, start: int, count: int
) -> Operation[tuple[list[FailedBatch], Sequence[str]]]:
    ids, good = yield from _ids_at(namespace, start, count)
    return (yield from failed_rows(namespace, good)), ids


def _ids_at(
    namespace: Namespace, start: int, count: int
) -> Operation[tuple[Sequence[str], Sequence[str]]]:
    """Return a part of the failed list, newest first, and those of it that can name a batch."""
    key = namespace.keys.failed
    (reply,) = yield from each([plain("ZRANGE", key, start, start + count - 1, "REV")])
    ids = texts(reply or [])
    return ids, (yield from without(key, ids))
