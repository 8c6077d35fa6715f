"""Stop of a running answer, with a real worker and every backend."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from assistant_queue import AssistantMessageQueue, Batch, MessageCancelled, MessageStatus
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Never, Reply, Turn
from assistant_queue.testing.provider.script import Outcome
from tests.conftest import PATIENCE_S, RedisServer
from tests.integration.conftest import wait_until


def model(turn: Turn) -> Outcome:
    """Never end an answer to `wait`; repeat every other text."""
    if turn.user_texts[-1] == "wait":
        return Never()
    return Reply("You said: " + " | ".join(turn.user_texts))


async def answer(batch: Batch) -> str:
    """Do what `model` does, from a function."""
    if batch.messages[-1].text == "wait":
        await asyncio.Event().wait()
    return "You said: " + " | ".join(message.text for message in batch.messages)


@pytest.fixture(params=["responses", "foreground", "assistants", "chat_completions", "function"])
def options(
    request: pytest.FixtureRequest,
    one_redis: RedisServer,
    prefix: str,
    provider: StandInProvider,
) -> dict[str, Any]:
    provider.model = model
    shared = {
        "redis_url": one_redis.url,
        "queue_prefix": prefix,
        "openai_api_key": provider.api_key,
        "openai_base_url": provider.base_url,
        "message_delay": 0,
        "events": "always",
    }
    chosen: dict[str, dict[str, Any]] = {
        "responses": {"model": "stand-in-model"},
        "foreground": {"model": "stand-in-model", "run_options": {"background": False}},
        "assistants": {"assistant_id": provider.assistant_id},
        "chat_completions": {"model": "stand-in-model", "protocol": "chat_completions"},
        "function": {"backend": answer},
    }
    return shared | chosen[request.param]


@pytest.fixture
def queue(options: dict[str, Any]) -> Iterator[AssistantMessageQueue]:
    with AssistantMessageQueue(**options) as made:
        yield made


def status_of(queue: AssistantMessageQueue, message_id: str) -> MessageStatus:
    found = queue.get_message(message_id)
    assert found is not None
    return found


def is_running(queue: AssistantMessageQueue) -> bool:
    thread = queue.get_thread_status("t")
    return thread.state == "active" and thread.run_id is not None


def test_a_running_answer_is_stopped_and_the_thread_continues(
    queue: AssistantMessageQueue, options: dict[str, Any]
) -> None:
    if options.get("run_options"):
        pytest.skip("a foreground run that never ends cannot be stopped")
    queue.start_worker()
    first = queue.add_message_to_thread("t", "wait").message_id
    wait_until(lambda: is_running(queue), PATIENCE_S)
    assert queue.stop("t")
    wait_until(lambda: status_of(queue, first).status == "cancelled", PATIENCE_S)
    with pytest.raises(MessageCancelled):
        queue.wait_for_reply(first, PATIENCE_S)
    assert queue.get_thread_status("t").state == "idle"
    assert not queue.stop("t")
    second = queue.add_message_to_thread("t", "hi").message_id
    assert queue.wait_for_reply(second, PATIENCE_S) == "You said: hi"
