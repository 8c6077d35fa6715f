"""Texts of `say` and quiet messages: crashes at every step and call, lost answers, real workers."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from assistant_queue import RunResult
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.harness import Crash
from assistant_queue.testing.provider import Reply
from assistant_queue.testing.provider.state import text_of
from assistant_queue.worker.runtime import Runtime
from tests.conftest import RedisServer
from tests.integration.lossy_redis import LossyRedis
from tests.integration.test_crash_calls import Deaths
from tests.integration.test_crash_points import Bot, CrashAt, protocol
from tests.integration.test_lost_replies import assert_nothing_sticks, lose_everywhere

__all__ = ["protocol"]


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    def model(turn: Any) -> Reply:
        return Reply(f"answer to {turn.user_texts[-1]}")

    with StandInProvider(model, latency=0) as standing:
        yield standing
        assert standing.model_errors == ()


class Talk:
    """One thread: a quiet message, a reply of `say`, a message, a notice; and what became of it."""

    def __init__(
        self,
        url: str,
        prefix: str,
        provider: StandInProvider,
        protocol: str,
        *,
        delivers: bool = True,
        **options: Any,
    ) -> None:
        self.delivered: list[tuple[str, str | None]] = []
        self.seen = len(provider.runs)
        self.delivers = delivers
        if delivers:
            options["on_reply"] = self.on_reply
        self.bot = Bot(url, prefix, provider, protocol, **options)
        self.queue = self.bot.queue
        self.ids: list[str] = []

    def on_reply(self, result: RunResult) -> None:
        self.delivered.append((result.batch_id, result.reply))

    def begin(self) -> None:
        queue = self.queue
        quiet = queue.add_message_to_thread("t", "quiet", wants_reply=False)
        receipts = [quiet, queue.say("t", "said"), queue.add_message_to_thread("t", "one")]
        self.ids = [receipt.message_id for receipt in receipts]
        queue.say("t", "note", kind="notice")

    def say_more(self) -> None:
        self.ids.append(self.queue.say("t", "said later").message_id)

    def conversation(self) -> list[tuple[str, str]]:
        if self.bot.protocol == "chat_completions":
            rows = self.queue.list_messages("t", limit=100, order="asc")
            return [(row.role, row.text) for row in rows]
        runs = self.bot.provider.runs[self.seen :]
        (place,) = {run.conversation_id for run in runs}
        return [(row["role"], text_of(row)) for row in self.bot.provider.items(place)]

    def check(self, where: str) -> None:
        later = [("assistant", "said later")] * (len(self.ids) - 3)
        assert self.conversation() == [
            ("user", "quiet"),
            ("assistant", "said"),
            ("user", "one"),
            ("assistant", "answer to one"),
            *later,
        ], where
        if self.delivers:
            shown = [reply for _, reply in dict.fromkeys(self.delivered)]
            texts = ["said", "note", "answer to one", *(text for _, text in later)]
            assert sorted(map(str, shown)) == sorted(texts), where
            assert shown[0] == "said", where
        assert self.queue.list_failed() == [], where
        found = [self.queue.get_message(message_id) for message_id in self.ids]
        assert {status.status for status in found if status} == {"completed"}, where
        assert [status.delivery for status in found if status][1] == "delivered", where
        status = self.queue.get_queue_status()
        counts = (status.completed_count, status.active_count, status.waiting_count)
        assert counts == (len(self.ids), 0, 0), where
        assert (status.delayed_count, status.delivering_count) == (0, 0), where


def test_it_survives_a_death_at_every_step(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, protocol: str
) -> None:
    names: list[str] = []
    for number in itertools.count(1):
        talk = Talk(one_redis.url, f"{prefix}-{number}", provider, protocol)
        with talk.queue:
            talk.begin()
            crash = CrashAt(number)
            with suppress(Crash):  # a death of the delivery alone is that of a thread beside
                talk.bot.work(crash)
            if crash.name:
                talk.say_more()
                talk.bot.work()
            talk.check(f"died at point {number}, {crash.name}")
        if not crash.name:
            break
        names.append(crash.name)
    assert {"after Start", "after Finish"} <= set(names)


@pytest.mark.parametrize("protocol", ["responses", "assistants"])
def test_it_survives_a_death_at_every_call(
    one_redis: RedisServer,
    prefix: str,
    provider: StandInProvider,
    protocol: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deaths = Deaths(monkeypatch)
    names: list[str] = []
    for number in itertools.count(1):
        deaths.arm(0)
        # Without deliveries, which run beside the batch, the calls are the same each time.
        talk = Talk(one_redis.url, f"{prefix}-{number}", provider, protocol, delivers=False)
        with talk.queue:
            talk.begin()
            deaths.arm(number)
            with suppress(Crash):
                talk.bot.work()
            name = deaths.name
            deaths.arm(0)
            talk.bot.work()
            talk.check(f"died at call {number}, {name}")
        if not name:
            break
        names.append(name)
    written = [name for name in names if name.endswith(("/items", "/messages"))]
    assert {name.split()[0] for name in written} == {"before", "after"}


def test_it_survives_the_loss_of_any_answer(
    lossy: LossyRedis, prefix: str, provider: StandInProvider
) -> None:
    def scenario(number: int) -> None:
        talk = Talk(
            lossy.url,
            f"{prefix}-{number}",
            provider,
            "responses",
            delivers=False,
            lock_duration=30.0,
        )
        with talk.queue:
            talk.begin()
            talk.bot.work()
            where = f"lost the answer to command {number}: {lossy.lost}"
            talk.check(where)
            assert len(provider.runs) == number, where
            assert_nothing_sticks(talk.bot, where)

    assert "EVALSHA" in lose_everywhere(lossy, scenario)


async def test_a_worker_that_delivers_nothing_leaves_nothing_in_the_outbox(
    one_redis: RedisServer, prefix: str, provider: StandInProvider
) -> None:
    talk = Talk(one_redis.url, prefix, provider, "responses", delivers=False)
    with talk.queue:
        receipt = await asyncio.to_thread(talk.queue.say, "t", "said")
        runtime = Runtime(talk.queue.config, clock=talk.bot.clock)
        try:
            await runtime.handle("t")  # as a stock worker, which has no delivery loop
        finally:
            await runtime.close()
        status = await asyncio.to_thread(talk.queue.get_message, receipt.message_id)
        assert status is not None
        assert (status.status, status.delivery) == ("completed", "delivered")
