"""List the threads of a queue that are not idle, by state, in pages."""

from __future__ import annotations

from contextlib import suppress
from typing import get_args

from assistant_queue.errors import InvalidArgument, NotPermitted, StoreError
from assistant_queue.models import ThreadFilter, ThreadOrder, ThreadStatus
from assistant_queue.store.calls import Namespace, Operation, each, plain, text, texts
from assistant_queue.store.ops import paused_threads
from assistant_queue.store.ops.failures import list_all_failed
from assistant_queue.store.ops.message_records import state_of
from assistant_queue.store.ops.statuses import thread_calls, thread_status_of
from assistant_queue.store.ops.sweeping import scored

STATES: tuple[str, ...] = get_args(ThreadFilter)
ORDERS: tuple[str, ...] = get_args(ThreadOrder)

STUCK_MS = 5000
"""Milliseconds after which an overdue thread is stuck, here and in `doctor`. Chosen: no live worker
leaves one for so long."""
_CHUNK = 500
"""Threads that are read in one round trip. Chosen: about two milliseconds of Redis' time."""


def list_threads(
    namespace: Namespace, state: str | None, limit: int, after: str | None, order: str
) -> Operation[list[ThreadStatus]]:
    """Return threads that are not idle, in the order of the time at which they are checked.

    Threads that are paused, or taken over, are not in that order: those of the longest pause come
    first. Parked ones are those with a batch that waits for an answer from outside, or for its run,
    in that order, and then those with a batch in the failed list that was parked.

    Raises:
        InvalidArgument: `after` is not in the list any more.
    """
    is_reversed = order == "newest_due"
    if state in {"paused", "taken_over"}:
        return (yield from _marked(namespace, state, limit, after, is_reversed=is_reversed))
    if state == "parked":
        found = yield from _parked(namespace)
        if is_reversed:
            found.reverse()
        start = _after(found, after) if after is not None else 0
        return (yield from read_threads(namespace, found[start : start + limit]))
    return (yield from _by_due(namespace, state, limit, after, is_reversed=is_reversed))


def _by_due(
    namespace: Namespace, state: str | None, limit: int, after: str | None, *, is_reversed: bool
) -> Operation[list[ThreadStatus]]:
    due = namespace.keys.due
    start = 0
    if after is not None:
        start = yield from place_in_due(namespace, after, is_reversed=is_reversed)
    now_ms = namespace.clock.store_now_ms()
    if now_ms is None:
        seconds, micros = yield plain("TIME")
        now_ms = int(seconds) * 1000 + int(micros) // 1000
    stuck_ms = now_ms - STUCK_MS
    every = state in {None, "stuck"}
    rows: list[ThreadStatus] = []
    while len(rows) < limit:
        # A page without a filter is read with one call.
        size = min(limit - len(rows), _CHUNK) if every else _CHUNK
        reply = yield plain(
            "ZRANGE", due, start, start + size - 1, *(["REV"] if is_reversed else []), "WITHSCORES"
        )
        pairs = list(scored(reply))
        ids = [name for name, due_ms in pairs if state != "stuck" or due_ms <= stuck_ms]
        if not every:
            ids = yield from in_state(namespace, ids, state)
        found = yield from read_threads(namespace, ids)
        rows += [row for row in found if row.state != "idle" if every or row.state == state]
        start += size
        # In this order all threads after one that is not stuck are not stuck either.
        if len(pairs) < size or (not is_reversed and every and len(ids) < len(pairs)):
            break
    return rows[:limit]


def place_in_due(namespace: Namespace, after: str, *, is_reversed: bool) -> Operation[int]:
    """Return the place after that of a thread.

    Raises:
        InvalidArgument: It is not in the list any more.
    """
    due = namespace.keys.due
    rank, count = yield [plain("ZRANK", due, after), plain("ZCARD", due)]
    if rank is None:
        raise _gone(after)
    return (int(count) - int(rank)) if is_reversed else int(rank) + 1


def read_threads(namespace: Namespace, ids: list[str]) -> Operation[list[ThreadStatus]]:
    """Return the statuses of threads; one with a hash that another program wrote is left out."""
    rows: list[ThreadStatus] = []
    for start in range(0, len(ids), _CHUNK):
        chunk = ids[start : start + _CHUNK]
        calls = [thread_calls(namespace, thread_id) for thread_id in chunk]
        try:
            replies = yield from each([call for of_one in calls for call in of_one])
        except NotPermitted:  # as in `read_thread`
            calls = [of_one[:1] for of_one in calls]
            replies = yield from each([call for of_one in calls for call in of_one])
        size = len(calls[0])
        for number, thread_id in enumerate(chunk):
            of_one = replies[number * size : (number + 1) * size]
            if of_one[0] is not None:
                with suppress(StoreError):
                    rows.append(thread_status_of(namespace, thread_id, of_one))
    return rows


def in_state(namespace: Namespace, ids: list[str], state: str | None) -> Operation[list[str]]:
    """Return the threads in a state: of few threads more than that is read."""
    marks = yield from each(
        [
            plain("HMGET", namespace.keys.thread(one), "state", "until", "parked", "last")
            for one in ids
        ]
    )
    return [
        one
        for one, mark in zip(ids, marks, strict=True)
        if mark is not None and state_of(*texts(mark)) == state
    ]


def has_mark(row: ThreadStatus, state: str | None) -> bool:
    """Return whether a thread is paused by itself, or taken over."""
    return row.taken_over_by is not None if state == "taken_over" else row.paused


def _marked(
    namespace: Namespace, state: str | None, limit: int, after: str | None, *, is_reversed: bool
) -> Operation[list[ThreadStatus]]:
    """Read from the list of such threads; without it, from all threads, by name."""
    scanned: list[str] | None = None
    if not (yield from paused_threads.is_complete(namespace)):
        scanned = yield from paused_threads.complete(namespace)
        if scanned is not None and is_reversed:
            scanned.reverse()
    start = 0
    if after is not None and scanned is not None:
        start = _after(scanned, after)
    elif after is not None:
        place = yield from paused_threads.place_of(namespace, after)
        if place is None:
            raise _gone(after)
        count = yield from paused_threads.count(namespace)
        start = count - place if is_reversed else place + 1
    rows: list[ThreadStatus] = []
    while len(rows) < limit:
        if scanned is not None:
            ids = scanned[start : start + _CHUNK]
        else:
            ids = yield from paused_threads.read(namespace, start, _CHUNK, is_reversed=is_reversed)
        rows += [row for row in (yield from read_threads(namespace, ids)) if has_mark(row, state)]
        start += _CHUNK
        if len(ids) < _CHUNK:
            break
    return rows[:limit]


def _parked(namespace: Namespace) -> Operation[list[str]]:
    due = yield plain("ZRANGE", namespace.keys.due, 0, -1)
    ids = [text(name) for name in due]
    found: list[str] = []
    for start in range(0, len(ids), _CHUNK):
        found += yield from in_state(namespace, ids[start : start + _CHUNK], "parked")
    rows = yield from list_all_failed(namespace)
    return list(dict.fromkeys([*found, *(row.thread_id for row in rows if row.reason == "parked")]))


def _after(found: list[str], after: str) -> int:
    if after not in found:
        raise _gone(after)
    return found.index(after) + 1


def _gone(after: str) -> InvalidArgument:
    return InvalidArgument(
        f"after: thread {after!r} is not in this list any more; begin with the first page, or take "
        "a larger limit"
    )
