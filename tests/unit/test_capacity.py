"""A worker's places: fewer while renewals take too much of a lease, all again when they do not."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from assistant_queue.testing.fake_clock import FakeClock
from assistant_queue.worker.capacity import SLOW_SHARE, Capacity
from tests.fast_time import fast_time

LEASE_S = 30.0
SLOW = SLOW_SHARE + 0.1
QUICK = SLOW_SHARE / 10


class Scene:
    def __init__(self, most: int) -> None:
        self.clock = FakeClock()
        self.room = Capacity(most, LEASE_S, self.clock.monotonic)

    async def fill(self) -> int:
        """Take places until there is none; how many were taken."""
        before = self.room.taken
        while self.room.taken < self.room.limit:
            await self.room.acquire()
        return self.room.taken - before

    def give_back(self, count: int) -> None:
        for _ in range(count):
            self.room.release()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


async def test_a_slow_round_halves_the_places_and_time_without_one_doubles_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene(400)
    assert await scene.fill() == 400
    scene.room.renewed(QUICK)
    assert scene.room.limit == 400
    scene.room.renewed(SLOW)
    assert scene.room.limit == 200
    for _ in range(
        5
    ):  # the runs that are there continue: that it is slow for them, too, says nothing of fewer
        scene.room.renewed(SLOW)
    assert scene.room.limit == 200
    scene.give_back(200)
    scene.room.renewed(SLOW)
    assert scene.room.limit == 100
    scene.give_back(150)
    limits = []
    for _ in range(4):
        scene.clock.advance(LEASE_S)
        await scene.room.acquire()
        limits.append(scene.room.limit)
    assert limits == [200, 400, 400, 400]
    began, ended = said(caplog)
    assert began.startswith("renewing leases took 13.0 s, and they last 30 s: ")
    assert "taking fewer runs at once (200)" in began
    assert ended == "leases are renewed in time again: taking up to 400 runs at once"


async def test_a_slow_round_puts_the_growth_off(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(8)
    await scene.fill()
    scene.room.renewed(SLOW)
    scene.give_back(8)
    for _ in range(10):
        scene.clock.advance(LEASE_S / 3)
        scene.room.renewed(SLOW)
        await scene.room.acquire()
        scene.room.release()
    assert scene.room.limit == 1
    assert len(said(caplog)) == 1


async def test_there_is_always_a_place(caplog: pytest.LogCaptureFixture) -> None:
    for most in (1, 2, 3):
        scene = Scene(most)
        for _ in range(5):
            await scene.fill()
            scene.room.renewed(5.0)
            scene.give_back(scene.room.taken)
        assert scene.room.limit == 1
        await scene.room.acquire()
    assert len(said(caplog)) == 2, "the worker with one place takes no fewer, and says nothing"


async def test_one_that_waits_is_woken_by_a_place_that_is_given_back() -> None:
    scene = Scene(1)
    await scene.room.acquire()
    waiting = asyncio.create_task(scene.room.acquire())
    await asyncio.sleep(0)
    assert not waiting.done()
    scene.room.release()
    await waiting
    assert scene.room.taken == 1


async def test_one_that_waits_is_woken_by_the_growth() -> None:
    loop: Any = asyncio.get_running_loop()
    with fast_time():
        room = Capacity(2, LEASE_S, loop.time)
        await room.acquire()
        await room.acquire()
        room.renewed(SLOW)
        room.release()
        began = loop.time()
        await room.acquire()  # nothing is given back
        assert loop.time() - began == pytest.approx(LEASE_S, abs=1)
        assert room.limit == 2


async def test_a_cancelled_wait_takes_no_place() -> None:
    scene = Scene(1)
    await scene.room.acquire()
    waiting = asyncio.create_task(scene.room.acquire())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled()
    scene.room.release()
    assert await scene.fill() == 1
