"""Stop of a running answer, with a real worker and every backend."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from assistant_queue import AssistantMessageQueue, MessageCancelled, MessageStatus, RunResult
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Reply, Turn, refuse
from assistant_queue.testing.provider.script import Outcome
from tests.conftest import PATIENCE_S, RedisServer
from tests.integration.conftest import wait_until
from tests.integration.steering_bot import (
    PROVIDERS,
    add,
    backend,
    model,
    running,
    shared_options,
    status_of,
)


@pytest.fixture
def shared(one_redis: RedisServer, prefix: str, provider: StandInProvider) -> dict[str, Any]:
    return shared_options(one_redis, prefix, provider)


@pytest.fixture(params=[*PROVIDERS, "function"])
def queue(
    request: pytest.FixtureRequest, shared: dict[str, Any], provider: StandInProvider
) -> Iterator[AssistantMessageQueue]:
    with AssistantMessageQueue(**shared, **backend(request.param, provider)) as made:
        yield made


@pytest.fixture(params=PROVIDERS)
def provided(
    request: pytest.FixtureRequest, shared: dict[str, Any], provider: StandInProvider
) -> Iterator[AssistantMessageQueue]:
    with AssistantMessageQueue(**shared, **backend(request.param, provider)) as made:
        yield made


def stopped(queue: AssistantMessageQueue, message_id: str) -> MessageStatus:
    """Stop the answer to a message; return its status when it is over."""
    assert queue.stop("t")
    wait_until(lambda: status_of(queue, message_id).status == "cancelled", PATIENCE_S)
    assert queue.get_thread_status("t").state == "idle"
    return status_of(queue, message_id)


def kinds(queue: AssistantMessageQueue) -> list[str]:
    return [event.type for event in queue.events("t", after="0-0", timeout=0.01)]


def test_a_running_answer_is_stopped_and_the_thread_continues(
    queue: AssistantMessageQueue,
) -> None:
    queue.start_worker()
    first = running(queue, "wait")
    assert stopped(queue, first).batch_id is not None
    with pytest.raises(MessageCancelled):
        queue.wait_for_reply(first, PATIENCE_S)
    assert not queue.stop("t")
    reply = queue.wait_for_reply(add(queue, "hi"), PATIENCE_S)
    assert reply is not None
    assert reply.endswith("hi")
    record = queue.get_timeline("t")[-1]
    assert (record.outcome, record.message_ids) == ("stopped", (first,))
    metrics = queue.get_metrics()
    assert (metrics.batches["stopped"], metrics.messages["cancelled"]) == (1, 1)


def test_the_conversation_remembers_the_question(provided: AssistantMessageQueue) -> None:
    provided.start_worker()
    stopped(provided, running(provided, "wait"))
    reply = provided.wait_for_reply(add(provided, "hi"), PATIENCE_S)
    assert reply == "You said: wait | hi"


def test_the_conversation_remembers_more_than_one_request_takes(
    provided: AssistantMessageQueue,
) -> None:
    provided.start_worker()
    provided.pause("t")
    texts = [str(number) for number in range(44)]
    for text in texts:
        add(provided, text)
    last = add(provided, "wait")
    provided.resume("t")
    wait_until(lambda: provided.get_thread_status("t").run_id, PATIENCE_S)
    stopped(provided, last)
    reply = provided.wait_for_reply(add(provided, "hi"), PATIENCE_S)
    assert reply is not None
    said = reply.removeprefix("You said: ").replace("\n", " | ")
    assert said.split(" | ") == [*texts, "wait", "hi"]


@pytest.mark.parametrize("protocol", ["responses", "chat_completions"])
def test_the_conversation_forgets_it_where_that_is_wanted(
    shared: dict[str, Any], provider: StandInProvider, protocol: str
) -> None:
    with AssistantMessageQueue(**shared, **backend(protocol, provider), on_stop="forget") as queue:
        queue.start_worker()
        stopped(queue, running(queue, "wait"))
        assert queue.wait_for_reply(add(queue, "hi"), PATIENCE_S) == "You said: hi"


def test_messages_that_wait_are_answered(queue: AssistantMessageQueue) -> None:
    queue.start_worker()
    first = running(queue, "wait")
    second = add(queue, "hi")
    assert queue.stop("t")
    reply = queue.wait_for_reply(second, PATIENCE_S)
    assert reply is not None
    assert reply.endswith("hi")
    assert status_of(queue, first).status == "cancelled"


def test_what_was_said_is_kept_and_is_not_delivered(
    shared: dict[str, Any], provider: StandInProvider
) -> None:
    delivered: list[RunResult] = []
    hooked: list[RunResult] = []
    provider.model = lambda turn: Reply("one two three", chunks=3)
    chosen = backend("responses", provider)
    with AssistantMessageQueue(**shared, **chosen, on_reply=delivered.append) as queue:
        queue.on("stopped", hooked.append)
        queue.start_worker()
        with provider.hold("speaking") as gate:
            message_id = add(queue, "hi")
            gate.wait_reached()
            wait_until(lambda: "text_delta" in kinds(queue), PATIENCE_S)
            status = stopped(queue, message_id)
        wait_until(lambda: hooked, PATIENCE_S)
    assert status.reply is not None
    assert "one two three".startswith(status.reply)
    assert hooked[0].reply == status.reply
    assert hooked[0].status == "stopped"
    assert hooked[0].message_ids == (message_id,)
    assert delivered == []


@pytest.mark.parametrize("protocol", PROVIDERS)
def test_a_tool_that_is_called_is_abandoned_and_the_conversation_stays_usable(
    shared: dict[str, Any], provider: StandInProvider, protocol: str
) -> None:
    called, released = threading.Event(), threading.Event()
    with AssistantMessageQueue(**shared, **backend(protocol, provider)) as queue:

        @queue.tool
        async def weather() -> str:
            called.set()
            await asyncio.to_thread(released.wait)
            return "rain"

        queue.start_worker()
        message_id = add(queue, "look")
        assert called.wait(PATIENCE_S)
        stopped(queue, message_id)
        released.set()
        reply = queue.wait_for_reply(add(queue, "hi"), PATIENCE_S)
        assert reply is not None
        assert reply.endswith("hi")


@pytest.mark.parametrize("protocol", PROVIDERS)
def test_a_later_round_is_stopped(
    shared: dict[str, Any], provider: StandInProvider, protocol: str
) -> None:
    with AssistantMessageQueue(**shared, **backend(protocol, provider)) as queue:

        @queue.tool
        def weather() -> str:
            return "rain"

        asked = threading.Event()

        def noted(turn: Turn) -> Outcome:
            if turn.round:
                asked.set()
            return model(turn)

        provider.model = noted
        queue.start_worker()
        message_id = add(queue, "look on")
        assert asked.wait(PATIENCE_S)
        stopped(queue, message_id)
        reply = queue.wait_for_reply(add(queue, "hi"), PATIENCE_S)
        assert reply is not None
        assert reply.endswith("hi")


def test_a_back_off_is_stopped_at_once(shared: dict[str, Any], provider: StandInProvider) -> None:
    backoff = {"type": "fixed", "delay": 3600.0}
    chosen = backend("responses", provider)
    with AssistantMessageQueue(**shared, **chosen, backoff=backoff) as queue:
        provider.fault("responses.create", refuse(429, "rate_limit_exceeded", "try again"))
        queue.start_worker()
        message_id = add(queue, "hi")
        wait_until(lambda: queue.get_thread_status("t").state in {"retrying", "held"}, PATIENCE_S)
        queue.pause("t")
        stopped(queue, message_id)
