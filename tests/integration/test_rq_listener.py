"""The thread that listens to RQ's commands ends with its worker, also when Redis is away."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.client import PubSubWorkerThread

from assistant_queue import AssistantMessageQueue, ConcurrentWorker
from assistant_queue.errors import StoreUnavailable
from assistant_queue.testing import StandInProvider
from tests.conftest import PATIENCE_S, RedisServer, installed_redis


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    yield from installed_redis(tmp_path)


@pytest.fixture
def queue(
    own_redis: RedisServer, provider: StandInProvider, prefix: str
) -> Iterator[AssistantMessageQueue]:
    with AssistantMessageQueue(
        redis_url=own_redis.url,
        queue_prefix=prefix,
        openai_api_key=provider.api_key,
        openai_base_url=provider.base_url,
        model="any",
    ) as made:
        yield made


def listeners() -> set[threading.Thread]:
    return {one for one in threading.enumerate() if isinstance(one, PubSubWorkerThread)}


def has_ended(listener: threading.Thread) -> bool:
    listener.join(PATIENCE_S / 6)
    return not listener.is_alive()


def test_a_worker_that_stops_without_its_redis_leaves_no_thread(
    queue: AssistantMessageQueue, own_redis: RedisServer
) -> None:
    """It would look for its Redis for ever, and log that every two seconds."""
    before = listeners()
    handle = queue.start_worker()
    (listener,) = listeners() - before
    own_redis.stop()
    handle.stop(timeout=PATIENCE_S)
    assert has_ended(listener)


def test_a_worker_that_cannot_register_leaves_no_thread(
    queue: AssistantMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[threading.Thread] = []
    before = listeners()

    def go_away(*_: Any) -> None:
        begun.extend(listeners() - before)
        raise redis.ConnectionError

    monkeypatch.setattr(ConcurrentWorker, "register_birth", go_away)
    with pytest.raises(StoreUnavailable):
        queue.start_worker()
    (listener,) = begun
    assert has_ended(listener)
