"""RQ's records of a worker's jobs: those of the installed RQ, written once a second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
import rq
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq.executions import Execution
from rq.worker import Worker, WorkerStatus

from assistant_queue.core.progress import Progress
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.errors import StoreUnavailable
from assistant_queue.store import wakeups
from assistant_queue.store.ops import leases as lease_ops
from assistant_queue.store.rq_jobs import RqJob, WorkerRoom
from assistant_queue.store.transport.stores import SyncStore
from assistant_queue.user_code.abandoned import ABANDONED
from assistant_queue.worker.job_books import JobBooks
from tests.contract.store_rig import Rig, text

NO_LONGER_RQS = {b"current_job", b"current_job_id"}
"""Fields of RQ 2's worker that hold one job: a worker of many has none."""


def queue_of(store: Rig) -> rq.Queue:
    return rq.Queue(store.prefix, connection=store.client)


def worker_of(store: Rig, name: str = "w1") -> Worker:
    worker = Worker([queue_of(store)], name=name, connection=store.client, prepare_for_work=False)
    worker.hostname = "here"
    worker.pid = 1
    worker.register_birth()
    return worker


def popped(store: Rig) -> str:
    """The next wake-up, as a worker pops it."""
    store.sweep()
    return text(store.client.lpop(wakeups.queue_key(store.prefix)))


def taken(store: Rig, worker: str = "w1") -> tuple[lease_ops.Lease, RqJob]:
    store.add(delay_s=0)
    job = RqJob(popped(store), worker)
    return store.claim(job=job), job


def books_of(store: Rig, lease_s: float = 30) -> JobBooks:
    return JobBooks(store.namespace, lease_s)


def kept(store: Rig) -> tuple[lease_ops.Lease, RqJob, JobBooks]:
    """A job that runs when the books are written."""
    lease, job = taken(store)
    books = books_of(store)
    books.began(lease, job)
    books.write(store.store, "w1")
    return lease, job, books


def keys(store: Rig) -> set[str]:
    """RQ's keys about jobs and workers; the queues and schedules themselves left out."""
    found = {text(key) for key in store.client.keys("rq:*")}
    return {key for key in found if not key.startswith(("rq:queue", "rq:scheduled", "rq:job:"))}


def in_words(store: Rig, names: dict[str, str]) -> dict[str, Any]:
    """Return RQ's keys with their type, whether they expire, and their fields; ids replaced."""

    def plain(value: Any) -> str:
        value = text(value)
        for name, word in names.items():
            value = value.replace(name, word)
        return value

    found: dict[str, Any] = {}
    for key in keys(store):
        kind = text(store.client.type(key))
        read: dict[str, Callable[[], set[Any]]] = {
            "hash": lambda key=key: set(store.client.hgetall(key)) - NO_LONGER_RQS,
            "set": lambda key=key: store.client.smembers(key),
            "zset": lambda key=key: set(store.client.zrange(key, 0, -1)),
        }
        found[plain(key)] = (
            kind,
            store.client.pttl(key) > 0,
            {plain(value) for value in read[kind]()},
        )
    return found


def test_a_started_job_is_what_rq_would_have_written(store: Rig) -> None:
    worker_of(store)
    lease, job, _ = kept(store)
    ours = in_words(store, {job.id: "JOB", lease.token: "RUN"})
    job_fields = set(store.client.hgetall(wakeups.job_key(job.id)))
    store.client.flushdb()

    worker = worker_of(store)
    theirs_job = queue_of(store).enqueue(
        wakeups.FUNCTION, "thread", job_timeout=-1, result_ttl=0, failure_ttl=3600
    )
    execution = worker.prepare_execution(theirs_job)
    with store.client.pipeline() as pipeline:
        theirs_job.prepare_for_execution(worker.name, pipeline=pipeline)
        pipeline.execute()
    theirs = in_words(store, {theirs_job.id: "JOB", execution.id: "RUN"})
    for key, (kind, expires, members) in theirs.items():
        assert key in ours, f"RQ {rq.VERSION} writes {key}"
        assert (ours[key][0], ours[key][1]) == (kind, expires), key
        assert members <= ours[key][2], f"RQ {rq.VERSION} writes more into {key}"
    extra = set(ours) - set(theirs)
    assert extra <= {"rq:worker:w1:executions"}, "an index of RQ 3; RQ 2 does not look at it"
    filled = {
        name
        for name, value in store.client.hgetall(wakeups.job_key(theirs_job.id)).items()
        if value
    }
    assert filled - job_fields == set()


