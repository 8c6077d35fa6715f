"""RQ's records of a worker's jobs, written once a second for many jobs."""

from __future__ import annotations

import threading

from assistant_queue.store import wakeups
from assistant_queue.store.calls import Namespace
from assistant_queue.store.ops.leases import Lease, renewal_s
from assistant_queue.store.rq_jobs import JobCount, JobRun, RqJob, WorkerRoom, write_books
from assistant_queue.store.transport.stores import SyncStore
from assistant_queue.user_code.abandoned import ABANDONED


class JobBooks:
    """Knows the jobs that run for one queue in this process, and what RQ has been shown of them.

    1. a job that begins and ends between two writes is only counted: most runs of a fast provider
       cost RQ's records nothing
    2. the records of a longer run are written once, extended when its lease would be renewed, and
       removed at the write after its end
    3. a write that failed is made again with the next
    """

    def __init__(self, namespace: Namespace, lease_s: float) -> None:
        """Write nothing yet."""
        self._namespace = namespace
        self._lease_s = lease_s
        self._lock = threading.Lock()  # of the fields: the loop must not wait for Redis
        self._writing = threading.Lock()
        self._runs: dict[str, JobRun] = {}
        self._ended: list[JobRun] = []
        self._successful = self._failed = 0
        self._worked_s = 0.0
        self._shown: WorkerRoom | None = None

    def began(self, lease: Lease, job: RqJob) -> None:
        """Note that a job has claimed a thread."""
        run = JobRun(
            job=job,
            token=lease.token,
            thread_id=lease.thread_id,
            began_ms=lease.now_ms,
            began=wakeups.stamp(),
            began_s=self._namespace.clock.monotonic(),
        )
        with self._lock:
            self._runs[lease.token] = run

    def ended(self, token: str, *, failed: bool = False) -> bool:
        """Note that a job has ended; return whether it had claimed a thread, with this token."""
        now_s = self._namespace.clock.monotonic()
        with self._lock:
            run = self._runs.pop(token, None)
            if failed:
                self._failed += 1
            else:
                self._successful += 1
            if run is not None:
                self._worked_s += now_s - run.began_s
                if run.kept_s is not None:
                    self._ended.append(run)
            return run is not None

    def write(self, store: SyncStore, worker: str, room: WorkerRoom | None = None) -> None:
        """Bring RQ's records up to date.

        Args:
            store: Where.
            worker: The name under which the worker is registered.
            room: The worker's room now; None if the books of another queue show it, and count the
                calls that the process has abandoned.

        Raises:
            StoreError: Redis did not answer, or refused. The next call writes the same again.
        """
        with self._writing:
            kept, ended, count = self._open(worker, room)
            try:
                store.run(write_books(self._namespace, kept, ended, count, self._lease_s))
            except BaseException:
                self._reopen(kept, ended, count)
                raise

    def _open(
        self, worker: str, room: WorkerRoom | None
    ) -> tuple[list[JobRun], list[JobRun], JobCount | None]:
        """Return what is to be written, and note it as written."""
        now_s = self._namespace.clock.monotonic()
        with self._lock:
            kept = [
                run
                for run in self._runs.values()
                if run.kept_s is None or now_s - run.kept_s >= renewal_s(self._lease_s)
            ]
            for run in kept:  # one that ends while it is written is removed by the next write
                run.kept_s = now_s
            ended, self._ended = self._ended, []
            count = JobCount(
                worker=worker,
                successful=self._successful,
                failed=self._failed,
                worked_s=self._worked_s,
                abandoned=0 if room is None else ABANDONED.take_new(),
                room=None if room == self._shown else room,
            )
            self._shown = room
            self._successful = self._failed = 0
            self._worked_s = 0.0
        return kept, ended, None if count == JobCount(worker=worker) else count

    def _reopen(self, kept: list[JobRun], ended: list[JobRun], count: JobCount | None) -> None:
        with self._lock:
            for run in kept:
                if run.token in self._runs:
                    run.kept_s = None
            self._ended += ended
            if count is not None:
                self._successful += count.successful
                self._failed += count.failed
                self._worked_s += count.worked_s
                ABANDONED.give_back(count.abandoned)
                self._shown = None
