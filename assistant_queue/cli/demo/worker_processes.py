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


class WorkerFleet:
    """The workers of a demo; one that is killed is started again."""

    def __init__(self, own: Mapping[str, str], directory: Path) -> None:
        """Start nothing yet; `own` are their variables, `directory` is for their logs."""
        self._environment = environment(own)
        self._directory = directory
        self._started = 0
        self._lock = threading.Lock()
        self.workers: list[DemoWorker] = []

    def _start(self) -> DemoWorker:
        self._started += 1
        return _start(self._directory / f"worker-{self._started}.log", self._environment)

    def start(self, count: int) -> None:
        """Start so many, and wait until all are ready.

        Raises:
            Problem: One of them did not come up; its last words say why.
        """
        self.workers.extend(self._start() for _ in range(count))
        for worker in self.workers:
            _wait_ready(worker)

    def kill(self, pid: int) -> bool:
        """Kill a worker as a crash does, and start another; False if there is none with this id."""
        with self._lock:
            for place, worker in enumerate(self.workers):
                if worker.process.pid == pid:
                    worker.process.kill()
                    _reap(worker)
                    self.workers[place] = self._start()
                    return True
        return False

    def stop(self) -> None:
        """Stop all of them."""
        with self._lock:
            _stop(self.workers)


@contextlib.contextmanager
def worker_fleet(count: int, own: Mapping[str, str]) -> Iterator[WorkerFleet]:
    """Start workers and wait until they are ready; stop them at the end in any case.

    Raises:
        Problem: One of them did not come up; its last words say why.
    """
    with tempfile.TemporaryDirectory(prefix="assistant-queue-demo-") as directory:
        fleet = WorkerFleet(own, Path(directory))
        try:
            fleet.start(count)
            yield fleet
        finally:
            fleet.stop()


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
        _reap(worker)


def _reap(worker: DemoWorker) -> None:
    worker.process.wait()
    if worker.process.stdout is not None:
        worker.process.stdout.close()
