"""Operations that see to it that no thread is forgotten."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from assistant_queue.errors import NotPermitted, StoreError
from assistant_queue.store.calls import OVERDUE_MS, Call, Operation, Space, each, plain, text, texts
from assistant_queue.store.quarantine import without
from assistant_queue.store.scripts import Constants
from assistant_queue.store.sendable import is_text

_log = logging.getLogger(__name__)

SWEEP_LIMIT = 100
"""Threads looked at in one sweep, longest overdue first. Chosen: about 5 ms of Redis' time."""
TERM_MS = 1500
"""How long a watchman keeps the time without having looked again. Chosen: it looks once a second at least."""
SPARE_MS = 250
"""How overdue a thread must be before a watchman that does not keep the time looks at it. Chosen: longer than a busy timer takes."""
_SEARCH = 2000
"""Entries of the RQ queue that are searched for a wake-up. Chosen: 2,000 take Redis about 50 microseconds."""
_PATIENCE_MS = 60_000
"""How long a wake-up further back than that is believed to be there, if nobody says which are taken. Chosen."""
_GLANCE = 2
"""Overdue threads that a reading call has woken. Chosen: as many as an add does; the jobs of those look at ten more each."""
NOT_BACK: Constants = (("back_ms", 0),)
"""Nothing is known of a clock that was set back."""
_LOOKED_AT = frozenset({"woken", "waiting"})
"""What a script says of a thread that was overdue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a sweep saw.

    Attributes:
        overdue: Threads it looked at.
        woken: Wake-ups it handed to the queue.
        next_due_in_ms: When the next thread is due, from now; None if none is. A sweep rounds it up to whole ms.
    """

    overdue: int
    woken: int
    next_due_in_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch(Swept):
    """What a watchman's look saw.

    Attributes:
        keeps_time: It is the timer of the queue: it looks again at the next due time. The others need not.
        next_thread: Which thread is due then; "" if none is.
        now_ms: What time it was by Redis' clock.
    """

    keeps_time: bool
    next_thread: str = ""
    now_ms: float = field(default=0.0, compare=False)


def sweep(space: Space, limit: int = SWEEP_LIMIT, *, even_paused: bool = False, leave: str = "") -> Operation[Swept]:
    """Look at the threads that are overdue, at most `limit`: each gets a wake-up unless one is on its way.

    A paused queue has none, unless `even_paused`: then what fell due is counted as waiting, and nobody is woken. `leave` is a thread
    that the caller is about to look at itself.
    """
    _, left_ms, _, _, _, found = _seen((yield _overdue(space, limit=limit, even_paused="1" if even_paused else "")))
    overdue = [thread_id for thread_id in found if thread_id != leave]
    woken = yield from wake(space, overdue)
    return Swept(overdue=len(overdue), woken=woken, next_due_in_ms=None if left_ms is None else math.ceil(left_ms))


def watch(space: Space, watchman: str, expected: str = "") -> Operation[Watch]:
    """A watchman's look: a sweep, and the question who keeps the time for all watchmen of the queue.

    Args:
        space: The queue.
        watchman: The watchman's id, unique among all processes.
        expected: The thread whose time has come, as an earlier look said (`next_thread`): if it has, it is woken in the same round trip.
            "" for none. One that is not due, or not any more, is left as it is.
    """
    now_ms, left_ms, keeps, next_thread, word, overdue = _seen((yield from _look(space, watchman, expected)))
    woken = yield from wake(space, overdue)
    return Watch(
        overdue=len(overdue) + (word in _LOOKED_AT),
        woken=woken + (word == "woken"),
        next_due_in_ms=left_ms,
        keeps_time=keeps == "timer",
        next_thread=next_thread if is_text(next_thread) else "",
        now_ms=now_ms,
    )


