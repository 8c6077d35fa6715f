"""A worker that is asked to stop at the worst moment stops all the same."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from assistant_queue.config import Config
from assistant_queue.testing import StandInProvider
from assistant_queue.worker.asyncio_worker import AsyncioWorker
from tests.conftest import RedisServer


async def test_a_pop_that_is_answered_as_the_worker_is_asked_to_stop_does_not_keep_it(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client swallows the cancellation: without a check the worker would take more."""
    config = Config(
        redis_url=one_redis.url,
        queue_prefix=prefix,
        model="any",
        openai_api_key=provider.api_key,
        openai_base_url=provider.base_url,
    )
    worker = AsyncioWorker(config)
    popping = asyncio.Event()

    async def pop(*_: Any) -> None:
        popping.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            return

    monkeypatch.setattr(worker, "_pop", pop)
    work = asyncio.create_task(worker.run(lambda: 1.0))
    await asyncio.wait_for(popping.wait(), 20)
    worker.stop()
    await asyncio.wait_for(work, 20)
