"""What an RQ job of ours is called, and the names of RQ's keys. `wakeup_codec` reads the bytes that `lua/_wakeup.lua` writes.

A wake-up carries a thread id and nothing else. A lost one costs a second, a doubled one nothing.
"""

from __future__ import annotations

import importlib
import os
import secrets
import sys
from datetime import datetime, timezone
from functools import cache

from assistant_queue.errors import ConfigurationError

FUNCTION = "assistant_queue.jobs.wake"
"""The dotted path that RQ imports: a wire format, it never moves."""

RQ_PREFIX_VARIABLE = "RQ_KEY_PREFIX"
"""Names what every key of RQ begins with. Source: rq 3.0, rq/defaults.py; RQ 2 has no such setting."""
RQ_PREFIX = "rq"
"""Source: the default of RQ 3, and what RQ 2 always takes."""


@cache
def rq_prefix() -> str:
    """Return what every key of RQ begins with in this process: what RQ itself has read when it was imported.

    Asked once. RQ is imported only to learn a value that is set: a producer has no other use for it.

    Raises:
        ConfigurationError: RQ refuses the value.
    """
    if "rq.defaults" not in sys.modules and RQ_PREFIX_VARIABLE not in os.environ:
        return RQ_PREFIX
    try:
        defaults = importlib.import_module("rq.defaults")  # another thread may be at it: this waits until it is whole
    except ValueError as error:
        raise ConfigurationError(f"{error}; nothing was started") from error
    return str(getattr(defaults, RQ_PREFIX_VARIABLE, RQ_PREFIX))


def queues_key() -> str:
    """Return the key of the set of all queues' keys."""
    return f"{rq_prefix()}:queues"


def queue_key(prefix: str) -> str:
    """List of the job ids that wait for a worker."""
    return f"{rq_prefix()}:queue:{prefix}"


def is_named_as_rqs_own(inner: str, outer: str) -> bool:
    """Whether the queue `inner` has the name of a key that RQ keeps for the queue `outer`. Source: rq, intermediate_queue.py."""
    return inner == f"{outer}:intermediate" or inner.startswith(f"{outer}:intermediate:first_seen:")


def scheduled_key(prefix: str) -> str:
    """Sorted set: job id -> seconds since the epoch from which RQ's scheduler hands it over."""
    return f"{rq_prefix()}:scheduled:{prefix}"


def started_key(prefix: str) -> str:
    """Sorted set: job id:execution id -> seconds since the epoch at which RQ gives it up."""
    return f"{rq_prefix()}:wip:{prefix}"


def failed_key(prefix: str) -> str:
    """Sorted set: job id -> seconds since the epoch until which RQ keeps it to be looked at."""
    return f"{rq_prefix()}:failed:{prefix}"


ABANDONED_FIELD = "abandoned"
"""In an RQ worker's hash, of ours alone: how many abandoned calls its process holds; not there before there was one."""


def workers_key(prefix: str) -> str:
    """Return the key of the set of workers that have registered for a queue."""
    return f"{rq_prefix()}:workers:{prefix}"


def worker_key(name: str) -> str:
    """Hash of one RQ worker."""
    return f"{rq_prefix()}:worker:{name}"


def running_key(name: str) -> str:
    """Set of what one RQ worker is executing, as `started_key` names it."""
    return f"{worker_key(name)}:executions"


def job_key(job_id: str) -> str:
    """Hash of one job."""
    return f"{rq_prefix()}:job:{job_id}"


def execution_key(job_id: str, execution_id: str) -> str:
    """Return the key of the hash of one execution of a job."""
    return f"{rq_prefix()}:execution:{job_id}:{execution_id}"


def executions_key(job_id: str) -> str:
    """Return the key of the sorted set of a job's executions: id -> seconds since the epoch at which RQ gives it up."""
    return f"{rq_prefix()}:executions:{job_id}"


def new_job_id() -> str:
    """A fresh random id: RQ drops a job that is re-enqueued under its own id while it runs.

    Chosen: 16 digits. It stands in four places for each thread that is not idle; 24 digits cost 80 bytes of Redis more. Should two ever be
    the same, one wake-up is lost, which costs a second.
    """
    return secrets.token_hex(8)


def stamp() -> str:
    """Now, as RQ writes times; for people who read its dashboards, nothing is decided by it."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")[:-6] + "Z"  # a third of strftime's time
