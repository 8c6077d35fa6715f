"""Listening, from other tasks, threads and processes: through both classes, on a real Redis, while workers answer."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import redis

from assistant_queue import (
    AssistantMessageQueue,
    AsyncAssistantMessageQueue,
    Batch,
    ConfigurationError,
    FunctionBackend,
    InvalidArgument,
    StoreUnavailable,
)
from assistant_queue.client import event_hub, subscription
from assistant_queue.core.steps import Completed
from assistant_queue.events import Event, EventsMissed, MessageQueued, ReplyReady, TextDelta
from assistant_queue.store.calls import Call, Operation, blocking, plain
from assistant_queue.store.transport.stores import AsyncStore
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Reply, ToolCalls
from assistant_queue.worker import delta_publisher
from assistant_queue.worker.runtime import Runtime
from tests.conftest import PATIENCE_S, SERVERS, RedisServer, installed_redis, until
from tests.integration.conftest import wait_until
from tests.integration.transcript import Transcript

TEXT = "".join(f"piece {number}, " for number in range(40))


def in_pieces(batch: Batch) -> Iterator[str]:
    """A model that says its text in forty pieces, with a breath here and there."""
    yield f"{batch.text}: "
    for number in range(40):
        if number % 10 == 0:
            time.sleep(0.06)
        yield f"piece {number}, "


@pytest.fixture
def options(one_redis: RedisServer, prefix: str) -> dict[str, Any]:
    return {
        "redis_url": one_redis.url,
        "queue_prefix": prefix,
        "message_delay": 0.0,
        "backend": FunctionBackend(in_pieces),
    }


@pytest.fixture
def queue(options: dict[str, Any]) -> Iterator[AssistantMessageQueue]:
    with AssistantMessageQueue(**options) as made:
        yield made


@pytest.fixture
async def aqueue(options: dict[str, Any]) -> AsyncIterator[AsyncAssistantMessageQueue]:
    async with AsyncAssistantMessageQueue(**options) as made:
        yield made


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader looks after itself soon."""
    monkeypatch.setattr(event_hub, "BLOCK_S", 0.2)


def until_reply(events: Iterator[Event], replies: int = 1) -> list[Event]:
    found = []
    for event in events:
        found.append(event)
        replies -= isinstance(event, ReplyReady)
        if replies == 0:
            return found
    pytest.fail(f"no reply: {[event.type for event in found]}")


def types(events: list[Event]) -> list[str]:
    """Without repetitions of neighbours: how a text was cut into pieces is a matter of time."""
    return [
        event.type
        for place, event in enumerate(events)
        if place == 0 or event.type != events[place - 1].type
    ]


def applied(events: list[Event]) -> Transcript:
    transcript = Transcript()
    for event in events:
        transcript.apply(event)
    return transcript


# --- both classes ---------------------------------------------------------------------------------


def test_a_blocking_listener_sees_the_burst_the_run_its_text_and_the_reply(
    queue: AssistantMessageQueue,
) -> None:
    listening = queue.events("t")  # from this call on, though no caller iterates yet
    queue.add_message_to_thread("t", "hello", author="Ann")
    queue.start_worker()
    found = until_reply(listening)
    assert types(found) == [
        "message_queued",
        "batch_claimed",
        "run_started",
        "text_delta",
        "reply_ready",
    ]
    transcript = applied(found)
    assert list(transcript.streamed.values()) == [[f"hello: {TEXT}"]]
    assert list(transcript.replies.values()) == [(f"hello: {TEXT}",)]
    assert found == list(queue.events("t", after="0", timeout=0))
    pieces = [event for event in found if isinstance(event, TextDelta)]
    assert pieces[0].text == "hello: ", "the first piece goes at once"
    assert 2 < len(pieces) < 20, "the others are gathered"


async def test_an_asyncio_listener_sees_the_same(aqueue: AsyncAssistantMessageQueue) -> None:
    begin = await aqueue.open_events("t")
    await aqueue.add_message_to_thread("t", "hello", author="Ann")
    await aqueue.start_worker()
    found = []
    async for event in aqueue.events("t", after=begin):
        found.append(event)
        if isinstance(event, ReplyReady):
            break
    assert types(found) == [
        "message_queued",
        "batch_claimed",
        "run_started",
        "text_delta",
        "reply_ready",
    ]
    assert found == [event async for event in aqueue.events("t", after="0", timeout=0)]


