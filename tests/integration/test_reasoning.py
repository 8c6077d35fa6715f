"""Reasoning that a model writes into its text, on every protocol: what listeners hear, what is replied, what is remembered."""

from __future__ import annotations

import pytest

from assistant_queue import AssistantMessageQueue, RunResult
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Reply, ToolCalls
from tests.conftest import PATIENCE_S, RedisServer
from tests.integration.test_events import applied, until_reply

ANSWER = "It is shipped, as you can see at <think>."


@pytest.mark.parametrize("reasoning_tags", ["strip", "keep"])
@pytest.mark.parametrize("protocol", ["responses", "assistants", "chat_completions"])
def test_deltas_and_replies_agree_on_where_the_answer_begins(
    one_redis: RedisServer, prefix: str, protocol: str, reasoning_tags: str
) -> None:
    with StandInProvider(latency=0.02) as provider:
        chosen = (
            {"assistant_id": provider.assistant_id}
            if protocol == "assistants"
            else {"model": "m", "protocol": protocol}
        )
        with AssistantMessageQueue(
            redis_url=one_redis.url, queue_prefix=prefix, message_delay=0.0, reasoning_tags=reasoning_tags,
            openai_api_key=provider.api_key, openai_base_url=provider.base_url, **chosen,
        ) as queue:  # fmt: skip

            @queue.tool
            def order(number: int) -> str:
                """The state of an order."""
                return f"{number} is shipped"

            provider.model = lambda turn: (
                ToolCalls([("order", {"number": 7})], text="<think>I must look.</think>One moment.")
                if turn.round == 0
                else Reply(f"<think>\nNow I know.\n</think>\n\n{ANSWER}", chunks=12)
            )
            queue.open_events("t")
            queue.start_worker()
            queue.add_message_to_thread("t", "where is it?")
            found = applied(until_reply(queue.events("t", after="0")))
            kept = [
                message.text
                for message in queue.list_messages("t", order="asc")
                if message.role == "assistant"
            ]
        (replies,) = found.replies.values()
        assert list(found.streamed.values()) == [list(replies)]
        assert found.restarts == 0
        if reasoning_tags == "strip":
            assert replies == ("One moment.", ANSWER)
        else:
            assert all(reply.startswith("<think>") for reply in replies)
        if protocol == "chat_completions":
            assert tuple(kept) == replies


def test_an_answer_of_nothing_but_reasoning_is_no_answer(
    one_redis: RedisServer, prefix: str
) -> None:
    with StandInProvider(latency=0) as provider:
        provider.model = lambda _: Reply("<think>I had better say nothing.</think>")
        results: list[RunResult] = []
        with AssistantMessageQueue(
            redis_url=one_redis.url, queue_prefix=prefix, message_delay=0.0, model="m", on_reply=results.append,
            openai_api_key=provider.api_key, openai_base_url=provider.base_url,
        ) as queue:  # fmt: skip
            queue.start_worker()
            assert (
                queue.wait_for_reply(
                    queue.add_message_to_thread("t", "hello").message_id, PATIENCE_S
                )
                is None
            )
        (result,) = results
        assert (result.status, result.incomplete_reason, result.reply) == (
            "incomplete",
            "empty",
            None,
        )
