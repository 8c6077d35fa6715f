"""Worker and producer processes of both sides, on one Redis and one provider."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

from tests.benchmarks import VARIABLE
from tests.benchmarks.bench import PREFIX, ROOT, TEXT, Bench, LeanProvider, wait_until
from tests.benchmarks.peer.checkout import Checkout
from tests.benchmarks.throughput import cpu_s

_SCRIPTS = Path(__file__).parent
WINDOW_S = 1.0


@dataclass(frozen=True, slots=True)
class Lane:
    """One side of a comparison: this package with a protocol, or the peer, with its only one."""

    side: str
    protocol: str = "assistants"

    @property
    def is_peer(self) -> bool:
        """Whether it runs on Node.js."""
        return self.side == "peer"

    @property
    def threads(self) -> str:
        """The start of a thread's id: the provider's own, so that neither side creates any."""
        return "thread_" if self.protocol == "assistants" else "conv_"


HERE = Lane("here")
RESPONSES = Lane("here", "responses")
PEER = Lane("peer")


@dataclass(slots=True)
class Worker:
    """A worker process.

    Attributes:
        process: The process itself.
        ask: A question to a worker of the peer.
    """

    process: psutil.Process
    ask: Callable[[str], Any] = field(default=lambda _: None)


@dataclass(slots=True)
class Rig:
    """Redis, the provider, and processes of a side that is measured next."""

    bench: Bench
    provider: LeanProvider
    checkout: Checkout
    _numbers: int = 0

    def clean(self, hold_s: float = 0.0) -> None:
        """An empty Redis, a provider that has seen nothing."""
        self.bench.client.flushall()
        self.bench.client.config_resetstat()
        self.provider.reset(hold_s)

    def options(self, lane: Lane, delay_s: float, redis_url: str | None = None) -> dict[str, Any]:
        """A queue's options: defaults, but for the addresses."""
        return self.bench.options(
            **self.provider.options(lane.protocol),
            message_delay=delay_s,
            redis_url=redis_url or self.bench.url,
        )

    @contextmanager
    def worker(
        self,
        lane: Lane,
        concurrency: int,
        *,
        redis_url: str | None = None,
        reads: bool = False,
        ready: bool = True,
    ) -> Iterator[Worker]:
        """A worker process.

        Args:
            lane: Its side.
            concurrency: Runs at once.
            redis_url: Another address of the same Redis.
            reads: Have the peer list a thread's messages after each run.
            ready: Wait until it is.
        """
        if lane.is_peer:
            given = {
                "checkout": str(self.checkout.path),
                "redisUrl": redis_url or self.bench.url,
                "concurrency": concurrency,
                "readReplies": reads,
            }
            with self._node_worker(given, ready=ready) as worker:
                yield worker
            return
        logged = self.bench.log.stat().st_size if self.bench.log.exists() else 0
        options = self.options(lane, WINDOW_S, redis_url)
        with self.bench.worker(
            "asyncio", options, url=redis_url, concurrency=concurrency
        ) as process:
            if ready:
                wait_until(
                    lambda: b"worker ready" in self.bench.log.read_bytes()[logged:],
                    "the worker is ready",
                    60,
                )
            yield Worker(process)

    @contextmanager
    def _node_worker(self, given: dict[str, Any], *, ready: bool) -> Iterator[Worker]:
        command = [self.checkout.node, str(_SCRIPTS / "peer_worker.js"), json.dumps(given)]
        with (
            self.bench.log.open("ab") as log,
            subprocess.Popen(
                command,
                env=self._environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                bufsize=1,
            ) as process,
        ):
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                if ready:
                    _read(process.stdout)
                yield Worker(psutil.Process(process.pid), _asking(process.stdin, process.stdout))
            finally:
                process.kill()

    def produce(
        self, lane: Lane, op: str, *, redis_url: str | None = None, **numbers: Any
    ) -> dict[str, Any]:
        """Run a producer process of that side; `tests.benchmarks.peer.producer` has the operations.

        Returns:
            The document that it printed.

        Raises:
            RuntimeError: It failed.
        """
        self._numbers += 1
        delay_s = numbers.setdefault("delay_s", WINDOW_S)
        given = {
            "op": op,
            "text": TEXT,
            "threads": f"{lane.threads}{self._numbers}x",
            "provider": self.provider.url,
            **numbers,
        }
        if lane.is_peer:
            given |= {"checkout": str(self.checkout.path), "redisUrl": redis_url or self.bench.url}
            command = [self.checkout.node, str(_SCRIPTS / "peer_producer.js"), json.dumps(given)]
            environment = self._environment()
        else:
            command = [sys.executable, "-m", "tests.benchmarks.peer.producer", json.dumps(given)]
            options = self.options(lane, delay_s, redis_url)
            environment = {**os.environ, VARIABLE: json.dumps(options), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"producer of {lane.side}, {op}: {done.stderr[-2000:]}")
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def fill(self, lane: Lane, count: int) -> None:
        """Due messages, one to a thread, by the fastest way that a side has."""
        self.produce(
            lane, "add", count=count, per_thread=1, in_flight=200 if lane.is_peer else 0, delay_s=0.05
        )  # fmt: skip

    def answered(self, lane: Lane, workers: Sequence[Worker]) -> int:
        """Messages answered since Redis was emptied."""
        if lane.is_peer:
            return sum(int(worker.ask("answered")) for worker in workers)
        return int(self.bench.client.hget(f"{PREFIX}:counters", "completed") or 0)

    def wait(
        self, lane: Lane, workers: Sequence[Worker], messages: int, *, stall_s: float = 45.0
    ) -> tuple[float, int]:
        """Wait until so many messages are answered in all.

        Returns:
            When the last was, and how many were: fewer if for `stall_s` seconds there were no more.
        """
        last = -1
        since = time.time()
        while True:
            now = time.time()
            count = self.answered(lane, workers)
            if count != last:
                last = count
                since = now
            if count >= messages or now - since > stall_s:
                if count < messages:
                    self._report(lane, workers, messages - count)
                return since, count
            time.sleep(0.02)

    def warm(self, lane: Lane, workers: Sequence[Worker], count: int) -> int:
        """Have some threads answered, for connections and compiled code.

        Returns:
            The messages answered since Redis was emptied.
        """
        before = self.answered(lane, workers)
        self.fill(lane, count)
        return self.wait(lane, workers, before + count)[1]

    def redis_cpu_s(self) -> float:
        """CPU seconds of Redis."""
        info = self.bench.client.info("cpu")
        return float(info["used_cpu_user"] + info["used_cpu_sys"])

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "OPENAI_BASE_URL": f"{self.provider.url}/v1"}

    @staticmethod
    def _report(lane: Lane, workers: Sequence[Worker], missing: int) -> None:
        failures = [worker.ask("failed") for worker in workers]
        sys.stderr.write(f"{lane.side}: {missing} messages not answered {failures}\n")


def cpu_of(workers: Sequence[Worker]) -> float:
    """CPU seconds of the worker processes."""
    return sum(cpu_s(worker.process) for worker in workers)


@contextmanager
def stopped(workers: Sequence[Worker]) -> Iterator[None]:
    """Stop the workers while their work is laid out, so that what follows measures them alone."""
    for worker in workers:
        worker.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for worker in workers:
            with suppress(psutil.NoSuchProcess):
                worker.process.send_signal(signal.SIGCONT)


def _asking(questions: IO[str], answers: IO[str]) -> Callable[[str], Any]:
    def ask(question: str) -> Any:
        questions.write(f"{question}\n")
        questions.flush()
        return _read(answers)

    return ask


def _read(lines: IO[str]) -> Any:
    """The next line of a worker, as JSON; what its libraries print is passed over."""
    for line in lines:
        with suppress(json.JSONDecodeError):
            return json.loads(line)
    raise RuntimeError("the peer's worker has ended; see its output above")