def test_a_listener_that_is_left_alone_ends_and_one_whose_queue_is_closed(
    queue: AssistantMessageQueue,
) -> None:
    queue.open_events("t")
    assert list(queue.events("t", after="0", timeout=0.01)) == []
    ended = threading.Event()
    began = threading.Event()

    def listen() -> None:
        for event in queue.events("t", after="0"):
            assert isinstance(event, MessageQueued)
            began.set()
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    queue.add_message_to_thread("t", "hello")
    assert began.wait(PATIENCE_S)
    queue.close()
    assert ended.wait(PATIENCE_S)


async def test_an_asyncio_listener_ends_with_its_queue(aqueue: AsyncAssistantMessageQueue) -> None:
    async def listen() -> list[Event]:
        return [event async for event in aqueue.events("t")]

    task = asyncio.create_task(listen())
    await until(lambda: bool(aqueue._hub and aqueue._hub._threads))
    await aqueue.close()
    assert await asyncio.wait_for(task, 10) == []


def test_reading_stops_when_the_last_subscriber_leaves(queue: AssistantMessageQueue) -> None:
    queue.open_events("t")
    queue.add_message_to_thread("t", "hello")
    listening = queue.events("t", after="0")
    next(listening)
    threads = queue._listeners.call(_threads)
    assert list(threads) == ["t"]
    listening.close()
    assert threads == {}


async def _threads(of: event_hub.EventHub) -> Any:
    return of._threads


def test_wrong_arguments_are_refused_before_anything_is_read(
    queue: AssistantMessageQueue, options: dict[str, Any]
) -> None:
    for after in ("", "x", "1-", "-1", 7, "1" * 30):
        with pytest.raises(InvalidArgument, match="after"):
            queue.events("t", after=after)
    with pytest.raises(InvalidArgument, match="timeout"):
        queue.events("t", timeout=-1)
    with pytest.raises(InvalidArgument, match="thread_id"):
        queue.events("", after="0")
    with (
        AssistantMessageQueue(**{**options, "events": "off"}) as off,
        pytest.raises(ConfigurationError, match="off"),
    ):
        next(off.events("t", after="0"))


def test_listening_to_a_redis_that_is_not_there_is_an_error(prefix: str) -> None:
    with AssistantMessageQueue(redis_url="redis://127.0.0.1:1/0", queue_prefix=prefix) as queue:
        with pytest.raises(StoreUnavailable):
            queue.open_events("t")
        with pytest.raises(StoreUnavailable):
            next(queue.events("t", after="0"))


def test_typing_is_seen_by_listeners_once_in_a_while(queue: AssistantMessageQueue) -> None:
    queue.open_events("t")
    for _ in range(20):
        queue.typing("t", "Ann")
    queue.typing("t")
    assert [event.author for event in queue.events("t", after="0", timeout=0)] == ["Ann", None]
    with pytest.raises(InvalidArgument, match="author"):
        queue.typing("t", "two\nlines")


# --- providers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["responses", "assistants"])
def test_tool_calls_are_published_between_the_texts_of_their_rounds(
    one_redis: RedisServer, prefix: str, protocol: str
) -> None:
    with StandInProvider(latency=0.02) as provider:
        chosen = (
            {"model": "stand-in-model"}
            if protocol == "responses"
            else {"assistant_id": provider.assistant_id}
        )
        with AssistantMessageQueue(
            redis_url=one_redis.url, queue_prefix=prefix, message_delay=0.0,
            openai_api_key=provider.api_key, openai_base_url=provider.base_url, **chosen,
        ) as queue:  # fmt: skip

            @queue.tool
            def order(number: int) -> str:
                """The state of an order."""
                return f"{number} is shipped"

            provider.model = lambda turn: (
                ToolCalls([("order", {"number": 7})], text="One moment.")
                if turn.round == 0
                else Reply("It is.")
            )
            queue.open_events("t")
            queue.start_worker()
            queue.add_message_to_thread("t", "hello")
            found = until_reply(queue.events("t", after="0"))
        words = types(found)
        assert [word for word in words if word != "run_started"] == [
            "message_queued", "batch_claimed", "text_delta", "tool_called", "tool_answered", "text_delta", "reply_ready",
        ]  # fmt: skip
        (called,) = [event for event in found if event.type == "tool_called"]
        (answered,) = [event for event in found if event.type == "tool_answered"]
        assert (called.name, called.arguments, called.tool_call_id) == (
            "order",
            '{"number": 7}',
            answered.tool_call_id,
        )
        assert answered.output == "7 is shipped"
        assert list(applied(found).streamed.values()) == [["One moment.", "It is."]]


