"""Reading the job that a worker has popped: a thread id, or nothing that we would touch."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Sequence
from dataclasses import dataclass

from redis import exceptions

from assistant_queue.store import wakeup_codec, wakeups
from assistant_queue.store.calls import Call, Operation, plain, text
from assistant_queue.store.lane import AsyncLane
from assistant_queue.store.rq_jobs import RqJob
from assistant_queue.store.scripts import load

_log = logging.getLogger(__name__)

FOREIGN_TTL_S = 86400 * 7
"""How long a job that is not ours can be looked at in RQ's failed registry. Chosen: a week."""


@dataclass(frozen=True, slots=True)
class Popped:
    """What was taken from a queue of RQ's.

    Attributes:
        queue: The queue's key.
        job_id: The job's id; "" if it has none that RQ could have given it.
        data: What the job carries, unread; b"" if it is larger than a wake-up, None if there is no such job.
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
    known = read_entry(text(queue), job_id)
    # Here, on the way on which it came: a command of its own among those of all runs would wait for a turn of the loop first.
    return Popped(text(queue), known or "", await _carried(lane, known) if known else None)


def read_entry(queue: str, entry: bytes | str) -> str | None:
    """Return an entry of RQ's queue as a job id; None, and a line in the log, if it is none. Nothing else is kept of it."""
    job_id = wakeup_codec.job_id_of(entry)
    if job_id is None:
        _log.warning("%s held %s, which is no job's id; it was dropped", queue, wakeup_codec.shown(entry))
    return job_id


_READ_JOB = load("read_job", (("most", wakeup_codec.MAX_DATA),))


def carried(job_id: str) -> Call:
    """Return the call that reads what a job carries; `data_in` reads its reply."""
    return Call(_READ_JOB, (), [wakeups.job_key(job_id)])


def data_in(reply: Sequence[bytes]) -> bytes | None:
    """Return what a job carries: b"" if it is more than a wake-up does, None if there is no such job."""
    return reply[0] if reply else None


async def _carried(lane: AsyncLane, job_id: str) -> bytes | None:
    call = carried(job_id)
    words = ("EVALSHA", _READ_JOB.sha, len(call.keys), *call.keys)
    try:
        try:
            return data_in(await lane.execute(*words))
        except exceptions.NoScriptError:
            await lane.execute("SCRIPT LOAD", _READ_JOB.text)
            return data_in(await lane.execute(*words))
    except exceptions.ResponseError as error:
        _log.warning("job %s cannot be read (%s); it was not run", job_id, error)
        return None


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
        thread_id = wakeup_codec.thread_of(data)
    except pickle.UnpicklingError as error:
        _log.error("job %s is not a wake-up of ours (%s); it was not run and is now in RQ's failed registry", job.id, error)
        yield plain("HSET", key, "status", "failed")
        yield plain("ZADD", wakeups.failed_key(prefix), int(time.time()) + FOREIGN_TTL_S, job.id)
        return None
    if not job.worker:
        yield plain("DEL", key)  # else it ends with the run
    return thread_id