def test_rq_reads_what_runs(store: Rig) -> None:
    worker_of(store)
    lease, job, _ = kept(store)
    registry = queue_of(store).started_job_registry
    assert registry.get_job_and_execution_ids(cleanup=False) == [(job.id, lease.token)]
    execution = Execution.fetch(lease.token, job.id, store.client)
    assert execution.worker_name == "w1" if hasattr(execution, "worker_name") else True
    started = rq.job.Job.fetch(job.id, connection=store.client)
    assert (started.get_status(), started.worker_name, started.args) == (
        "started",
        "w1",
        ("thread",),
    )
    (worker,) = Worker.all(queue=queue_of(store))
    assert worker.get_state() == WorkerStatus.BUSY


def test_a_guard_is_the_job_that_was_taken_under_a_fresh_id(store: Rig) -> None:
    lease, job = taken(store)
    assert store.client.exists(wakeups.job_key(job.id)) == 0
    assert set(store.scheduled()) == {lease.guard_id}
    assert store.jobs() == {lease.guard_id: "thread"}
    assert store.client.hget(wakeups.job_key(lease.guard_id), "status") == b"scheduled"


def test_a_job_of_a_thread_with_another_wake_up_is_removed(store: Rig) -> None:
    store.add(delay_s=0)
    first = popped(store)
    store.clock.advance(2)
    second = popped(store)
    store.postpone(store.claim(job=RqJob(second, "w1")), state=ThreadState.RETRYING, wait_s=0.5)
    (scheduled,) = store.scheduled()
    store.clock.advance(0.5)
    lease = store.claim(job=RqJob(first, "w1"))
    assert lease.guard_id == scheduled
    assert store.jobs() == {scheduled: "thread"}


def test_a_job_that_begins_and_ends_between_two_writes_is_only_counted(store: Rig) -> None:
    worker_of(store)
    before = keys(store)
    lease, job = taken(store)
    books = books_of(store)
    books.began(lease, job)
    store.finish(lease)
    assert books.ended(lease.token) is True
    assert books.ended("a claim that was refused") is False
    assert books.ended("another", failed=True) is False
    books.write(store.store, "w1")
    books.write(store.store, "w1")
    assert keys(store) == before
    (worker,) = Worker.all(queue=queue_of(store))
    assert (worker.get_state(), worker.successful_job_count, worker.failed_job_count) == (
        WorkerStatus.IDLE,
        2,
        1,
    )


def test_nothing_is_left_at_the_end_and_the_job_is_counted_once(store: Rig) -> None:
    worker_of(store)
    before = keys(store)
    lease, job, books = kept(store)
    assert keys(store) > before
    books.ended(lease.token)
    for _ in range(2):
        books.write(store.store, "w1")
    assert keys(store) == before
    assert store.client.exists(wakeups.job_key(job.id)) == 0
    (worker,) = Worker.all(queue=queue_of(store))
    assert (worker.get_state(), worker.successful_job_count) == (WorkerStatus.IDLE, 1)


def test_a_worker_is_busy_until_its_last_run_ends_and_its_time_is_counted(store: Rig) -> None:
    worker_of(store)
    books = books_of(store)
    leases = []
    for thread in ("a", "b"):
        store.add(thread=thread, delay_s=0)
        job = RqJob(popped(store), "w1")
        leases.append(store.claim(thread, job=job))
        books.began(leases[-1], job)
    books.write(store.store, "w1")
    assert store.client.zcard(f"rq:wip:{store.prefix}") == 2
    store.clock.advance(3)
    books.ended(leases[0].token)
    books.write(store.store, "w1")
    assert Worker.all(queue=queue_of(store))[0].get_state() == WorkerStatus.BUSY
    store.clock.advance(1)
    books.ended(leases[1].token)
    books.write(store.store, "w1")
    (worker,) = Worker.all(queue=queue_of(store))
    assert (worker.get_state(), worker.successful_job_count, worker.total_working_time) == (
        WorkerStatus.IDLE,
        2,
        7.0,
    )


