"""The reply when no answer will come: `fallback_reply`, and the errors it does not hide."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from assistant_queue import (
    AssistantMessageQueue,
    AsyncAssistantMessageQueue,
    Batch,
    BatchFailed,
    ConfigurationError,
    ErrorInfo,
    MessageStatus,
    RunResult,
)
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.harness import Crash
from assistant_queue.testing.provider import Reply, RunFailure, never_answer
from tests.conftest import PATIENCE_S, RedisServer
from tests.integration.test_crash_points import Bot

SORRY = "Sorry, I am not there at the moment. A person will read this."


class Made:
    """Bots with a fallback, and what they delivered."""

    def __init__(self, url: str, prefix: str, provider: StandInProvider) -> None:
        self.url = url
        self.prefix = prefix
        self.provider = provider
        self.delivered: list[RunResult] = []
        self.bots: list[Bot] = []

    def __call__(self, **options: Any) -> Bot:
        given = {
            "fallback_reply": SORRY,
            "max_attempts": 2,
            "on_reply": self.delivered.append,
            **options,
        }
        protocol = given.pop("protocol", "responses")
        bot = Bot(self.url, f"{self.prefix}-{len(self.bots)}", self.provider, protocol, **given)
        self.bots.append(bot)
        return bot


@pytest.fixture
def made(one_redis: RedisServer, prefix: str, provider: StandInProvider) -> Iterator[Made]:
    found = Made(one_redis.url, prefix, provider)
    yield found
    for bot in found.bots:
        bot.queue.close()


def status_of(bot: Bot, message_id: str) -> MessageStatus:
    status = bot.queue.get_message(message_id)
    assert status is not None
    return status


@pytest.mark.parametrize("protocol", ["responses", "assistants", "chat_completions"])
def test_after_the_last_attempt_the_fallback_is_the_reply_and_the_failure_stays(
    made: Made, protocol: str
) -> None:
    made.provider.model = lambda _: RunFailure("server_error", "down")
    bot = made(protocol=protocol)
    ids = [bot.queue.add_message_to_thread("t", text).message_id for text in ("one", "two")]
    bot.work()
    assert bot.queue.wait_for_reply(ids[0], timeout=0) == SORRY
    for message_id in ids:
        status = status_of(bot, message_id)
        assert (status.status, status.reply, status.replies, status.fallback) == (
            "failed",
            SORRY,
            (SORRY,),
            True,
        )
        assert (status.error.message, status.attempts) == ("down", 2)
    (failed,) = bot.queue.list_failed()
    assert (failed.reason, failed.message_ids) == ("attempts", tuple(ids))
    (told,) = made.delivered
    assert (told.fallback, told.status, told.reply, told.message_ids) == (
        True,
        "failed",
        SORRY,
        tuple(ids),
    )
    assert (told.batch_id, told.attempts, told.messages_processed) == (failed.batch_id, 2, 2)
    assert bot.queue.get_queue_status().failed_count == 2

    made.provider.model = lambda turn: Reply("You said: " + " | ".join(turn.user_texts))
    bot.queue.retry_failed(failed.batch_id)
    bot.work()
    assert bot.queue.wait_for_reply(ids[0], timeout=0) == "You said: one | two"
    assert status_of(bot, ids[1]).fallback is False
    assert [(one.fallback, one.reply) for one in made.delivered[1:]] == [
        (False, "You said: one | two")
    ]
    assert bot.queue.list_failed() == []


def test_a_discarded_batch_keeps_what_was_said_instead(made: Made) -> None:
    made.provider.model = lambda _: RunFailure()
    bot = made()
    receipt = bot.queue.add_message_to_thread("t", "hello")
    bot.work()
    bot.queue.discard_failed(bot.queue.list_failed()[0].batch_id)
    assert (
        status_of(bot, receipt.message_id).status,
        status_of(bot, receipt.message_id).reply,
    ) == ("failed", SORRY)


def test_without_a_fallback_the_failure_is_raised_as_ever(made: Made) -> None:
    made.provider.model = lambda _: RunFailure()
    bot = made(fallback_reply=None)
    receipt = bot.queue.add_message_to_thread("t", "hello")
    bot.work()
    with pytest.raises(BatchFailed):
        bot.queue.wait_for_reply(receipt.message_id, timeout=0)
    assert (status_of(bot, receipt.message_id).fallback, made.delivered) == (False, [])


def test_a_parked_batch_is_reported_too(made: Made) -> None:
    bot = made(request_timeout=0.3, run_timeout=1, retry_for=1)
    made.provider.fault("responses.create", never_answer())
    made.provider.fault(
        "*", never_answer(accept=False), times=None, when=lambda request: request.method == "GET"
    )
    receipt = bot.queue.add_message_to_thread("t", "hello")
    bot.work()
    status = status_of(bot, receipt.message_id)
    assert (status.error.code, status.reply, status.fallback) == ("parked", SORRY, True)
    assert [one.reason for one in bot.queue.list_failed()] == ["parked"]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_callable_is_given_the_batch_and_the_error(made: Made, is_async: bool) -> None:
    asked: list[tuple[Batch, ErrorInfo]] = []

    def say(batch: Batch, error: ErrorInfo) -> str:
        asked.append((batch, error))
        return f"Sorry {batch.authors[0]}, {error.message}"

    async def say_later(batch: Batch, error: ErrorInfo) -> str:
        await asyncio.sleep(0)
        return say(batch, error)

    made.provider.model = lambda _: RunFailure("server_error", "no luck")
    bot = made(fallback_reply=say_later if is_async else say)
    receipt = bot.queue.add_message_to_thread("t", "hello", author="Ann")
    bot.work()
    assert bot.queue.wait_for_reply(receipt.message_id, timeout=0) == "Sorry Ann, no luck"
    ((batch, error),) = asked
    assert (batch.text, error.code) == ("hello", "server_error")


def raising(_batch: Batch, _error: ErrorInfo) -> str:
    msg = "no idea either"
    raise RuntimeError(msg)


async def never_ending(_batch: Batch, _error: ErrorInfo) -> str:
    await asyncio.Event().wait()
    return "too late"


@pytest.mark.parametrize(
    ("function", "word"),
    [
        (raising, "no idea either"),
        (never_ending, "did not return within 0.3 s; it was cancelled"),
        (lambda _b, _e: 7, "returned int"),
        (lambda _b, _e: None, ""),
        (lambda _b, _e: " ", ""),
    ],
)
def test_a_callable_that_has_nothing_to_say_is_no_fallback(
    made: Made, caplog: pytest.LogCaptureFixture, function: Any, word: str
) -> None:
    made.provider.model = lambda _: RunFailure()
    bot = made(fallback_reply=function, callback_timeout=0.3)
    receipt = bot.queue.add_message_to_thread("t", "hello")
    with caplog.at_level(logging.WARNING):
        bot.work()
    with pytest.raises(BatchFailed):
        bot.queue.wait_for_reply(receipt.message_id, timeout=0)
    assert word in caplog.text
    assert (
        status_of(bot, receipt.message_id).fallback,
        made.delivered,
        len(bot.queue.list_failed()),
    ) == (False, [], 1)


# --- without a provider ---------------------------------------------------------------------------


def test_without_a_provider_every_message_gets_the_fallback_at_once(
    made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    bot = made()
    whole = bot.queue.config
    bot.queue.config = whole.model_copy(update={"openai_api_key": None})
    receipt = bot.queue.add_message_to_thread("t", "hello")
    before = bot.clock.ms
    bot.work()
    assert bot.clock.ms - before <= 5000, "the window, and no back-off"
    assert bot.queue.wait_for_reply(receipt.message_id, timeout=0) == SORRY
    (failed,) = bot.queue.list_failed()
    assert (failed.reason, failed.error.code, failed.attempts) == (
        "not_configured",
        "not_configured",
        0,
    )
    assert "OPENAI_API_KEY" in failed.error.message
    assert "OPENAI_API_KEY" in caplog.text
    assert made.provider.requests == ()

    bot.queue.retry_failed(failed.batch_id)
    bot.queue.config = whole
    bot.work()
    assert bot.queue.wait_for_reply(receipt.message_id, timeout=0) == "You said: hello"


async def test_a_worker_starts_without_a_provider_only_if_it_has_something_to_say(
    one_redis: RedisServer, prefix: str
) -> None:
    options: dict[str, Any] = {
        "redis_url": one_redis.url,
        "queue_prefix": prefix,
        "message_delay": 0,
    }
    with AssistantMessageQueue(**options, fallback_reply=SORRY) as queue:
        with pytest.raises(ConfigurationError, match="no backend is configured"):
            queue.get_thread("t")  # a direct call has no backend to ask
        queue.start_worker()
        assert queue.ask("t", "hello", timeout=PATIENCE_S) == SORRY
    async with AsyncAssistantMessageQueue(**options, fallback_reply=SORRY) as queue:
        await queue.start_worker()
        assert await queue.ask("t", "hello again", timeout=PATIENCE_S) == SORRY
    with (
        AssistantMessageQueue(**options) as queue,
        pytest.raises(ConfigurationError, match="no backend is configured"),
    ):
        queue.start_worker()


@pytest.fixture(autouse=True)
def _no_key_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ASSISTANT_ID", "ASSISTANT_QUEUE_MODEL"):
        monkeypatch.delenv(name, raising=False)


# --- deaths ---------------------------------------------------------------------------------------


def test_a_death_at_any_step_on_the_way_sends_nothing_again_and_says_it_once(made: Made) -> None:
    made.provider.model = lambda _: RunFailure("server_error", "down")
    number = 0
    passed = ["start"]
    while passed[-1:]:
        number += 1
        asked: list[str] = []
        made.delivered.clear()
        runs = len(made.provider.runs)
        bot = made(
            max_attempts=1,
            fallback_reply=lambda batch, _error, asked=asked: asked.append(batch.id) or SORRY,
        )
        receipt = bot.queue.add_message_to_thread("t", "hello")
        passed = []
        dies = _DiesOnTheWay(number, passed)
        try:
            bot.work(dies)
        except Crash:
            bot.work()
        where = f"died at point {number}: {passed}"
        assert bot.queue.wait_for_reply(receipt.message_id, timeout=0) == SORRY, where
        assert len(made.provider.runs) - runs == 1, where
        assert len(bot.queue.list_failed()) == 1, where
        assert {one.reply for one in made.delivered} == {SORRY}, where
        assert 1 <= len(made.delivered) <= 2, where
        assert len({one.batch_id for one in made.delivered}) == 1, where
        assert 1 <= len(asked) <= 2, where
        assert bot.queue.get_thread_status("t").state == "idle", where
    assert number > 6


class _DiesOnTheWay:
    """Dies at the k-th point behind the run's failure."""

    def __init__(self, number: int, passed: list[str]) -> None:
        self.left = number
        self.passed = passed
        self.is_on = False

    def __call__(self, name: str, _: Batch) -> None:
        if name == "before FallBack" or self.is_on:
            self.is_on = True
            self.left -= 1
            if self.left == 0:
                self.passed.append(name)
                raise Crash(name)


