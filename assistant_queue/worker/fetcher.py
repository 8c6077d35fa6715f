"""Read the job that a worker has popped: a thread id, or a foreign job that is set aside."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Sequence
from typing import Any

from assistant_queue.errors import StoreError
from assistant_queue.store import wakeup_codec
from assistant_queue.store.calls import Operation, text
from assistant_queue.store.rq_jobs import (
    RqJob,
    data_in,
    fail_foreign,
    pop_job,
    pop_more,
    read_jobs,
    remove_job,
)
from assistant_queue.store.transport.pinned import AsyncPinnedConnection, run_call, run_calls
from assistant_queue.values import valueclass

_log = logging.getLogger(__name__)

MOST_MORE = 7
"""Jobs that are taken with the first. Chosen: enough that a busy worker's pops cost little, few
enough that other workers and other queues have their turn, and that a worker's death loses little:
the sweeper issues those wake-ups again."""


@valueclass(frozen=True, slots=True)
class Popped:
    """An entry taken from one of RQ's queues.

    Attributes:
        queue: The queue's key.
        job_id: The job's id; "" if RQ cannot have given it.
        data: The job's data, unread; b"" if it is larger than a wake-up, None if there is no such
            job.
    """

    queue: str
    job_id: str
    data: bytes | None


async def pop(
    pinned: AsyncPinnedConnection,
    queues: Sequence[str],
    wait_s: float,
    room: Callable[[], int] = lambda: 0,
) -> list[Popped]:
    """Take the next jobs of one of these queues, with their data; none came for `wait_s` seconds.

    Args:
        pinned: The connection. A command among those of all runs would wait for an iteration of the
            event loop first.
        queues: The first with a job is used.
        wait_s: How long to wait for a job.
        room: How many further jobs may be taken, asked when the first is there.

    Raises:
        redis.RedisError: Redis did not answer. Jobs may have been taken; the sweeper issues their
        wake-ups again.
    """
    popped = await run_call(pinned, pop_job(queues, wait_s))
    if popped is None:
        return []
    queue = text(popped[0])
    first = read_entry(queue, popped[1])
    calls = [read_jobs([first])] if first else []
    if (more := min(room(), MOST_MORE)) > 0:
        calls.append(pop_more(queue, more))
    replies = await run_calls(pinned, calls)
    taken = [_popped(queue, first, replies.pop(0)[0]) if first else Popped(queue, "", None)]
    further = [read_entry(queue, entry) for entry in (replies[0] if replies else None) or ()]
    known = [job_id for job_id in further if job_id]
    if known:
        (read,) = await run_calls(pinned, [read_jobs(known)])
        taken += [_popped(queue, job_id, one) for job_id, one in zip(known, read, strict=True)]
    return taken


def _popped(queue: str, job_id: str, reply: Sequence[Any]) -> Popped:
    try:
        return Popped(queue, job_id, data_in(reply))
    except StoreError as error:
        _log.warning("job %s cannot be read (%s); it was not run", job_id, error)
        return Popped(queue, job_id, None)


def read_entry(queue: str, entry: bytes | str) -> str | None:
    """Return an entry of RQ's queue as a job id; log it and return None if it is not one."""
    job_id = wakeup_codec.job_id_of(entry)
    if job_id is None:
        _log.warning(
            "%s held %s, which is no job's id; it was dropped", queue, wakeup_codec.shown(entry)
        )
    return job_id


def read_wake_up(prefix: str, job: RqJob, data: bytes | None) -> Operation[str | None]:
    """Return the thread of a popped job; None if there is no such job, or if it is foreign.

    A foreign job is neither run nor unpickled: it goes to RQ's failed registry, where a person
    finds it.

    Raises:
        StoreError: Redis did not answer; the sweeper issues the wake-up again.
    """
    if data is None:
        return None  # RQ drops such a job, too
    try:
        thread_id = wakeup_codec.thread_of(data)
    except pickle.UnpicklingError as error:
        _log.error(
            "job %s is not our wake-up (%s); it was not run and is now in RQ's failed registry",
            job.id,
            error,
        )
        yield from fail_foreign(prefix, job.id)
        return None
    if not job.worker:
        yield from remove_job(job.id)  # else it ends with the run
    return thread_id
