"""The RQ job that brought a worker to a thread, and RQ's records of it where our scripts keep them (`lua/_job.lua`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from assistant_queue.store import wakeups
from assistant_queue.store.calls import Call, Operation, Space
from assistant_queue.store.scripts import Constants


@dataclass(frozen=True, slots=True)
class RqJob:
    """The RQ job that brought a worker to a thread.

    Attributes:
        id: The job's id; '' where RQ's own worker keeps the records.
        worker: The name of the RQ worker that took it; '' likewise.
    """

    id: str = ""
    worker: str = ""


NOT_OURS_TO_RECORD = RqJob()
"""RQ's own worker, or no job at all."""
_NOT_RECORDED: Constants = (("taken", ""), ("worker", ""))
_NO_KEYS: Mapping[str, str] = MappingProxyType({})


def call_for(
    job: RqJob,
    space: Space,
    name: str,
    thread_id: str,
    *,
    token: str,
    keys: Mapping[str, str] = _NO_KEYS,
    rest: Sequence[str] = (),
    **args: Any,
) -> Call:
    """A call of a script that keeps RQ's records of `job` in the same step."""
    records = {
        "taken": wakeups.job_key(job.id),
        "execution": wakeups.execution_key(job.id, token),
        "executions": wakeups.executions_key(job.id),
        "started": wakeups.started_key(space.prefix),
        "books": wakeups.worker_key(job.worker),
        "running": wakeups.running_key(job.worker),
    }
    told = {"taken": job.id, "worker": job.worker} if job.worker else {}
    constants = () if job.worker else _NOT_RECORDED
    return space.call(name, thread_id, keys={**records, **keys}, rest=rest, constants=constants, token=token, **told, **args)


def job_over(space: Space, thread_id: str, token: str, job: RqJob, *, failed: bool = False) -> Operation[None]:
    """End RQ's records of a job that found nothing to do, or lost its lease; nothing else changes. Repeating it changes nothing."""
    yield call_for(job, space, "job_over", thread_id, token=token, outcome="failed" if failed else "successful")
