"""Pages of threads for requests: each reads a bounded number of threads, however few match."""

from __future__ import annotations

import re
from dataclasses import dataclass

from assistant_queue.models import ThreadStatus
from assistant_queue.store.calls import Namespace, Operation, plain, texts
from assistant_queue.store.ops.browsing import BUDGET, CHUNK
from assistant_queue.store.ops.failures import failed_rows
from assistant_queue.store.ops.thread_lists import (
    in_state,
    list_threads,
    place_in_due,
    read_threads,
)
from assistant_queue.store.quarantine import without

_PLACE = re.compile(r"(due|failed)/([0-9]{1,9})")
"""The beginning of a page: a place in a list. A thread that is named in an address has no slash."""


@dataclass(frozen=True, slots=True)
class ThreadsRead:
    """A page of threads.

    Attributes:
        threads: Those that match; maybe none, although more pages follow.
        next: What to say as `after` for the next page; None at the end.
    """

    threads: list[ThreadStatus]
    next: str | None


def read_page(
    namespace: Namespace, state: str | None, limit: int, after: str | None, order: str
) -> Operation[ThreadsRead]:
    """Return a page of `list_threads`, which ends early if few of the threads are in the state.

    Raises:
        InvalidArgument: `after` is not in the list any more.
    """
    if state in {None, "stuck", "paused", "taken_over"}:  # no other threads are read
        found = yield from list_threads(namespace, state, limit, after, order)
        return ThreadsRead(found, found[-1].thread_id if len(found) == limit else None)
    parts = ["due", "failed"] if state == "parked" else ["due"]
    is_reversed = order == "newest_due"
    if is_reversed:
        parts.reverse()
    part = parts[0]
    start = 0
    if after is not None:
        part, start = yield from _place(namespace, after, is_reversed=is_reversed)
    rows: list[ThreadStatus] = []
    left = BUDGET
    while left > 0:
        ids, found = yield from _slice(namespace, part, start, state, is_reversed=is_reversed)
        by_id = {row.thread_id: row for row in found}
        for number, one in enumerate(ids, 1):
            if one in by_id:
                rows.append(by_id.pop(one))
            if len(rows) == limit:
                return ThreadsRead(rows, f"{part}/{start + number}")
        start += len(ids)
        left -= len(ids)
        if len(ids) < CHUNK:
            if part == parts[-1]:
                return ThreadsRead(rows, None)
            part = parts[-1]
            start = 0
    return ThreadsRead(rows, f"{part}/{start}")


def _place(namespace: Namespace, after: str, *, is_reversed: bool) -> Operation[tuple[str, int]]:
    place = _PLACE.fullmatch(after)
    if place is not None:
        return place[1], int(place[2])
    return "due", (yield from place_in_due(namespace, after, is_reversed=is_reversed))


def _slice(
    namespace: Namespace, part: str, start: int, state: str | None, *, is_reversed: bool
) -> Operation[tuple[list[str], list[ThreadStatus]]]:
    """Return the threads of a part of a list, and the status of those in the state."""
    key = namespace.keys.due if part == "due" else namespace.keys.failed
    order = ["REV"] if is_reversed else []
    names = texts((yield plain("ZRANGE", key, start, start + CHUNK - 1, *order)))
    if part == "failed":
        rows = yield from failed_rows(namespace, (yield from without(key, names)))
        threads = {row.batch_id: row.thread_id for row in rows if row.reason == "parked"}
        names = [threads.get(one, "") for one in names]
        ids = [one for one in dict.fromkeys(names) if one]
        return names, (yield from read_threads(namespace, ids))
    found = yield from read_threads(namespace, (yield from in_state(namespace, names, state)))
    return names, [row for row in found if row.state == state]
