"""The feed of all threads, through both classes, on a real Redis, while workers answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis

from assistant_queue import (
    AssistantMessageQueue,
    AsyncAssistantMessageQueue,
    Batch,
    ConfigurationError,
    InvalidArgument,
)
from assistant_queue.client import event_hub, subscription
from assistant_queue.events import Event, EventsMissed, ReplyReady
from tests.conftest import PATIENCE_S, RedisServer
from tests.integration.test_events import until

THREADS = [f"thread {number}" for number in range(5)]
LIFE = ["message_queued", "batch_claimed", "run_started", "reply_ready"]


async def answer(batch: Batch) -> str:
    return f"re {batch.text}"


@pytest.fixture
def options(one_redis: RedisServer, prefix: str) -> dict[str, Any]:
    return {
        "redis_url": one_redis.url,
        "queue_prefix": prefix,
        "message_delay": 0.0,
        "backend": answer,
    }


@pytest.fixture
def queue(options: dict[str, Any]) -> Iterator[AssistantMessageQueue]:
    with AssistantMessageQueue(**options) as made:
        yield made


@pytest.fixture
async def aqueue(options: dict[str, Any]) -> AsyncIterator[AsyncAssistantMessageQueue]:
    async with AsyncAssistantMessageQueue(**options) as made:
        yield made


def by_thread(events: list[Event]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for event in events:
        found.setdefault(event.thread_id, []).append(event.type)
    return found


def test_a_reader_sees_the_lives_of_all_threads_and_continues_after_any_event(
    queue: AssistantMessageQueue,
) -> None:
    feed = queue.feed(timeout=PATIENCE_S)
    queue.start_worker()
    for name in THREADS:
        queue.add_message_to_thread(name, f"hello {name}")
    events: list[Event] = []
    while sum(isinstance(event, ReplyReady) for event in events) < len(THREADS):
        events.append(next(feed))
    assert by_thread(events) == dict.fromkeys(THREADS, LIFE)
    replies = {event.thread_id: event.reply for event in events if isinstance(event, ReplyReady)}
    assert replies == {name: f"re hello {name}" for name in THREADS}
    assert list(queue.feed(after=events[6].id, timeout=0)) == events[7:]
    assert list(queue.feed(after="0", timeout=0)) == events


async def test_asyncio_readers_and_subscribers_share_a_connection(
    aqueue: AsyncAssistantMessageQueue,
) -> None:
    async def replies(events: AsyncIterator[Event], count: int) -> list[Event]:
        found = []
        async for event in events:
            found.append(event)
            if sum(isinstance(one, ReplyReady) for one in found) == count:
                break
        return found

    readers = [asyncio.create_task(replies(aqueue.feed(), 5)) for _ in range(3)]
    subscriber = asyncio.create_task(replies(aqueue.events("thread 3"), 1))
    await until(
        lambda: bool(
            aqueue._hub
            and sum(len(one.subscriptions) for one in aqueue._hub._threads.values()) == 4
        )
    )
    await aqueue.start_worker()
    for name in THREADS:
        await aqueue.add_message_to_thread(name, "hello")
    first, *others = await asyncio.gather(*readers)
    assert by_thread(first) == dict.fromkeys(THREADS, LIFE)
    assert all(other == first for other in others)
    own = [event.type for event in await subscriber if event.type != "text_delta"]
    assert own == LIFE
    await until(lambda: bool(aqueue._hub and not aqueue._hub._threads))


async def test_a_slow_reader_misses_nothing(
    aqueue: AsyncAssistantMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "BUFFER", 10)
    slow = aqueue.feed()
    first = asyncio.create_task(anext(slow))
    await until(lambda: bool(aqueue._hub and aqueue._hub._threads))
    rows = [{"thread_id": f"t{number % 9}", "message": f"{number}"} for number in range(300)]
    await aqueue.add_messages(rows)
    found = [(await first).content]
    async for event in slow:
        found.append(event.content)
        if len(found) == len(rows):
            break
    assert sorted(found, key=int) == [row["message"] for row in rows]


def test_a_reader_that_was_away_for_too_long_gets_a_sign_of_it_and_continues(
    one_redis: RedisServer, queue: AssistantMessageQueue
) -> None:
    feed = queue.feed()
    queue.add_message_to_thread("t", "hello")
    first = next(feed)
    with redis.Redis.from_url(one_redis.url) as client:
        client.delete(queue._commands.namespace.keys.feed)
    queue.feed()
    queue.add_message_to_thread("t", "again")
    missed, event = queue.feed(after=first.id, timeout=0)
    assert missed == EventsMissed(id=first.id, thread_id="", at=missed.at, after=first.id)
    assert (event.thread_id, event.type) == ("t", "message_queued")


def test_a_live_reader_of_a_feed_that_is_lost_gets_a_sign_of_it(
    one_redis: RedisServer, queue: AssistantMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_hub, "BLOCK_S", 0.2)
    feed = queue.feed(timeout=PATIENCE_S)
    queue.add_message_to_thread("t", "hello")
    assert next(feed).type == "message_queued"
    with redis.Redis.from_url(one_redis.url) as client:
        client.delete(queue._commands.namespace.keys.feed)
    assert isinstance(next(feed), EventsMissed)
    queue.add_message_to_thread("t", "again")
    assert next(feed).content == "again"


def test_a_forgotten_thread_leaves_the_feed_and_its_readers_continue(
    queue: AssistantMessageQueue,
) -> None:
    feed = queue.feed(timeout=PATIENCE_S)
    for name in ("t", "other"):
        queue.add_message_to_thread(name, f"a secret of {name}")
    assert [next(feed).thread_id for _ in range(2)] == ["t", "other"]
    queue.forget_thread("t")
    queue.add_message_to_thread("other", "again")
    assert next(feed).content == "again"
    assert {event.thread_id for event in queue.feed(after="0", timeout=0)} == {"other"}


def test_wrong_arguments_of_the_feed_are_refused(
    queue: AssistantMessageQueue, options: dict[str, Any]
) -> None:
    for after in ("", "x", "-1", 7):
        with pytest.raises(InvalidArgument, match="after"):
            queue.feed(after=after)
    with pytest.raises(InvalidArgument, match="timeout"):
        queue.feed(timeout=-1)
    with (
        AssistantMessageQueue(**{**options, "events": "off"}) as off,
        pytest.raises(ConfigurationError, match="off"),
    ):
        off.feed()
