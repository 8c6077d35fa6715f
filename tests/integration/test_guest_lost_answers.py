"""Lose answers to Redis commands of a function that leaves calls open and is called again."""

from __future__ import annotations

import itertools

from assistant_queue.testing.fake_clock import START_MS
from tests.contract.test_guest_calls import LATER, REFUND, Agent, asks
from tests.integration.lossy_redis import LossyRedis
from tests.integration.test_lost_replies import LEASE_S


def test_open_calls_survive_the_loss_of_any_answer_of_redis(lossy: LossyRedis, prefix: str) -> None:
    for number in itertools.count(1, 3):  # each third: the scripts are those of every protocol
        lossy.lose(0)
        shop = Agent(lossy, f"{prefix}-{number}", asks(REFUND, LATER), lock_duration=LEASE_S)  # type: ignore[arg-type]  # it has an address
        message_id = shop.queue.add_message_to_thread("t", "hi").message_id
        lossy.lose(number)
        shop.work()
        calls = {one.tool: one.call_id for one in shop.open()}
        assert shop.queue.approve(calls["refund"], by="eve")
        assert shop.queue.answer_tool(calls["courier"], "noon")
        shop.work()
        where = f"lost the answer to command {number}: {lossy.lost}"
        status = shop.queue.get_message(message_id)
        assert (status.status, status.reply) == ("completed", "done: hi"), where
        assert (len(shop.seen), len(shop.refunds)) == (2, 1), where
        assert shop.clock.ms - START_MS < LEASE_S * 1000, where
        counted = shop.queue.get_metrics().approvals
        assert (counted["requested"], counted["approved"], counted["answered"]) == (2, 1, 1), where
        shop.queue.close()
        if lossy.lost is None:
            break
    assert number > 10
    assert lossy.kinds
