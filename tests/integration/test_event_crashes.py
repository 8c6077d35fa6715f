"""Die before and after every step and every piece of text, recover, and check the listeners.

The check is of the events that each listener received.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from assistant_queue import AssistantMessageQueue
from assistant_queue.backends.openai import streams
from assistant_queue.events import Event
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.harness import Crash
from assistant_queue.testing.provider import Reply, ToolCalls
from assistant_queue.worker import delta_publisher
from tests.conftest import RedisServer
from tests.integration.lossy_redis import LossyRedis
from tests.integration.test_crash_points import Bot, CrashAt
from tests.integration.test_lost_replies import lose_everywhere
from tests.integration.transcript import Transcript

FIRST = "Let me look - where was it ..."
SECOND = "Your parcel is on its way. 🚚 It comes tomorrow."


@pytest.fixture(params=["responses", "assistants"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as standing:
        yield standing
        assert standing.model_errors == ()


@pytest.fixture
def each_piece_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every delta is published separately, so that every place between two is one to die at."""
    monkeypatch.setattr(delta_publisher, "PACE_S", 0.0)
    monkeypatch.setattr(streams, "joined", lambda events: events)


def plain(_turn: Any) -> Any:
    return Reply(FIRST, SECOND, chunks=3)


def with_tools(turn: Any) -> Any:
    return (
        ToolCalls([("order", {"id": turn.round})], text=f"{turn.round} {FIRST}")
        if turn.round < 2
        else Reply(SECOND, chunks=3)
    )


def published(queue: AssistantMessageQueue, thread: str = "t") -> list[Event]:
    return list(queue.events(thread, after="0", timeout=0.1))


def check_feed(queue: AssistantMessageQueue, events: list[Event], where: object) -> None:
    """The feed has the same events of the thread, in the same order, but no pieces of text."""
    whole = [event.type for event in events if event.type != "text_delta"]
    assert [event.type for event in queue.feed(after="0", timeout=0)] == whole, where


def die_everywhere(
    url: str,
    prefix: str,
    provider: StandInProvider,
    protocol: str,
    *,
    expected: tuple[str, ...],
    least: int,
) -> None:
    names = []
    number = 0
    while True:
        number += 1
        bot = Bot(url, f"{prefix}-{number}", provider, protocol, events="always")
        with bot.queue:
            bot.queue.feed()
            bot.queue.add_message_to_thread("t", f"{number} hello")
            crash = CrashAt(number)
            try:
                bot.work(crash)
            except Crash:
                bot.work()
            where = f"died at point {number}, {crash.name}"
            transcript = Transcript()
            events = published(bot.queue)
            for event in events:
                transcript.apply(event)
            check_feed(bot.queue, events, where)
            assert list(transcript.replies.values()) == [expected], where
            (streamed,) = transcript.streamed.values()
            # What a run said of which nothing had been published may come with the reply alone, but
            # nothing comes in part or twice.
            assert [text for text in expected if text in streamed] == streamed, where
            assert streamed == list(expected) or crash.name not in ("", "after Publish"), where
            assert transcript.restarts == 0, where
            if not crash.name:
                break
            names.append(crash.name)
    assert names.count("after Publish") >= least


def test_a_reply_is_published_once_and_whole_whatever_piece_a_worker_dies_at(
    one_redis: RedisServer,
    prefix: str,
    provider: StandInProvider,
    protocol: str,
    each_piece_at_once: None,
) -> None:
    provider.model = plain
    die_everywhere(one_redis.url, prefix, provider, protocol, expected=(FIRST, SECOND), least=6)


def test_the_texts_of_all_tool_rounds_are_published_once_and_whole(
    one_redis: RedisServer,
    prefix: str,
    provider: StandInProvider,
    protocol: str,
    each_piece_at_once: None,
) -> None:
    provider.model = with_tools
    die_everywhere(
        one_redis.url,
        prefix,
        provider,
        protocol,
        expected=(f"0 {FIRST}", f"1 {FIRST}", SECOND),
        least=5,
    )


@pytest.mark.usefixtures("each_piece_at_once")
def test_no_event_is_published_twice_whichever_answer_of_redis_is_lost(
    one_redis: RedisServer,
    lossy: LossyRedis,
    prefix: str,
    provider: StandInProvider,
    protocol: str,
) -> None:
    """The client library repeats a command after a lost answer; its script has emitted already."""
    provider.model = with_tools
    seen: list[list[str]] = []

    def prefixed(number: int) -> str:
        return f"{prefix}-{number}"

    def scenario(number: int) -> None:
        bot = Bot(
            lossy.url,
            prefixed(number),
            provider,
            protocol,
            events="always",
            on_reply=lambda _: None,
        )
        with AssistantMessageQueue(
            redis_url=one_redis.url, queue_prefix=prefixed(number)
        ) as reader:
            reader.feed()
        with bot.queue:
            receipt = bot.queue.add_message_to_thread("t", "hello")
            second = bot.queue.add_message_to_thread("t", "not this")
            bot.queue.edit_message(receipt.message_id, "hello there")
            bot.queue.cancel(second.message_id)
            bot.work()
        with AssistantMessageQueue(
            redis_url=one_redis.url, queue_prefix=prefixed(number)
        ) as reader:
            events = published(reader)
            check_feed(reader, events, number)
            seen.append([event.type for event in events])

    lose_everywhere(lossy, scenario)
    assert seen[-1].count("text_delta") >= 5, "the last run lost nothing"
    assert [where for where, found in enumerate(seen, 1) if found != seen[-1]] == []
