"""Reading the job that a worker has popped: a thread id, or nothing that we would touch."""

from __future__ import annotations

import logging
import pickle
import time
from typing import Any

from assistant_queue.store import wakeups
from assistant_queue.store.rq_jobs import RqJob

_log = logging.getLogger(__name__)

FOREIGN_TTL_S = 86400 * 7
"""How long a job that is not ours can be looked at in RQ's failed registry. Chosen: a week."""


async def read_wake_up(client: Any, prefix: str, job: RqJob) -> str | None:
    """The thread that a popped job is about; None if there is no such job, or if it is not ours.

    A foreign job is neither run nor unpickled: it goes to RQ's failed registry, where a person finds it.

    Raises:
        redis.RedisError: Redis did not answer; the sweeper issues the wake-up again.
    """
    key = wakeups.job_key(job.id)
    data: Any = await client.hget(key, "data")
    if data is None:
        return None  # RQ drops such a job, too
    try:
        thread_id = wakeups.thread_of(data)
    except pickle.UnpicklingError as error:
        _log.error("job %s is not a wake-up of ours (%s); it was not run and is now in RQ's failed registry", job.id, error)
        await client.hset(key, mapping={"status": "failed"})
        await client.zadd(wakeups.failed_key(prefix), {job.id: int(time.time()) + FOREIGN_TTL_S})
        return None
    if not job.worker:
        await client.delete(key)  # else it ends with the run
    return thread_id
