"""Lose the answer to each Redis command of a stop, an interrupt and a steer: it happens once.

From the wish on until the thread is idle: other commands are those of `test_lost_replies`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from assistant_queue.testing import StandInProvider
from tests.integration.lossy_redis import LossyRedis
from tests.integration.test_crash_points import Bot
from tests.integration.test_lost_replies import LEASE_S, lose_everywhere
from tests.integration.test_steering_crash_points import (
    WISHES,
    live_through,
    with_tools_but_late,
)


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as standing:
        standing.model = with_tools_but_late
        yield standing
        assert standing.model_errors == ()


@pytest.mark.parametrize("protocol", ["responses", "assistants"])
@pytest.mark.parametrize("wish", WISHES)
def test_a_wish_survives_the_loss_of_any_answer(
    lossy: LossyRedis, prefix: str, provider: StandInProvider, protocol: str, wish: str
) -> None:
    def scenario(number: int) -> None:
        seen = len(provider.runs)
        bot = Bot(lossy.url, f"{prefix}-{number}", provider, protocol, lock_duration=LEASE_S)
        with bot.queue:
            place = ("before Answer", 1)
            live_through(bot, wish, place, 0, seen, lambda: lossy.lose(number), lossy.lose_no_more)

    assert "EVALSHA" in lose_everywhere(lossy, scenario, from_the_start=False)