def test_a_write_that_failed_is_made_again(store: Rig) -> None:
    worker_of(store)
    before = keys(store)
    lease, job = taken(store)
    books = books_of(store)
    books.ended("counted")
    books.began(lease, job)
    with redis.Redis(port=1, retry=Retry(NoBackoff(), 0)) as away:
        with pytest.raises(StoreUnavailable):
            books.write(SyncStore(away), "w1")
        books.write(store.store, "w1")
        assert store.client.zcard(f"rq:wip:{store.prefix}") == 1
        books.ended(lease.token)
        with pytest.raises(StoreUnavailable):
            books.write(SyncStore(away), "w1")
    books.write(store.store, "w1")
    assert keys(store) == before
    (worker,) = Worker.all(queue=queue_of(store))
    assert worker.successful_job_count == 2


def test_records_outlive_the_lease_by_a_minute_and_later_writes_move_them(store: Rig) -> None:
    worker_of(store)
    lease, job, books = kept(store)
    started = f"rq:wip:{store.prefix}"
    first = store.client.zscore(started, f"{job.id}:{lease.token}")
    store.clock.advance(9)
    books.write(store.store, "w1")
    assert store.client.zscore(started, f"{job.id}:{lease.token}") == first, "it is early"
    store.clock.advance(1)
    books.write(store.store, "w1")
    assert store.client.zscore(started, f"{job.id}:{lease.token}") - first == 10
    for key in (
        wakeups.job_key(job.id),
        f"rq:execution:{job.id}:{lease.token}",
        f"rq:executions:{job.id}",
    ):
        assert 80_000 < store.client.pttl(key) <= 90_000, key


def test_a_worker_that_rq_has_given_up_on_is_not_brought_back(store: Rig) -> None:
    lease, _, books = kept(store)
    assert not store.client.exists("rq:worker:w1")
    books.ended(lease.token)
    books.write(store.store, "w1")
    assert not [key for key in keys(store) if "w1" in key]


def test_without_the_concurrent_worker_no_record_is_written(store: Rig) -> None:
    store.add(delay_s=0)
    before = keys(store)
    lease = store.claim()
    store.renew(lease)
    store.save(lease, Phase.SENDING, Progress(attempts=1))
    store.finish(lease)
    assert keys(store) == before


# --- the room of a worker, for the metrics ------------------------------------------------------------


def test_rq_reads_a_worker_whose_hash_shows_its_room(store: Rig) -> None:
    worker_of(store)
    books = books_of(store)
    books.write(store.store, "w1", WorkerRoom(concurrency=50, running=3))
    (found,) = Worker.all(connection=store.client)
    assert (found.name, found.get_state()) == ("w1", "idle")
    (shown,) = store.metrics().workers
    assert (shown.concurrency, shown.running, shown.abandoned_calls) == (50, 3, 0)
    found.heartbeat()
    assert store.metrics().workers[0].running == 3, "RQ's heartbeat removed a field"


def test_a_room_is_written_when_it_changes_and_again_after_a_failure(
    store: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker_of(store)
    books = books_of(store)
    room = WorkerRoom(concurrency=50, running=3)
    monkeypatch.setattr(ABANDONED, "_new", 2)
    with pytest.raises(StoreUnavailable), monkeypatch.context() as away:
        away.setattr(store.store, "run", _is_away)
        books.write(store.store, "w1", room)
    assert store.metrics().abandoned_calls == 0
    books.write(store.store, "w1", room)
    assert (store.metrics().workers[0].running, store.metrics().abandoned_calls) == (3, 2)
    store.client.hdel(wakeups.worker_key("w1"), "running")
    books.write(store.store, "w1", room)
    assert store.metrics().workers[0].running == 0, "a room that has not changed was written"
    books.write(store.store, "w1", WorkerRoom(concurrency=25, running=3))
    assert store.metrics().workers[0].concurrency == 25
    assert store.metrics().abandoned_calls == 2


def _is_away(_: Any) -> None:
    raise StoreUnavailable("away")


def test_abandoned_calls_are_not_counted_where_nothing_is(store: Rig, monkeypatch: Any) -> None:
    worker_of(store)
    store.namespace.is_counted = False
    monkeypatch.setattr(ABANDONED, "_new", 2)
    books_of(store).write(store.store, "w1", WorkerRoom(concurrency=1, running=0))
    assert store.metrics().abandoned_calls == 0
    assert store.metrics().workers[0].concurrency == 1
