"""Clients and addresses that decode replies, encode otherwise or speak another protocol: all work, and a given client stays as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import fakeredis
import pytest
import redis
import redis.asyncio

from assistant_queue import AssistantMessageQueue, AsyncAssistantMessageQueue, Batch
from assistant_queue.store.transport.connect import async_client, async_from, sync_client, sync_from
from tests.conftest import PATIENCE_S, RedisServer

TEXT = "schön \U0001f600"

WAYS: dict[str, Callable[[str], dict[str, Any]]] = {
    "decoding address": lambda url: {"redis_url": f"{url}?decode_responses=True"},
    "decoding client": lambda url: {"redis": redis.Redis.from_url(url, decode_responses=True)},
    "decoding asyncio client": lambda url: {
        "redis": redis.asyncio.Redis.from_url(url, decode_responses=True)
    },
    "decoding pool that blocks": lambda url: {
        "redis": redis.Redis(
            connection_pool=redis.BlockingConnectionPool.from_url(
                url, decode_responses=True, max_connections=40
            )
        )
    },
    "address with another encoding": lambda url: {"redis_url": f"{url}?encoding=latin-1"},
    "client with another encoding": lambda url: {
        "redis": redis.Redis.from_url(url, encoding="latin-1", decode_responses=True)
    },
    "address with protocol 2": lambda url: {"redis_url": f"{url}?protocol=2"},
    "address with protocol 3": lambda url: {"redis_url": f"{url}?protocol=3"},
    "client with protocol 2": lambda url: {"redis": redis.Redis.from_url(url, protocol=2)},
    "client with protocol 3": lambda url: {
        "redis": redis.Redis.from_url(url, protocol=3, decode_responses=True)
    },
    "asyncio client with protocol 3": lambda url: {
        "redis": redis.asyncio.Redis.from_url(url, protocol=3, decode_responses=True)
    },
}


def in_pieces(batch: Batch) -> Iterator[str]:
    yield "grüße "
    yield batch.text
    if "fail" in batch.text:
        raise RuntimeError("on purpose")


@pytest.fixture(params=WAYS)
async def way(
    request: pytest.FixtureRequest, redis_server: RedisServer, prefix: str
) -> AsyncIterator[dict[str, Any]]:
    options = WAYS[request.param](redis_server.url)
    given = options.get("redis")
    before = None if given is None else dict(given.connection_pool.connection_kwargs)
    yield {
        "queue_prefix": prefix,
        "message_delay": 0.0,
        "max_attempts": 1,
        "backend": in_pieces,
        **options,
    }
    if given is not None:
        assert given.connection_pool.connection_kwargs == before, (
            "it is the user's, and stays as it was"
        )
        said = given.ping()  # nor is it closed
        await said if isinstance(given, redis.asyncio.Redis) else None
        await given.aclose() if isinstance(given, redis.asyncio.Redis) else given.close()


async def test_the_asyncio_class_works_with_it(way: dict[str, Any]) -> None:
    async with AsyncAssistantMessageQueue(**way) as queue:
        await queue.start_worker()
        await queue.open_events("t")
        assert await queue.ask("t", TEXT, timeout=PATIENCE_S) == f"grüße {TEXT}"
        told = [event.type async for event in queue.events("t", after="0", timeout=0.5)]
        assert [told[0], told[-1]] == ["message_queued", "reply_ready"]


def test_the_blocking_class_works_with_it(way: dict[str, Any]) -> None:
    with AssistantMessageQueue(**way) as queue:
        worker = queue.start_worker()
        queue.open_events("t")
        assert queue.ask("t", TEXT, timeout=PATIENCE_S) == f"grüße {TEXT}"
        told = [event.type for event in queue.events("t", after="0", timeout=0.5)]
        assert [told[0], told[-1]] == ["message_queued", "reply_ready"]
        receipts = queue.add_messages(
            [{"thread_id": f"many-{number}", "message": TEXT} for number in range(5)]
        )
        assert [queue.wait_for_reply(one.message_id, PATIENCE_S) for one in receipts] == [
            f"grüße {TEXT}"
        ] * 5
        worker.stop()
        waiting = queue.add_message_to_thread("t", TEXT)
        assert queue.edit_message(waiting.message_id, f"fail {TEXT}")
        assert [one.status for one in queue.get_jobs_by_thread_id("t")] == ["queued"]
        assert queue.get_queue_status().completed_count == 6
        assert len(queue.get_queue().job_ids) == 1


@pytest.mark.parametrize("kind", [redis.Redis, redis.asyncio.Redis])
def test_a_client_that_decodes_nothing_is_used_itself(kind: Any) -> None:
    client = kind.from_url("redis://localhost:1/0")
    opened_by = sync_from if kind is redis.Redis else async_from
    assert opened_by(client, "") is client


def test_fakeredis_that_decodes_is_copied_with_its_server() -> None:
    server = fakeredis.FakeServer()
    given = fakeredis.FakeRedis(server=server, decode_responses=True)
    copy = sync_from(given, "")
    copy.set("a", b"\xff")
    assert copy.get("a") == b"\xff"
    assert given.connection_pool.connection_kwargs["decode_responses"] is True
    assert fakeredis.FakeRedis(server=server).get("a") == b"\xff"


def test_our_own_clients_decode_nothing_whatever_the_address_says() -> None:
    for client in (
        sync_client("redis://h/0?decode_responses=True&encoding=latin-1"),
        async_client("redis://h/0?decode_responses=True"),
    ):
        encoder: Any = client.connection_pool.get_encoder()  # type: ignore[attr-defined]
        assert (encoder.decode_responses, encoder.encoding) == (False, "utf-8")
