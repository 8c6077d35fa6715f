"""Messages that interrupt or steer a running answer, with a real worker and every backend."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from assistant_queue import AssistantMessageQueue, Batch, Event
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Turn, refuse
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


def events(queue: AssistantMessageQueue, kind: str) -> list[Event]:
    return [one for one in queue.events("t", after="0-0", timeout=0.01) if one.type == kind]


def test_both_messages_are_answered_together(queue: AssistantMessageQueue) -> None:
    queue.start_worker()
    first = running(queue, "wait")
    second = add(queue, "hi", mid_run="interrupt")
    reply = queue.wait_for_reply(second, PATIENCE_S)
    assert reply == queue.wait_for_reply(first, PATIENCE_S) == "You said: wait | hi"
    one, other = status_of(queue, first), status_of(queue, second)
    assert one.batch_id == other.batch_id
    assert one.attempts == 2
    (event,) = events(queue, "run_interrupted")
    assert event.message_ids == (first, second)
    third = add(queue, "and now")
    assert queue.wait_for_reply(third, PATIENCE_S) == "You said: and now"


def test_what_waited_already_joins_too(queue: AssistantMessageQueue) -> None:
    queue.start_worker()
    ids = [running(queue, "wait"), add(queue, "one"), add(queue, "two", mid_run="interrupt")]
    replies = {queue.wait_for_reply(one, PATIENCE_S) for one in ids}
    assert replies == {"You said: wait | one | two"}


def test_a_waiting_message_is_promoted(queue: AssistantMessageQueue) -> None:
    queue.start_worker()
    first = running(queue, "wait")
    second = add(queue, "hi")
    assert queue.promote(second)
    assert queue.wait_for_reply(second, PATIENCE_S) == "You said: wait | hi"
    assert status_of(queue, first).reply == "You said: wait | hi"
    assert not queue.promote(second)
    assert not queue.promote("unknown")
    third = add(queue, "later", message_delay=3600)
    assert not queue.promote(third)


def test_a_message_of_a_running_batch_is_edited(queue: AssistantMessageQueue) -> None:
    queue.start_worker()
    queue.pause("t")
    ids = [add(queue, "one"), add(queue, "wait")]
    queue.resume("t")
    wait_until(lambda: queue.get_thread_status("t").run_id, PATIENCE_S)
    assert not queue.edit_message(ids[1], "two")
    assert queue.edit_message(ids[1], "two", running=True)
    reply = queue.wait_for_reply(ids[1], PATIENCE_S)
    assert reply is not None
    assert reply.endswith("two")
    assert status_of(queue, ids[0]).reply == reply
    (event,) = events(queue, "message_edited")
    assert (event.message_id, event.content) == (ids[1], "two")


def test_a_message_of_a_running_batch_is_removed(queue: AssistantMessageQueue) -> None:
    queue.start_worker()
    queue.pause("t")
    ids = [add(queue, "one"), add(queue, "wait")]
    queue.resume("t")
    wait_until(lambda: queue.get_thread_status("t").run_id, PATIENCE_S)
    assert not queue.cancel(ids[1])
    assert queue.cancel(ids[1], running=True)
    wait_until(lambda: status_of(queue, ids[1]).status == "cancelled", PATIENCE_S)
    if queue.config.assistant_id is None:
        assert queue.wait_for_reply(ids[0], PATIENCE_S) == "You said: one"
    else:  # its text is in the conversation, whatever is done
        assert queue.stop("t")


def test_a_batch_is_stopped_if_its_only_message_is_removed(queue: AssistantMessageQueue) -> None:
    queue.start_worker()
    first = running(queue, "wait")
    assert queue.cancel(first, running=True)
    wait_until(lambda: status_of(queue, first).status == "cancelled", PATIENCE_S)
    assert queue.get_thread_status("t").state == "idle"
    assert not queue.cancel(first, running=True)
    assert not queue.edit_message(first, "too late", running=True)


def test_a_batch_that_fails_after_an_interruption_repeats_no_text_when_it_is_retried(
    shared: dict[str, Any], provider: StandInProvider
) -> None:
    chosen = backend("assistants", provider)
    with AssistantMessageQueue(**shared, **chosen, max_attempts=1) as queue:
        queue.start_worker()
        first = running(queue, "wait")
        provider.fault("runs.create", refuse(401, "invalid_api_key", "no"))
        second = add(queue, "hi", mid_run="interrupt")
        wait_until(lambda: status_of(queue, second).status == "failed", PATIENCE_S)
        queue.retry_failed(queue.list_failed()[0].batch_id)
        assert queue.wait_for_reply(second, PATIENCE_S) == "You said: wait | hi"
        assert status_of(queue, first).reply == "You said: wait | hi"


def test_an_interruption_of_a_run_that_is_not_cancelled_is_refused_and_published(
    shared: dict[str, Any], provider: StandInProvider
) -> None:
    provider.fault("responses.cancel", refuse(400, "invalid_request_error", "no"))
    with AssistantMessageQueue(**shared, **backend("responses", provider)) as queue:
        queue.start_worker()
        ids = [running(queue, "wait"), add(queue, "hi", mid_run="interrupt")]
        wait_until(lambda: events(queue, "interrupt_refused"), PATIENCE_S)
        (event,) = events(queue, "interrupt_refused")
        assert event.reason == "cannot_cancel"
        assert status_of(queue, ids[1]).status == "queued"
        ids.append(add(queue, "now", mid_run="interrupt"))
        replies = {queue.wait_for_reply(one, PATIENCE_S) for one in ids}
        assert replies == {"You said: wait | hi | now"}


def test_after_so_many_interruptions_messages_wait(
    shared: dict[str, Any], provider: StandInProvider
) -> None:
    chosen = backend("responses", provider)
    with AssistantMessageQueue(**shared, **chosen, max_interrupts=1) as queue:
        queue.start_worker()
        ids = [running(queue, "wait")]
        ids.append(add(queue, "wait", mid_run="interrupt"))
        wait_until(lambda: queue.get_thread_status("t").attempts == 2, PATIENCE_S)
        ids.append(add(queue, "hi", mid_run="interrupt"))
        wait_until(lambda: events(queue, "interrupt_refused"), PATIENCE_S)
        assert events(queue, "interrupt_refused")[0].reason == "max_interrupts"
        assert status_of(queue, ids[2]).status == "queued"
        assert queue.stop("t")
        assert queue.wait_for_reply(ids[2], PATIENCE_S)


def test_a_thousand_interrupts_in_a_row_starve_no_thread(
    one_redis: RedisServer, prefix: str
) -> None:
    begun = threading.Semaphore(0)
    batches: list[tuple[str, int]] = []

    async def answer(batch: Batch) -> str:
        begun.release()
        if batch.thread_id == "t" and len(batch.messages) <= 3:
            await asyncio.Event().wait()  # until it is interrupted; the fourth message may not
        batches.append((batch.thread_id, len(batch.messages)))
        return "done"

    options: dict[str, Any] = {"redis_url": one_redis.url, "queue_prefix": prefix}
    with AssistantMessageQueue(**options, message_delay=0, backend=answer, concurrency=1) as queue:
        queue.start_worker()
        last = ""
        for number in range(1, 1001):
            last = add(queue, str(number), mid_run="interrupt")
            assert begun.acquire(timeout=PATIENCE_S)
            if number == 498:
                queue.add_message_to_thread("other", "me, too")
            if number == 500:  # its turn comes with the end of the batch that was at work
                assert begun.acquire(timeout=PATIENCE_S)
        assert queue.wait_for_reply(last, PATIENCE_S) == "done"
    assert batches == [("t", 4)] * 125 + [("other", 1)] + [("t", 4)] * 125


@pytest.mark.parametrize("protocol", PROVIDERS)
def test_a_tool_is_interrupted(
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
        first = add(queue, "look")
        assert called.wait(PATIENCE_S)
        second = add(queue, "hi", mid_run="interrupt")
        reply = queue.wait_for_reply(second, PATIENCE_S)
        released.set()
        assert reply is not None
        assert reply.endswith("hi")
        assert status_of(queue, first).reply == reply
        assert status_of(queue, first).batch_id == status_of(queue, second).batch_id


@pytest.mark.parametrize("protocol", PROVIDERS)
def test_a_tool_that_may_not_be_interrupted_ends_first_and_is_not_called_again(
    shared: dict[str, Any], provider: StandInProvider, protocol: str
) -> None:
    called, released = threading.Event(), threading.Event()
    calls: list[int] = []
    with AssistantMessageQueue(**shared, **backend(protocol, provider)) as queue:

        @queue.tool(interruptible=False)
        async def weather() -> str:
            calls.append(1)
            called.set()
            await asyncio.to_thread(released.wait)
            return "rain"

        queue.start_worker()
        add(queue, "look")
        assert called.wait(PATIENCE_S)
        second = add(queue, "hi", mid_run="interrupt")
        wait_until(lambda: status_of(queue, second).status == "queued", PATIENCE_S)
        released.set()
        reply = queue.wait_for_reply(second, PATIENCE_S)
        assert reply is not None
        assert reply.endswith("hi")
        assert calls == [1]


@pytest.mark.parametrize("protocol", PROVIDERS)
def test_a_later_round_is_interrupted(
    shared: dict[str, Any], provider: StandInProvider, protocol: str
) -> None:
    asked = threading.Event()

    def noted(turn: Turn) -> Outcome:
        if turn.round and turn.user_texts[-1] == "look on":
            asked.set()
        return model(turn)

    provider.model = noted
    with AssistantMessageQueue(**shared, **backend(protocol, provider)) as queue:

        @queue.tool
        def weather() -> str:
            return "rain"

        queue.start_worker()
        first = add(queue, "look on")
        assert asked.wait(PATIENCE_S)
        second = add(queue, "hi", mid_run="interrupt")
        reply = queue.wait_for_reply(second, PATIENCE_S)
        assert reply is not None
        assert reply.endswith("hi")
        assert status_of(queue, first).reply == reply


@pytest.mark.parametrize("protocol", ["responses", "chat_completions"])
def test_a_message_goes_with_the_outputs_of_a_round(
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
        first = add(queue, "look")
        assert called.wait(PATIENCE_S)
        second = add(queue, "hi", mid_run="steer")
        released.set()
        reply = queue.wait_for_reply(second, PATIENCE_S)
        assert reply is not None
        assert reply.endswith("hi")
        assert status_of(queue, first).batch_id == status_of(queue, second).batch_id
        (event,) = events(queue, "message_steered")
        assert event.message_ids == (second,)
        third = add(queue, "and now")
        assert queue.wait_for_reply(third, PATIENCE_S) == "You said: and now"


def test_without_a_round_a_message_that_steers_waits(queue: AssistantMessageQueue) -> None:
    queue.start_worker()
    first = running(queue, "wait")
    second = add(queue, "hi", mid_run="steer")
    assert status_of(queue, second).status == "queued"
    assert queue.stop("t")
    reply = queue.wait_for_reply(second, PATIENCE_S)
    assert reply is not None
    assert reply.endswith("hi")
    assert status_of(queue, first).status == "cancelled"


def test_an_interruption_that_waited_for_a_back_off_and_is_refused_is_published(
    shared: dict[str, Any], provider: StandInProvider
) -> None:
    provider.fault("responses.create", refuse(429, "rate_limit_exceeded", "try again"))
    backoff = {"type": "fixed", "delay": 2.0}
    chosen = backend("responses", provider)
    with AssistantMessageQueue(**shared, **chosen, backoff=backoff, separate_authors=True) as queue:
        queue.start_worker()
        first = add(queue, "hi")
        wait_until(lambda: queue.get_thread_status("t").state in {"retrying", "held"}, PATIENCE_S)
        second = add(queue, "and now", mid_run="interrupt")
        wait_until(lambda: events(queue, "interrupt_refused"), PATIENCE_S)
        (event,) = events(queue, "interrupt_refused")
        assert event.reason == "separate_authors"
        for one in (first, second):
            assert queue.wait_for_reply(one, PATIENCE_S)
        assert status_of(queue, first).batch_id != status_of(queue, second).batch_id
