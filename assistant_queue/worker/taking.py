"""Reading the job that a worker has popped: a thread id, or nothing that we would touch."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Sequence
from dataclasses import dataclass

from redis import exceptions

from assistant_queue.store import wakeups
from assistant_queue.store.calls import Operation, plain, text
from assistant_queue.store.lane import AsyncLane
from assistant_queue.store.rq_jobs import RqJob

_log = logging.getLogger(__name__)

FOREIGN_TTL_S = 86400 * 7
"""How long a job that is not ours can be looked at in RQ's failed registry. Chosen: a week."""


@dataclass(frozen=True, slots=True)
class Popped:
    """What was taken from a queue of RQ's.

    Attributes:
        queue: The queue's key.
        job_id: The job's id.
        data: What the job carries, unread; None if there is no such job, or if what has its key is none.
    """

    queue: str
    job_id: str
    data: bytes | None


async def pop(lane: AsyncLane, queues: Sequence[str], wait_s: float) -> Popped | None:
    """Take the next job of these queues, and what it carries; None if there is none for `wait_s` seconds.

    Raises:
        redis.RedisError: Redis did not answer. A job may have been taken; the sweeper issues its wake-up again.
    """
    popped = await lane.execute("BLPOP", *queues, wait_s)
    if popped is None:
        return None
    queue, job_id = popped
    # Here, on the way on which it came: a command of its own among those of all runs would wait for a turn of the loop first.
    return Popped(text(queue), text(job_id), await _carried(lane, job_id))


async def _carried(lane: AsyncLane, job_id: bytes | str) -> bytes | None:
    # Bytes as they are: whoever can write to the queue decides what stands there, and it may be no text.
    key = wakeups.job_key("").encode() + job_id if isinstance(job_id, bytes) else wakeups.job_key(job_id)
    try:
        data: bytes | None = await lane.execute("HGET", key, "data")
    except exceptions.ResponseError as error:
        _log.warning("job %s cannot be read (%s); it was not run", text(job_id), error)
        return None
    return data


def read_wake_up(prefix: str, job: RqJob, data: bytes | None) -> Operation[str | None]:
    """The thread that a popped job is about; None if there is no such job, or if it is not ours.

    A foreign job is neither run nor unpickled: it goes to RQ's failed registry, where a person finds it.

    Raises:
        StoreError: Redis did not answer; the sweeper issues the wake-up again.
    """
    if data is None:
        return None  # RQ drops such a job, too
    key = wakeups.job_key(job.id)
    try:
        thread_id = wakeups.thread_of(data)
    except pickle.UnpicklingError as error:
        _log.error("job %s is not a wake-up of ours (%s); it was not run and is now in RQ's failed registry", job.id, error)
        yield plain("HSET", key, "status", "failed")
        yield plain("ZADD", wakeups.failed_key(prefix), int(time.time()) + FOREIGN_TTL_S, job.id)
        return None
    if not job.worker:
        yield plain("DEL", key)  # else it ends with the run
    return thread_id
