"""State that all rows share: one Redis, the stand-in provider, queues and worker processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import redis

from assistant_queue import AssistantMessageQueue
from assistant_queue.testing import StandInProvider
from tests.benchmarks import VARIABLE
from tests.benchmarks.sizes import Sizes
from tests.conftest import SERVERS, RedisServer

ROOT = Path(__file__).parent.parent.parent
PREFIX = "assistant"
TEXT = "Hello! Where is my order? I have been waiting for a week."
WORKERS = ("asyncio", "forking")
CLASSES = {"forking": "assistant_queue.Worker", "rq simple": "rq.SimpleWorker"}


start_process: Callable[..., subprocess.Popen[Any]] = subprocess.Popen
"""Starts what rows measure. The suite, which measures nothing, forks it instead."""


def _piped(stderr: Any) -> dict[str, Any]:
    """Return options of a process that is spoken with."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": stderr}
    return {**pipes, "cwd": ROOT, "env": {**os.environ}, "text": True}


class LeanProvider:
    """The provider of `tests.benchmarks.lean_provider`, as a benchmark sees it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def stats(self) -> dict[str, Any]:
        """Requests since `reset`."""
        return self._ask("stats")

    def count(self) -> dict[str, Any]:
        """Runs and messages since `reset`."""
        return self._ask("count")

    def reset(self, hold_s: float | None = None) -> None:
        """Count from here, with runs of that length if it is given."""
        self._ask("reset" if hold_s is None else f"reset?hold={hold_s}")

    def hold_back(self) -> None:
        """Let runs in the background be in progress until `let_go`."""
        self._ask("hold-back")

    def let_go(self) -> None:
        """End all runs in the background."""
        self._ask("let-go")

    def options(self, protocol: str = "responses") -> dict[str, Any]:
        """Return a queue's options for it."""
        model = {"model": "lean"} if protocol == "responses" else {"assistant_id": "asst"}
        return {"openai_api_key": "none", "openai_base_url": f"{self.url}/v1", **model}

    def _ask(self, what: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/{what}", timeout=30) as answer:
            told: dict[str, Any] = json.load(answer)
        return told


class Bench:
    """One run of the benchmarks.

    1. starts a real redis-server and the stand-in provider, and ends them
    2. makes queues and worker processes that talk to both
    """

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self._stack = ExitStack()
        self._numbers = 0
        self.log = Path(os.devnull)

    def __enter__(self) -> Self:
        directory = self._stack.enter_context(tempfile.TemporaryDirectory())
        server = RedisServer(SERVERS.get("path") or SERVERS["wheel"], Path(directory))
        self.log = Path(directory) / "workers.log"
        server.start()
        self._stack.callback(server.stop)
        self.url = server.url
        self.redis_port = server.port
        self.client = self._stack.enter_context(redis.Redis.from_url(self.url))
        self.provider = self._stack.enter_context(StandInProvider(latency=0))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and self.log.exists():
            sys.stderr.write(self.log.read_text(errors="replace")[-3000:])
        self._stack.close()

    def fresh_prefix(self) -> str:
        """A separate prefix for a row."""
        self._numbers += 1
        return f"bench{self._numbers}"

    def options(self, **options: Any) -> dict[str, Any]:
        """A queue's options."""
        chosen: dict[str, Any] = {
            "redis_url": self.url,
            "queue_prefix": PREFIX,
            "openai_api_key": self.provider.api_key,
            "openai_base_url": self.provider.base_url,
            "message_delay": self.sizes.window_s,
            **options,
        }
        if "assistant_id" not in chosen:
            chosen.setdefault("model", "stand-in-model")
        return chosen

    @contextmanager
    def queue(self, **options: Any) -> Iterator[AssistantMessageQueue]:
        """A producer's queue, on an empty Redis."""
        self.client.flushall()
        with AssistantMessageQueue(**self.options(**options)) as queue:
            yield queue

    @contextmanager
    def worker(
        self,
        kind: str,
        options: dict[str, Any],
        *,
        url: str | None = None,
        concurrency: int | None = None,
        prefixes: Sequence[str] = (),
        app: str = "tests.benchmarks.app:queue",
    ) -> Iterator[psutil.Process]:
        """A worker process; `asyncio`, `forking` (ours on RQ), or `rq` and `rq simple` for RQ's own; `prefixes` for the first alone."""
        url = url or self.url
        told = {**options, "redis_url": url}
        if kind == "asyncio":
            command = ["-m", "assistant_queue.cli", "worker", "--app", app]
            command += ["--concurrency", str(concurrency)] if concurrency else []
            command += [word for prefix in prefixes for word in ("--prefix", prefix)]
        else:
            command = ["-m", "rq.cli", "worker", "-q", "-u", url, options["queue_prefix"]]
            command += ["--worker-class", CLASSES[kind]] if kind in CLASSES else []
        environment = {
            **os.environ,
            VARIABLE: json.dumps(told),
            "ASSISTANT_QUEUE_APP": app,
            "PYTHONPATH": str(ROOT),
        }
        with self.log.open("ab") as log:
            process = start_process(
                [sys.executable, *command],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                yield psutil.Process(process.pid)
            finally:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    @contextmanager
    def lean_provider(self, hold_s: float = 0.0, host: str = "127.0.0.1") -> Iterator[LeanProvider]:
        """A provider that costs next to nothing, in a separate process."""
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.lean_provider",
            "--hold",
            str(hold_s),
            "--host",
            host,
        ]
        with self.log.open("ab") as log, start_process(command, **_piped(log)) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                yield LeanProvider(f"http://{host}:{int(process.stdout.readline())}")
            finally:
                process.stdin.close()
                process.kill()

    def bare(self, provider: LeanProvider, program: str = "bare", **options: Any) -> dict[str, Any]:
        """Measure the calls without a queue: `tests.benchmarks.bare` in its own process.

        `program`: Another module that takes such options.
        """
        words = [
            word
            for name, value in options.items()
            for word in ([f"--{name}"] if value is True else [f"--{name}", str(value)])
        ]
        command = [
            sys.executable,
            "-m",
            f"tests.benchmarks.{program}",
            "--url",
            f"{provider.url}/v1",
            *words,
        ]
        with start_process(command, **_piped(subprocess.PIPE)) as process:
            out, err = process.communicate("")
        if process.returncode:
            raise RuntimeError(f"bare {options}: {err[-2000:]}")
        taken: dict[str, Any] = json.loads(out)
        return taken

    @contextmanager
    def far_redis(self, delay_s: float) -> Iterator[str]:
        """The address of the same Redis at the end of a longer way."""
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.proxy",
            "--to",
            str(self.redis_port),
            "--delay",
            str(delay_s),
        ]
        with self.log.open("ab") as log, start_process(command, **_piped(log)) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                yield f"redis://127.0.0.1:{int(process.stdout.readline())}/0"
            finally:
                process.stdin.close()
                process.kill()


def wait_until(holds: Callable[[], Any], what: str, timeout_s: float = 30.0) -> None:
    """Look until it is so."""
    until = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > until:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.005)
