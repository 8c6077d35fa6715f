"""Queues with prefixes that contain each other, side by side in one Redis."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner

from assistant_queue import AssistantMessageQueue
from assistant_queue.cli import main
from assistant_queue.store.keys import FORMAT_VERSION
from assistant_queue.testing import StandInProvider
from tests.conftest import PATIENCE_S, RedisServer, installed_redis
from tests.integration.conftest import Service

THREADS = (
    "due",
    "failed",
    "counters",
    "format",
    "paused",
    "fingerprint",
    "timer",
    "tick",
    "thread:due",
    "due:due",
    "m%3Am",
)
"""As `{prefix}:thread` they would be keys of the queue `{prefix}:thread` itself, or of its
threads."""


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own: what is in it at the end is asked."""
    yield from installed_redis(tmp_path)


def served(
    kind: str, url: str, prefix: str, provider: StandInProvider, log: Path
) -> tuple[Service, AssistantMessageQueue]:
    service = Service(kind, url, prefix, provider, log)
    return service, service.start(message_delay=0)


def test_a_queue_and_one_with_the_prefix_of_its_threads_answer_everything(
    own_redis: RedisServer, provider: StandInProvider, tmp_path: Path
) -> None:
    kinds = {"bot": "concurrent", "bot:thread": "forking", "bot:thread:due": "asyncio"}
    made = [
        served(kind, own_redis.url, prefix, provider, tmp_path / f"{kind}.log")
        for prefix, kind in kinds.items()
    ]
    try:
        sent = [
            (queue, queue.add_message_to_thread(thread, f"{queue.config.queue_prefix} {thread}"))
            for thread in THREADS
            for _, queue in made
        ]
        for queue, receipt in sent:
            reply = queue.wait_for_reply(receipt.message_id, PATIENCE_S)
            assert reply == f"You said: {queue.config.queue_prefix} {receipt.thread_id}"
        for _, queue in made:
            status = queue.get_queue_status()
            assert (status.completed_count, status.failed_count) == (len(THREADS), 0)
            queue.forget_thread("due")
            assert queue.get_queue_status().completed_count == len(THREADS), (
                "of the others nothing is forgotten"
            )
        with redis.Redis.from_url(own_redis.url) as client:
            assert [key for key in client.scan_iter(count=1000) if b"quarantine" in key] == []
            assert not list(client.scan_iter("bot:thread:due:*"))
    finally:
        for service, _ in made:
            service.stop()


def test_an_old_queue_within_another_is_reported_by_the_worker_and_by_doctor(
    own_redis: RedisServer, provider: StandInProvider, caplog: pytest.LogCaptureFixture
) -> None:
    options = {
        "redis_url": own_redis.url,
        "openai_api_key": provider.api_key,
        "openai_base_url": provider.base_url,
        "model": "stand-in-model",
        "message_delay": 0,
    }
    with redis.Redis.from_url(own_redis.url) as client:
        client.set("bot:thread:format", FORMAT_VERSION)
    with (
        AssistantMessageQueue(queue_prefix="bot", **options) as outer,
        AssistantMessageQueue(queue_prefix="bot:thread", **options) as inner,
    ):
        receipts = [queue.add_message_to_thread("t", "hello") for queue in (outer, inner)]
        with caplog.at_level(logging.WARNING):
            inner.start_worker()
            outer.start_worker()
        for queue, receipt in zip((outer, inner), receipts, strict=True):
            assert queue.wait_for_reply(receipt.message_id, PATIENCE_S) == "You said: hello"
    warnings = [
        record.getMessage() for record in caplog.records if "version 0.1" in record.getMessage()
    ]
    meeting = "queue 'bot:thread' was created by version 0.1, and its keys can be those of a thread of queue 'bot'"
    assert warnings == 2 * [
        f"{meeting}; give 'bot:thread' another queue_prefix when nothing waits in it"
    ]
    asked = CliRunner().invoke(
        main, ["doctor", "--no-provider", "--redis-url", own_redis.url, "--prefix", "bot"]
    )
    assert "queue 'bot:thread' was created by version 0.1" in asked.output
    with redis.Redis.from_url(own_redis.url) as client:
        assert client.exists("bot:thread:counters"), "the old queue keeps its keys"
