"""A conversation that outgrows the model, through a real queue.

The next message is answered, whatever the server does about it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis

from assistant_queue import AssistantMessageQueue, BatchFailed
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Personality, Reply, ToolCalls, Turn, refuse
from assistant_queue.testing.provider.personalities import personality_of
from tests.conftest import PATIENCE_S, RedisServer

TURNS = 30
LIMIT = 60
"""Words that the model reads: about five turns, or two with the output of a tool."""
SHIPPED = "it was shipped on Monday from the store in the north and is expected here by the end of this very week"
TOOL = {"type": "function", "name": "order", "parameters": {"type": "object", "properties": {}}}

SERVERS: dict[str, dict[str, Any]] = {
    "shortens": {},
    "refuses to shorten": {"truncation": "refused", "truncation_strategy": "refused"},
    "ignores that it should": {"truncation": "ignored", "truncation_strategy": "ignored"},
}
TOLD = ("refused", "failed", "unsaid")
CASES = [
    *(("responses", server, told) for server in SERVERS for told in TOLD),
    *(("assistants", server, told) for server in SERVERS for told in TOLD[:2]),
    *(("chat_completions", "shortens", told) for told in TOLD),
]
PROTOCOLS = ("responses", "assistants", "chat_completions")
BY_PROTOCOL = [
    ("responses", "shortens"),
    ("responses", "refuses to shorten"),
    ("assistants", "shortens"),
    ("assistants", "ignores that it should"),
    ("chat_completions", "shortens"),
]


def model(turn: Turn) -> ToolCalls | Reply:
    """Asks for the order where the last question is about one; says what it was asked and answered."""
    asked = turn.user_texts[-1]
    if "order" in asked and not turn.tool_outputs:
        return ToolCalls([("order", {})])
    return Reply(f"Answer to {asked.split(':')[0]}")


def question(number: int) -> str:
    return (
        f"{number}: where is the order" if number % 3 == 2 else f"{number}: what else do you sell"
    )


class Shop:
    """A queue with a worker, and what its function was called for."""

    def __init__(
        self, url: str, prefix: str, provider: StandInProvider, protocol: str, **options: Any
    ) -> None:
        self.calls: Counter[str] = Counter()
        self.provider = provider
        self.protocol = protocol
        chosen: dict[str, dict[str, Any]] = {
            "responses": {"model": "stand-in-model", "tools": [TOOL]},
            "chat_completions": {
                "model": "stand-in-model",
                "tools": [TOOL],
                "protocol": "chat_completions",
            },
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

    def remembered(self) -> list[str]:
        """The questions of the thread, in the conversation that it has now."""
        if self.protocol == "chat_completions":
            return [
                message.text
                for message in self.queue.list_messages("t", limit=100, order="asc")
                if message.role == "user"
            ]
        return self.provider.user_texts(self.queue.get_thread("t").id)


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(model, latency=0) as standing:
        yield standing
        assert standing.model_errors == ()
        assert standing.overlaps == ()


def limited(server: str, told: str = "refused") -> Personality:
    return Personality(context_words=LIMIT, context_outcome=told, **SERVERS[server])  # type: ignore[arg-type]


@pytest.mark.parametrize("case", CASES, ids=" - ".join)
def test_every_turn_of_a_long_conversation_is_answered(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, case: tuple[str, str, str]
) -> None:
    protocol, server, told = case
    provider.personality = limited(server, told)
    shop = Shop(one_redis.url, prefix, provider, protocol)
    with shop.queue as queue:
        assert [shop.ask(number) for number in range(TURNS)] == [
            f"Answer to {number}" for number in range(TURNS)
        ]
        assert queue.list_failed() == []
        assert queue.get_queue_status().completed_count == TURNS
        assert shop.remembered()[-2:] == [question(TURNS - 2), question(TURNS - 1)]
        # A run of the Assistants protocol that failed after its tools is another run, which calls
        # them itself.
        assert set(shop.calls.values()) == {1}
        assert len(shop.calls) == TURNS // 3 or protocol == "assistants"
        unfit = len(provider.refusals) + len(
            [run for run in provider.runs if run.status == "failed"]
        )
        if protocol == "responses" and server == "shortens":
            assert (len(provider.calls("conversations.create")), unfit) == (1, 1), (
                "it is found out once"
            )
        queue.forget_thread("t")
        with redis.Redis.from_url(one_redis.url) as client:
            assert list(client.scan_iter(f"{prefix}:conversation:*")) == []


@pytest.mark.parametrize("name", ["ogx", "small_responses"])
def test_every_turn_is_answered_by_servers_that_neither_lock_nor_shorten_nor_list_in_order(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, name: str
) -> None:
    provider.personality = replace(
        personality_of(name), context_words=LIMIT, truncation="ignored", list_order="reshuffled"
    )
    shop = Shop(one_redis.url, prefix, provider, "responses")
    with shop.queue as queue:
        assert [shop.ask(number) for number in range(TURNS)] == [
            f"Answer to {number}" for number in range(TURNS)
        ]
        assert (queue.list_failed(), sorted(shop.calls.values())) == ([], [1] * (TURNS // 3))


@pytest.mark.parametrize("case", BY_PROTOCOL, ids=" - ".join)
def test_a_message_that_is_too_long_by_itself_costs_neither_the_next_one_nor_what_is_remembered(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, case: tuple[str, str]
) -> None:
    protocol, server = case
    provider.personality = limited(server)
    shop = Shop(one_redis.url, prefix, provider, protocol)
    with shop.queue as queue:
        for number in (0, 1, 3):
            assert shop.ask(number) == f"Answer to {number}"
        with pytest.raises(BatchFailed):
            queue.ask("t", "word " * (LIMIT + 10), timeout=PATIENCE_S)
        (failed,) = queue.list_failed()
        assert (failed.reason, failed.error.code) == ("refused", "request_refused")
        assert "maximum context length is 60 tokens" in failed.error.message
        assert shop.ask(4) == "Answer to 4"
        texts = [text for text in shop.remembered() if not text.startswith("word")]
        assert texts == [question(number) for number in (0, 1, 3, 4)]


def test_a_message_that_is_refused_without_a_word_whatever_is_left_out_leaves_the_thread_as_it_was(
    one_redis: RedisServer, prefix: str, provider: StandInProvider
) -> None:
    shop = Shop(one_redis.url, prefix, provider, "responses")
    with shop.queue as queue:
        assert [shop.ask(number) for number in (0, 1, 3)] == [
            "Answer to 0",
            "Answer to 1",
            "Answer to 3",
        ]
        before = queue.get_thread("t").id
        wordless = refuse(400, message="Bad request.")
        provider.fault(
            "responses.create",
            wordless,
            times=None,
            when=lambda request: "odd" in str(request.body),
        )
        with pytest.raises(BatchFailed):
            queue.ask("t", "an odd one", timeout=PATIENCE_S)
        assert queue.get_thread("t").id == before
        assert shop.ask(4) == "Answer to 4"
        assert shop.remembered() == [question(number) for number in (0, 1, 3, 4)]
        created = len(provider.calls("conversations.create"))
        assert created == len(provider.calls("conversations.delete")) + 1 > 2, (
            "what was tried is not left there"
        )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_queue_that_is_to_fail_fails_those_batches_only_and_can_be_configured_otherwise_later(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, protocol: str
) -> None:
    create = {
        "responses": "responses.create",
        "assistants": "runs.create",
        "chat_completions": "chat.completions.create",
    }[protocol]
    provider.personality = limited("shortens")
    shop = Shop(one_redis.url, prefix, provider, protocol, on_context_overflow="fail")
    with shop.queue as queue:
        numbers = [0, 1, 3, 4]
        assert [shop.ask(number) for number in numbers] == [
            f"Answer to {number}" for number in numbers
        ]
        queue.ask("t", "word " * 9, timeout=PATIENCE_S)
        before = len(provider.calls(create))
        for number in (6, 7):
            with pytest.raises(BatchFailed):
                shop.ask(number)
        assert len(provider.calls(create)) == before + 2
        assert {failed.reason for failed in queue.list_failed()} == {"refused"}
        assert shop.ask(0, "another thread") == "Answer to 0"
    again = Shop(one_redis.url, prefix, provider, protocol)
    with again.queue as queue:
        for failed in reversed(queue.list_failed()):
            queue.retry_failed(failed.batch_id)
            queue.wait_for_reply(failed.message_ids[0], PATIENCE_S)
        assert queue.list_failed() == []
        assert again.ask(9) == "Answer to 9"
