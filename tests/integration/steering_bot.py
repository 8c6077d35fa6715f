"""A model with answers that do not end, and queues of every backend that ask it."""

from __future__ import annotations

import asyncio
from typing import Any

from assistant_queue import AssistantMessageQueue, Batch, MessageStatus
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Never, Reply, ToolCalls, Turn
from assistant_queue.testing.provider.script import Outcome
from tests.conftest import PATIENCE_S, RedisServer
from tests.integration.conftest import wait_until

PROVIDERS = ["responses", "assistants", "chat_completions"]


def model(turn: Turn) -> Outcome:
    """Never end an answer to `wait`, call a tool for `look`; repeat every other text."""
    last = turn.user_texts[-1].rpartition("\n")[2]  # Assistants joins many messages
    if last == "wait" or (last == "look on" and turn.round):
        return Never()
    if last.startswith("look") and not turn.round:
        return ToolCalls([("weather", {})])
    return Reply("You said: " + " | ".join(turn.user_texts))


async def answer(batch: Batch) -> str:
    """Do what `model` does, from a function."""
    if batch.messages[-1].text == "wait":
        await asyncio.Event().wait()
    return "You said: " + " | ".join(message.text for message in batch.messages)


def shared_options(
    one_redis: RedisServer, prefix: str, provider: StandInProvider
) -> dict[str, Any]:
    """Return the options that all backends share, with the model of this module."""
    provider.model = model
    return {
        "redis_url": one_redis.url,
        "queue_prefix": prefix,
        "openai_api_key": provider.api_key,
        "openai_base_url": provider.base_url,
        "message_delay": 0,
        "events": "always",
    }


def backend(name: str, provider: StandInProvider) -> dict[str, Any]:
    """Return the options of one backend."""
    chosen: dict[str, dict[str, Any]] = {
        "responses": {"model": "stand-in-model"},
        "assistants": {"assistant_id": provider.assistant_id},
        "chat_completions": {"model": "stand-in-model", "protocol": "chat_completions"},
        "function": {"backend": answer},
    }
    return chosen[name]


def add(queue: AssistantMessageQueue, text: str, **fields: Any) -> str:
    """Add a message; return its id."""
    return queue.add_message_to_thread("t", text, **fields).message_id


def status_of(queue: AssistantMessageQueue, message_id: str) -> MessageStatus:
    """Return the status of a message that is known."""
    found = queue.get_message(message_id)
    assert found is not None
    return found


def running(queue: AssistantMessageQueue, text: str) -> str:
    """Add a message and wait until its run is known."""
    message_id = add(queue, text)
    wait_until(lambda: queue.get_thread_status("t").run_id, PATIENCE_S)
    return message_id
