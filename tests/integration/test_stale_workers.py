"""A worker that loses its lease before a call does not make it; an outage does not lose a lease.

The first is suspended until another has finished: nothing may be called twice. The second writes
again: no worker has to take over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from assistant_queue import Batch, StoreUnavailable
from assistant_queue.store.ops.leases import NoLease
from assistant_queue.store.transport.stores import AsyncStore
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.fake_clock import START_MS
from assistant_queue.testing.harness import InstantWorker
from assistant_queue.worker import store_writes
from assistant_queue.worker.lease import LeaseKeeper
from assistant_queue.worker.runtime import Runtime
from tests.conftest import RedisServer
from tests.integration.test_crash_points import TEXTS, Bot, check, provider, with_tools

__all__ = ["provider"]

LEASE_S = 30.0
BEFORE = ["Start", "Answer", "Submit", "Deliver"]
CASES = [
    (step, protocol)
    for protocol in ("responses", "assistants", "chat_completions")
    for step in BEFORE
]


@pytest.fixture(autouse=True)
def nothing_renews(monkeypatch: pytest.MonkeyPatch) -> None:
    """A suspended process renews nothing; here all workers share its clock."""
    monkeypatch.setattr(LeaseKeeper, "_run", lambda _keeper: None)
    monkeypatch.setattr(LeaseKeeper, "renew_held", lambda *_: None)


class StandsStill:
    """Stands still before a step, until another worker has done all there is to do."""

    def __init__(self, bot: Bot, step: str, stood: Any) -> None:
        self._bot = bot
        self._name = f"before {step}"
        self._stood = stood
        self.count = 0

    async def __call__(self, name: str, _: Batch) -> None:
        if name != self._name or self.count:
            return
        self.count += 1
        self._bot.clock.advance(LEASE_S + 1)
        await InstantWorker(self._bot.queue.config, self._bot.clock).arun_until_idle()
        self._stood()


@pytest.mark.parametrize(
    ("step", "protocol"),
    [("OpenConversation", "responses"), ("OpenConversation", "assistants"), *CASES],
)
def test_a_worker_whose_lease_has_lapsed_makes_no_call(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, step: str, protocol: str
) -> None:
    provider.model = with_tools
    delivered: list[str] = []
    bot = Bot(
        one_redis.url,
        prefix,
        provider,
        protocol,
        lock_duration=LEASE_S,
        on_reply=lambda result: delivered.append(result.batch_id),
    )
    then: list[tuple[int, int, int]] = []

    def calls() -> tuple[int, int, int]:
        return len(provider.requests), len(bot.asked), len(delivered)

    with bot.queue as queue:
        for text in TEXTS:
            queue.add_message_to_thread("t", f"0 {text}")
        stale = StandsStill(bot, step, lambda: then.append(calls()))
        bot.work(stale)
        assert stale.count == 1
        assert [calls()] == then, "nothing was called by the one that had stood still"
        assert len(delivered) == 1
        check(bot, 0, provider.runs, "")
        assert queue.get_thread_status("t").state == "idle"


class Away:
    """Redis answers nothing for a moment, from a step on."""

    def __init__(self, step: str, times: int) -> None:
        self._name = f"before {step}"
        self._left = times
        self.refused = 0
        self._has_begun = False
        self._run = AsyncStore.run

    def begin(self, name: str, _: Batch) -> None:
        self._has_begun = self._has_begun or name == self._name

    async def run(self, store: AsyncStore, operation: Any) -> Any:
        """Instead of the store's own."""
        if self._has_begun and self._left:
            self._left -= 1
            self.refused += 1
            operation.close()
            raise StoreUnavailable("Redis is away")
        return await self._run(store, operation)


