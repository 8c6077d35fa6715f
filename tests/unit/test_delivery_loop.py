"""The loop of a worker's deliveries, without Redis."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from assistant_queue.clock import SystemClock
from assistant_queue.store.ops import reply_outbox
from assistant_queue.store.ops.reply_outbox import DUE_LIMIT, DueDeliveries, DueDelivery
from assistant_queue.worker.delivery_loop import LOOK_S, DeliveryLoop
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
        self.claimed: list[str] = []

    async def run(self, offset: Any) -> DueDeliveries:
        self.offsets.append(offset)
        page = self.line[offset : offset + DUE_LIMIT]
        due = tuple(DueDelivery(thread_id=thread, at="1") for thread in page)
        return DueDeliveries(due=due, next_due_in_s=None)

    async def claim(self, due: DueDelivery, *, guard: bool) -> Any:
        assert not guard
        self.line.remove(due.thread_id)
        self.claimed.append(due.thread_id)
        return SimpleNamespace(thread_id=due.thread_id, token="t")


def serving(line: FullLine, deliver: Any) -> Runtime:
    """Return the runtime of a worker with two channels."""
    channels = [SimpleNamespace(name=name) for name in ("away", "well")]
    return cast(
        "Runtime",
        SimpleNamespace(
            delivers=True,
            store=line,
            namespace=None,
            outage=Outage(),
            clock=SystemClock(),
            config=SimpleNamespace(channels=channels, lock_duration=30.0),
            claim_delivery=line.claim,
            deliver=deliver,
        ),
    )


async def test_due_chats_of_a_platform_that_is_busy_are_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reply_outbox, "find_due", lambda _, offset: offset)
    line = FullLine(3 * DUE_LIMIT)

    async def deliver(*_: Any, **__: Any) -> None:
        await asyncio.get_running_loop().create_future()

    runtime = serving(line, deliver)
    loop = DeliveryLoop([runtime], slots=2)
    await loop._look(runtime)
    assert line.claimed == ["away:0", "away:1", "well:1"]
    assert line.offsets == [0, DUE_LIMIT - 2, 2 * DUE_LIMIT - 2, 3 * DUE_LIMIT - 2]
    assert loop.token(runtime, "away:9") == ""
    assert loop.token(runtime, "elsewhere")
    kept = loop.token(runtime, "well:9")
    assert kept
    assert loop.token(runtime, "well:8") == "", "the slot is promised"
    loop.release(kept)
    assert loop.token(runtime, "well:8")
    await loop.drain(0)
    assert loop.running == 0
    assert loop.token(runtime, "well:9") == "", "it stops"


async def test_chats_that_were_passed_over_are_not_read_again_at_each_delivery(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reply_outbox, "find_due", lambda _, offset: offset)
    waiting = 3 * DUE_LIMIT
    line = FullLine(waiting)
    ends = asyncio.Event()

    async def deliver(lease: Any, *_: Any, **__: Any) -> None:
        if lease.thread_id == "away:0":
            await ends.wait()
            return
        await asyncio.get_running_loop().create_future()

    runtime = serving(line, deliver)
    loop = DeliveryLoop([runtime], slots=2)
    now = asyncio.get_running_loop().time()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    await loop._look(runtime)
    line.offsets.clear()
    line.line.append("well:2")
    await loop._look(runtime)
    assert line.claimed[3:] == ["well:2"], "what became due since"
    assert line.offsets == [waiting - 2]
    line.offsets.clear()
    ends.set()
    await asyncio.wait(loop._tasks, return_when=asyncio.FIRST_COMPLETED)
    await loop._look(runtime)
    assert line.claimed[4:] == ["away:2"], "the next of those that were passed over"
    assert line.offsets == [waiting - 3]
    now += LOOK_S
    await loop._look(runtime)
    assert line.offsets[1] == 0, "another worker may have handed one back"
    await loop.drain(0)
