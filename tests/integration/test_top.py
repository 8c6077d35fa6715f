"""`assistant-queue top` as a separate process: in a file, and in a terminal with its keys."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

from assistant_queue import AssistantMessageQueue
from tests.conftest import PATIENCE_S, RedisServer

COMMAND = [sys.executable, "-m", "assistant_queue.cli", "top"]


def environment(url: str, prefix: str) -> dict[str, str]:
    names = {"REDIS_URL": url, "ASSISTANT_QUEUE_QUEUE_PREFIX": prefix, "ASSISTANT_QUEUE_MODEL": "m"}
    return {**os.environ, **names, "TERM": "xterm-256color", "COLUMNS": "90", "LINES": "24"}


def test_a_file_gets_the_overview_once(one_redis: RedisServer, prefix: str) -> None:
    with AssistantMessageQueue(redis_url=one_redis.url, queue_prefix=prefix, model="m") as queue:
        queue.add_message_to_thread("kitchen", "Hello!", message_delay=600)
    done = subprocess.run(
        COMMAND, env=environment(one_redis.url, prefix), capture_output=True, text=True, check=True
    )
    assert f"queue {prefix}" in done.stdout
    assert "collecting 1" in done.stdout
    assert "kitchen" in done.stdout
    assert "\x1b" not in done.stdout
    away = subprocess.run(
        [*COMMAND, "--redis-url", "redis://127.0.0.1:1/0"],
        env=environment(one_redis.url, prefix),
        capture_output=True,
        text=True,
        check=False,
    )
    assert away.returncode == 3


def test_a_terminal_is_refreshed_until_q_and_left_as_it_was(
    one_redis: RedisServer, prefix: str
) -> None:
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "--refresh", "0.2"],
        env=environment(one_redis.url, prefix),
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
    )
    os.close(its)
    shown = ""

    def until(word: str) -> None:
        nonlocal shown
        while word not in shown:
            shown += os.read(ours, 65536).decode(errors="replace")

    try:
        until("q quits")
        assert "\x1b[?1049h" in shown
        with AssistantMessageQueue(
            redis_url=one_redis.url, queue_prefix=prefix, model="m"
        ) as queue:
            queue.add_message_to_thread("garden", "Hello!", message_delay=600)
        until("garden")
        os.write(ours, b"x")  # no key of it
        shown = ""
        until("garden")
        os.write(ours, b"q")
        until("\x1b[?1049l")
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