@pytest.mark.parametrize("step", ["Save", "Finish"])
def test_a_write_that_redis_does_not_answer_is_made_again_under_the_same_lease(
    one_redis: RedisServer,
    prefix: str,
    provider: StandInProvider,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    away = Away(step, times=3)

    async def run(store: AsyncStore, operation: Any) -> Any:
        return await away.run(store, operation)

    monkeypatch.setattr(AsyncStore, "run", run)
    monkeypatch.setattr(store_writes, "STORE_RETRY_S", 0.0)
    delivered: list[str] = []
    bot = Bot(
        one_redis.url,
        prefix,
        provider,
        "responses",
        lock_duration=LEASE_S,
        on_reply=lambda result: delivered.append(result.batch_id),
    )
    with bot.queue as queue:
        receipt = queue.add_message_to_thread("t", "hi")
        bot.work(away.begin)
        assert away.refused == 3
        assert bot.clock.ms - START_MS < LEASE_S * 1000, "nobody had to wait for a lease to lapse"
        assert queue.get_message(receipt.message_id).attempts == 1
        assert len(delivered) == 1
        assert len(provider.calls("responses.create")) == 1


@pytest.mark.parametrize("step", ["Save", "Finish"])
async def test_a_batch_that_outlives_its_lease_is_not_taken_over_by_its_own_worker(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, step: str
) -> None:
    bot = Bot(
        one_redis.url,
        prefix,
        provider,
        "chat_completions",
        lock_duration=LEASE_S,
        on_reply=lambda _: None,
    )
    runtime = Runtime(bot.queue.config, clock=bot.clock)
    said: list[Any] = []

    async def lapse_and_look(name: str, _: Batch) -> None:
        if name == f"before {step}" and not said:
            bot.clock.advance(LEASE_S + 1)
            said.append(await runtime.handle("t"))

    runtime.watch_steps(lapse_and_look)
    with bot.queue as queue:
        receipt = queue.add_message_to_thread("t", "hi")
        bot.clock.advance(5)
        await runtime.handle("t")
        await runtime.close()
        assert said == [NoLease(reason="refused")]
        assert queue.get_message(receipt.message_id).status == "completed"
        assert len(provider.calls("chat.completions.create")) == 1


class Refuses:
    """Redis refuses everything from a step on, for longer than a lease."""

    def __init__(self, bot: Bot, step: str, for_s: float) -> None:
        self._bot = bot
        self._name = f"before {step}"
        self._for_s = for_s
        self.until_ms = 0.0
        self.refused = 0
        self._run = AsyncStore.run

    def begin(self, name: str, _: Batch) -> None:
        if name == self._name and not self.until_ms:
            self.until_ms = self._bot.clock.ms + self._for_s * 1000

    async def run(self, store: AsyncStore, operation: Any) -> Any:
        """Instead of the store's own."""
        if self._bot.clock.ms < self.until_ms:
            self.refused += 1
            self._bot.clock.advance(1)
            operation.close()
            raise StoreUnavailable("Redis is full", refusal="OOM")
        return await self._run(store, operation)


@pytest.fixture
def refused_bot(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, float], tuple[Bot, Refuses]]:
    """A bot, and a Redis that refuses it from a step on, for so many seconds."""

    def make(step: str, for_s: float) -> tuple[Bot, Refuses]:
        bot = Bot(
            one_redis.url,
            prefix,
            provider,
            "chat_completions",
            lock_duration=LEASE_S,
            run_timeout=600,
            on_reply=lambda _: None,
        )
        refuses = Refuses(bot, step, for_s)

        async def run(store: AsyncStore, operation: Any) -> Any:
            return await refuses.run(store, operation)

        monkeypatch.setattr(store_writes, "STORE_RETRY_S", 0.0)
        monkeypatch.setattr(AsyncStore, "run", run)
        return bot, refuses

    return make


@pytest.mark.parametrize("step", ["Save", "Finish", "Deliver"])
def test_a_write_is_made_again_for_longer_than_the_lease(
    refused_bot: Callable[[str, float], tuple[Bot, Refuses]], provider: StandInProvider, step: str
) -> None:
    bot, refuses = refused_bot(step, 5 * LEASE_S)
    with bot.queue as queue:
        receipt = queue.add_message_to_thread("t", "hi")
        bot.work(refuses.begin)
        assert refuses.refused == 5 * LEASE_S
        assert queue.get_message(receipt.message_id).status == "completed"
        assert queue.get_message(receipt.message_id).attempts == 1
        assert len(provider.calls("chat.completions.create")) == 1


def test_and_given_up_at_the_batchs_deadline(
    refused_bot: Callable[[str, float], tuple[Bot, Refuses]],
) -> None:
    bot, refuses = refused_bot("Finish", 10_000)
    with bot.queue as queue:
        queue.add_message_to_thread("t", "hi")
        with pytest.raises(StoreUnavailable):  # said to what is done next
            bot.work(refuses.begin)
        config = bot.queue.config
        limit_s = config.run_timeout + 2 * config.request_timeout + 3 * config.callback_limit
        assert refuses.refused == pytest.approx(limit_s + LEASE_S, abs=5)
