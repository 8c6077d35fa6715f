"""The demo's worker processes: the same command as in production."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from assistant_queue.cli.exit_errors import Problem

APP = "assistant_queue.cli.demo.demo_bot:queue"
START_S = 30.0
"""Seconds for a worker to say that it is ready. Chosen: many times what an old laptop needs to
import openai."""
STOP_S = 8.0
"""Seconds for a worker to stop by itself. Chosen: a run of the scene ends first."""
_OTHERS = ("ASSISTANT_QUEUE_", "OPENAI_", "REDIS_URL")


@dataclass(frozen=True, slots=True)
class DemoWorker:
    """One worker process and its stderr."""

    process: subprocess.Popen[str]
    log: Path

    def last_words(self) -> str:
        """Return the end of its log."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without the variables that a queue would read."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OTHERS)}
    local = "127.0.0.1,localhost"
    without_proxy = {
        name: f"{kept[name]},{local}" if kept.get(name) else local
        for name in ("NO_PROXY", "no_proxy")
    }
    return {**kept, **without_proxy, **own}


@contextlib.contextmanager
def worker_processes(count: int, own: Mapping[str, str]) -> Iterator[list[DemoWorker]]:
    """Start workers and wait until they are ready; stop them at the end in any case.

    Raises:
        Problem: One of them did not come up; its last words say why.
    """
    workers: list[DemoWorker] = []
    with tempfile.TemporaryDirectory(prefix="assistant-queue-demo-") as directory:
        try:
            workers.extend(
                _start(Path(directory) / f"worker-{number}.log", environment(own))
                for number in range(1, count + 1)
            )
            for worker in workers:
                _wait_ready(worker)
            yield workers
        finally:
            _stop(workers)


def _start(log: Path, env: Mapping[str, str]) -> DemoWorker:
    command = [
        sys.executable,
        "-m",
        "assistant_queue.cli",
        "worker",
        "--app",
        APP,
        "--shutdown-timeout",
        "2",
        "--log-level",
        "warning",
    ]
    with log.open("w") as said:
        # Its own session: Ctrl-C is for the demo, which then stops its workers in order.
        process = subprocess.Popen(  # noqa: S603 - this Python itself
            command,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            start_new_session=True,
        )
    return DemoWorker(process, log)


def _wait_ready(worker: DemoWorker) -> None:
    """Wait for the worker's first line, which says that it is ready."""
    late = threading.Timer(START_S, worker.process.kill)
    late.start()
    try:
        stdout: IO[str] | None = worker.process.stdout
        line = stdout.readline() if stdout is not None else ""
    finally:
        late.cancel()
    if not line.startswith("worker ready"):
        worker.process.wait()
        raise Problem(f"a worker did not start: {worker.last_words()}")


def _stop(workers: list[DemoWorker]) -> None:
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        try:
            worker.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
        if worker.process.stdout is not None:
            worker.process.stdout.close()
