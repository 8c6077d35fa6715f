"""A conversation that outgrows the model, through a real queue: whoever writes next is answered, whatever the server does about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from assistant_queue import AssistantMessageQueue
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Personality, Reply, ToolCalls, Turn
from tests.conftest import PATIENCE_S, RedisServer

TURNS = 30
LIMIT = 60
"""Words that the model reads: about five turns, or two with the output of a tool."""
SHIPPED = "it was shipped on Monday from the store in the north and is expected here by the end of this very week"
TOOL = {"type": "function", "name": "order", "parameters": {"type": "object", "properties": {}}}

SERVERS = {
    "shortens": {},
    "refuses to shorten": {"truncation": "refused", "truncation_strategy": "refused"},
    "ignores that it should": {"truncation": "ignored", "truncation_strategy": "ignored"},
}
TOLD = ("refused", "failed")
PROTOCOLS = ("responses", "assistants", "chat_completions")


def model(turn: Turn) -> ToolCalls | Reply:
    """Asks for the order where the last question is about one; says what it was asked and told."""
    asked = turn.user_texts[-1]
    if "order" in asked and not turn.tool_outputs:
        return ToolCalls([("order", {})])
    return Reply(f"Answer to {asked.split(':')[0]}")


def question(number: int) -> str:
    return f"{number}: where is the order" if number % 3 == 2 else f"{number}: what else do you sell"


class Shop:
    """A queue with a worker, and what its function was called for."""

    def __init__(self, url: str, prefix: str, provider: StandInProvider, protocol: str, **options: Any) -> None:
        self.calls: Counter[str] = Counter()
        self.provider, self.protocol = provider, protocol
        chosen: dict[str, dict[str, Any]] = {
            "responses": {"model": "stand-in-model", "tools": [TOOL]},
            "chat_completions": {"model": "stand-in-model", "tools": [TOOL], "protocol": "chat_completions"},
            "assistants": {"assistant_id": provider.assistant_id, "tools": [TOOL]},
        }
        self.queue = AssistantMessageQueue(
            redis_url=url,
            queue_prefix=prefix,
            openai_api_key=provider.api_key,
            openai_base_url=provider.base_url,
            handle_requires_action=self.handle,
            default_instructions=None,
            message_delay=0,
            **{**chosen[protocol], **options},
        )
        self.queue.start_worker()

    def handle(self, _thread: str, _run: str, calls: list[Any]) -> list[dict[str, str]]:
        self.calls.update(call.id for call in calls)
        return [{"tool_call_id": call.id, "output": SHIPPED} for call in calls]

    def ask(self, number: int, thread: str = "t") -> str | None:
        return self.queue.ask(thread, question(number), timeout=PATIENCE_S)

    def conversation(self, thread: str = "t") -> str:
        return self.queue.get_thread(thread).conversation_id


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(model, latency=0) as standing:
        yield standing
        assert standing.model_errors == ()
        assert standing.overlaps == ()


def answered(provider: StandInProvider) -> list[str]:
    """The last question of each run that ended well and was not a tool round of an earlier one."""
    return [run.user_texts[-1] for run in provider.runs if run.status == "completed" and run.user_texts]


@pytest.mark.parametrize("told", TOLD)
@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_turn_of_a_long_conversation_is_answered(  # noqa: PLR0917 - a row of the table
    one_redis: RedisServer, prefix: str, provider: StandInProvider, protocol: str, server: str, told: str
) -> None:
    provider.personality = Personality(context_words=LIMIT, context_told=told, **SERVERS[server])  # type: ignore[arg-type]
    shop = Shop(one_redis.url, prefix, provider, protocol)
    with shop.queue as queue:
        assert [shop.ask(number) for number in range(TURNS)] == [f"Answer to {number}" for number in range(TURNS)]
        assert queue.list_failed() == []
        assert queue.get_queue_status().completed_count == TURNS