def test_a_subscriber_that_joins_during_a_run_gets_the_text_so_far(
    one_redis: RedisServer, prefix: str
) -> None:
    """The model is silent after its first words: the listener hears of it by the next renewal of the lease."""
    go_on = threading.Event()
    said = threading.Event()

    def slow(batch: Batch) -> Iterator[str]:
        yield "so "
        yield "far"
        said.set()
        go_on.wait(PATIENCE_S)
        yield ", so good"

    with AssistantMessageQueue(
        redis_url=one_redis.url,
        queue_prefix=prefix,
        message_delay=0.0,
        lock_duration=0.6,
        backend=slow,
    ) as queue:
        queue.start_worker()
        queue.add_message_to_thread("t", "hello")
        assert said.wait(PATIENCE_S)
        listening = queue.events("t", timeout=PATIENCE_S)
        event = next(listening)
        assert isinstance(event, TextDelta)
        assert (event.offset, event.text) == (0, "so far")
        go_on.set()
        found = [event, *until_reply(listening)]
        assert list(applied(found).streamed.values()) == [["so far, so good"]]


# --- many -----------------------------------------------------------------------------------------


def calls_of(client: Any) -> dict[str, int]:
    return {
        name.removeprefix("cmdstat_"): row["calls"]
        for name, row in client.info("commandstats").items()
    }


async def test_a_thousand_listeners_on_one_thread_cost_one_connection_and_one_read(
    one_redis: RedisServer, aqueue: AsyncAssistantMessageQueue
) -> None:
    async def first_ten() -> list[Any]:
        found = []
        async for event in aqueue.events("t"):
            found.append(event.content)
            if len(found) == 10:
                break
        return found

    tasks = [asyncio.create_task(first_ten()) for _ in range(1000)]
    await until(
        lambda: bool(
            aqueue._hub
            and sum(len(one.subscriptions) for one in aqueue._hub._threads.values()) == 1000
        )
    )
    with redis.Redis.from_url(one_redis.url) as watching:
        await until(lambda: watching.info("clients")["blocked_clients"] == 1)
        before = calls_of(watching)
        for number in range(10):
            await aqueue.add_message_to_thread("t", f"{number}")
        found = await asyncio.gather(*tasks)
        after = calls_of(watching)
    assert found == [[f"{number}" for number in range(10)]] * 1000
    assert after.get("xread", 0) - before.get("xread", 0) <= 12
    assert after.get("xrange", 0) == before.get("xrange", 0)
    assert not aqueue._hub._threads