@pytest.mark.parametrize("step", ["FallBack", "Deliver"])
def test_a_function_that_kills_every_worker_is_given_up_and_the_batch_is_buried(
    made: Made, step: str
) -> None:
    made.provider.model = lambda _: RunFailure()
    bot = made(fallback_reply=(lambda _b, _e: SORRY), max_attempts=1)
    receipt = bot.queue.add_message_to_thread("t", "hello")

    def die(name: str, _: Batch) -> None:
        if name == f"before {step}":
            raise Crash(name)

    lives = 0
    while True:
        lives += 1
        try:
            bot.work(die)
        except Crash:
            assert lives < 10
            continue
        break
    assert lives == 4
    assert len(made.provider.runs) == 1
    assert len(bot.queue.list_failed()) == 1
    assert status_of(bot, receipt.message_id).reply == (SORRY if step == "Deliver" else None)


def test_a_delivery_that_fails_is_tried_again_and_the_text_stays_readable(made: Made) -> None:
    made.provider.model = lambda _: RunFailure()
    tried: list[str] = []

    def refuse(result: RunResult) -> None:
        tried.append(result.batch_id)
        msg = "the chat is not there"
        raise OSError(msg)

    bot = made(on_reply=refuse, max_attempts=3, delivery_attempts=3)
    receipt = bot.queue.add_message_to_thread("t", "hello")
    bot.work()
    assert len(tried) == 3
    assert len(made.provider.runs) == 3
    assert status_of(bot, receipt.message_id).reply == SORRY
    assert len(bot.queue.list_failed()) == 1
