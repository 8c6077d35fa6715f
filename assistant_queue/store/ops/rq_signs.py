"""Signs of life of a queue's workers, from RQ's records of them."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from assistant_queue.core.explaining import WorkerSign
from assistant_queue.errors import StoreError
from assistant_queue.store import wakeups
from assistant_queue.store.calls import Namespace, Operation, each_or_error, plain, text

_MOST_WORKERS = 200
"""Records that are read. Chosen: as those of the estimates (`waits.py`)."""


def read_signs(namespace: Namespace) -> Operation[tuple[WorkerSign, ...] | None]:
    """Return the signs of the workers whose record RQ still has; None if this user may not look."""
    (names,) = yield from each_or_error([plain("SMEMBERS", wakeups.workers_key(namespace.prefix))])
    if isinstance(names, StoreError):
        return None
    known = list(names)[:_MOST_WORKERS]
    replies = yield from each_or_error(
        [plain("HMGET", name, "last_heartbeat", wakeups.ABANDONED_FIELD) for name in known]
    )
    if replies and all(isinstance(reply, StoreError) for reply in replies):
        return None
    signs = []
    for reply in replies:
        if isinstance(reply, StoreError) or reply[0] is None:
            continue
        signs.append(
            WorkerSign(heard_ms=stamp_ms(text(reply[0])), has_scheduler=reply[1] is not None)
        )
    return tuple(signs)


def stamp_ms(stamp: str) -> int:
    """Return a time in RQ's form, UTC; 0 for any other text."""
    with suppress(ValueError):
        at = datetime.fromisoformat(stamp)
        return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    return 0
