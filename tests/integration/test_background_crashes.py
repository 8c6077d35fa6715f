"""Runs in the background under deaths at every step, and with each answer of Redis lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from assistant_queue.testing import StandInProvider
from tests.conftest import RedisServer
from tests.integration.lossy_redis import LossyRedis
from tests.integration.test_crash_points import crash_everywhere, with_tools
from tests.integration.test_lost_replies import lose_in_a_batch


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as standing:
        standing.model = with_tools
        yield standing
        assert standing.model_errors == ()


@pytest.mark.parametrize("protocol", ["responses", "assistants"])
def test_rounds_in_the_background_survive_a_death_at_every_step(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, protocol: str
) -> None:
    names = crash_everywhere(one_redis.url, prefix, provider, protocol, run_mode="background")
    assert {
        "after AwaitRun",
        "after CheckRun",
        "after AskForRoom",
    } <= set(names)


def test_rounds_in_the_background_survive_the_loss_of_any_answer(
    lossy: LossyRedis, prefix: str, provider: StandInProvider
) -> None:
    assert "EVALSHA" in lose_in_a_batch(lossy, prefix, provider, "responses", run_mode="background")
