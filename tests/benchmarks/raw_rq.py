"""What RQ alone costs on the same server: an empty job, enqueued and performed."""

from __future__ import annotations

JOB = "tests.benchmarks.raw_rq.nothing"


def nothing(_: str) -> None:
    """An empty job."""
