"""Die before and after every step and every piece of text, recover, and look at what those who listened got."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from assistant_queue import AssistantMessageQueue
from assistant_queue.event_models import Event
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.harness import Crash
from assistant_queue.testing.provider import Reply, ToolCalls
from assistant_queue.worker import telling
from tests.conftest import RedisServer
from tests.integration.lossy_redis import LossyRedis
from tests.integration.test_crash_points import Bot, CrashAt
from tests.integration.test_lost_replies import lose_everywhere
from tests.integration.transcript import Transcript

FIRST, SECOND = "Let me look - where was it ...", "Your parcel is on its way. 🚚 It comes tomorrow."


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
    """Every delta is told on its own, so that every place between two is one to die at."""
    monkeypatch.setattr(telling, "PACE_S", 0.0)


def plain(_turn: Any) -> Any:
    return Reply(FIRST, SECOND, chunks=3)


def with_tools(turn: Any) -> Any:
    return ToolCalls([("order", {"id": turn.round})], text=f"{turn.round} {FIRST}") if turn.round < 2 else Reply(SECOND, chunks=3)


def told(queue: AssistantMessageQueue, thread: str = "t") -> list[Event]:
    return list(queue.events(thread, after="0", timeout=0.1))


def die_everywhere(url: str, prefix: str, provider: StandInProvider, protocol: str, *, expected: tuple[str, ...], least: int) -> None:
    names = []
    number = 0
    while True:
        number += 1
        bot = Bot(url, f"{prefix}-{number}", provider, protocol, events="always")
        with bot.queue:
            bot.queue.add_message_to_thread("t", f"{number} hello")
            crash = CrashAt(number)
            try:
                bot.work(crash)
            except Crash:
                bot.work()
            where = f"died at point {number}, {crash.name}"
            transcript = Transcript()
            for event in told(bot.queue):
                transcript.apply(event)
            assert list(transcript.replies.values()) == [expected], where
            (streamed,) = transcript.streamed.values()
            # What a run said of which nothing had been told may come with the reply alone, but nothing comes in part or twice.
            assert [text for text in expected if text in streamed] == streamed, where
            assert streamed == list(expected) or crash.name not in ("", "after Tell"), where
            assert transcript.restarts == 0, where
            if not crash.name:
                break
            names.append(crash.name)
    assert names.count("before Tell") == names.count("after Tell") >= least


def test_a_reply_is_told_once_and_whole_whatever_piece_a_worker_dies_at(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, protocol: str, each_piece_at_once: None
) -> None:
    provider.model = plain
    die_everywhere(one_redis.url, prefix, provider, protocol, expected=(FIRST, SECOND), least=6)


def test_the_texts_of_all_tool_rounds_are_told_once_and_whole(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, protocol: str, each_piece_at_once: None
) -> None:
    provider.model = with_tools
    die_everywhere(one_redis.url, prefix, provider, protocol, expected=(f"0 {FIRST}", f"1 {FIRST}", SECOND), least=5)


def test_no_event_is_told_twice_whichever_answer_of_redis_is_lost(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, protocol: str, each_piece_at_once: None
) -> None:
    """The client library repeats a command whose answer was lost, and its script has told already."""
    provider.model = with_tools
    lossy = LossyRedis(one_redis.port)
    seen: list[list[str]] = []

    def scenario(number: int) -> None:
        bot = Bot(lossy.url, f"{prefix}-{number}", provider, protocol, events="always", on_reply=lambda _: None)
        with bot.queue:
            receipt = bot.queue.add_message_to_thread("t", "hello")
            second = bot.queue.add_message_to_thread("t", "not this")
            bot.queue.edit_message(receipt.message_id, "hello there")
            bot.queue.cancel(second.message_id)
            bot.work()
        with AssistantMessageQueue(redis_url=one_redis.url, queue_prefix=f"{prefix}-{number}") as listener:
            seen.append([event.type for event in told(listener)])

    try:
        lose_everywhere(lossy, scenario)
    finally:
        lossy.close()
    assert seen[-1].count("text_delta") >= 5, "the last run lost nothing"
    assert [where for where, found in enumerate(seen, 1) if found != seen[-1]] == []
