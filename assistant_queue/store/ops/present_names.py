"""Presence: the names under which clients of the HTTP service subscribe to a thread.

One sorted set for each thread; a member is a name and the process that serves it, its score the
time until which it counts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from assistant_queue.store.calls import Call, Namespace, Operation, plain, text

LIFE_MS = 15_000
"""Milliseconds for which a name counts that is not renewed, because its process was killed.
Chosen: three renewals."""
_APART = "\x00"


def read_present(
    namespace: Namespace,
    thread_ids: Sequence[str],
    *,
    process: str = "",
    renewed: Mapping[str, Sequence[str]] | None = None,
) -> Operation[dict[str, tuple[str, ...]]]:
    """Return the names that are present in each thread, sorted; one round trip.

    Args:
        namespace: The queue.
        thread_ids: The threads.
        process: The id of the process that writes.
        renewed: Names of that process by thread, which count for another `LIFE_MS`.
    """
    now = int(time.time() * 1000)
    calls: list[Call] = []
    for thread_id, names in (renewed or {}).items():
        if names:
            key = namespace.keys.present(thread_id)
            members = [part for name in names for part in (now + LIFE_MS, _member(name, process))]
            calls += [plain("ZADD", key, *members), plain("PEXPIRE", key, 2 * LIFE_MS)]
    writes = len(calls)
    calls += [
        plain("ZRANGEBYSCORE", namespace.keys.present(thread_id), now, "+inf")
        for thread_id in thread_ids
    ]
    replies = yield calls
    found = {}
    for thread_id, members in zip(thread_ids, replies[writes:], strict=True):
        present = {text(member).partition(_APART)[0] for member in members}
        found[thread_id] = tuple(sorted(present, key=str.casefold))
    return found


def remove_present(
    namespace: Namespace, thread_id: str, name: str, *, process: str
) -> Operation[None]:
    """Remove a name of one process from a thread."""
    yield plain("ZREM", namespace.keys.present(thread_id), _member(name, process))


def clear_present(namespace: Namespace, thread_id: str) -> Operation[None]:
    """Remove all names from a thread."""
    yield plain("DEL", namespace.keys.present(thread_id))


def _member(name: str, process: str) -> str:
    return f"{name}{_APART}{process}"
