"""A person answers instead of the model: the conversation on each protocol, crashes, lost answers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from assistant_queue import AssistantMessageQueue, FunctionBackend, RunResult
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.fake_clock import FakeClock
from assistant_queue.testing.harness import Crash, InstantWorker
from assistant_queue.testing.provider import Reply, ToolCalls
from assistant_queue.testing.provider.state import text_of
from tests.conftest import RedisServer, with_clock
from tests.integration.lossy_redis import LossyRedis
from tests.integration.test_crash_calls import Deaths
from tests.integration.test_crash_points import Bot, CrashAt, protocol
from tests.integration.test_lost_replies import assert_nothing_sticks, lose_everywhere

__all__ = ["protocol"]

SAID = [
    ("user", "one"),
    ("assistant", "answer to one"),
    ("user", "two"),
    ("user", "more of two"),
    ("assistant", "Jo on two"),
    ("user", "three"),
    ("assistant", "Jo on three"),
    ("user", "four"),
    ("assistant", "answer to four"),
]
ANSWERED = {"one": None, "two": "Jo", "more of two": "Jo", "three": "Jo", "four": None}


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    def model(turn: Any) -> Any:
        if turn.user_texts[-1] == "look it up" and turn.round == 0:
            return ToolCalls([("order", {})])
        return Reply(f"answer to {turn.user_texts[-1]}")

    with StandInProvider(model, latency=0) as standing:
        yield standing
        assert standing.model_errors == ()


class Desk:
    """One thread: the model answers, a person takes over and answers twice, the model answers."""

    def __init__(
        self, url: str, prefix: str, provider: StandInProvider, protocol: str, **options: Any
    ) -> None:
        self.delivered: list[tuple[str, str | None]] = []
        self.seen = len(provider.runs)
        self.delivers = options.pop("delivers", True)
        if self.delivers:
            options["on_reply"] = self.on_reply
        self.bot = Bot(url, prefix, provider, protocol, **options)
        self.queue = self.bot.queue
        self.ids: dict[str, str] = {}

    def on_reply(self, result: RunResult) -> None:
        self.delivered.append((result.batch_id, result.reply))

    def add(self, text: str) -> None:
        self.ids[text] = self.queue.add_message_to_thread("t", text).message_id

    def begin(self) -> None:
        self.add("one")
        self.bot.work()
        assert self.queue.take_over("t", "Jo")
        self.add("two")
        self.add("more of two")
        self.bot.clock.advance(6)
        self.bot.work()
        assert self.queue.get_message(self.ids["two"]).status == "queued"
        self.queue.say("t", "Jo on two", author="Jo")
        self.add("three")
        self.queue.say("t", "Jo on three")  # by the person of the takeover

    def end(self) -> None:
        self.add("four")
        assert self.queue.hand_back("t")
        self.bot.clock.advance(6)
        self.bot.work()

    def conversation(self) -> list[tuple[str, str]]:
        if self.bot.protocol == "chat_completions":
            rows = self.queue.list_messages("t", limit=100, order="asc")
            return [(row.role, row.text) for row in rows]
        (place,) = {run.conversation_id for run in self.bot.provider.runs[self.seen :]}
        return [(row["role"], text_of(row)) for row in self.bot.provider.items(place)]

    def check(self, where: str = "") -> None:
        assert self.conversation() == SAID, where
        found = {text: self.queue.get_message(name) for text, name in self.ids.items()}
        assert {one.status for one in found.values()} == {"completed"}, where
        assert {text: one.answered_by for text, one in found.items()} == ANSWERED, where
        assert found["more of two"].reply == "Jo on two", where
        if self.delivers:
            texts = [text for role, text in SAID if role == "assistant"]
            assert [reply for _, reply in dict.fromkeys(self.delivered)] == texts, where
        assert self.queue.list_failed() == [], where
        status = self.queue.get_queue_status()
        counts = (status.active_count, status.waiting_count, status.delayed_count)
        assert (status.completed_count, *counts) == (7, 0, 0, 0), where
        runs = self.bot.provider.runs[self.seen :]
        assert sum(run.status == "completed" for run in runs) == 2, where
        by = [record.answered_by for record in self.queue.get_timeline("t") if not record.run_ids]
        assert [one for one in by if one] == ["Jo", "Jo"], where


def test_it_survives_a_death_at_every_step(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, protocol: str
) -> None:
    names: list[str] = []
    for number in itertools.count(1):
        desk = Desk(one_redis.url, f"{prefix}-{number}", provider, protocol)
        with desk.queue:
            desk.begin()
            crash = CrashAt(number)
            with suppress(Crash):
                desk.bot.work(crash)
            if crash.name:
                desk.bot.work()
            desk.end()
            desk.check(f"died at point {number}, {crash.name}")
        if not crash.name:
            break
        names.append(crash.name)
    assert {"after Start", "after Finish"} <= set(names)


def test_it_survives_a_death_at_every_call(
    one_redis: RedisServer,
    prefix: str,
    provider: StandInProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deaths = Deaths(monkeypatch)
    names: list[str] = []
    for number in itertools.count(1):
        deaths.arm(0)
        desk = Desk(one_redis.url, f"{prefix}-{number}", provider, "responses", delivers=False)
        with desk.queue:
            desk.begin()
            deaths.arm(number)
            with suppress(Crash):
                desk.bot.work()
            name = deaths.name
            deaths.arm(0)
            desk.bot.work()
            desk.end()
            desk.check(f"died at call {number}, {name}")
        if not name:
            break
        names.append(name)
    assert any(name.startswith("after http") for name in names)


def test_it_survives_the_loss_of_any_answer(
    lossy: LossyRedis, prefix: str, provider: StandInProvider
) -> None:
    def scenario(number: int) -> None:
        desk = Desk(
            lossy.url,
            f"{prefix}-{number}",
            provider,
            "responses",
            delivers=False,
            lock_duration=30.0,
        )
        with desk.queue:
            lossy.lose(0)
            desk.add("one")
            desk.bot.work()
            lossy.lose(number)
            assert desk.queue.take_over("t", "Jo")
            desk.add("two")
            desk.queue.say("t", "Jo on two", author="Jo")
            desk.bot.work()
            assert desk.queue.hand_back("t")
            where = f"lost the answer to command {number}: {lossy.lost}"
            assert desk.conversation()[2:] == [("user", "two"), ("assistant", "Jo on two")], where
            status = desk.queue.get_message(desk.ids["two"])
            assert (status.reply, status.answered_by) == ("Jo on two", "Jo"), where
            assert_nothing_sticks(desk.bot, where)

    assert "EVALSHA" in lose_everywhere(lossy, scenario)


def test_a_run_with_open_calls_is_stopped_and_the_conversation_continues(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, protocol: str
) -> None:
    class Shop(Bot):
        def handle(self, *_: Any) -> list[dict[str, str]]:
            self.queue.take_over("t", "Jo")
            raise RuntimeError("the shop is closed")

    bot = Shop(one_redis.url, prefix, provider, protocol, max_attempts=1)
    with bot.queue:
        asked = bot.queue.add_message_to_thread("t", "look it up").message_id
        bot.clock.advance(6)
        bot.work()
        status = bot.queue.get_message(asked)
        assert status is not None
        assert status.status in {"cancelled", "failed"}
        bot.queue.say("t", "Jo looks it up")
        bot.work()
        bot.queue.hand_back("t")
        after = bot.queue.add_message_to_thread("t", "and?").message_id
        bot.clock.advance(6)
        bot.work()
        assert bot.queue.get_message(after).reply == "answer to and?"
        texts = [row.text for row in bot.queue.list_messages("t", limit=100, order="asc")]
        assert texts[-3:] == ["Jo looks it up", "and?", "answer to and?"]


def test_a_function_with_a_history_knows_what_was_said(one_redis: RedisServer, prefix: str) -> None:
    seen: list[list[tuple[str, str]]] = []

    def answer(batch: Any, context: Any) -> str:
        seen.append([(row.role, row.text) for row in context.history])
        return f"answer to {batch.text}"

    clock = FakeClock()
    queue = AssistantMessageQueue(
        redis_url=one_redis.url,
        queue_prefix=prefix,
        backend=FunctionBackend(answer, history=50),
        message_delay=1,
    )
    with with_clock(queue, clock) as queue:
        queue.take_over("t", "Jo")
        first = queue.add_message_to_thread("t", "two").message_id
        queue.say("t", "Jo on two")
        InstantWorker(queue.config, clock).run_until_idle()
        assert (queue.get_message(first).reply, seen) == ("Jo on two", [])
        queue.add_message_to_thread("t", "four")
        queue.hand_back("t")
        InstantWorker(queue.config, clock).run_until_idle()
        assert seen == [[("user", "two"), ("assistant", "Jo on two")]]
