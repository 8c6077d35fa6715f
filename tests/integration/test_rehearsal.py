"""Tests by means of `assistant_queue.testing`.

A caller's test of a bot is ten lines and takes milliseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from assistant_queue import AssistantMessageQueue, AsyncAssistantMessageQueue
from assistant_queue.testing.provider import Reply, RunFailure, ToolCalls
from assistant_queue.testing.rehearsal import Rehearsal
from tests.docs import bot_under_test as bot

Rehearse = Callable[..., Rehearsal]


@pytest.fixture(autouse=True)
def _nothing_sent_yet() -> None:
    bot.sent.clear()


def test_a_burst_gets_one_answer_and_it_is_sent(rehearse: Rehearse) -> None:
    play = rehearse(bot.queue)
    for text in ("hi", "one question", "about my order"):
        play.say("ann", text)
    play.run_until_idle()
    assert play.replies("ann") == ["You said: hi | one question | about my order"]
    assert bot.sent == [("ann", "You said: hi | one question | about my order")]


def test_a_tool_is_called(rehearse: Rehearse) -> None:
    def model(turn: object) -> object:
        return (
            ToolCalls([("order", {"id": 7})])
            if turn.round == 0
            else Reply(f"It is {turn.tool_outputs[0].output}.")
        )

    assert rehearse(bot.queue, model=model).ask("ann", "where is it?") == "It is shipped."


def test_a_failure_is_tried_again_without_waiting_for_the_back_off(rehearse: Rehearse) -> None:
    play = rehearse(bot.queue)
    answers = iter([RunFailure(), RunFailure(), Reply("at last")])
    play.provider.model = lambda _: next(answers)
    before = play.clock.ms
    assert play.ask("ann", "hello?") == "at last"
    assert (
        play.clock.ms - before >= (8 + 5 + 10) * 1000
    )  # the window and two back-offs have passed, on the clock


def test_what_keeps_failing_can_be_looked_at(rehearse: Rehearse) -> None:
    play = rehearse(bot.queue)
    play.provider.model = lambda _: RunFailure("server_error", "no")
    receipt = play.say("ann", "hello?")
    play.run_until_idle()
    assert play.status(receipt).status == "failed"
    assert [failed.reason for failed in play.queue.list_failed()] == ["attempts"]


async def test_an_asyncio_bot_is_rehearsed_on_its_own_loop(rehearse: Rehearse) -> None:
    heard: list[str | None] = []

    async def hear(result: object) -> None:
        heard.append(result.reply)

    queue = AsyncAssistantMessageQueue(assistant_id="asst_of_the_users", on_reply=hear)
    play = rehearse(queue)
    play.say("ann", "hello")
    await play.arun_until_idle()
    assert heard == ["You said: hello"]
    await queue.close()


async def test_asyncio_code_uses_a_queue_beside_the_blocking_one(rehearse: Rehearse) -> None:
    play = rehearse(AsyncAssistantMessageQueue(model="m"))
    receipt = await play.async_queue.add_message_to_thread("ann", "hello")
    answered = asyncio.create_task(play.async_queue.wait_for_reply(receipt.message_id))
    await play.arun_until_idle()
    assert await answered == "You said: hello"
    assert play.queue.get_queue_status().completed_count == 1


async def test_a_queue_of_a_module_acts_on_the_rehearsal_while_it_is_patched(
    rehearse: Rehearse,
) -> None:
    queue = AsyncAssistantMessageQueue(model="m", redis_url="redis://nowhere.invalid:1/0")

    @queue.tool
    def order(number: int) -> str:
        return "shipped"

    async def handler(text: str) -> str:
        return (await queue.add_message_to_thread("ann", text)).message_id

    play = rehearse(queue, model=lambda turn: Reply(f"{len(turn.tools)} tool: {turn.user_texts}"))
    core = queue.core
    with play.patched(queue) as same:
        assert same is play
        message_id = await handler("hello")
        await play.arun_until_idle()
        status = await queue.get_message(message_id)
    assert status is not None
    assert status.reply == "1 tool: ('hello',)"
    assert queue.core is core
    with pytest.raises(ZeroDivisionError), play.patched(queue):
        raise ZeroDivisionError
    assert queue.core is core


def test_a_blocking_queue_is_patched_by_the_blocking_one(rehearse: Rehearse) -> None:
    play = rehearse(bot.queue)
    with play.patched(bot.queue):
        bot.queue.add_message_to_thread("ann", "hello")
        play.run_until_idle()
    assert play.replies("ann") == ["You said: hello"]


def test_a_bot_on_any_compatible_server_is_rehearsed_with_its_history(rehearse: Rehearse) -> None:
    with AssistantMessageQueue(
        model="llama", protocol="chat_completions", openai_base_url="http://gpu:8000/v1", history=4
    ) as queue:
        play = rehearse(queue)
        assert [play.ask("ann", text) for text in ("one", "two", "three")] == [
            "You said: one",
            "You said: two",
            "You said: three",
        ]
        assert play.replies("ann") == ["You said: two", "You said: three"]
        assert [message["content"] for message in play.provider.requests[-1].body["messages"][1:]] == [
            "one", "You said: one", "two", "You said: two", "three",
        ]  # fmt: skip


def test_two_rehearsals_share_nothing(rehearse: Rehearse) -> None:
    one, two = rehearse(bot.queue), rehearse(bot.queue)
    one.say("ann", "hello")
    assert one.queue.get_queue_status().delayed_count == 1
    assert two.queue.get_queue_status().delayed_count == 0