@pytest.fixture
def redis_alone(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that nothing else talks to."""
    yield from installed_redis(tmp_path)


async def test_without_subscribers_a_streamed_batch_costs_no_extra_command(
    redis_alone: RedisServer, prefix: str
) -> None:
    """The batch alone is counted, from its claim to its end: no scheduler looks meanwhile, no lease is renewed, no worker registers."""

    async def commands(mode: str, *, listens: bool = False) -> Counter[str]:
        async with AsyncAssistantMessageQueue(
            redis_url=redis_alone.url,
            queue_prefix=prefix,
            message_delay=0.0,
            backend=FunctionBackend(in_pieces),
            events=mode,
            lock_duration=3600.0,
            metrics=False,  # how many fields a batch counts depends on how long it takes
        ) as queue:
            runtime = Runtime(queue.config)
            for _ in range(2):  # the first batch loads the scripts and opens the connections
                if listens:
                    await queue.open_events("t")
                await queue.add_message_to_thread("t", "hello")
                with redis.Redis.from_url(redis_alone.url) as watching:
                    before = calls_of(watching)
                    ending = await runtime.handle("t")
                    after = calls_of(watching)
                assert isinstance(ending, Completed)
            await runtime.close()
        return (
            Counter(
                {
                    word: count - before.get(word, 0)
                    for word, count in after.items()
                    if word != "info"
                }
            )
            + Counter()
        )

    off, listened, heard = (
        await commands("off"),
        await commands("listened"),
        await commands("listened", listens=True),
    )
    assert off["evalsha"] >= 4
    asked = Counter(
        {"exists": listened["exists"] - off["exists"]}
    )  # whether a subscriber listens: by a script that is on its way anyway
    assert asked["exists"] <= off["evalsha"]
    assert listened - asked == off
    assert heard["xadd"] >= 5


# --- again and again ------------------------------------------------------------------------------


async def test_a_thousand_reconnects_at_random_points_give_equal_transcripts(
    aqueue: AsyncAssistantMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty readers leave and return while a worker answers.

    Each reader leaves after a few events and comes back with the last id that it has.
    """
    monkeypatch.setattr(delta_publisher, "PACE_S", 0.02)  # more pieces to come between
    batches = 6
    readers = 20
    reconnects = 0

    async def read(seed: int) -> list[Event]:
        nonlocal reconnects
        chance = random.Random(seed)
        found: list[Event] = []
        last = begin
        while sum(isinstance(event, ReplyReady) for event in found) < batches:
            left = chance.randint(0, 3)
            async for event in aqueue.events(
                "t", after=last, timeout=chance.choice([0.0, 0.001, 5.0])
            ):
                if left == 0:
                    break
                left -= 1
                found.append(event)
                last = event.id
            reconnects += 1
        return found

    begin = await aqueue.open_events("t")
    await aqueue.start_worker()
    tasks = [asyncio.create_task(read(seed)) for seed in range(readers)]
    for number in range(batches):
        receipt = await aqueue.add_message_to_thread("t", f"question {number}")
        await aqueue.wait_for_reply(receipt.message_id, 30)
    found = await asyncio.gather(*tasks)
    reference = [event async for event in aqueue.events("t", after="0", timeout=0)]
    assert reconnects >= 1000
    as_bytes = [repr([asdict(event) for event in one]).encode() for one in (reference, *found)]
    assert set(as_bytes) == {as_bytes[0]}
    assert list(applied(reference).streamed.values()) == [
        [f"question {number}: {TEXT}"] for number in range(batches)
    ]


async def test_a_slow_listener_costs_no_memory_and_misses_nothing(
    aqueue: AsyncAssistantMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "BUFFER", 10)
    slow = aqueue.events("t")
    first = asyncio.create_task(anext(slow))
    await until(lambda: bool(aqueue._hub and aqueue._hub._threads))
    rows = [{"thread_id": "t", "message": f"{number}"} for number in range(700)]
    await aqueue.add_messages(rows)
    last = (await aqueue.open_events("t")).split("-")
    (thread,) = aqueue._hub._threads.values()
    await until(lambda: thread.cursor.split("-") >= last)
    found = [(await first).content]
    (one,) = thread.subscriptions
    assert len(one._buffer) <= 10
    async for event in slow:
        found.append(event.content)
        if len(found) == 700:
            break
    assert found == [f"{number}" for number in range(700)]


async def test_a_listener_that_was_away_for_too_long_gets_a_sign_of_it_and_continues(
    options: dict[str, Any],
) -> None:
    async with AsyncAssistantMessageQueue(**options, event_limit=100) as queue:
        begin = await queue.open_events("t")
        await queue.add_messages(
            {"thread_id": "t", "message": f"{number}"} for number in range(500)
        )
        found = [event async for event in queue.events("t", after=begin, timeout=0)]
        assert isinstance(found[0], EventsMissed)
        assert (found[0].after, found[0].id) == (begin, begin)
        kept = [event async for event in queue.events("t", after="0", timeout=0)]
        assert found[1:] == kept
        assert kept[-1].content == "499"


def test_a_forgotten_thread_is_noticed_and_listened_to_again(
    queue: AssistantMessageQueue, soon: None
) -> None:
    listening = queue.events("t", timeout=PATIENCE_S)
    queue.add_message_to_thread("t", "hello")
    assert next(listening).content == "hello"
    queue.forget_thread("t")
    assert isinstance(next(listening), EventsMissed)
    queue.add_message_to_thread("t", "again")
    assert next(listening).content == "again"


def test_a_listener_wakes_threads_that_are_long_overdue(
    queue: AssistantMessageQueue, one_redis: RedisServer, prefix: str, soon: None
) -> None:
    """There may be no other caller if only RQ's own workers run and their scheduler died."""
    with AssistantMessageQueue(
        redis_url=one_redis.url, queue_prefix=prefix, message_delay=60
    ) as other:
        receipt = other.add_message_to_thread("forgotten", "hello")
        queue.open_events("t")
        queue.typing("t", "Ann")
        listening = queue.events("t", after="0", timeout=PATIENCE_S)
        assert next(listening).type == "typing"
        other._store.client.zadd(other._commands.namespace.keys.due, {"forgotten": 1000})
        wait_until(lambda: other.get_queue().job_ids == [receipt.job_id], "it is handed over")


def test_a_thread_that_is_new_wakes_the_reader_at_once(
    one_redis: RedisServer, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its read lasts longer than this test waits: only the bell ends it before."""
    monkeypatch.setattr(event_hub, "BLOCK_S", 10 * PATIENCE_S)
    del options["redis_url"]
    with (
        redis.Redis.from_url(one_redis.url, socket_timeout=None) as client,
        AssistantMessageQueue(redis=client, **options) as queue,
    ):
        first = queue.events("one", timeout=PATIENCE_S)
        queue.add_message_to_thread("one", "hello")
        assert next(first).content == "hello"
        second = queue.events("two", timeout=PATIENCE_S)
        waiting: list[Event] = []
        thread = threading.Thread(target=lambda: waiting.append(next(second)))
        thread.start()
        wait_until(lambda: "two" in queue._listeners.call(_threads), "it is subscribed")
        queue.add_message_to_thread("two", "hello")
        thread.join()
        assert [event.content for event in waiting] == ["hello"]


# --- Redis goes and comes -------------------------------------------------------------------------


@pytest.mark.parametrize("keeps", [True, False])
def test_a_listener_survives_a_restart_of_redis(
    tmp_path: Path, prefix: str, keeps: bool, soon: None
) -> None:
    extra = ("--appendonly", "yes", "--appendfsync", "always") if keeps else ()
    server = RedisServer(SERVERS.get("path") or SERVERS["wheel"], tmp_path, *extra)
    server.start()
    try:
        with AssistantMessageQueue(redis_url=server.url, queue_prefix=prefix) as queue:
            listening = queue.events("t", timeout=PATIENCE_S)
            queue.add_message_to_thread("t", "before")
            first = next(listening)
            server.stop()
            server.start()
            if not keeps:
                assert isinstance(next(listening), EventsMissed)
            queue.add_message_to_thread("t", "after")
            assert next(listening).content == "after"
            kept = [event.content for event in queue.events("t", after="0", timeout=0)]
            assert kept == (["before", "after"] if keeps else ["after"])
            assert isinstance(
                next(queue.events("t", after=first.id, timeout=0)),
                MessageQueued if keeps else EventsMissed,
            )
    finally:
        server.stop()


def test_nothing_that_people_say_is_logged(
    queue: AssistantMessageQueue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    queue.open_events("t")
    queue.start_worker()
    queue.add_message_to_thread("t", "the canary in the coal mine", author="Canary")
    found = until_reply(queue.events("t", after="0"))
    assert any("canary" in getattr(event, "text", "") for event in found)
    assert "canary" not in caplog.text.lower()


async def test_what_blocks_shares_no_round_trip_with_what_does_not(
    one_redis: RedisServer, prefix: str
) -> None:
    """The hub's read waits for seconds: a reader of the past must not wait with it."""

    def one(call: Call) -> Operation[Any]:
        return (yield call)

    store = AsyncStore(redis.asyncio.Redis.from_url(one_redis.url))
    waiting = asyncio.create_task(store.run(one(blocking("BLPOP", f"{prefix}:nothing", 60))))
    others = [
        asyncio.create_task(store.run(one(plain("PING")))) for _ in range(3)
    ]  # given at the same moment
    assert await asyncio.gather(*others) == [True] * 3
    assert not waiting.done()
    await store.run(one(plain("RPUSH", f"{prefix}:nothing", "now")))
    assert (await waiting)[1] == b"now"
    await store.close()
