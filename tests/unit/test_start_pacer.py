"""Runs that fall due together begin one after another."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from assistant_queue.worker.start_pacer import StartPacer


async def test_one_begins_at_each_turn_of_the_loop_in_the_order_they_came() -> None:
    turns = StartPacer()
    began = list[int]()
    seen = list[int]()

    async def begin(number: int) -> None:
        await turns.wait()
        began.append(number)

    waiting = [asyncio.ensure_future(begin(number)) for number in range(1000)]
    while len(began) < len(waiting):
        await asyncio.sleep(0)
        seen.append(len(began))
    assert began == list(range(1000))
    assert max(after - before for before, after in pairwise(seen)) <= 1


async def test_a_start_that_is_cancelled_while_it_waits_delays_no_other() -> None:
    turns = StartPacer()
    waiting = [asyncio.ensure_future(turns.wait()) for _ in range(10)]
    await asyncio.sleep(0)
    for one in waiting[::2]:
        one.cancel()
    ended = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
    assert [one is None for one in ended] == [False, True] * 5
