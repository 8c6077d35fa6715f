"""The connection that is kept for one command after another: as safe as redis-py's general way."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from redis import exceptions

from assistant_queue import AsyncAssistantMessageQueue
from assistant_queue.store.transport.connect import async_client, disconnect, sync_client
from assistant_queue.store.transport.pinned import (
    AsyncPinnedConnection,
    PinnedConnection,
    fits,
    fits_async,
)
from tests.conftest import PATIENCE_S, RedisServer


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with sync_client(redis_server.url) as client:
        yield client


def connection_of(pinned: PinnedConnection) -> Any:
    return pinned._connection


def test_one_connection_serves_one_command_after_another(client: redis.Redis) -> None:
    pinned = PinnedConnection(client)
    ids = {pinned.execute("CLIENT", "ID") for _ in range(5)}
    assert len(ids) == 1


def test_a_reply_that_is_an_error_leaves_the_connection_as_it_is(client: redis.Redis) -> None:
    pinned = PinnedConnection(client)
    before = pinned.execute("CLIENT", "ID")
    with pytest.raises(exceptions.NoScriptError):
        pinned.execute("EVALSHA", "0" * 40, 0)
    assert pinned.execute("CLIENT", "ID") == before


def test_a_connection_that_redis_has_closed_is_opened_again(client: redis.Redis) -> None:
    pinned = PinnedConnection(client)
    before = pinned.execute("CLIENT", "ID")
    client.execute_command("CLIENT KILL", "ID", before)
    assert pinned.execute("CLIENT", "ID") != before


def test_a_connection_closed_while_idle_costs_no_repetition(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = PinnedConnection(client)
    before = pinned.execute("CLIENT", "ID")
    client.execute_command("CLIENT KILL", "ID", before)
    pinned._used_at -= 10
    monkeypatch.setattr(connection_of(pinned).retry, "_retries", 0)
    assert pinned.execute("CLIENT", "ID") != before


def test_an_interrupt_between_command_and_reply_does_not_leave_the_reply_for_the_next_command(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = PinnedConnection(client)
    pinned.execute("PING")
    connection = connection_of(pinned)

    def interrupted() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(connection, "read_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pinned.execute("ECHO", "for nobody")
    assert pinned.execute("ECHO", "for me") == b"for me"


def test_a_busy_pinned_connection_is_bypassed(client: redis.Redis) -> None:
    pinned = PinnedConnection(client)
    own = pinned.execute("CLIENT", "ID")
    others: list[Any] = []
    with pinned._taken:
        other = threading.Thread(target=lambda: others.append(pinned.execute("CLIENT", "ID")))
        other.start()
        other.join(PATIENCE_S)
    assert others
    assert others != [own]
    assert pinned.execute("CLIENT", "ID") == own


def _say_id(pinned: PinnedConnection, answers: Any) -> None:
    answers.put(pinned.execute("CLIENT", "ID"))


def test_a_forked_process_takes_its_own_connection(client: redis.Redis) -> None:
    pinned = PinnedConnection(client)
    own = pinned.execute("CLIENT", "ID")
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_say_id, args=(pinned, answers))
    child.start()
    other = answers.get(timeout=PATIENCE_S)
    child.join(PATIENCE_S)
    assert other != own
    assert pinned.execute("CLIENT", "ID") == own


def test_only_a_plain_client_of_our_own_gets_one(client: redis.Redis) -> None:
    assert fits(client)
    assert not fits(sync_client("redis+sentinel://localhost:26379/mymaster/0"))
    assert not fits(redis.Redis())
    with redis.Redis.from_pool(
        redis.ConnectionPool.from_url(
            f"redis://localhost:{client.get_connection_kwargs()['port']}/0"
        )
    ) as other:
        assert PinnedConnection(other).execute("PING") is True  # the general way


# --- for coroutines -------------------------------------------------------------------------------


@pytest.fixture
async def async_one(redis_server: RedisServer) -> AsyncIterator[redis.asyncio.Redis]:
    one = async_client(redis_server.url)
    yield one
    await disconnect(one)


async def test_coroutines_have_one_connection_too(async_one: redis.asyncio.Redis) -> None:
    pinned = AsyncPinnedConnection(async_one)
    ids = [await pinned.execute("CLIENT", "ID") for _ in range(5)]
    assert len(set(ids)) == 1


async def test_several_commands_share_a_round_trip_and_each_has_its_own_reply_or_error(
    async_one: redis.asyncio.Redis,
) -> None:
    pinned = AsyncPinnedConnection(async_one)
    before = await pinned.execute("CLIENT", "ID")
    one, refused, other = await pinned.execute_all(
        [("ECHO", "one"), ("EVALSHA", "0" * 40, 0), ("ECHO", "other")]
    )
    assert (one, other) == (b"one", b"other")
    assert isinstance(refused, exceptions.NoScriptError)
    assert await pinned.execute("CLIENT", "ID") == before


async def test_a_refused_command_is_an_error_and_leaves_the_connection_as_it_is(
    async_one: redis.asyncio.Redis,
) -> None:
    pinned = AsyncPinnedConnection(async_one)
    before = await pinned.execute("CLIENT", "ID")
    with pytest.raises(exceptions.NoScriptError):
        await pinned.execute("EVALSHA", "0" * 40, 0)
    assert await pinned.execute("CLIENT", "ID") == before


async def test_a_coroutine_finds_a_closed_connection_open_again(
    async_one: redis.asyncio.Redis,
) -> None:
    pinned = AsyncPinnedConnection(async_one)
    before = await pinned.execute("CLIENT", "ID")
    await async_one.execute_command("CLIENT KILL", "ID", before)
    assert await pinned.execute("CLIENT", "ID") != before


async def test_one_that_was_closed_long_ago_costs_a_coroutine_no_repetition(
    async_one: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = AsyncPinnedConnection(async_one)
    before = await pinned.execute("CLIENT", "ID")
    await async_one.execute_command("CLIENT KILL", "ID", before)
    connection: Any = pinned._connection
    await asyncio.wait_for(connection._reader.read(), 20)  # the end has come
    pinned._used_at -= 10
    monkeypatch.setattr(connection.retry, "_retries", 0)
    assert await pinned.execute("CLIENT", "ID") != before


async def test_a_coroutine_that_is_cancelled_does_not_leave_its_reply_for_the_next(
    async_one: redis.asyncio.Redis,
) -> None:
    pinned = AsyncPinnedConnection(async_one)
    before = await pinned.execute("CLIENT", "ID")
    waiting = asyncio.create_task(pinned.execute("BLPOP", "nothing is ever here", 60))

    async def waits() -> None:
        while (await async_one.client_list(client_id=[before]))[0]["cmd"] != "blpop":
            pass  # it has asked

    await asyncio.wait_for(waits(), 20)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await asyncio.wait_for(pinned.execute("ECHO", "for me"), 20) == b"for me"


async def test_a_client_that_was_given_is_left_all_its_connections(
    redis_server: RedisServer, prefix: str
) -> None:
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        redis_server.url, max_connections=1, timeout=20
    )
    async with (
        redis.asyncio.Redis.from_pool(pool) as given,
        AsyncAssistantMessageQueue(redis=given, queue_prefix=prefix) as queue,
    ):
        await asyncio.gather(
            *(queue.add_message_to_thread("t", f"{number}") for number in range(10))
        )
        assert len(await queue.get_jobs_by_thread_id("t")) == 10
        assert await given.echo("for me") == b"for me"


async def test_only_a_plain_asyncio_client_of_our_own_gets_one(
    async_one: redis.asyncio.Redis,
) -> None:
    assert fits_async(async_one)
    assert not fits_async(async_client("redis+sentinel://localhost:26379/mymaster/0"))
    assert not fits_async(redis.asyncio.Redis())
    port = async_one.get_connection_kwargs()["port"]
    async with redis.asyncio.Redis(port=port) as other:
        pinned = AsyncPinnedConnection(other)
        assert await pinned.execute("PING") is True  # the general way
        one, refused = await pinned.execute_all([("ECHO", "one"), ("EVALSHA", "0" * 40, 0)])
        assert one == b"one"
        assert isinstance(refused, exceptions.ResponseError)
