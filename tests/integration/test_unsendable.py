"""Half of a surrogate pair costs its own command at most, never a reply or a connection."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from redis import exceptions

from assistant_queue import AssistantMessageQueue, AsyncAssistantMessageQueue, Batch
from assistant_queue.config import configure
from assistant_queue.errors import NotEncodable
from assistant_queue.store import wakeups
from assistant_queue.store.calls import each, plain
from assistant_queue.store.transport.auto_pipeline import AutoPipeline
from assistant_queue.store.transport.connect import async_client, disconnect, sync_client
from assistant_queue.store.transport.pinned import AsyncPinnedConnection, PinnedConnection
from assistant_queue.store.transport.pipelined import PipelinedSender
from assistant_queue.store.transport.stores import AsyncStore, SyncStore
from assistant_queue.worker.asyncio_worker import AsyncioWorker
from tests.conftest import RedisServer
from tests.integration.conftest import wait_until

HALF = "\ud83d"
BAD: list[tuple[Any, ...]] = [
    ("ECHO", f"half {HALF}"),
    ("ECHO", None),
    ("ECHO", True),
    ("ECHO", {"a": 1}),
]
REFUSED = (UnicodeEncodeError, exceptions.DataError)


@pytest.fixture(params=["short", "general"])
def client(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[redis.Redis]:
    """One that goes the short way, and one that is the user's own."""
    made = (
        sync_client(redis_server.url)
        if request.param == "short"
        else redis.Redis.from_url(redis_server.url)
    )
    with made as one:
        yield one


@pytest.fixture(params=["short", "general"])
async def async_one(
    request: pytest.FixtureRequest, redis_server: RedisServer
) -> AsyncIterator[redis.asyncio.Redis]:
    made = (
        async_client(redis_server.url)
        if request.param == "short"
        else redis.asyncio.Redis.from_url(redis_server.url)
    )
    yield made
    await disconnect(made)


# --- the ways to Redis ----------------------------------------------------------------------------


@pytest.mark.parametrize("bad", BAD)
def test_a_command_that_cannot_be_packed_leaves_the_kept_connection_as_it_is(
    client: redis.Redis, bad: tuple[Any, ...]
) -> None:
    pinned = PinnedConnection(client)
    before = pinned.execute("CLIENT", "ID")
    with pytest.raises(REFUSED):
        pinned.execute(*bad)
    assert pinned.execute("ECHO", "next") == b"next"
    assert pinned.execute("CLIENT", "ID") == before


@pytest.mark.parametrize("bad", BAD)
async def test_it_leaves_that_of_coroutines_as_it_is(
    async_one: redis.asyncio.Redis, bad: tuple[Any, ...]
) -> None:
    pinned = AsyncPinnedConnection(async_one)
    before = await pinned.execute("CLIENT", "ID")
    with pytest.raises(REFUSED):
        await pinned.execute_all([("ECHO", "one"), bad])
    assert await pinned.execute_all([("ECHO", "one"), ("ECHO", "two")]) == [b"one", b"two"]
    assert await pinned.execute("CLIENT", "ID") == before


@pytest.mark.parametrize("bad", BAD)
async def test_it_fails_alone_of_all_that_share_its_round_trip(
    async_one: redis.asyncio.Redis, prefix: str, bad: tuple[Any, ...]
) -> None:
    pipeline = AutoPipeline(async_one)
    commands = [("RPUSH", prefix, str(number)) for number in range(40)]
    commands[7:7] = [bad]
    commands += [bad]
    replies = await asyncio.gather(
        *(pipeline.execute(*words) for words in commands), return_exceptions=True
    )
    assert isinstance(replies.pop(7), REFUSED)
    assert isinstance(replies.pop(), REFUSED)
    assert replies == list(range(1, 41))
    assert await async_one.lrange(prefix, 0, -1) == [
        str(number).encode() for number in range(40)
    ]  # once each, in order
    assert await pipeline.execute("ECHO", "next") == b"next"


@pytest.mark.parametrize("bad", BAD)
def test_what_was_sent_ahead_of_it_is_answered(
    client: redis.Redis, prefix: str, bad: tuple[Any, ...]
) -> None:
    sender = PipelinedSender(client)
    sender.swap([("INCR", prefix)])
    with pytest.raises(REFUSED):
        sender.swap([("INCR", prefix), bad])
    assert sender.swap([("INCR", prefix)]) == [1]
    assert sender.swap([]) == [2]
    sender.close()
    assert client.get(prefix) == b"2"


