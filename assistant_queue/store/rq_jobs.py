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
        id: The job's id; '' where there is none, or none any more. It is there for as long as the worker handles the thread.
        worker: The name of the RQ worker that took it; '' where RQ's own worker keeps the records.
    """

    id: str = ""
    worker: str = ""


NOT_OURS_TO_RECORD = RqJob()
"""No job at all."""
_NOT_RECORDED: Constants = (("taken", ""), ("worker", ""))
_RECORDED_BY_RQ: Constants = (("worker", ""),)
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
    told: dict[str, str] = {}
    constants: Constants = ()
    if job.worker:
        told = {"taken": job.id, "worker": job.worker}
    elif job.id and name == "claim":  # RQ's own worker keeps the records; whether the job is still there is asked all the same
        told, constants = {"taken": job.id}, _RECORDED_BY_RQ
    else:
        constants = _NOT_RECORDED
    return space.call(name, thread_id, keys={**records, **keys}, rest=rest, constants=constants, token=token, **told, **args)


def job_over(space: Space, thread_id: str, token: str, job: RqJob, *, failed: bool = False) -> Operation[None]:
    """End RQ's records of a job that found nothing to do, or lost its lease; nothing else changes. Repeating it changes nothing."""
    yield call_for(job, space, "job_over", thread_id, token=token, outcome="failed" if failed else "successful")
