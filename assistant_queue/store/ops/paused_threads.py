"""The list of threads that are paused or taken over, which spares a scan of all threads.

Scripts that pause or resume a thread keep it. An earlier version does not: what it pauses is added
by a walk through all threads, which the leader of the schedulers takes once a day, in small steps.
Some entries may be over: the thread's own mark decides.
"""

from __future__ import annotations

from contextlib import suppress

from assistant_queue.errors import NotPermitted, StoreError, StoreUnavailable
from assistant_queue.store.calls import (
    Call,
    Namespace,
    Operation,
    each,
    each_or_error,
    plain,
    text,
    texts,
)
from assistant_queue.store.quarantine import literal, quarantine
from assistant_queue.store.sendable import is_text

_WALKED = ""
"""The entry that says when a walk ended, as a negative number: it is before all others. No thread
has this id."""
_AGAIN_MS = 86_400_000
"""Milliseconds after which a walk is taken again. Chosen: older versions run beside this one during
a deploy only."""
_STEP = 500
"""Keys of one step of a walk. Chosen: a millisecond of Redis' time."""


def slice_of(namespace: Namespace, start: int, count: int, *, is_reversed: bool = False) -> Call:
    """Return the call that reads a part of the list, those of the longest pause first."""
    bounds = ("+inf", 0) if is_reversed else (0, "+inf")
    order = ["BYSCORE", *(["REV"] if is_reversed else []), "LIMIT", start, count]
    return plain("ZRANGE", namespace.keys.pausing, *bounds, *order)


def read(
    namespace: Namespace, start: int, count: int, *, is_reversed: bool = False
) -> Operation[list[str]]:
    """Return threads that were paused or taken over, those of the longest pause first."""
    call = slice_of(namespace, start, count, is_reversed=is_reversed)
    (reply,) = yield from each_or_error([call])
    return [] if isinstance(reply, StoreError) else texts(reply)


def count(namespace: Namespace) -> Operation[int]:
    """Return the length of the list."""
    key = namespace.keys.pausing
    number, walked = yield from each([plain("ZCARD", key), plain("ZSCORE", key, _WALKED)])
    return int(number or 0) - (walked is not None)


def place_of(namespace: Namespace, thread_id: str) -> Operation[int | None]:
    """Return how many threads are before one in the list; None if it is not there."""
    key = namespace.keys.pausing
    rank, walked = yield from each([plain("ZRANK", key, thread_id), plain("ZSCORE", key, _WALKED)])
    return None if rank is None else int(rank) - (walked is not None)


def is_complete(namespace: Namespace) -> Operation[bool]:
    """Return whether the list has the threads that earlier versions paused, too."""
    try:
        return (yield from _walked_ms(namespace)) is not None
    except NotPermitted:
        return False


def complete(namespace: Namespace) -> Operation[list[str] | None]:
    """Walk through all threads at once.

    Returns:
        None if the list is complete now; the threads that are paused or taken over, by name, if
        this user may not write.
    """
    found: set[str] = set()
    cursor = 0
    while True:
        cursor, ids = yield from _step(namespace, cursor)
        found.update(ids)
        if cursor == 0:
            break
    try:
        yield from _add(namespace, sorted(found))
        yield from _end(namespace)
    except NotPermitted:
        return sorted(found)
    return None


def walk_on(namespace: Namespace, cursor: int | None) -> Operation[int | None]:
    """Take one step of a walk, and return where the next one begins; None if none is needed."""
    with suppress(NotPermitted):
        if cursor is None:
            walked_ms = yield from _walked_ms(namespace)
            now_ms = namespace.time_ms((yield plain("TIME")))
            if walked_ms is not None and now_ms - walked_ms < _AGAIN_MS:
                return None
        following, ids = yield from _step(namespace, cursor or 0)
        yield from _add(namespace, ids)
        if following:
            return following
        yield from _end(namespace)
    return None


def _walked_ms(namespace: Namespace) -> Operation[int | None]:
    (score,) = yield from each([plain("ZSCORE", namespace.keys.pausing, _WALKED)])
    return None if score is None else -round(float(score))


def _step(namespace: Namespace, cursor: int) -> Operation[tuple[int, list[str]]]:
    prefix = namespace.keys.thread("")
    following, names = yield plain("SCAN", cursor, "MATCH", literal(prefix) + "*", "COUNT", _STEP)
    marks = yield from each([plain("HGET", name, "paused") for name in names])
    ids = [text(name)[len(prefix) :] for name, mark in zip(names, marks, strict=True) if mark]
    return int(following), [one for one in ids if one and is_text(one)]


def _add(namespace: Namespace, ids: list[str]) -> Operation[None]:
    if ids:
        now_ms = namespace.time_ms((yield plain("TIME")))
        words = [word for one in ids for word in (now_ms, one)]
        yield from _write(namespace, plain("ZADD", namespace.keys.pausing, "NX", *words))


def _end(namespace: Namespace) -> Operation[None]:
    now_ms = namespace.time_ms((yield plain("TIME")))
    yield from _write(namespace, plain("ZADD", namespace.keys.pausing, -now_ms, _WALKED))


def _write(namespace: Namespace, call: Call) -> Operation[None]:
    """Write; a key of another type is quarantined.

    Raises:
        NotPermitted: This user may not write.
    """
    (reply,) = yield from each_or_error([call])
    if isinstance(reply, StoreUnavailable | NotPermitted):
        raise reply
    if isinstance(reply, StoreError) and "WRONGTYPE" in str(reply):
        yield from quarantine(namespace, "pausing", namespace.keys.pausing)
        yield from each_or_error([call])
