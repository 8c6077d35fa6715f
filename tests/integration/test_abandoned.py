"""Deliveries that hang in real worker processes.

They are called once while the process lives, again when it is gone; too many restart it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assistant_queue import AssistantMessageQueue
from assistant_queue.cli.doctor import _workers
from assistant_queue.store.ops.health import read_abandoned
from assistant_queue.worker.process import RESTART
from tests.conftest import PATIENCE_S, RedisServer
from tests.integration.conftest import BIN, HERE, wait_until


class Workers:
    """Processes of the hanging bot, on one queue."""

    def __init__(self, url: str, prefix: str, directory: Path) -> None:
        self.url = url
        self.options: dict[str, Any] = {
            "redis_url": url,
            "queue_prefix": prefix,
            "message_delay": 0,
            "callback_timeout": 0.2,
            "lock_duration": 1,
            "backoff": {"type": "fixed", "delay": 0.1},
            "delivery_backoff": {"type": "fixed", "delay": 0.1},
        }
        self.queue = AssistantMessageQueue(**self.options, allow_mismatch=True)
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str, most: int = 100, **options: Any) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "BOT": json.dumps({"options": {**self.options, **options}, "most": most}),
            "ASSISTANT_QUEUE_APP": "tests.integration.hanging_bot:queue",
            "PYTHONPATH": str(HERE.parent.parent),
        }
        with self._log(len(self._processes)).open("wb") as log:
            name, *rest = command or ("assistant-queue", "worker")
            process = subprocess.Popen(
                [str(BIN / name), *rest],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def _log(self, number: int) -> Path:
        return self._directory / f"worker-{number}.log"

    def said(self, process: subprocess.Popen[bytes]) -> str:
        return self._log(self._processes.index(process)).read_text(encoding="utf-8")

    def noted(self, name: str) -> list[int]:
        return [
            int(pid)
            for pid in self.queue._store.client.lrange(
                f"{self.options['queue_prefix']}:noted:{name}", 0, -1
            )
        ]

    def delivery(self, message_id: str) -> str:
        status = self.queue.get_message(message_id)
        return status.delivery if status else "gone"

    def delivery_error(self, thread_id: str) -> str:
        error = self.queue.get_thread_status(thread_id).delivery_error
        return error.message if error else ""

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.queue.close()


@pytest.fixture
def workers(one_redis: RedisServer, prefix: str, tmp_path: Path) -> Iterator[Workers]:
    made = Workers(one_redis.url, prefix, tmp_path)
    yield made
    made.close()


def test_another_process_delivers_only_when_the_one_that_hangs_is_gone(workers: Workers) -> None:
    first = workers.start(concurrency=1)
    receipt = workers.queue.add_message_to_thread("hung", "hang")
    wait_until(lambda: workers.delivery_error("hung") != "", "the delivery is abandoned")
    store = workers.queue._store
    namespace = workers.queue._commands.namespace
    wait_until(lambda: store.run(read_abandoned(namespace)) == 1, "its record says so")
    assert [found.what for found in _workers(namespace, store) if found.level == "warn"] == [
        "1 call(s) of your functions exceeded their time limit and still run"
    ]
    second = workers.start()
    wait_until(
        lambda: "an earlier call for this reply is still running" in workers.said(second),
        "the second one knows of the call",
    )
    assert workers.noted("hung") == [first.pid]
    first.kill()
    wait_until(
        lambda: workers.delivery(receipt.message_id) == "delivered", "the second one delivers"
    )
    assert workers.noted("hung") == [first.pid, second.pid]


@pytest.mark.parametrize("kind", ["one", "several", "rq"])
def test_a_process_with_too_many_abandoned_calls_restarts(workers: Workers, kind: str) -> None:
    commands = {
        "one": ["assistant-queue", "worker"],
        "several": ["assistant-queue", "worker", "--processes", "2"],
        "rq": [
            "rq",
            "worker",
            "-u",
            workers.url,
            "--worker-class",
            "assistant_queue.ConcurrentWorker",
            workers.options["queue_prefix"],
        ],
    }
    process = workers.start(*commands[kind], most=1)
    receipt = workers.queue.add_message_to_thread("hung", "hang")
    if kind == "rq":
        assert process.wait(PATIENCE_S) == RESTART, "its supervisor starts it again"
        process = workers.start(*commands[kind])
    wait_until(
        lambda: workers.delivery(receipt.message_id) == "delivered",
        "it is delivered by the next process",
    )
    pids = workers.noted("hung")
    assert len(pids) == 2
    if kind == "one":
        assert set(pids) == {process.pid}, "the same process, started anew"
        assert workers.said(process).count("worker ready") == 2
    if kind == "several":
        wait_until(
            lambda: f"ended with {RESTART}; starting another" in workers.said(process),
            "its parent starts another",
        )
    process.terminate()
    assert process.wait(PATIENCE_S) == 0
