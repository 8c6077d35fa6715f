"""Foreign jobs stay out.

A job that is not our wake-up is not run, not unpickled beyond plain values, and not in the
way.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import rq
from rq.job import Job

from tests.conftest import PATIENCE_S
from tests.integration.conftest import Service, wait_until


def touch(path: str) -> None:
    Path(path).touch()


class Trap:
    """Unpickling it would touch a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return touch, (self.path,)


# A stock worker runs whatever job RQ has; docs/reliability.md says so.
@pytest.mark.parametrize("service", ["forking", "asyncio", "concurrent"], indirect=True)
def test_foreign_and_altered_jobs_are_moved_aside_and_never_run(
    service: Service, tmp_path: Path
) -> None:
    canary = str(tmp_path / "canary")
    queue = service.start()
    jobs = rq.Queue(service.prefix, connection=service.client)
    other = jobs.enqueue("os.mkdir", canary)
    trapped = jobs.enqueue("assistant_queue.jobs.wake", "t")
    service.client.hset(
        trapped.key, "data", pickle.dumps(("assistant_queue.jobs.wake", None, (Trap(canary),), {}))
    )
    called_back = jobs.enqueue("assistant_queue.jobs.wake", "nobody")
    service.client.hset(called_back.key, "success_callback_name", "os.getcwd")
    service.client.hset(called_back.key, "failure_callback_name", "os.abort")

    assert queue.ask("t", "still here?", timeout=PATIENCE_S) == "You said: still here?"
    failed = jobs.failed_job_registry
    wait_until(
        lambda: (
            {other.id, trapped.id} & set(failed.get_job_ids(cleanup=False))
            or _gone(service, trapped)
        ),
        "foreign jobs are moved aside",
    )
    wait_until(
        lambda: other.id in failed.get_job_ids(cleanup=False),
        "the other function's job is kept for people",
    )
    assert not Path(canary).exists()


def _gone(service: Service, job: Job) -> bool:
    return not service.client.exists(job.key)
