"""Tool calls that are answered from outside, with a real worker and every protocol."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from assistant_queue import (
    AnswerLater,
    Approval,
    ApprovalNotFound,
    AssistantMessageQueue,
    ConfigurationError,
    InvalidArgument,
    ToolContext,
)
from assistant_queue.core.flow import leaving
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Reply, ToolCalls, Turn
from assistant_queue.testing.provider.script import Outcome
from tests.conftest import PATIENCE_S, RedisServer
from tests.integration.conftest import wait_until
from tests.integration.steering_bot import PROVIDERS, add, backend, status_of


def model(turn: Turn) -> Outcome:
    """Call two tools for `refund`, once; then say what they returned."""
    text = turn.user_texts[-1].rpartition("\n")[2].rpartition(": ")[2]
    if turn.instructions and "do not call them again" in turn.instructions.lower():
        return Reply(turn.instructions.rpartition(":\n")[2])
    if text.startswith("refund") and not turn.round:
        calls: list[Any] = [("refund", {"amount": 3, "customer": "ann"}), ("stock", {})]
        return ToolCalls(calls[: 2 if text == "refund" else 1])
    if turn.round:
        return Reply("\n".join(one.output for one in turn.tool_outputs))
    return Reply("You said: " + " | ".join(turn.user_texts))


class Bot:
    """A queue with tools that note their calls."""

    def __init__(self, queue: AssistantMessageQueue) -> None:
        self.queue = queue
        self.refunds: list[tuple[Any, ...]] = []
        self.looks = 0
        self.asked: list[Approval] = []
        queue.on("approval_requested", self.asked.append)

        @queue.tool(approval="Refund {amount} to {customer}?")
        def refund(amount: int, customer: str, context: ToolContext) -> str:
            self.refunds.append(
                (amount, customer, context.call_id, context.author, context.approved_by)
            )
            return f"refunded {amount} to {customer}"

        @queue.tool
        def stock() -> str:
            self.looks += 1
            return "7 left"

    def parked(self, text: str = "refund", **fields: Any) -> tuple[str, Approval]:
        """Add a message and wait until its batch is parked."""
        message_id = add(self.queue, text, **fields)
        wait_until(self.queue.list_approvals, "it is asked")
        wait_until(lambda: self.queue.get_thread_status("t").state == "parked", "parked")
        (found,) = self.queue.list_approvals(thread_id="t")
        return message_id, found


@pytest.fixture(params=PROVIDERS)
def bot(
    request: pytest.FixtureRequest, one_redis: RedisServer, prefix: str, provider: StandInProvider
) -> Iterator[Bot]:
    provider.model = model
    options: dict[str, Any] = {
        "redis_url": one_redis.url,
        "queue_prefix": prefix,
        "openai_api_key": provider.api_key,
        "openai_base_url": provider.base_url,
        "message_delay": 0,
        "events": "always",
    }
    with AssistantMessageQueue(**options, **backend(request.param, provider)) as queue:
        made = Bot(queue)
        queue.start_worker()
        yield made


def test_an_approved_call_is_made_once_and_the_answer_continues(
    bot: Bot, provider: StandInProvider
) -> None:
    message_id, found = bot.parked(author="ann", tenant="acme")
    assert (found.tool, found.question) == ("refund", "Refund 3 to ann?")
    assert (found.arguments, found.authors) == ({"amount": 3, "customer": "ann"}, ("ann",))
    assert status_of(bot.queue, message_id).approval == found.call_id
    assert bot.queue.get_queue_status().parked_count == 1
    assert (bot.refunds, bot.looks) == ([], 1)
    behind = add(bot.queue, "hello")
    assert bot.queue.approve(found.call_id, by="eve")
    assert not bot.queue.approve(found.call_id)
    assert not bot.queue.deny(found.call_id)
    reply = bot.queue.wait_for_reply(message_id, PATIENCE_S)
    assert reply == "refunded 3 to ann\n7 left"
    assert bot.refunds == [(3, "ann", found.call_id, "ann", "eve")]
    assert bot.looks == 1
    (record,) = [one for one in bot.queue.get_timeline("t") if message_id in one.message_ids]
    rows = {one.name: one for one in record.tool_calls}
    assert (rows["refund"].verdict, rows["refund"].settled_by) == ("approved", "eve")
    assert rows["refund"].settled_at is not None
    assert rows["stock"].verdict is None
    assert bot.queue.get_metrics().approvals["approved"] == 1
    assert bot.queue.wait_for_reply(behind, PATIENCE_S) == "You said: hello"
    assert bot.queue.list_approvals() == []
    assert not bot.queue.approve(found.call_id)
    with pytest.raises(ApprovalNotFound):
        bot.queue.approve("nothing")
    wait_until(lambda: bot.asked, "the hook is called")
    assert [one.call_id for one in bot.asked] == [found.call_id]
    kinds = [one.type for one in bot.queue.events("t", after="0-0", timeout=0.01)]
    assert kinds.count("approval_requested") == kinds.count("approval_settled") == 1
    assert provider.overlaps == ()


def test_arguments_are_changed_and_checked_and_a_denial_is_read_by_the_model(bot: Bot) -> None:
    message_id, found = bot.parked("refund only")
    with pytest.raises(InvalidArgument, match="refund: the arguments are wrong"):
        bot.queue.approve(found.call_id, arguments={"amount": "much"})
    assert bot.queue.approve(found.call_id, arguments={"amount": 1, "customer": "bob"})
    assert bot.queue.wait_for_reply(message_id, PATIENCE_S) == "refunded 1 to bob"
    message_id, found = bot.parked("refund only")
    assert bot.queue.deny(found.call_id, reason="too much")
    reply = bot.queue.wait_for_reply(message_id, PATIENCE_S)
    assert "denied: too much" in str(reply)
    message_id, found = bot.parked("refund only")
    assert bot.queue.answer_tool(found.call_id, {"by hand": True})
    assert json.loads(str(bot.queue.wait_for_reply(message_id, PATIENCE_S))) == {"by hand": True}
    assert len(bot.refunds) == 1


def test_a_call_expires_and_stop_and_interrupt_end_the_wait(bot: Bot) -> None:
    first, found = bot.parked("refund only")
    second = add(bot.queue, "never mind", mid_run="interrupt")
    reply = bot.queue.wait_for_reply(second, PATIENCE_S)
    assert reply == bot.queue.wait_for_reply(first, PATIENCE_S)
    assert not bot.queue.approve(found.call_id)
    message_id, found = bot.parked("refund only")
    assert bot.queue.stop("t")
    wait_until(lambda: status_of(bot.queue, message_id).status == "cancelled", "stopped")
    assert not bot.queue.approve(found.call_id)
    assert bot.refunds == []
    assert bot.queue.list_approvals() == []


def test_a_run_that_would_expire_is_ended_and_its_outputs_go_to_another(
    bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Assistants; the other protocols wait as they are."""
    monkeypatch.setattr(leaving, "MARGIN_S", 100_000.0)
    message_id, found = bot.parked()
    assert bot.queue.approve(found.call_id)
    reply = str(bot.queue.wait_for_reply(message_id, PATIENCE_S))
    assert "refunded 3 to ann" in reply
    assert "7 left" in reply
    assert (len(bot.refunds), bot.looks) == (1, 1)
    after = add(bot.queue, "hello")
    assert str(bot.queue.wait_for_reply(after, PATIENCE_S)).endswith("hello")


