"""Names of wake-ups, which are RQ jobs, and of RQ's keys.

`wakeup_codec` reads the bytes that `lua/_wakeup.lua` writes.

A wake-up carries a thread id and nothing else. A lost one costs a second, a duplicate nothing.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from datetime import UTC, datetime
from functools import cache, lru_cache

from assistant_queue.errors import ConfigurationError

FUNCTION = "assistant_queue.jobs.wake"
"""The dotted path that RQ imports: a wire format, it never moves."""

RQ_PREFIX_VARIABLE = "RQ_KEY_PREFIX"
"""The environment variable with the prefix of RQ's keys. Source: rq 3.0, rq/defaults.py; RQ 2 has
no such setting."""
RQ_PREFIX = "rq"
"""Source: the default of RQ 3, and the fixed prefix of RQ 2."""


@cache
def rq_prefix() -> str:
    """Return the prefix of RQ's keys in this process, as RQ itself read it when it was imported.

    Read once. RQ is imported only if the variable is set: a producer has no other use for it.

    Raises:
        ConfigurationError: RQ refuses the value.
    """
    if "rq.defaults" not in sys.modules and RQ_PREFIX_VARIABLE not in os.environ:
        return RQ_PREFIX
    try:
        # Another thread may be importing it: this waits until the module is complete.
        defaults = importlib.import_module("rq.defaults")
    except ValueError as error:
        raise ConfigurationError(f"{error}; nothing was started") from error
    return str(getattr(defaults, RQ_PREFIX_VARIABLE, RQ_PREFIX))


def queues_key() -> str:
    """Return the key of the set of all queues' keys."""
    return f"{rq_prefix()}:queues"


def queue_key(prefix: str) -> str:
    """Return the key of the list of job ids that wait for a worker."""
    return f"{rq_prefix()}:queue:{prefix}"


def is_named_as_rqs_own(inner: str, outer: str) -> bool:
    """Return whether the queue `inner` has the name of a key that RQ keeps for the queue `outer`.

    Source: rq, intermediate_queue.py.
    """
    return inner == f"{outer}:intermediate" or inner.startswith(f"{outer}:intermediate:first_seen:")


def scheduled_key(prefix: str) -> str:
    """Return the key of a sorted set: job id -> seconds since the epoch when RQ enqueues it."""
    return f"{rq_prefix()}:scheduled:{prefix}"


def started_key(prefix: str) -> str:
    """Return the key of a sorted set of running jobs.

    It maps job id:execution id -> seconds since the epoch when RQ abandons the job.
    """
    return f"{rq_prefix()}:wip:{prefix}"


def failed_key(prefix: str) -> str:
    """Return the key of a sorted set: failed job id -> epoch seconds when RQ deletes it."""
    return f"{rq_prefix()}:failed:{prefix}"


ABANDONED_FIELD = "abandoned"
"""A field that this package adds to an RQ worker's hash: the number of abandoned calls in its
process. RQ's own workers lack it: a worker with it has a scheduler as long as it lives."""


CONCURRENCY_FIELD = "concurrency"
RUNNING_FIELD = "running"
"""Two more of these fields: the batches that a worker takes at once, and those that it has. RQ's own
workers take one."""


def workers_key(prefix: str) -> str:
    """Return the key of the set of workers that have registered for a queue."""
    return f"{rq_prefix()}:workers:{prefix}"


def suspended_key() -> str:
    """Return the key that exists while RQ's workers are suspended. Source: rq, suspension.py."""
    return f"{rq_prefix()}:suspended"


def worker_key(name: str) -> str:
    """Return the key of the hash of one RQ worker."""
    return f"{rq_prefix()}:worker:{name}"


def running_key(name: str) -> str:
    """Return the key of the set of one RQ worker's executions, named as in `started_key`."""
    return f"{worker_key(name)}:executions"


def job_key(job_id: str) -> str:
    """Return the key of the hash of one job."""
    return f"{rq_prefix()}:job:{job_id}"


def execution_key(job_id: str, execution_id: str) -> str:
    """Return the key of the hash of one execution of a job."""
    return f"{rq_prefix()}:execution:{job_id}:{execution_id}"


def executions_key(job_id: str) -> str:
    """Return the key of the sorted set of a job's executions.

    It maps execution id -> seconds since the epoch when RQ abandons the execution.
    """
    return f"{rq_prefix()}:executions:{job_id}"


def new_job_id() -> str:
    """Return a fresh random id: RQ drops a job that is re-enqueued under its own id while it runs.

    Chosen: 16 digits. Each thread that is not idle stores it in four places; 24 digits cost 80
    bytes of Redis more. Should two ever be the same, one wake-up is lost, which costs a second.
    """
    return os.urandom(8).hex()  # as `secrets.token_hex`, in half of the time


def stamp() -> str:
    """Return the current time in RQ's format, for its dashboards; no decision depends on it."""
    return _stamp_of(time.time_ns() // 1_000_000)


@lru_cache(maxsize=1)  # many jobs are written within a millisecond
def _stamp_of(now_ms: int) -> str:
    # isoformat takes a third of strftime's time.
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    return now.isoformat(timespec="microseconds")[:-6] + "Z"
