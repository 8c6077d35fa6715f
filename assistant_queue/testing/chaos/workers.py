"""Worker processes of both kinds, restarted when they end, as by a supervisor."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from assistant_queue.testing.chaos.plan import Whom

START_S = 60.0
"""Seconds for the first workers to be ready. Chosen: imports on a busy machine."""
STOP_S = 10.0
"""Seconds for the workers to stop by themselves at the end. Chosen: a run in progress ends first."""

_RUN_RQ = "import sys; from rq.cli import main; sys.exit(main())"


def start_process(
    command: list[str], environment: Mapping[str, str], log: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start a worker in its own session."""
    return subprocess.Popen(  # noqa: S603 - this Python itself
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


@dataclass(slots=True)
class _Slot:
    """A slot with its current worker process."""

    number: int
    is_forking: bool
    process: subprocess.Popen[bytes]
    log: Path
    starts: int = 1
    stopped: tuple[int, ...] = ()
    resumes_at: float = 0.0
    starved: tuple[int, ...] = ()
    fed_at: float = 0.0

    def is_ready(self) -> bool:
        said = self.log.read_bytes() if self.process.poll() is None else b""
        return b"Listening on" in said or b"worker ready" in said

    def horse(self) -> int | None:
        """The process that runs the current job."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        if path.exists():
            children = path.read_text().split()
        else:
            listed = subprocess.run(  # noqa: S603
                ["pgrep", "-P", str(self.process.pid)],  # noqa: S607
                capture_output=True,
                text=True,
                check=False,
            )
            children = listed.stdout.split()
        return int(children[0]) if children else None


class Workers:
    """A fixed number of workers.

    Every second one forks, under `rq worker`; the others are concurrent, started by this package's
    command and by RQ's in turn.
    """

    def __init__(
        self,
        count: int,
        *,
        app: str,
        url: str,
        prefix: str,
        environment: Mapping[str, str],
        logs: Path,
        max_jobs: int = 0,
    ) -> None:
        """`max_jobs`: jobs after which workers under `rq worker` end; 0 for no limit."""
        self._max_jobs = max_jobs
        self._app = app
        self._url = url
        self._prefix = prefix
        self._logs = logs
        self._environment = {
            **os.environ,
            **environment,
            "ASSISTANT_QUEUE_APP": app,
            "PYTHONUNBUFFERED": "1",
        }
        self._slots: list[_Slot] = []
        self._count = count
        self.ended_by_themselves = 0

    def start(self) -> None:
        """Start all of them and wait until they are ready.

        Raises:
            RuntimeError: One of them failed to start; see its log.
        """
        for number in range(self._count):
            process, log = self._start(number, 1)
            self._slots.append(_Slot(number, number % 2 == 1, process, log))
        until = time.monotonic() + START_S
        while not all(slot.is_ready() for slot in self._slots):
            for slot in self._slots:
                if slot.process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(
                        f"worker {slot.number} did not start: {slot.log.read_text(errors='replace')[-2000:]}"
                    )
            time.sleep(0.05)

    def _start(self, number: int, nth: int) -> tuple[subprocess.Popen[bytes], Path]:
        log = self._logs / f"worker-{number}-{nth}.log"
        words = ["-m", "assistant_queue.cli", "worker", "--app", self._app]
        # `rq worker` takes no address of a Sentinel.
        if number % 4 and self._url.startswith("redis+sentinel"):
            words += ["--fork"] if number % 2 else []
        elif number % 4:
            kind = "ConcurrentWorker" if number % 4 == 2 else "Worker"  # noqa: PLR2004 - the one in four
            words = [
                "-c",
                _RUN_RQ,
                "worker",
                "-u",
                self._url,
                self._prefix,
                "--worker-class",
                f"assistant_queue.{kind}",
            ]
            words += ["--max-jobs", str(self._max_jobs)] if self._max_jobs else []
        if "--fork" not in words and words[0] == "-m":
            words += ["--shutdown-timeout", "3"]
        with log.open("wb") as said:
            return start_process([sys.executable, *words], self._environment, said), log

    def look_after(self) -> None:
        """Restart ended workers; resume those that were stopped for long enough."""
        for slot in self._slots:
            if slot.stopped and time.monotonic() >= slot.resumes_at:
                self._resume(slot)
            if slot.starved and time.monotonic() >= slot.fed_at:
                self._feed(slot)
            if slot.process.poll() is not None:
                slot.starved = ()
                self.ended_by_themselves += slot.process.returncode != -signal.SIGKILL
                slot.starts += 1
                slot.process, slot.log = self._start(slot.number, slot.starts)

    def kill(self, number: int, whom: Whom) -> bool:
        """Kill one with -9; return False if no worker is ready."""
        slot = self._ready(number)
        if slot is None:
            return False
        for pid in self._chosen(slot, whom):
            _signal(pid, signal.SIGKILL)
        return True

    def stop(self, number: int, whom: Whom, seconds: float) -> bool:
        """Send SIGSTOP, and SIGCONT after `seconds`; return False if no worker is ready."""
        slot = self._ready(number)
        if slot is None:
            return False
        slot.stopped = tuple(self._chosen(slot, whom))
        for pid in slot.stopped:
            _signal(pid, signal.SIGSTOP)
        slot.resumes_at = time.monotonic() + seconds
        return True

    def starve(self, number: int, seconds: float) -> bool:
        """Limit one to its current memory for `seconds`.

        Return False if no worker is ready, or if this system has no such limit.
        """
        slot = self._ready(number)
        if slot is None or sys.platform != "linux":
            return False
        slot.starved = tuple(self._chosen(slot, "both"))
        for pid in slot.starved:
            _limit_memory(pid, is_fed=False)
        slot.fed_at = time.monotonic() + seconds
        return True

    def _ready(self, number: int) -> _Slot | None:
        order = [*self._slots[number % self._count :], *self._slots[: number % self._count]]
        return next(
            (slot for slot in order if not slot.stopped and not slot.starved and slot.is_ready()),
            None,
        )

    @staticmethod
    def _chosen(slot: _Slot, whom: Whom) -> list[int]:
        horse = slot.horse() if slot.is_forking else None
        if horse is None:
            return [slot.process.pid]
        return {"horse": [horse], "parent": [slot.process.pid], "both": [horse, slot.process.pid]}[
            whom
        ]

    @staticmethod
    def _resume(slot: _Slot) -> None:
        for pid in slot.stopped:
            _signal(pid, signal.SIGCONT)
        slot.stopped = ()

    @staticmethod
    def _feed(slot: _Slot) -> None:
        for pid in slot.starved:
            _limit_memory(pid, is_fed=True)
        slot.starved = ()

    def heal(self) -> None:
        """Resume all stopped workers and lift all memory limits."""
        for slot in self._slots:
            self._resume(slot)
            self._feed(slot)
        self.look_after()

    def end(self) -> None:
        """Stop all workers, by SIGKILL if necessary."""
        for slot in self._slots:
            self._resume(slot)
            slot.process.terminate()
        until = time.monotonic() + STOP_S
        for slot in self._slots:
            with contextlib.suppress(subprocess.TimeoutExpired):
                slot.process.wait(max(0.0, until - time.monotonic()))
        for slot in self._slots:
            slot.process.kill()
            slot.process.wait()


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _limit_memory(pid: int, *, is_fed: bool) -> None:
    """Limit a process to its current memory, or lift the limit."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
        limit = resource.RLIM_INFINITY if is_fed else pages * resource.getpagesize()
        resource.prlimit(pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
