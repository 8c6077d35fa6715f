"""The loop of a worker's deliveries, without Redis."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from assistant_queue.clock import SystemClock
from assistant_queue.store.ops import reply_outbox
from assistant_queue.store.ops.reply_outbox import DUE_LIMIT, DueDeliveries, DueDelivery
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
    runtime = SimpleNamespace(
        delivers=True,
        store=store,
        namespace=None,
        outage=Outage(),
        config=SimpleNamespace(channels=()),
    )
    loop = DeliveryLoop([cast("Runtime", runtime)], slots=1)
    loop.start()
    await store.asked.wait()
    async with asyncio.timeout(5):
        await loop.drain(0)
    assert loop.running == 0


class FullLine:
    """Has many due chats of one channel, and one of another behind them."""

    def __init__(self, waiting: int) -> None:
        self.line = [f"away:{number}" for number in range(waiting)] + ["well:1"]
        self.offsets: list[int] = []

    async def run(self, offset: Any) -> DueDeliveries:
        self.offsets.append(offset)
        page = self.line[offset : offset + DUE_LIMIT]
        due = tuple(DueDelivery(thread_id=thread, at="1") for thread in page)
        return DueDeliveries(due=due, next_due_in_s=None)


async def test_due_chats_of_a_platform_that_is_busy_are_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reply_outbox, "find_due", lambda _, offset: offset)
    line = FullLine(3 * DUE_LIMIT)
    claimed: list[str] = []

    async def claim(due: DueDelivery, *, guard: bool) -> Any:
        assert not guard
        claimed.append(due.thread_id)
        return SimpleNamespace(thread_id=due.thread_id, token="t")

    async def deliver(*_: Any, **__: Any) -> None:
        await asyncio.get_running_loop().create_future()

    channels = [SimpleNamespace(name=name) for name in ("away", "well")]
    runtime = SimpleNamespace(
        delivers=True,
        store=line,
        namespace=None,
        outage=Outage(),
        clock=SystemClock(),
        config=SimpleNamespace(channels=channels, lock_duration=30.0),
        claim_delivery=claim,
        deliver=deliver,
    )
    loop = DeliveryLoop([cast("Runtime", runtime)], slots=2)
    await loop._look(cast("Runtime", runtime))
    assert claimed == ["away:0", "away:1", "well:1"]
    assert line.offsets == [0, DUE_LIMIT - 2, 2 * DUE_LIMIT - 2, 3 * DUE_LIMIT - 2]
    assert loop.token(cast("Runtime", runtime), "away:9") == ""
    assert loop.token(cast("Runtime", runtime), "elsewhere")
    kept = loop.token(cast("Runtime", runtime), "well:9")
    assert kept
    assert loop.token(cast("Runtime", runtime), "well:8") == "", "the slot is promised"
    loop.release(kept)
    assert loop.token(cast("Runtime", runtime), "well:8")
    await loop.drain(0)
    assert loop.running == 0
    assert loop.token(cast("Runtime", runtime), "well:9") == "", "it stops"
