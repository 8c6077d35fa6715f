"""Real servers of other projects, each in its own environment; skipped, with the reason, where a package is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from assistant_queue import AssistantMessageQueue
from assistant_queue.cli import main
from assistant_queue.testing import Personality, StandInProvider
from tests.conftest import RedisServer
from tests.servers.usual import Doctor, MakeQueue, says


@pytest.fixture
def make_queue(one_redis: RedisServer, prefix: str) -> Iterator[MakeQueue]:
    """Make queues of one namespace, each with its own worker in this process; closed afterwards."""
    made: list[AssistantMessageQueue] = []
    usual = {
        "redis_url": one_redis.url,
        "queue_prefix": prefix,
        "message_delay": 0,
        "lock_duration": 3.0,
        "request_timeout": 10.0,
        "stream_idle_timeout": 10.0,
        "backoff": {"type": "fixed", "delay": 0.2},
    }

    def make(*, has_worker: bool = True, **options: Any) -> AssistantMessageQueue:
        queue = AssistantMessageQueue(**{**usual, **options})
        made.append(queue)
        if has_worker:
            queue.start_worker()
        return queue

    yield make
    for queue in made:
        queue.close()


@pytest.fixture
def doctor(one_redis: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Doctor:
    """Run `assistant-queue doctor` with the options of a queue; what it says, one finding a line."""

    def examine(options: dict[str, Any]) -> str:
        told = {
            "OPENAI_BASE_URL": options["openai_base_url"],
            "OPENAI_API_KEY": options["openai_api_key"],
            "ASSISTANT_QUEUE_MODEL": options["model"],
            "ASSISTANT_QUEUE_PROTOCOL": options.get("protocol") or "responses",
        }
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        return (
            CliRunner()
            .invoke(main, ["doctor", "--redis-url", one_redis.url, "--prefix", prefix])
            .output
        )

    return examine


@pytest.fixture(scope="module")
def upstream_server() -> Iterator[StandInProvider]:
    """The provider behind a module's gateway. Not strict: gateways add their own fields."""
    with StandInProvider(says, latency=0.01, strict=False, api_key="sk-upstream") as standing:
        yield standing


@pytest.fixture
def upstream(upstream_server: StandInProvider) -> Iterator[StandInProvider]:
    """The provider behind the gateway, without what an earlier test has scripted."""
    upstream_server.clear_faults()
    upstream_server.model = says
    upstream_server.personality = Personality()
    yield upstream_server
    assert upstream_server.model_errors == ()
