"""Lose the answer to each Redis command in turn: the client library repeats the command, and it must have happened once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from assistant_queue import (
    AssistantMessageQueue,
    AsyncAssistantMessageQueue,
    Batch,
    NotReplicated,
    RetryLater,
    RunResult,
    Undeliverable,
)
from assistant_queue.client.operation_records import recorded
from assistant_queue.store.ops import operation_log, replication
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.fake_clock import START_MS, FakeClock
from assistant_queue.testing.harness import InstantWorker
from assistant_queue.testing.provider import refuse
from assistant_queue.worker import deliverers
from tests.conftest import PATIENCE_S, SERVERS, RedisServer, with_clock
from tests.integration.conftest import wait_until
from tests.integration.lossy_redis import LossyRedis
from tests.integration.redis_pair import Pair
from tests.integration.test_crash_points import TEXTS, Bot, check, with_tools
from tests.integration.test_delivery_parts import PARTS, Platform

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
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    made = Pair(SERVERS.get("path") or SERVERS["wheel"], tmp_path, monkeypatch)
    yield made
    made.close()


@pytest.fixture
def lossy_pair(pair: Pair, repeats_at_once: None) -> Iterator[LossyRedis]:
    """In front of a primary that has a replica."""
    relay = LossyRedis(pair.primary.port)
    yield relay
    relay.close()


def lose_everywhere(
    lossy: LossyRedis, scenario: Callable[[int], None], *, from_the_start: bool = True
) -> set[str]:
    """Play the scenario once for each of its round trips, with the answers of that one lost.

    Return the kinds of these commands. A scenario that does not count from its start calls
    `lossy.lose` itself.
    """
    number = 0
    while True:
        number += 1
        lossy.lose(number if from_the_start else 0)
        scenario(number)
        if lossy.lost is None:
            assert number > 3
            return lossy.kinds


def assert_nothing_sticks(bot: Bot, where: str, *, lasted_s: float = LEASE_S) -> None:
    """A lease unknown to every worker would have to lapse on the fake clock before idleness."""
    assert bot.clock.ms - START_MS < lasted_s * 1000, where
    status = bot.queue.get_thread_status("t")
    assert (status.state, status.pending_count, status.batch_id) == ("idle", 0, None), where


def lose_in_a_batch(
    lossy: LossyRedis, prefix: str, provider: StandInProvider, protocol: str, **options: Any
) -> set[str]:
    """Adds, claim, saves, two tool rounds, delivery and finish, with each answer lost in turn."""
    provider.model = with_tools

    def scenario(number: int) -> None:
        seen = len(provider.runs)
        delivered: list[str] = []
        bot = Bot(
            lossy.url,
            f"{prefix}-{number}",
            provider,
            protocol,
            lock_duration=LEASE_S,
            on_reply=lambda one: delivered.append(one.batch_id),
            **options,
        )
        with bot.queue:
            receipts = [bot.queue.add_message_to_thread("t", f"{number} {text}") for text in TEXTS]
            bot.work()
            where = f"lost the answer to command {number}: {lossy.lost}"
            assert [receipt.duplicate for receipt in receipts] == [False] * len(TEXTS), where
            check(bot, number, provider.runs[seen:], "")
            assert_nothing_sticks(bot, where)
            assert len(delivered) == 1, where
            found = [bot.queue.get_message(one.message_id) for one in receipts]
            assert {(one.status, one.attempts) for one in found if one} == {("completed", 1)}, where
            (record,) = bot.queue.get_timeline("t")
            assert record.message_ids == tuple(one.message_id for one in receipts), where
            assert (record.batch_id, record.delivery.state) == (delivered[0], "delivered"), where

    return lose_everywhere(lossy, scenario)


def test_a_batch_survives_the_loss_of_any_answer(
    lossy: LossyRedis, prefix: str, provider: StandInProvider, protocol: str
) -> None:
    assert "EVALSHA" in lose_in_a_batch(lossy, prefix, provider, protocol)


def test_a_replicated_batch_survives_the_loss_of_any_answer(
    lossy_pair: LossyRedis, prefix: str, provider: StandInProvider
) -> None:
    """The same with a real replica that every add and every request waits for."""
    kinds = lose_in_a_batch(lossy_pair, prefix, provider, "responses", durability="replicated")
    assert {"EVALSHA", "SET", "WAIT"} <= kinds


def test_control_survives_the_loss_of_any_answer(
    lossy: LossyRedis, prefix: str, provider: StandInProvider
) -> None:
    """Edit, cancel, pause, resume, flush, a dead letter that is retried, and one that is discarded."""

    def scenario(number: int) -> None:
        seen = len(provider.runs)
        bot = Bot(
            lossy.url,
            f"{prefix}-{number}",
            provider,
            "responses",
            lock_duration=LEASE_S,
            max_attempts=1,
        )
        with bot.queue as queue:
            where = f"lost the answer to command {number}"
            with recorded(queue.core, "Ann", "pause", "t"):
                queue.pause("t")
            first = queue.add_message_to_thread("t", f"{number} one")
            second = queue.add_message_to_thread("t", f"{number} two")
            assert queue.edit_message(first.message_id, f"{number} uno") is True, where
            assert queue.cancel(second.message_id) is True, where
            with recorded(queue.core, "Ann", "resume", "t"):  # by a script that Redis has
                queue.resume("t")
            queue.flush("t")
            provider.fault("responses.create", refuse(401))
            bot.work()
            (failed,) = queue.list_failed()
            assert failed.message_ids == (first.message_id,), where
            queue.retry_failed(failed.batch_id)
            bot.work()
            third = queue.add_message_to_thread("t", f"{number} three")
            provider.fault("responses.create", refuse(401))
            bot.work()
            (failed,) = queue.list_failed()
            queue.discard_failed(failed.batch_id)
            where = f"lost the answer to command {number}: {lossy.lost}"
            found = [queue.get_message(one.message_id) for one in (first, second)]
            assert [one.status for one in found if one] == ["completed", "cancelled"], where
            assert (
                queue.get_message(third.message_id) is None
                or queue.get_message(third.message_id).status == "failed"
            ), where
            status = queue.get_queue_status()
            counts = (
                status.completed_count,
                status.failed_count,
                status.active_count,
                status.waiting_count,
                status.delayed_count,
            )
            assert counts == (1, 0, 0, 0, 0), where
            metrics = queue.get_metrics()
            assert metrics.messages == {
                "queued": 3,
                "answered": 1,
                "failed": 2,
                "cancelled": 1,
                "deduplicated": 0,
            }, where
            assert metrics.batches == {
                "completed": 1,
                "incomplete": 0,
                "failed": 2,
                "stopped": 0,
            }, where
            assert sum(metrics.errors.values()) == 2, where
            noted = queue.core.store.run(operation_log.read(queue.core.namespace, 10))
            assert [one.operation for one in noted] == ["resume", "pause"], where
            assert all(one.ended and one.done for one in noted), where
            assert [run.user_texts for run in provider.runs[seen:]] == [(f"{number} uno",)], where
            assert_nothing_sticks(bot, where, lasted_s=2 * LEASE_S)

    lose_everywhere(lossy, scenario)


def test_a_stop_and_an_interruption_survive_the_loss_of_any_answer(
    lossy: LossyRedis, prefix: str, provider: StandInProvider, protocol: str
) -> None:
    """Stops before a request leaves and after its run has ended, and a message that interrupts."""

    def scenario(number: int) -> None:
        seen = len(provider.runs)
        delivered: list[str] = []
        bot = Bot(
            lossy.url,
            f"{prefix}-{number}",
            provider,
            protocol,
            lock_duration=LEASE_S,
            on_reply=lambda one: delivered.append(one.batch_id),
            max_batch_chars=1_000_000,  # so that no claim marks its batch as sent
        )

        def once(step: str, act: Callable[[], object]) -> None:
            """Work until the thread is idle; act before the first such step."""
            acts = [act]

            def probe(name: str, _batch: Batch) -> None:
                if name == f"before {step}" and acts:
                    acts.pop()()

            bot.work(probe)
            assert not acts, "the step was reached"

        with bot.queue as queue:
            ids: list[str] = []

            def add(text: str, **options: Any) -> None:
                receipt = queue.add_message_to_thread("t", f"{number} {text}", **options)
                assert not receipt.duplicate, lossy.lost
                ids.append(receipt.message_id)

            def stop() -> None:
                assert queue.stop("t") is True, lossy.lost

            add("unsent")
            once("Save", stop)
            add("answered in vain")
            once("Finish", stop)
            add("one")
            once("Save", lambda: add("two", mid_run="interrupt"))
            where = f"lost the answer to command {number}: {lossy.lost}"
            found = [queue.get_message(message_id) for message_id in ids]
            states = [one.status for one in found if one]
            assert states == ["cancelled", "cancelled", "completed", "completed"], where
            assert found[2].batch_id == found[3].batch_id, where
            assert delivered == [found[2].batch_id], where
            outcomes = [one.outcome for one in queue.get_timeline("t")]
            assert outcomes == ["completed", "stopped", "stopped"], where
            metrics = queue.get_metrics()
            assert metrics.batches == {**metrics.batches, "completed": 1, "stopped": 2}, where
            counted = {"queued": 4, "answered": 2, "cancelled": 2}
            assert metrics.messages == {**metrics.messages, **counted}, where
            assert [run.user_texts[-1] for run in provider.runs[seen:]] == [
                f"{number} answered in vain",
                f"{number} two",
            ], where
            texts = bot.remembered("t", provider.runs[seen:])
            assert texts == [
                f"{number} {text}" for text in ("unsent", "answered in vain", "one", "two")
            ], where
            assert_nothing_sticks(bot, where, lasted_s=2 * LEASE_S)

    assert "EVALSHA" in lose_everywhere(lossy, scenario)


def test_a_replicated_add_that_no_replica_has_is_never_acknowledged_whatever_is_lost(
    lossy_pair: LossyRedis,
    pair: Pair,
    prefix: str,
    provider: StandInProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A command repeated on a fresh connection writes nothing there.

    It must wait for the replica all the same.
    """
    lossy_pair.lose(0)
    bot = Bot(lossy_pair.url, prefix, provider, "responses", durability="replicated")
    with bot.queue as queue:
        queue.add_message_to_thread("t", "this one has introduced itself")
        pair.signal(signal.SIGSTOP)
        monkeypatch.setattr(
            replication, "REPLICA_WAIT_S", 0.1
        )  # no replica will answer: no need to wait long for that
        number = 0
        while not number or lossy_pair.lost is not None:
            number += 1
            lossy_pair.lose(number)
            with pytest.raises(NotReplicated):
                queue.add_message_to_thread("t", f"hello {number}", message_id=f"m{number}")
        assert {"EVALSHA", "SET", "WAIT"} <= lossy_pair.kinds
        lossy_pair.lose(2)
        with pytest.raises(NotReplicated) as many:
            queue.add_messages(
                {"thread_id": "u", "message": text, "message_id": text} for text in TEXTS
            )
        assert many.value.message_ids == TEXTS
        assert lossy_pair.lost is not None
        pair.signal(signal.SIGCONT)
        monkeypatch.undo()
        lossy_pair.lose(0)
        again = [
            queue.add_message_to_thread("t", f"hello {one + 1}", message_id=f"m{one + 1}")
            for one in range(number)
        ]
        assert [receipt.duplicate for receipt in again] == [True] * number
        assert queue.get_thread_status("t").pending_count == 1 + number


