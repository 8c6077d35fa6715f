"""The jobs of RQ's forking worker: wake-ups.

Any other entry of the queue is dropped or moved aside before RQ reads it.
"""

from __future__ import annotations

import logging
from typing import Any

import rq
import rq.job
from rq.exceptions import NoSuchJobError
from rq.intermediate_queue import IntermediateQueue

from assistant_queue.errors import StoreError, StoreUnavailable
from assistant_queue.jobs import wake
from assistant_queue.store import wakeup_codec, wakeups
from assistant_queue.store.calls import run_one, text
from assistant_queue.store.rq_jobs import RqJob, data_in, read_jobs, read_record
from assistant_queue.store.transport.stores import SyncStore
from assistant_queue.worker.fetcher import read_entry, read_wake_up

_log = logging.getLogger(__name__)


class ForeignJob(NoSuchJobError):
    """A job in the queue that is not a wake-up.

    It was not run; RQ treats it as missing.
    """


class PlainSerializer:
    """Reads plain values only; writes as RQ does."""

    @staticmethod
    def dumps(*args: Any, **kwargs: Any) -> bytes:
        """Write as RQ's default serializer does."""
        import pickle

        return pickle.dumps(*args, **kwargs)

    loads = staticmethod(wakeup_codec.plain_loads)


class WakeUpJob(rq.job.Job):
    """A job that can only wake a thread: other fields of its hash are ignored."""

    def refresh(self) -> None:
        """Read the job as RQ does, unless it is larger than any wake-up.

        Raises:
            NoSuchJobError: There is no such job, or it is foreign.
        """
        found = SyncStore(self.connection).run(read_record(self.key))
        if found in ([b"large"], ["large"]):
            raise ForeignJob(f"job {self.id} is no wake-up: it is larger than one")
        if not found:
            raise NoSuchJobError(f"No such job: {self.key}")
        self.restore(dict(zip(found[::2], found[1::2], strict=True)))

    def restore(self, raw_data: Any) -> Any:
        """Restore the job as RQ does, without the fields that can run code or open a connection.

        Fields that RQ would not write are left out, too.

        Raises:
            ForeignJob: It is not a wake-up.
        """
        ours = {
            name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name): value
            for name, value in raw_data.items()
        }
        ours = {name: value for name, value in ours.items() if name not in _NOT_OURS}
        try:
            thread_id = wakeup_codec.thread_of(ours.get("data", b""))
            restored = super().restore(ours)
        except Exception as error:
            raise ForeignJob(f"job {self.id} is no wake-up: {type(error).__name__}") from error
        self.description = f"wake-up of thread {thread_id!r}"  # RQ logs it
        return restored

    def _execute(self) -> Any:
        try:
            ours = self.func_name == wakeups.FUNCTION and not self.instance and not self.kwargs
            args = list(self.args)
        except Exception as error:  # noqa: BLE001 - whatever cannot be read is not ours
            raise ForeignJob(f"job {self.id} is no wake-up: {error.__cause__ or error}") from None
        if not ours or len(args) != 1 or not isinstance(args[0], str):
            raise ForeignJob(f"job {self.id} is no wake-up: it names {self.func_name!r}")
        return wake(args[0], origin=self.origin)


_NOT_OURS = frozenset(
    [
        "success_callback_name",
        "failure_callback_name",
        "stopped_callback_name",
        "webhooks",
        "meta",
        "dependency_id",
        "dependency_ids",
        "retries_left",
        "retry_intervals",
        "repeats_left",
        "repeat_intervals",
        "group_id",
        "result",
        "exc_info",
    ]
)


class WakeUpQueue(rq.Queue):
    """RQ's queue; an entry that is not a wake-up is dropped or moved aside before RQ reads it."""

    @classmethod
    def lmove(cls, connection: Any, queue_key: str, timeout: int | None) -> Any:
        """Take an entry as RQ does, a wake-up at last."""
        while True:
            taken = super().lmove(connection, queue_key, timeout)
            if taken is None or _is_wake_up(connection, *taken):
                return taken
            connection.lrem(IntermediateQueue.get_intermediate_queue_key(queue_key), 1, taken[1])

    @classmethod
    def lpop(cls, queue_keys: Any, timeout: int | None, connection: Any = None) -> Any:
        """Take an entry as RQ does, a wake-up at last."""
        while True:
            taken = super().lpop(queue_keys, timeout, connection=connection)
            if taken is None or _is_wake_up(connection, *taken):
                return taken


def _is_wake_up(connection: Any, queue: bytes | str, entry: bytes | str) -> bool:
    queue_key = text(queue)
    job_id = read_entry(queue_key, entry)
    if job_id is None:
        return False
    store = SyncStore(connection)
    try:
        data = data_in(store.run(run_one(read_jobs([job_id])))[0])
    except StoreUnavailable as error:
        raise (
            error.__cause__ or error
        ) from None  # RQ knows what to do about its own client's errors
    except StoreError as error:
        _log.warning("job %s cannot be read (%s); it was not run", job_id, error)
        return False
    job = RqJob(job_id, "RQ")  # RQ's own worker deletes it
    if store.run(read_wake_up(queue_key.removeprefix(wakeups.queue_key("")), job, data)) is None:
        return False
    try:
        WakeUpJob.fetch(job_id, connection=connection, serializer=PlainSerializer)
    except ForeignJob as error:
        _log.warning("%s; it was dropped", error)
        return False
    except NoSuchJobError:
        return False
    return True
