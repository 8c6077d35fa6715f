"""Real workers of each kind, on a real Redis, against the stand-in provider."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import psutil
import pytest
import redis
import redis.backoff
import rq

from assistant_queue import AssistantMessageQueue
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.chaos import workers
from tests import fork_server
from tests.conftest import PATIENCE_S, RedisServer
from tests.integration.lossy_redis import LossyRedis

KINDS = ("stock", "forking", "asyncio", "concurrent")
WORKER_CLASSES = {
    "forking": "assistant_queue.Worker",
    "concurrent": "assistant_queue.ConcurrentWorker",
}
HERE = Path(__file__).parent
BIN = Path(sys.executable).parent


def wait_until(condition: Callable[[], Any], what: str, timeout: float = PATIENCE_S) -> Any:
    """Poll until the condition holds; for changes in other processes that emit no notification."""
    until = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < until, f"not within {timeout:g} s: {what}"
        time.sleep(0.01)


class Service:
    """A queue with workers of one kind; `words` are more for `rq worker`."""

    words: tuple[str, ...] = ()

    def __init__(
        self, kind: str, url: str, prefix: str, provider: StandInProvider, log: Path
    ) -> None:
        self.kind = kind
        self.url = url
        self.prefix = prefix
        self.provider = provider
        self.log = log
        self.client = redis.Redis.from_url(url)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.protocol = "responses"
        self.tools = self.on_reply = False
        self.spans = ""
        self.audit = ""
        self.hooks: tuple[str, ...] = ()
        self.raises = self.hangs = ""
        self.options: dict[str, Any] = {
            "redis_url": url,
            "queue_prefix": prefix,
            "openai_api_key": provider.api_key,
            "openai_base_url": provider.base_url,
            "message_delay": 0.2,
            "lock_duration": 3.0,
            "request_timeout": 2.0,
            "backoff": {"type": "fixed", "delay": 0.1},
        }
        self.queue: AssistantMessageQueue | None = None

    def start(self, workers: int = 1, **options: Any) -> AssistantMessageQueue:
        """Start the workers; the queue to add messages to."""
        self.options.update(options)
        model: dict[str, Any] = {"model": "stand-in-model"}
        chosen = {
            "responses": model,
            "chat_completions": {**model, "protocol": "chat_completions"},
            "assistants": {"assistant_id": self.provider.assistant_id},
        }
        self.options.update(chosen[self.protocol])
        os.environ["BOT"] = json.dumps(
            {
                "options": self.options,
                "tools": self.tools,
                "on_reply": self.on_reply,
                "spans": self.spans,
                "test_pid": os.getpid(),
                "audit": self.audit,
                "hooks": self.hooks,
                "raises": self.raises,
                "hangs": self.hangs,
            }
        )
        sys.modules.pop("tests.integration.bot", None)
        self.queue = importlib.import_module("tests.integration.bot").queue
        for _ in range(workers):
            self.start_worker()
        return self.queue

    def start_worker(self) -> None:
        assert self.queue is not None
        if self.kind == "asyncio":
            self.queue.start_worker()
            return
        extra = (
            ["--with-scheduler"]
            if self.kind == "stock"
            else ["--worker-class", WORKER_CLASSES[self.kind]]
        )
        environment = {
            **os.environ,
            "ASSISTANT_QUEUE_APP": "tests.integration.bot:queue",
            "PYTHONPATH": str(HERE.parent.parent),
        }
        with self.log.open("ab") as log:
            process = fork_server.start(
                [BIN / "rq", "worker", "-u", self.url, self.prefix, *extra, *self.words],
                env=environment,
                stdout=log,
            )
        self.processes.append(process)
        known = len(self.processes)
        wait_until(
            lambda: self.client.scard(f"rq:workers:{self.prefix}") >= known,
            "the worker registers with RQ",
        )

    def _busy_workers(self) -> list[int]:
        workers = rq.Worker.all(queue=rq.Queue(self.prefix, connection=self.client))
        return [worker.pid for worker in workers if worker.get_state() == "busy"]

    def kill_a_run(self) -> None:
        """Send kill -9 to the process that holds a run.

        That is the horse, its parent under our forking worker, or the one process of the
        concurrent worker.
        """
        if self.kind == "concurrent":
            # Runs stand in RQ's records up to a second after they began.
            (pid,) = wait_until(self._busy_workers, "one worker is busy")
            os.kill(pid, signal.SIGKILL)
            return
        # A second horse that has found the thread taken may not have ended yet.
        ((parent, horse),) = wait_until(
            lambda: busy if len(busy := self._horses()) == 1 else None, "one worker is busy"
        )
        if self.kind == "forking":
            parent.send_signal(signal.SIGKILL)  # the horse dies with it
            assert horse.is_running() is False or horse.wait(timeout=PATIENCE_S) is None
        else:
            horse.send_signal(signal.SIGKILL)

    def _horses(self) -> list[tuple[psutil.Process, psutil.Process]]:
        """Return forking workers and their horses, without RQ's schedulers."""
        return [
            (parent, horse)
            for process in self.processes
            if process.poll() is None
            for parent in [psutil.Process(process.pid)]
            for horse in parent.children()
            if os.getpgid(horse.pid) == horse.pid
        ]

    def noted(self, kind: str) -> list[str]:
        return [
            value.decode() for value in self.client.lrange(f"{self.prefix}:noted:{kind}", 0, -1)
        ]

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if self.queue is not None:
            self.queue.close()
        for pattern in (f"{self.prefix}:*", f"rq:*{self.prefix}*"):
            names = list(self.client.scan_iter(match=pattern, count=1000))
            if names:
                self.client.delete(*names)
        self.client.close()


@pytest.fixture(params=KINDS)
def service(
    request: pytest.FixtureRequest,
    one_redis: RedisServer,
    prefix: str,
    provider: StandInProvider,
    tmp_path: Path,
) -> Iterator[Service]:
    """The same behaviour is asked of every kind of worker."""
    log = tmp_path / "workers.log"
    made = Service(request.param, one_redis.url, prefix, provider, log)
    yield made
    made.stop()
    if log.exists():
        sys.stdout.write(log.read_text(errors="replace")[-1500:])


@pytest.fixture
def repeats_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat a command without a pause after its answer was lost."""
    monkeypatch.setattr(redis.backoff, "ConstantBackoff", lambda _: redis.backoff.NoBackoff())


@pytest.fixture
def lossy(one_redis: RedisServer, repeats_at_once: None) -> Iterator[LossyRedis]:
    relay = LossyRedis(one_redis.port)
    yield relay
    relay.close()


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the chaos runner fork its workers: each death costs a start.

    As commands they run in `test_a_moment_of_chaos_over_chat_completions` and in `.ci/matrix`.
    """

    def start_process(
        command: list[str], environment: Mapping[str, str], log: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        return fork_server.start(command, env=environment, stdout=log, stderr=log)

    monkeypatch.setattr(workers, "start_process", start_process)
