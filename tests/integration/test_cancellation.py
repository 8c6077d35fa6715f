"""A cancelled call to Redis ends at once, in whatever step of connecting or sending it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio

from assistant_queue.store.transport.connect import async_client, async_twin, disconnect, fresh
from assistant_queue.store.transport.pinned import AsyncPinnedConnection
from assistant_queue.worker.fetcher import pop
from tests.conftest import PATIENCE_S, RedisServer

STEPS = 80
"""Iterations of the event loop after which every connection has sent its command."""

CLIENTS: dict[str, Callable[[str], redis.asyncio.Redis]] = {
    "from a URL": async_client,
    "with connections of its own": lambda url: fresh(redis.asyncio.Redis.from_url(url)),
    "beside a blocking one": lambda url: async_twin(redis.Redis.from_url(url)),
}


async def cancelled_after(steps: int, client: Any, prefix: str) -> str:
    """Cancel a worker's pop after so many iterations of the event loop; return its outcome."""
    popping = asyncio.create_task(pop(AsyncPinnedConnection(client), [f"rq:queue:{prefix}"], 60))
    for _ in range(steps):
        await asyncio.sleep(0)
    popping.cancel()
    done, _ = await asyncio.wait([popping], timeout=PATIENCE_S / 4)
    outcome = "cancelled" if done and popping.cancelled() else "not cancelled"
    popping.cancel()
    await asyncio.wait([popping])
    await disconnect(client)
    return outcome


@pytest.mark.parametrize("made", CLIENTS.values(), ids=CLIENTS)
async def test_no_cancellation_is_lost(
    one_redis: RedisServer, prefix: str, made: Callable[[str], redis.asyncio.Redis]
) -> None:
    outcomes = await asyncio.gather(
        *(cancelled_after(steps, made(one_redis.url), prefix) for steps in range(STEPS))
    )
    assert outcomes == ["cancelled"] * STEPS
