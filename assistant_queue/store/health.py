"""What a queue looks like from outside: the workers that are alive, what waits for too long, what a person has to see to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from assistant_queue.errors import NotPermitted, StoreError
from assistant_queue.store import wakeups
from assistant_queue.store.calls import Call, Operation, Space, each_or_error, plain, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """The workers of a queue, as far as its own Redis database tells.

    Attributes:
        watched: A watchman of ours keeps the time. It says so again once a second at least, for `TERM_MS` (`store/sweeping.py`).
        registered: Workers that stand in RQ's books for the queue, those of ours among them.
    """

    watched: bool
    registered: int


def read_workers(space: Space) -> Operation[Workers]:
    """Count the workers of this queue in this database: a channel would be heard in all of them.

    Raises:
        NotPermitted: This user of Redis may not look.
    """
    watched, registered = yield [plain("EXISTS", space.keys.timer), plain("SCARD", wakeups.workers_key(space.prefix))]
    return Workers(watched=bool(watched), registered=int(registered))


def read_abandoned(space: Space) -> Operation[int]:
    """Count the abandoned calls that the workers of this queue say they hold; each says so once a second.

    Raises:
        NotPermitted: This user of Redis may not look.
    """
    names = yield plain("SMEMBERS", wakeups.workers_key(space.prefix))
    counts = (yield [plain("HGET", name, wakeups.ABANDONED_FIELD) for name in names]) if names else []
    return sum(int(text(count)) for count in counts if count is not None and text(count).isdecimal())


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What waits, and for what; None where this user of Redis may not look.

    Attributes:
        overdue: Threads at which a worker should have looked long ago.
        failed: Batches in the failed list.
        paused: The whole queue is paused.
        completed: Messages that were answered, ever.
        moved: Keys that were moved aside.
        foreign: Keys that hold what is not of this queue's making.
        refused: Commands that this user may not send.
    """

    overdue: int | None
    failed: int | None
    paused: bool | None
    completed: int | None
    moved: int | None
    foreign: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


def read_health(space: Space, overdue_ms: int) -> Operation[Health]:
    """Look at what waits; each key for itself, so that one that may not be read, or is foreign, hides no other.

    Args:
        space: The queue.
        overdue_ms: A thread that is overdue by more is counted.
    """
    keys = space.keys
    (time,) = yield from each_or_error([plain("TIME")])
    now = int(time[0]) * 1000 + int(time[1]) // 1000 if isinstance(time, list | tuple) else 0
    calls = [
        plain("ZCOUNT", keys.due, "-inf", now - overdue_ms),
        plain("ZCARD", keys.failed),
        plain("EXISTS", keys.paused),
        plain("HGET", keys.counters, "completed"),
        plain("ZCARD", keys.quarantine),
    ]
    replies = yield from each_or_error(calls)
    overdue, failed, paused, completed, moved = (None if isinstance(reply, StoreError) else reply for reply in replies)
    said = "0" if completed is None else text(completed)
    return Health(
        overdue=overdue if now else None,
        failed=failed,
        paused=None if paused is None else bool(paused),
        completed=None if isinstance(replies[3], StoreError) else int(said) if said.isdecimal() else 0,
        moved=moved,
        foreign=tuple(_key(call) for call, reply in zip(calls, replies, strict=True) if _is_foreign(reply)),
        refused=tuple(
            str(call.words[0]) for call, reply in zip([plain("TIME"), *calls], [time, *replies], strict=True) if _is_refused(reply)
        ),
    )


def _key(call: Call) -> str:
    return str(call.words[1])


def _is_refused(reply: Any) -> bool:
    return isinstance(reply, NotPermitted)


def _is_foreign(reply: Any) -> bool:
    return isinstance(reply, StoreError) and not _is_refused(reply)