def _look(space: Space, watchman: str, expected: str) -> Operation[Any]:
    if expected:
        try:
            return (
                yield space.call(
                    "watch",
                    expected,
                    limit=SWEEP_LIMIT - 1,
                    watchman=watchman,
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
            pass  # a thread that cannot be woken is said so by `wake`, and keeps no other from it
    return (yield _overdue(space, limit=SWEEP_LIMIT, watchman=watchman))


def _seen(reply: Any) -> tuple[float, float | None, str, str, str, list[str]]:
    """A look: the time, ms until the next thread is due, whether the caller leads, which thread, the expected one, the overdue."""
    now, next_due, keeps, next_thread, word, *overdue = texts(reply)
    return float(now), (int(next_due) - float(now) if next_due else None), keeps, next_thread, word, overdue


def rewind(space: Space, back_ms: int = 0) -> Operation[int]:
    """Move the times of all threads back, as the clock of Redis was; the number that are not due then. Repeating it moves nothing.

    `back_ms` is by how much, as far as the caller knows; each thread tells by itself whether, and by how much at least.
    """
    (found,) = yield from each([plain("ZRANGE", space.keys.due, 0, -1)])
    threads = texts(found or [])
    moved = 0
    for start in range(0, len(threads), SWEEP_LIMIT):
        words = yield from _wake_each(space, threads[start : start + SWEEP_LIMIT], back_ms)
        moved += words.count("rewound")
    return moved


def resign(space: Space, watchman: str) -> Operation[None]:
    """Let another watchman keep the time, and tell them so; nothing happens if this one does not."""
    holder = yield plain("GET", space.keys.timer)
    if holder is not None and text(holder) == watchman:
        # Between the two somebody else could have taken over; the next look of either settles it.
        yield [plain("DEL", space.keys.timer), plain("PUBLISH", space.keys.timer, "")]


def takes_writes(space: Space) -> Operation[None]:
    """Ask a Redis for what it would refuse if it were full, read-only or without its disk; nothing changes.

    Raises:
        StoreUnavailable: It refuses, or does not answer.
    """
    try:
        yield plain("SETRANGE", space.keys.timer, 0, "")
    except NotPermitted:
        raise
    except StoreError:
        pass  # it is foreign, and would have been written to


def _overdue(space: Space, *, limit: int, even_paused: str = "", watchman: str = "") -> Call:
    return space.call("overdue", limit=limit, even_paused=even_paused, watchman=watchman, term_ms=TERM_MS, spare_ms=SPARE_MS)


def wake(space: Space, thread_ids: Sequence[str]) -> Operation[int]:
    """Look at these threads; the number that were handed a wake-up. One that cannot be looked at keeps no other from it."""
    return (yield from _wake_each(space, thread_ids)).count("woken")


def _wake_each(space: Space, thread_ids: Sequence[str], back_ms: int = 0) -> Operation[list[str]]:
    """What was said of each thread that could be looked at."""
    if not thread_ids:
        return []
    known = yield from without(space.keys.due, thread_ids)
    back: dict[str, Any] = {"back_ms": back_ms} if back_ms else {"constants": NOT_BACK}
    replies = yield from each([space.call("wake", thread_id, patience_ms=_PATIENCE_MS, search=_SEARCH, **back) for thread_id in known])
    for thread_id, reply in zip(known, replies, strict=True):
        if reply is None:
            _log.error("thread %r: Redis refuses to look at it; look at its keys", thread_id)
    return [text(reply[0]) for reply in replies if reply is not None]


def glancing(space: Space, calls: Sequence[Call]) -> Operation[list[Any]]:
    """Make calls that only read, look for overdue threads in the same round trip, and wake those that are found.

    Where only RQ's own workers are, a thread whose worker died with the scheduler is found by callers alone. A user of Redis that may not
    look, or not wake, only reads.
    """
    try:
        *replies, time, rows = yield [*calls, plain("TIME"), plain("ZRANGE", space.keys.due, 0, _GLANCE - 1, "WITHSCORES")]
    except StoreError:  # a call's own error is raised again
        return list((yield list(calls)))
    own_ms = space.clock.store_now_ms()
    now_ms = int(time[0]) * 1000 + int(time[1]) // 1000 if own_ms is None else own_ms
    overdue = [thread_id for thread_id, due_ms in _scored(rows) if due_ms <= now_ms - OVERDUE_MS]
    with suppress(StoreError):
        yield from wake(space, overdue)
    return list(replies)


def _scored(rows: Any) -> Iterator[tuple[str, float]]:
    """Members and scores, as either version of the protocol and redis-py give them: pairs, or one after the other."""
    pairs = rows if rows and isinstance(rows[0], list | tuple) else zip(rows[::2], rows[1::2], strict=True)
    for member, score in pairs:
        yield text(member), float(score)
