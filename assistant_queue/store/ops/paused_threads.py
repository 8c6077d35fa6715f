"""The list of threads that are paused or taken over, which spares a scan of all threads.

It is a hint: the thread's own mark decides. A thread that another version paused is not in it.
"""

from __future__ import annotations

from assistant_queue.errors import StoreError, StoreUnavailable
from assistant_queue.store.calls import Call, Namespace, Operation, each_or_error, plain, texts
from assistant_queue.store.quarantine import quarantine


def note(namespace: Namespace, thread_id: str) -> Operation[None]:
    """Add a thread that was paused or taken over."""
    at_ms = namespace.time_ms((yield plain("TIME")))
    yield from _write(namespace, plain("ZADD", namespace.keys.pausing, at_ms, thread_id))


def drop(namespace: Namespace, thread_id: str) -> Operation[None]:
    """Remove a thread that was resumed, handed back or forgotten, unless the other mark is left."""
    (mark,) = yield from each_or_error([plain("HGET", namespace.keys.thread(thread_id), "paused")])
    if mark:
        return
    yield from _write(namespace, plain("ZREM", namespace.keys.pausing, thread_id))


def read(namespace: Namespace, start: int, count: int) -> Operation[list[str]]:
    """Return threads that were paused or taken over, those of the longest pause first."""
    key = namespace.keys.pausing
    (reply,) = yield from each_or_error([plain("ZRANGE", key, start, start + count - 1)])
    return [] if isinstance(reply, StoreError) else texts(reply)


def _write(namespace: Namespace, call: Call) -> Operation[None]:
    """Write; a key of another type is quarantined, a refusal costs no more than the hint."""
    (reply,) = yield from each_or_error([call])
    if isinstance(reply, StoreUnavailable):
        raise reply
    if isinstance(reply, StoreError) and "WRONGTYPE" in str(reply):
        yield from quarantine(namespace, "pausing", namespace.keys.pausing)
        yield from each_or_error([call])