@pytest.mark.parametrize("bad", BAD)
async def test_a_store_raises_not_encodable_and_continues(
    client: redis.Redis, async_one: redis.asyncio.Redis, prefix: str, bad: tuple[Any, ...]
) -> None:
    store = SyncStore(client)
    async_store = AsyncStore(async_one)

    def both() -> Any:
        return (yield [plain("SET", prefix, "1"), plain(*bad)])

    def apart() -> Any:
        return (yield from each([plain("ECHO", "one"), plain(*bad), plain("ECHO", "two")]))

    with pytest.raises(NotEncodable, match="nothing was sent"):
        store.run(both())
    with pytest.raises(NotEncodable, match="nothing was sent"):
        await async_store.run(both())
    assert client.get(prefix) is None
    assert store.run(apart()) == await async_store.run(apart()) == [b"one", None, b"two"]


def test_the_error_names_the_half_and_not_the_text(client: redis.Redis) -> None:
    def secret() -> Any:
        yield plain("ECHO", f"my secret {HALF}")

    with pytest.raises(NotEncodable) as caught:
        SyncStore(client).run(secret())
    assert "\\ud83d" in str(caught.value)
    assert "secret" not in str(caught.value)


# --- workers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
async def test_forty_threads_that_are_answered_at_once_do_not_notice_a_reply_with_half_an_emoji(
    one_redis: RedisServer, prefix: str, streamed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    calls = 0
    everyone = asyncio.Event()

    async def reply(batch: Batch) -> str:
        nonlocal calls
        calls += 1
        if calls == 40:
            everyone.set()
        await everyone.wait()
        return f"hi {HALF} there" if batch.text == "bad" else "hi there"

    async def in_pieces(batch: Batch) -> AsyncIterator[str]:
        text = await reply(batch)
        yield text[:4]
        yield text[4:]

    async with AsyncAssistantMessageQueue(
        redis_url=one_redis.url,
        queue_prefix=prefix,
        message_delay=0.0,
        concurrency=40,
        backend=in_pieces if streamed else reply,
        events="always",
    ) as queue:
        texts = ["good"] * 7 + ["bad"] + ["good"] * 32
        receipts = [
            await queue.add_message_to_thread(f"t{number}", text)
            for number, text in enumerate(texts)
        ]
        await queue.start_worker()
        replies = [
            await queue.wait_for_reply(receipt.message_id, timeout=60) for receipt in receipts
        ]
        assert replies.pop(7) == "hi \ufffd there"
        assert replies == ["hi there"] * 39
        assert calls == 40, "nothing is paid for twice"
        assert await queue.add_message_to_thread("t7", "good")
    assert "the worker failed" not in caplog.text


def test_halves_that_belong_together_are_one_letter_again(
    one_redis: RedisServer, prefix: str
) -> None:
    with AssistantMessageQueue(
        redis_url=one_redis.url,
        queue_prefix=prefix,
        message_delay=0.0,
        backend=lambda _: "\ud83d" + "\ude00 and \ude00",
    ) as queue:
        queue.start_worker()
        receipt = queue.add_message_to_thread("t", "hello")
        assert queue.wait_for_reply(receipt.message_id, timeout=60) == "\U0001f600 and \ufffd"


def test_a_message_id_without_bytes_fails_its_batch_visibly_and_stops_nothing(
    one_redis: RedisServer, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Such an id is refused by `add`: it was written into the list by another program."""
    with AssistantMessageQueue(
        redis_url=one_redis.url,
        queue_prefix=prefix,
        message_delay=0.3,
        lock_duration=1.0,
        backend=lambda _: "hi",
    ) as queue:
        receipt = queue.add_message_to_thread("t", "hello")
        with redis.Redis.from_url(one_redis.url) as client:
            client.lset(f"{prefix}:pending:t", 0, json.dumps({"id": f"half {HALF}", "c": "hello"}))
        queue.start_worker()
        wait_until(queue.list_failed, "the batch is in the failed list")
        (failed,) = queue.list_failed()
        assert (failed.thread_id, failed.reason) == ("t", "corrupt")
        later = queue.add_message_to_thread("t", "and now?")
        assert queue.wait_for_reply(later.message_id, timeout=60) == "hi"
        assert receipt.message_id
    assert "the worker failed" not in caplog.text


async def test_a_job_with_a_thread_id_without_bytes_goes_to_rqs_failed_registry(
    one_redis: RedisServer, prefix: str
) -> None:
    config = configure(
        {"redis_url": one_redis.url, "queue_prefix": prefix, "backend": lambda _: "hi"}
    )
    with redis.Redis.from_url(one_redis.url) as client:
        client.hset(
            wakeups.job_key(f"{prefix}-bad"),
            "data",
            pickle.dumps((wakeups.FUNCTION, None, (f"t{HALF}",), {})),
        )
        client.rpush(wakeups.queue_key(prefix), f"{prefix}-bad")
        worker = AsyncioWorker(config, max_wake_ups=1)
        await worker.run()
        assert client.zscore(wakeups.failed_key(prefix), f"{prefix}-bad") is not None