def test_a_tool_answers_later_and_a_call_without_an_answer_expires(
    one_redis: RedisServer, prefix: str, provider: StandInProvider
) -> None:
    provider.model = model
    with AssistantMessageQueue(
        redis_url=one_redis.url,
        queue_prefix=prefix,
        openai_api_key=provider.api_key,
        openai_base_url=provider.base_url,
        message_delay=0,
        approval_timeout=0.3,
        model="stand-in-model",
    ) as queue:
        calls = []

        @queue.tool
        def refund(amount: int, customer: str, context: ToolContext) -> AnswerLater:
            calls.append(context.call_id)
            return AnswerLater()

        queue.start_worker()
        message_id = add(queue, "refund only")
        began = time.monotonic()
        reply = queue.wait_for_reply(message_id, PATIENCE_S)
        assert "no answer came in time" in str(reply)
        assert time.monotonic() - began < PATIENCE_S
        assert len(calls) == 1
        with pytest.raises(ApprovalNotFound, match="no open tool call"):
            queue.answer_tool("nothing", "1")


def test_a_bad_approval_is_an_error_at_the_decorator(one_redis: RedisServer, prefix: str) -> None:
    with AssistantMessageQueue(
        redis_url=one_redis.url, queue_prefix=prefix, model="m", openai_api_key="k"
    ) as queue:
        for approval, words in (
            ("Refund {sum}?", "names 'sum', which is not one of its parameters"),
            ("Refund {amount?", "is not a template"),
            (" ", "is blank"),
            (3, "must be True, a question"),
        ):
            with pytest.raises(ConfigurationError, match=words):

                @queue.tool(approval=approval)  # type: ignore[arg-type]
                def refund(amount: int) -> str:
                    return str(amount)