async def add_through_the_asyncio_class(
    lossy: LossyRedis, prefix: str, provider: StandInProvider, **options: Any
) -> None:
    options = {
        **options,
        "redis_url": lossy.url,
        "model": "stand-in-model",
        "openai_api_key": provider.api_key,
    }
    number = 0
    lossy.lose(0)
    while not number or lossy.lost is not None:
        number += 1
        lossy.lose(number)
        async with AsyncAssistantMessageQueue(
            queue_prefix=f"{prefix}-{number}", **options
        ) as queue:
            receipts = [await queue.add_message_to_thread("t", text) for text in TEXTS]
            assert [receipt.duplicate for receipt in receipts] == [False] * len(TEXTS), lossy.lost
            assert (await queue.get_thread_status("t")).pending_count == len(TEXTS), lossy.lost
            status = await queue.get_queue_status()
            assert status.waiting_count + status.delayed_count == len(TEXTS), lossy.lost
    assert number > 4


async def test_adds_through_the_asyncio_class_survive_the_loss_of_any_answer(
    lossy: LossyRedis, prefix: str, provider: StandInProvider
) -> None:
    await add_through_the_asyncio_class(lossy, prefix, provider)


async def test_replicated_adds_through_the_asyncio_class_survive_the_loss_of_any_answer(
    lossy_pair: LossyRedis, prefix: str, provider: StandInProvider
) -> None:
    await add_through_the_asyncio_class(lossy_pair, prefix, provider, durability="replicated")


