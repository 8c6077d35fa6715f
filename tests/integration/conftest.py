"""Real workers of each kind, on a real Redis, against the stand-in provider."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
import rq

from assistant_queue import AssistantMessageQueue
from assistant_queue.testing import StandInProvider
from tests.conftest import PATIENCE_S, RedisServer

KINDS = ("stock", "forking", "asyncio", "concurrent")
WORKER_CLASSES = {"forking": "assistant_queue.Worker", "concurrent": "assistant_queue.ConcurrentWorker"}
HERE = Path(__file__).parent
BIN = Path(sys.executable).parent


def wait_until(condition: Callable[[], Any], what: str, timeout: float = PATIENCE_S) -> Any:
    """Look until it is so; for what happens in other processes and tells nobody."""
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

    def __init__(self, kind: str, url: str, prefix: str, provider: StandInProvider, log: Path) -> None:
        self.kind, self.url, self.prefix, self.provider, self.log = kind, url, prefix, provider, log
        self.client = redis.Redis.from_url(url)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.protocol = "responses"
        self.tools = self.on_reply = False
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
        os.environ["BOT"] = json.dumps({"options": self.options, "tools": self.tools, "on_reply": self.on_reply})
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
        extra = ["--with-scheduler"] if self.kind == "stock" else ["--worker-class", WORKER_CLASSES[self.kind]]
        environment = {**os.environ, "ASSISTANT_QUEUE_APP": "tests.integration.bot:queue", "PYTHONPATH": str(HERE.parent.parent)}
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [str(BIN / "rq"), "worker", "-u", self.url, self.prefix, *extra, *self.words],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        known = len(self.processes)
        wait_until(lambda: self.client.scard(f"rq:workers:{self.prefix}") >= known, "the worker registers with RQ")

    def kill_a_run(self) -> None:
        """kill -9 to whoever holds a run: the horse, its parent under our forking worker, the one process of the concurrent worker."""
        if self.kind == "concurrent":
            workers = rq.Worker.all(queue=rq.Queue(self.prefix, connection=self.client))
            (pid,) = [worker.pid for worker in workers if worker.get_state() == "busy"]
            os.kill(pid, signal.SIGKILL)
            return
        parents = [psutil.Process(process.pid) for process in self.processes if process.poll() is None]
        busy = [(parent, horse) for parent in parents for horse in parent.children() if os.getpgid(horse.pid) == horse.pid]
        assert len(busy) == 1, f"one worker is busy: {busy}"
        ((parent, horse),) = busy
        if self.kind == "forking":
            parent.send_signal(signal.SIGKILL)  # the horse dies with it
            assert horse.is_running() is False or horse.wait(timeout=PATIENCE_S) is None
        else:
            horse.send_signal(signal.SIGKILL)

    def noted(self, kind: str) -> list[str]:
        return [value.decode() for value in self.client.lrange(f"{self.prefix}:noted:{kind}", 0, -1)]

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
    request: pytest.FixtureRequest, one_redis: RedisServer, prefix: str, provider: StandInProvider, tmp_path: Path
) -> Iterator[Service]:
    """The same behaviour is asked of every kind of worker."""
    log = tmp_path / "workers.log"
    made = Service(request.param, one_redis.url, prefix, provider, log)
    yield made
    made.stop()
    if log.exists():
        sys.stdout.write(log.read_text(errors="replace")[-1500:])
