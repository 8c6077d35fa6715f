"""Fixtures for the documentation's code: a real Redis, the stand-in, a reader's environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from assistant_queue import AssistantMessageQueue
from assistant_queue.config import Config
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Reply, RunFailure, ToolCalls, Turn
from tests.conftest import PATIENCE_S, RedisServer, installed_redis
from tests.docs.generated import environment_variable


@pytest.fixture(scope="session")
def docs_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A separate Redis: the documents' programs use the default prefix, and whole databases."""
    yield from installed_redis(tmp_path_factory.mktemp("redis"))


@pytest.fixture
def no_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that sets no option."""
    for name in Config.model_fields:
        variable = environment_variable(name)
        if variable is not None:
            monkeypatch.delenv(variable, raising=False)
    monkeypatch.delenv("ASSISTANT_QUEUE_APP", raising=False)


def sensible_model(turn: Turn) -> Any:
    """Call the first tool offered, once; then return its output, or the input."""
    if turn.tools and not turn.tool_outputs:
        return ToolCalls([(turn.tools[0], {"order": "4711"})])
    return Reply(
        " ".join(output.output for output in turn.tool_outputs)
        or f"You said: {' | '.join(turn.user_texts)}"
    )


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(sensible_model, latency=0.0) as standing:
        yield standing
        assert standing.model_errors == ()
        assert standing.overlaps == ()


@pytest.fixture
def reader(
    docs_redis: RedisServer,
    provider: StandInProvider,
    prefix: str,
    no_options: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[str], dict[str, Any]]]:
    """Provide the names that a block needs, and close its queues at the end."""
    monkeypatch.setenv("REDIS_URL", docs_redis.url)
    monkeypatch.setenv("OPENAI_API_KEY", provider.api_key)
    monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
    monkeypatch.setenv("ASSISTANT_QUEUE_QUEUE_PREFIX", prefix)
    monkeypatch.setenv("ASSISTANT_QUEUE_MESSAGE_DELAY", "0.2")
    monkeypatch.setenv("ASSISTANT_QUEUE_BACKOFF", '{"type": "fixed", "delay": 0.05}')
    opened: list[AssistantMessageQueue] = []

    def queue() -> dict[str, Any]:
        opened.append(AssistantMessageQueue(model="any", max_attempts=1))
        return {"queue": opened[-1]}

    def worker() -> dict[str, Any]:
        opened[-1].start_worker()
        return {}

    def tools() -> dict[str, Any]:
        return {}

    def langgraph() -> dict[str, Any]:
        pytest.importorskip(
            "langgraph.graph", reason="langgraph is not installed: pip install langgraph"
        )
        return {}

    def failed() -> dict[str, Any]:
        queue()
        provider.model = lambda _: RunFailure()
        handle = opened[-1].start_worker()
        receipt = opened[-1].add_message_to_thread("me", "this goes wrong")
        with pytest.raises(Exception, match="failed batch"):
            opened[-1].wait_for_reply(receipt.message_id, timeout=PATIENCE_S)
        handle.stop()
        return {"queue": opened[-1]}

    yield lambda need: {
        "queue": queue,
        "worker": worker,
        "tools": tools,
        "failed": failed,
        "langgraph": langgraph,
    }[need]()
    for one in opened:
        one.close()
