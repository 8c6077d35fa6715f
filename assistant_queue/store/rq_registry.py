"""RQ's own records of a worker, read and written over RQ's connection.

`rq.Worker` keeps most of them; these commands are the ones that our workers send beside it. Errors
are redis-py's, as those of RQ's own calls are.
"""

from __future__ import annotations

import time
from typing import Any

from assistant_queue.store import wakeups

EXPIRED_LIMIT = 100
"""Records of dead workers' jobs that one clean-up removes. Chosen: bounds its round trips."""

MOST_LEFT = 1000
"""Entries of an intermediate queue that one clean-up looks at. Chosen: as a rule there are as many
as workers."""


def is_subscribed(client: Any, channel: str) -> bool:
    """Return True if a client has subscribed to the channel."""
    counts = client.pubsub_numsub(channel)
    return bool(counts and counts[0][1])


def address_of(client: Any) -> str:
    """Return the client's own address, as Redis sees it."""
    return str(client.client_info()["addr"])


def has_running(client: Any, worker: str) -> bool:
    """Return True if the worker has jobs that it has not finished."""
    return bool(client.exists(wakeups.running_key(worker)))


def keep_running(client: Any, worker: str, ttl_s: int) -> None:
    """Extend the life of the worker's list of running jobs."""
    client.expire(wakeups.running_key(worker), ttl_s)


def write_abandoned(client: Any, worker_key: str, count: int) -> None:
    """Write how many abandoned calls the worker's process holds."""
    client.hset(worker_key, wakeups.ABANDONED_FIELD, count)


def clear_expired(client: Any, prefix: str) -> None:
    """Remove entries of jobs that are gone from RQ's registry of started jobs.

    RQ's own clean-up would also act on jobs that are not gone (docs/reliability.md, promise 2).
    """
    started = wakeups.started_key(prefix)
    entries = client.zrangebyscore(started, 0, time.time(), start=0, num=EXPIRED_LIMIT)
    for entry in entries:  # bytes as they are: they may be no text
        name = entry if isinstance(entry, bytes) else entry.encode("utf-8", "surrogatepass")
        if not client.exists(wakeups.job_key("").encode() + name.split(b":")[0]):
            client.zrem(started, entry)


def read_intermediate(client: Any, key: str) -> list[Any]:
    """Return the ids of jobs that were taken and have not begun, as Redis gives them."""
    return list(client.lrange(key, 0, MOST_LEFT))


def remove_intermediate(client: Any, key: str, entry: Any) -> None:
    """Remove one of these entries."""
    client.lrem(key, 1, entry)
