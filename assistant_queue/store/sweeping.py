"""Operations that see to it that no thread is forgotten."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from assistant_queue.store.calls import Operation, Space, each, text, texts
from assistant_queue.store.quarantine import without

_log = logging.getLogger(__name__)

SWEEP_LIMIT = 100
"""Threads looked at in one sweep, longest overdue first. Chosen: about 5 ms of Redis' time."""
_SEARCH = 2000
"""Entries of the RQ queue that are searched for a wake-up. Chosen: 2,000 take Redis about 50 microseconds."""
_PATIENCE_MS = 60_000
"""How long a wake-up further back than that is believed to be there. Chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a sweep saw.

    Attributes:
        overdue: Threads it looked at.
        woken: Wake-ups it handed to the queue.
        next_due_in_ms: When the next thread is due, from now; None if none is.
    """

    overdue: int
    woken: int
    next_due_in_ms: int | None


def sweep(space: Space, limit: int = SWEEP_LIMIT, *, even_paused: bool = False, leave: str = "") -> Operation[Swept]:
    """Look at the threads that are overdue, at most `limit`: each gets a wake-up unless one is on its way.

    A paused queue has none, unless `even_paused`: then what fell due is counted as waiting, and nobody is woken. `leave` is a thread
    that the caller is about to look at itself.
    """
    now, next_due, *found = texts((yield space.call("overdue", limit=limit, even_paused="1" if even_paused else "")))
    overdue = [thread_id for thread_id in found if thread_id != leave]
    woken = yield from wake(space, overdue)
    return Swept(overdue=len(overdue), woken=woken, next_due_in_ms=int(next_due) - int(now) if next_due else None)


def wake(space: Space, thread_ids: Sequence[str]) -> Operation[int]:
    """Look at these threads; the number that were handed a wake-up. One that cannot be looked at keeps no other from it."""
    if not thread_ids:
        return 0
    known = yield from without(space.keys.due, thread_ids)
    replies = yield from each([space.call("wake", thread_id, patience_ms=_PATIENCE_MS, search=_SEARCH) for thread_id in known])
    for thread_id, reply in zip(known, replies, strict=True):
        if reply is None:
            _log.error("thread %r: Redis refuses to look at it; look at its keys", thread_id)
    return sum(reply is not None and text(reply[0]) == "woken" for reply in replies)
