"""The RQ job by which a worker got a thread, and RQ's records of it (`lua/keep_job.lua`)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from assistant_queue.config import to_ms
from assistant_queue.errors import StoreError
from assistant_queue.store import wakeup_codec, wakeups
from assistant_queue.store.calls import Call, Namespace, Operation, blocking, each, plain
from assistant_queue.store.scripts import Constants, load
from assistant_queue.values import valueclass


@valueclass(frozen=True, slots=True)
class RqJob:
    """The RQ job by which a worker got a thread.

    Attributes:
        id: The job's id; '' for none, or none any more. The job exists for as long as the worker
            handles the thread.
        worker: The name of the RQ worker that took it; '' if RQ's own worker keeps the records.
    """

    id: str = ""
    worker: str = ""


FOREIGN_TTL_S = 86400 * 7
"""Seconds that a foreign job stays in RQ's failed registry. Chosen: a week to look at it."""
READ_JOBS = load("read_jobs", (("most", wakeup_codec.MAX_DATA),))
_READ_RECORD = load("read_record", (("most", 8 * wakeup_codec.MAX_DATA), ("most_fields", 100)))

NO_JOB = RqJob()
"""The worker got the thread without a job."""
_NO_JOB: Constants = (("taken", ""), ("worker", ""))
_RECORDED_BY_RQ: Constants = (("worker", ""),)
BOOKED = 200
"""Records of jobs that are written in one round trip. Chosen: a few milliseconds of Redis' time."""


def claim_arguments(job: RqJob) -> tuple[Constants, dict[str, str]]:
    """Return the job's part of a claim: constants of the script, and arguments."""
    if job.worker:
        return (), {"taken": job.id, "worker": job.worker}
    # RQ's own worker keeps the records; a claim checks that the job exists all the same.
    return (_RECORDED_BY_RQ, {"taken": job.id}) if job.id else (_NO_JOB, {})


@dataclass(slots=True, kw_only=True, eq=False)
class JobRun:
    """A job of the concurrent worker that has claimed a thread.

    Attributes:
        token: The lease's token, RQ's id of the execution.
        began_ms: When it began, by Redis' clock.
        began: The same in RQ's form.
        began_s: The same by the monotonic clock.
        kept_s: When its records were written last, by the monotonic clock; None for never.
    """

    job: RqJob
    token: str
    thread_id: str
    began_ms: int
    began: str
    began_s: float
    kept_s: float | None = None


@valueclass(frozen=True, slots=True, kw_only=True)
class WorkerRoom:
    """Batches that a worker takes at once, and those that it has."""

    concurrency: int
    running: int


@valueclass(frozen=True, slots=True, kw_only=True)
class JobCount:
    """Counts of one worker since the last ones.

    Attributes:
        successful: Jobs that have ended.
        failed: Those of them that failed.
        worked_s: Seconds that they took together.
        abandoned: Calls of user code that were abandoned.
        room: The worker's room now; None if another queue's records show it.
    """

    worker: str
    successful: int = 0
    failed: int = 0
    worked_s: float = 0.0
    abandoned: int = 0
    room: WorkerRoom | None = None


def write_books(
    namespace: Namespace,
    kept: Sequence[JobRun],
    ended: Sequence[JobRun],
    count: JobCount | None,
    lease_s: float,
) -> Operation[None]:
    """Write RQ's records of jobs that still run, remove those of jobs that ended, and count them.

    Repeating it changes nothing but the count.
    """
    calls = [_keep(namespace, run, lease_s) for run in kept]
    calls += [
        namespace.call(
            "job_over", keys=_records_of(namespace, run), token=run.token, taken=run.job.id
        )
        for run in ended
    ]
    if count is not None:
        calls.append(
            namespace.call(
                "count_jobs",
                keys={
                    "books": wakeups.worker_key(count.worker),
                    "running": wakeups.running_key(count.worker),
                },
                successful=count.successful,
                failed=count.failed,
                worked_s=f"{count.worked_s:.3f}",
                abandoned=count.abandoned if namespace.is_counted else 0,
                concurrency=count.room.concurrency if count.room else "",
                busy=count.room.running if count.room else "",
            )
        )
    for start in range(0, len(calls), BOOKED):
        yield from each(calls[start : start + BOOKED])


def _keep(namespace: Namespace, run: JobRun, lease_s: float) -> Call:
    return namespace.call(
        "keep_job",
        run.thread_id,
        keys=_records_of(namespace, run),
        token=run.token,
        worker=run.job.worker,
        taken=run.job.id,
        began_ms=run.began_ms,
        began=run.began,
        lease_ms=to_ms(lease_s),
    )


def _records_of(namespace: Namespace, run: JobRun) -> dict[str, str]:
    return {
        "taken": wakeups.job_key(run.job.id),
        "execution": wakeups.execution_key(run.job.id, run.token),
        "executions": wakeups.executions_key(run.job.id),
        "started": wakeups.started_key(namespace.prefix),
        "books": wakeups.worker_key(run.job.worker),
        "running": wakeups.running_key(run.job.worker),
    }


def pop_job(queue_keys: Sequence[str], wait_s: float) -> Call:
    """Return the call that takes the next job id of RQ's queues, waiting `wait_s` seconds at most."""
    return blocking("BLPOP", *queue_keys, wait_s)


def pop_more(queue_key: str, count: int) -> Call:
    """Return the call that takes up to `count` further job ids of a queue, without waiting."""
    return plain("LPOP", queue_key, count)


def read_jobs(job_ids: Sequence[str]) -> Call:
    """Return the call that reads jobs' data; `data_in` reads the reply for each."""
    return Call(READ_JOBS, (), [wakeups.job_key(job_id) for job_id in job_ids])


def data_in(reply: Sequence[Any]) -> bytes | None:
    """Return a job's data: b"" if it is larger than a wake-up, None if there is no such job.

    Raises:
        StoreError: The job's key has another type.
    """
    if not reply:
        return None
    if int(reply[1]) < 0:
        raise StoreError("its key has another type")
    data: bytes = reply[0]
    return data


def read_record(key: str) -> Operation[Any]:
    """Return a job's whole record as fields and values in turn; `[b"large"]` if it is no wake-up's."""
    return (yield Call(_READ_RECORD, (), [key]))


def fail_foreign(prefix: str, job_id: str) -> Operation[None]:
    """Put a job that is not a wake-up into RQ's failed registry, where a person finds it."""
    yield plain("HSET", wakeups.job_key(job_id), "status", "failed")
    yield plain("ZADD", wakeups.failed_key(prefix), int(time.time()) + FOREIGN_TTL_S, job_id)


def remove_job(job_id: str) -> Operation[None]:
    """Remove a job's record."""
    yield plain("DEL", wakeups.job_key(job_id))


def count_jobs(prefix: str) -> Operation[int]:
    """Count the wake-ups in RQ's queue that no worker has taken."""
    return int((yield plain("LLEN", wakeups.queue_key(prefix))))
