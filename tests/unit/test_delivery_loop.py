"""The loop of a worker's deliveries, without Redis."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from assistant_queue.store.ops.reply_outbox import DueDeliveries
from assistant_queue.worker.delivery_loop import DeliveryLoop
from assistant_queue.worker.outage import Outage
from assistant_queue.worker.runtime import Runtime


class DeafStore:
    """Loses the first cancellation of a call, as `asyncio.wait_for` may."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def run(self, operation: Any) -> DueDeliveries:
        operation.close()
        is_first = not self.asked.is_set()
        self.asked.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            if not is_first:
                raise
        return DueDeliveries(due=(), next_due_in_s=0.0)


async def test_a_loop_ends_although_its_cancellation_is_lost() -> None:
    store = DeafStore()
    runtime = SimpleNamespace(delivers=True, store=store, namespace=None, outage=Outage())
    loop = DeliveryLoop([cast("Runtime", runtime)], slots=1)
    loop.start()
    await store.asked.wait()
    async with asyncio.timeout(5):
        await loop.drain(0)
    assert loop.running == 0
