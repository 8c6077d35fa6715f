"""A base URL that leads nowhere: messages wait, say why, and are answered once it is right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from assistant_queue import AssistantMessageQueue
from assistant_queue.models import Batch
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.fake_clock import FakeClock
from assistant_queue.testing.harness import Crash, InstantWorker
from tests.conftest import RedisServer


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as standing:
        yield standing


class Failures:
    """Lets the worker go after so many failed attempts."""

    def __init__(self, most: int) -> None:
        self._left = most

    def __call__(self, name: str, _: Batch) -> None:
        assert name != "after Bury", "the backlog waits"
        self._left -= name == "after Postpone"
        if not self._left:
            raise Crash(name)


@pytest.mark.parametrize("protocol", ["responses", "assistants", "chat_completions"])
def test_a_backlog_waits_while_the_address_is_wrong(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, protocol: str
) -> None:
    chosen: dict[str, Any] = (
        {"assistant_id": provider.assistant_id}
        if protocol == "assistants"
        else {"model": "m", "protocol": protocol}
    )
    options = {
        "redis_url": one_redis.url,
        "queue_prefix": prefix,
        "openai_api_key": provider.api_key,
        "message_delay": 0,
        **chosen,
    }
    port = urlsplit(provider.base_url).port
    clock = FakeClock()
    with AssistantMessageQueue(
        **options, openai_base_url=f"http://127.0.0.1:{port}", backoff={"delay": 1}, max_attempts=1
    ) as queue:
        receipt = queue.add_message_to_thread("t", "hello")
        with pytest.raises(Crash):
            InstantWorker(queue.config, clock, probe=Failures(5)).run_until_idle()
        status = queue.get_message(receipt.message_id)
        assert status is not None
        assert (status.status, queue.get_queue_status().failed_count) == ("queued", 0)
        assert status.error is not None
        assert "/v1" in status.error.message
        if protocol != "chat_completions":
            assert (
                f"POST {'/conversations' if protocol == 'responses' else '/threads'} answered 404"
                in status.error.message
            )

        InstantWorker(
            queue.config.model_copy(update={"openai_base_url": provider.base_url}), clock
        ).run_until_idle()
        answered = queue.get_message(receipt.message_id)
        assert answered is not None
        assert (answered.status, answered.attempts) == ("completed", 1)
