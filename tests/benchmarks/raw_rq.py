"""What RQ alone costs on the same server: an empty job, enqueued and performed."""

from __future__ import annotations

import time
from functools import cache

import openai
import redis
import rq

JOB = "tests.benchmarks.raw_rq.nothing"


def nothing(_: str) -> None:
    """An empty job."""


CALL = "tests.benchmarks.raw_rq.call_provider"


@cache
def _client(url: str) -> openai.OpenAI:
    return openai.OpenAI(api_key="none", base_url=url, max_retries=0)


def call_provider(url: str, text: str) -> str:
    """The call of one batch, by the blocking client; kept between the jobs of a worker that does not fork."""
    asked = [{"role": "user", "content": text}]
    for event in _client(url).responses.create(model="lean", input=asked, conversation="conv", stream=True, background=True):  # type: ignore[call-overload]  # a list of dicts, as everybody writes it
        if event.type == "response.completed":
            return str(event.response.output_text)
    raise AssertionError("the stream ended early")


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
