"""The cost of RQ alone on the same server: an empty job, enqueued and performed."""

from __future__ import annotations

import time

import redis
import rq

JOB = "tests.benchmarks.raw_rq.nothing"


def nothing(_: str) -> None:
    """An empty job."""


def perform(url: str, jobs: int) -> list[float]:
    """Empty jobs, one after another, by the worker that listens on `raw`; seconds from the enqueue to the result."""
    taken = []
    with redis.Redis.from_url(url) as client:
        queue = rq.Queue("raw", connection=client)
        for _ in range(jobs):
            start = time.perf_counter()
            job = queue.enqueue(JOB, "customer-4711")
            result = job.latest_result(timeout=30)
            assert result is not None, "RQ's worker has not performed the job"
            taken.append(time.perf_counter() - start)
    return taken