async def answer(batch: Batch) -> str:
    return batch.messages[0].text


def test_a_delivery_in_parts_survives_the_loss_of_any_answer(
    lossy: LossyRedis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused for now, refused for good, delivered by hand in three parts, and the next one discarded."""
    platforms: list[Platform] = []
    monkeypatch.setattr(deliverers, "deliverer_of", lambda *_: platforms[-1])

    def scenario(number: int) -> None:
        platform = Platform(can_be_asked=False)
        platforms.append(platform)
        platform.refusals = [RetryLater(1.0), Undeliverable("the chat is gone")]
        clock = FakeClock()
        queue = AssistantMessageQueue(
            redis_url=lossy.url,
            queue_prefix=f"{prefix}-{number}",
            message_delay=0,
            backend=answer,
            on_reply=lambda _: None,
        )
        queue = with_clock(queue, clock)

        def work() -> None:
            InstantWorker(queue.config, clock).run_until_idle()

        with queue:
            first = queue.add_message_to_thread("t", "one").message_id
            work()
            where = f"lost the answer to command {number}: {lossy.lost}"
            (failed,) = queue.list_failed()
            assert (failed.reason, failed.message_ids) == ("undelivered", (first,)), where
            queue.retry_failed(failed.batch_id)
            work()
            platform.refusals = [Undeliverable("the chat is gone")]
            second = queue.add_message_to_thread("t", "two").message_id
            work()
            (failed,) = queue.list_failed()
            queue.discard_failed(failed.batch_id)
            where = f"lost the answer to command {number}: {lossy.lost}"
            assert platform.order == [("one", index) for index in range(PARTS)], where
            assert queue.list_failed() == [], where
            found = [queue.get_message(message_id) for message_id in (first, second)]
            assert [one.delivery for one in found if one][:1] == ["delivered"], where
            status = queue.get_queue_status()
            counts = (
                status.completed_count,
                status.delivering_count,
                status.delivered_count,
                status.undelivered_count,
            )
            assert counts == (2, 0, 1, 0), where
            assert queue.get_metrics().deliveries == {
                "on_reply": {"retried": 1, "undelivered": 2, "delivered": 1}
            }, where
            assert clock.ms - START_MS < LEASE_S * 1000, where

    assert "EVALSHA" in lose_everywhere(lossy, scenario)


GONE = -2
"""Redis' answer to PTTL of a key that does not exist."""


def test_a_delivery_that_was_given_up_and_returns_survives_the_loss_of_any_answer(
    lossy: LossyRedis, one_redis: RedisServer, prefix: str
) -> None:
    def scenario(number: int) -> None:
        calls = []
        let_go = threading.Event()
        clock = FakeClock()

        def on_reply(result: RunResult) -> None:
            calls.append(result.batch_id)
            assert let_go.wait(PATIENCE_S)

        options: dict[str, Any] = {
            "redis_url": lossy.url,
            "queue_prefix": f"{prefix}-{number}",
            "message_delay": 0,
        }
        queue = AssistantMessageQueue(
            **options, backend=answer, on_reply=on_reply, callback_timeout=0.02
        )
        queue = with_clock(queue, clock)
        with queue, redis.Redis.from_url(one_redis.url) as direct:

            def mark(batch_id: str) -> Any:
                return direct.get(f"{prefix}-{number}:delivery:{batch_id}")

            def lets_go(name: str, batch: Batch) -> None:
                # On a busy machine it may be given up before it has called; then it calls later.
                if name == "before Postpone" and calls and not let_go.is_set():
                    let_go.set()
                    wait_until(lambda: mark(batch.id) == b"done", "the call has returned")

            receipt = queue.add_message_to_thread("t", "hello")
            InstantWorker(queue.config, clock, probe=lets_go).run_until_idle()
            where = f"lost the answer to {lossy.lost}"
            assert queue.get_thread_status("t").state == "idle", where
            assert queue.wait_for_reply(receipt.message_id, 0) == "hello", where
            assert len(calls) == 1, where
            assert clock.ms - START_MS < LEASE_S * 1000, where
            if (lossy.lost or (b"",))[0] == b"SET":
                # The client may repeat it after the mark was deleted: the copy ends with results.
                left_ms = direct.pttl(f"{prefix}-{number}:delivery:{calls[0]}")
                assert left_ms == GONE or left_ms > 0, where
            else:
                assert mark(calls[0]) is None, where

    assert {"SET", "GET", "DEL"} <= lose_everywhere(lossy, scenario)
