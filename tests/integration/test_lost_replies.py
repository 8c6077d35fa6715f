"""Lose the answer to each Redis command in turn: the client library repeats the command, and it must have happened once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from assistant_queue import AsyncAssistantMessageQueue
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.clock import START_MS
from assistant_queue.testing.provider import refuse
from tests.conftest import RedisServer
from tests.integration.lossy_redis import LossyRedis
from tests.integration.test_crash_points import TEXTS, Bot, check, with_tools

LEASE_S = 30.0


@pytest.fixture(params=["responses", "assistants"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as standing:
        yield standing
        assert standing.model_errors == ()


@pytest.fixture
def lossy(one_redis: RedisServer) -> Iterator[LossyRedis]:
    relay = LossyRedis(one_redis.port)
    yield relay
    relay.close()


def lose_everywhere(lossy: LossyRedis, scenario: Callable[[int], None]) -> set[str]:
    """The scenario once for each of its commands, with that command's answer lost; what kinds of commands those were."""
    kinds: set[str] = set()
    number = 0
    while True:
        number += 1
        lossy.lose(number)
        scenario(number)
        if lossy.lost is None:
            assert number > 3
            return kinds
        kinds.add(lossy.lost[0].decode().upper())


def assert_nothing_sticks(bot: Bot, where: str, *, lasted_s: float = LEASE_S) -> None:
    """A lease that nobody knows of would have to lapse on the fake clock before the queue is idle."""
    assert bot.clock.ms - START_MS < lasted_s * 1000, where
    status = bot.queue.get_thread_status("t")
    assert (status.state, status.pending_count, status.batch_id) == ("idle", 0, None), where


def test_a_batch_survives_the_loss_of_any_answer(
    one_redis: RedisServer, lossy: LossyRedis, prefix: str, provider: StandInProvider, protocol: str
) -> None:
    """Adds, claim, saves, two tool rounds, delivery and finish."""
    provider.model = with_tools

    def scenario(number: int) -> None:
        seen = len(provider.runs)
        delivered: list[str] = []
        bot = Bot(
            lossy.url, f"{prefix}-{number}", provider, protocol, lock_duration=LEASE_S, on_reply=lambda one: delivered.append(one.batch_id)
        )
        with bot.queue:
            receipts = [bot.queue.add_message_to_thread("t", f"{number} {text}") for text in TEXTS]
            bot.work()
            where = f"lost the answer to command {number}: {lossy.lost}"
            assert [receipt.duplicate for receipt in receipts] == [False] * len(TEXTS), where
            check(bot, number, provider.runs[seen:], "")
            assert_nothing_sticks(bot, where)
            assert len(delivered) == 1, where
            assert {bot.queue.get_message(one.message_id).status for one in receipts} == {"completed"}, where

    assert "EVALSHA" in lose_everywhere(lossy, scenario)


def test_control_survives_the_loss_of_any_answer(lossy: LossyRedis, prefix: str, provider: StandInProvider) -> None:
    """Edit, cancel, pause, resume, a dead letter that is retried, and one that is discarded."""

    def scenario(number: int) -> None:
        seen = len(provider.runs)
        bot = Bot(lossy.url, f"{prefix}-{number}", provider, "responses", lock_duration=LEASE_S, max_attempts=1)
        with bot.queue as queue:
            where = f"lost the answer to command {number}"
            queue.pause("t")
            first = queue.add_message_to_thread("t", f"{number} one")
            second = queue.add_message_to_thread("t", f"{number} two")
            assert queue.cancel(second.message_id) is True, where
            queue.resume("t")
            provider.fault("responses.create", refuse(400))
            bot.work()
            (failed,) = queue.list_failed()
            assert failed.message_ids == (first.message_id,), where
            queue.retry_failed(failed.batch_id)
            bot.work()
            third = queue.add_message_to_thread("t", f"{number} three")
            provider.fault("responses.create", refuse(400))
            bot.work()
            (failed,) = queue.list_failed()
            queue.discard_failed(failed.batch_id)
            where = f"lost the answer to command {number}: {lossy.lost}"
            found = [queue.get_message(one.message_id) for one in (first, second)]
            assert [one.status for one in found if one] == ["completed", "cancelled"], where
            assert queue.get_message(third.message_id) is None or queue.get_message(third.message_id).status == "failed", where
            status = queue.get_queue_status()
            counts = (status.completed_count, status.failed_count, status.active_count, status.waiting_count, status.delayed_count)
            assert counts == (1, 0, 0, 0, 0), where
            assert [run.user_texts for run in provider.runs[seen:]] == [(f"{number} one",)], where
            assert_nothing_sticks(bot, where, lasted_s=2 * LEASE_S)

    lose_everywhere(lossy, scenario)


async def test_adds_through_the_asyncio_door_survive_the_loss_of_any_answer(
    lossy: LossyRedis, prefix: str, provider: StandInProvider
) -> None:
    number = 0
    lossy.lose(0)
    while not number or lossy.lost is not None:
        number += 1
        lossy.lose(number)
        options: dict[str, Any] = {"redis_url": lossy.url, "queue_prefix": f"{prefix}-{number}", "model": "stand-in-model"}
        async with AsyncAssistantMessageQueue(openai_api_key=provider.api_key, **options) as queue:
            receipts = [await queue.add_message_to_thread("t", text) for text in TEXTS]
            assert [receipt.duplicate for receipt in receipts] == [False] * len(TEXTS), lossy.lost
            assert (await queue.get_thread_status("t")).pending_count == len(TEXTS), lossy.lost
            status = await queue.get_queue_status()
            assert status.waiting_count + status.delayed_count == len(TEXTS), lossy.lost
    assert number > 4
