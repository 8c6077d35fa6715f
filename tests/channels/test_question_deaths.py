"""Questions in Telegram over deaths of workers and lost answers, at any step; a fake clock."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from assistant_queue import AssistantMessageQueue, Batch, ToolContext
from assistant_queue.channels import Telegram
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.channels import AnswerWith, LoseAnswer, StandInTelegram
from assistant_queue.testing.fake_clock import FakeClock
from assistant_queue.testing.harness import Crash, InstantWorker
from assistant_queue.testing.provider import Reply, ToolCalls, Turn
from assistant_queue.testing.provider.script import Outcome
from tests.channels.rigs import hurried
from tests.channels.test_telegram_buttons import STAFF
from tests.conftest import RedisServer, with_clock
from tests.integration.lossy_redis import LossyRedis
from tests.integration.test_lost_replies import LEASE_S
from tests.integration.test_secrets import everything_in

FORBIDDEN = {"ok": False, "error_code": 403, "description": "Forbidden: bot was kicked"}


def model(turn: Turn) -> Outcome:
    """Refund; a call that a worker left open before is no round, but its text comes again."""
    if turn.round:
        return Reply(f"It says: {turn.tool_outputs[0].output}")
    return ToolCalls([("refund", {"order": "7"})])


class StoppingClock(FakeClock):
    """A clock that ends a worker instead of letting it wait."""

    is_stopping = False

    def advance(self, seconds: float) -> None:
        if self.is_stopping:
            raise Crash("nothing is due")
        super().advance(seconds)


class Desk:
    """A queue with a Telegram channel that asks the staff; each worker is another process."""

    def __init__(
        self,
        url: str,
        prefix: str,
        provider: StandInProvider,
        platform: StandInTelegram,
        **options: Any,
    ) -> None:
        provider.model = model
        self.url = url
        self.prefix = prefix
        self.provider = provider
        self.platform = platform
        self.options = options
        self.clock = StoppingClock()
        self.done: list[str] = []
        self.queue = self.process()
        platform.chat(5)
        self.staff = platform.chat(STAFF)
        self.before = len(self.staff.messages)

    def process(self) -> AssistantMessageQueue:
        """The queue as another process has it: its channel remembers nothing."""
        channel = hurried(
            Telegram(
                self.platform.token,
                api_url=self.platform.url,
                stream="off",
                secret_token="s",
                approval_chat=STAFF,
            )
        )
        channel._group_interval = 0.0
        queue = AssistantMessageQueue(
            redis_url=self.url,
            queue_prefix=self.prefix,
            openai_api_key=self.provider.api_key,
            openai_base_url=self.provider.base_url,
            model="any",
            message_delay=0,
            lock_duration=LEASE_S,
            channels=[channel],
            **self.options,
        )

        @queue.tool(approval="Refund {order}?")
        def refund(order: str, context: ToolContext) -> str:
            self.done.append(context.call_id)
            return f"refunded {order}"

        return with_clock(queue, self.clock)

    def messages(self) -> list[Any]:
        return list(self.staff.messages.values())[self.before :]

    def work(self, probe: Callable[[str, Batch], Any] | None = None) -> None:
        """A new process works until nothing is left, or it dies; the question then still waits."""
        with self.process() as queue:
            InstantWorker(queue.config, self.clock, probe=probe).run_until_idle()

    def park(self) -> None:
        """A batch parks, and its worker dies before it asks."""

        def probe(name: str, _: Batch) -> None:
            if name == "after ParkBatch":
                raise Crash(name)

        self.queue.add_message_to_thread("telegram:5", "refund 7")
        with pytest.raises(Crash):
            self.work(probe)

    def work_until_asked(self) -> None:
        """A new process asks, and ends when it would wait for the answer."""
        self.clock.is_stopping = True
        with pytest.raises(Crash):
            self.work()
        self.clock.is_stopping = False
        assert self.messages()

    def call_id(self) -> str:
        (found,) = self.queue.list_approvals()
        return found.call_id

    def is_settled(self, line: str, count: int = 1) -> bool:
        return [one.text.rpartition("\n")[2] for one in self.messages()] == [
            line
        ] * count and not any(one.buttons for one in self.messages())

    def left(self) -> int:
        return self.queue._store.client.zcard(self.queue._commands.namespace.keys.questions)


@pytest.fixture
def platform() -> Iterator[StandInTelegram]:
    with StandInTelegram() as running:
        yield running


@pytest.fixture
def desk(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, platform: StandInTelegram
) -> Iterator[Desk]:
    desk = Desk(one_redis.url, prefix, provider, platform)
    with desk.queue:
        yield desk


def test_a_question_is_asked_by_the_next_worker_if_its_own_dies_before(
    desk: Desk, one_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "assistant_queue")
    desk.park()
    assert desk.messages() == []
    assert desk.left() == 1
    approve_when_asked(desk)
    assert desk.is_settled("✅ Approved by jo")
    assert desk.messages()[0].text.startswith("❓ Refund 7?\nIn telegram:5")
    assert len(desk.done) == 1
    assert desk.left() == 0
    kept = everything_in(one_redis, f"*{desk.prefix}:call:*")
    for secret in ("Refund", "order", desk.platform.token):
        assert secret not in kept
        assert secret not in caplog.text


def approve_when_asked(desk: Desk, crash: Callable[[str, Batch], Any] | None = None) -> None:
    """Work with new processes until the batch is over; approve when the staff has the question."""
    for _ in range(10):
        is_asked = False

        def probe(name: str, batch: Batch) -> None:
            nonlocal is_asked
            if crash is not None:
                crash(name, batch)
            if name == "after Ask" and desk.queue.list_approvals():
                is_asked = True
                desk.queue.approve(desk.call_id(), by="jo")

        with suppress(Crash):
            desk.work(probe)
            if not is_asked and not desk.queue.list_approvals():
                return
    raise AssertionError("the batch does not end")


def test_a_worker_that_dies_at_any_step_of_a_question_leaves_it_to_the_next(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, platform: StandInTelegram
) -> None:
    met: list[str] = []
    for number in itertools.count(1):
        passed = 0
        died: list[str] = []

        def crash(name: str, _: Batch, number: int = number, died: list[str] = died) -> None:
            nonlocal passed
            passed += name != "before Deliver"
            if passed == number and not died:
                died.append(name)
                raise Crash(name)

        desk = Desk(one_redis.url, f"{prefix}-{number}", provider, platform)
        with desk.queue:
            desk.queue.add_message_to_thread("telegram:5", "refund 7")
            approve_when_asked(desk, crash)
            where = f"died {died}: {platform.chat(5).shown[-1:]}"
            # A worker that dies with the message on its way is the one reason for a second one.
            count = len(desk.messages())
            assert count == 1 + (died == ["after Ask"]), where
            assert not desk.messages()[-1].buttons, where
            is_shown = desk.messages()[-1].text.endswith("✅ Approved by jo")
            assert is_shown or died == ["before Show"], where  # its texts are gone by then
            assert desk.queue.list_approvals() == [], where
            assert desk.left() == 0, where
        if not died:
            break
        met += died
    assert {"after ParkBatch", "before Ask", "after Ask", "before Show", "after Show"} <= {*met}


def test_a_question_survives_the_loss_of_any_answer_of_redis(
    one_redis: RedisServer,
    prefix: str,
    provider: StandInProvider,
    platform: StandInTelegram,
) -> None:
    lossy = LossyRedis(one_redis.port)
    try:
        for number in itertools.count(1):
            lossy.lose(0)
            desk = Desk(lossy.url, f"{prefix}-{number}", provider, platform)
            with desk.queue:
                desk.queue.add_message_to_thread("telegram:5", "refund 7")
                begins = [True]

                def begin(
                    name: str, _: Batch, number: int = number, begins: list[bool] = begins
                ) -> None:
                    if name == "before ParkBatch" and begins:
                        begins.pop()
                        lossy.lose(number)

                approve_when_asked(desk, begin)
                where = f"lost the answer to command {number}: {lossy.lost}"
                assert desk.is_settled("✅ Approved by jo"), (where, desk.messages())
                assert len(desk.done) == 1, where
                assert desk.left() == 0, where
            if lossy.lost is None:
                break
            lossy.lose_no_more()
        assert number > 10
    finally:
        lossy.close()


def test_a_call_that_was_settled_before_its_question_comes_is_not_asked_about(desk: Desk) -> None:
    desk.park()
    assert desk.queue.deny(desk.call_id(), reason="no", by="jo")
    desk.work()
    assert desk.messages() == []
    assert desk.done == []
    assert desk.left() == 0


@pytest.mark.parametrize("how", ["denied", "answered", "expired", "withdrawn"])
def test_buttons_of_a_call_that_is_settled_elsewhere_go_whichever_worker_asked(
    desk: Desk, how: str
) -> None:
    desk.queue.add_message_to_thread("telegram:5", "refund 7")
    desk.work_until_asked()
    call_id = desk.call_id()
    if how == "denied":
        desk.queue.deny(call_id, by="jo")
    elif how == "answered":
        desk.queue.answer_tool(call_id, "done by hand")
    elif how == "withdrawn":
        desk.queue.stop("telegram:5")
    desk.work()  # of an open call: until it expires
    lines = {
        "denied": "🚫 Denied by jo",
        "answered": "☑️ Answered",
        "expired": "⌛ Expired",
        "withdrawn": "In telegram:5",  # its texts are gone with it: only the buttons are removed
    }
    assert desk.is_settled(lines[how]), desk.messages()
    assert desk.left() == 0


@pytest.mark.parametrize("accepts", [True, False])
def test_a_question_with_an_unknown_outcome_is_sent_again(desk: Desk, accepts: bool) -> None:
    desk.platform.fault(LoseAnswer(accept=accepts), of="sendMessage")
    desk.platform.fault(AnswerWith(502), of="sendMessage", times=2)
    desk.queue.add_message_to_thread("telegram:5", "refund 7")
    approve_when_asked_twice(desk)
    assert len(desk.messages()) == 1 + accepts
    assert desk.messages()[-1].text.endswith("✅ Approved by jo")
    assert desk.left() == 0


def approve_when_asked_twice(desk: Desk) -> None:
    tries = 0

    def probe(name: str, _: Batch) -> None:
        nonlocal tries
        tries += name == "after Ask"
        if name == "after Ask" and tries == 4:
            desk.queue.approve(desk.call_id(), by="jo")

    desk.work(probe)
    assert tries == 4


def test_a_platform_that_refuses_for_ever_is_not_asked_again_and_the_call_stays_listed(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.platform.fault(AnswerWith(403, FORBIDDEN), of="sendMessage")
    asked = 0

    def probe(name: str, _: Batch) -> None:
        nonlocal asked
        asked += name == "after Ask"
        if name == "after Ask":
            assert desk.queue.list_approvals()

    desk.queue.add_message_to_thread("telegram:5", "refund 7")
    with caplog.at_level(logging.ERROR):
        desk.work(probe)  # until the call expires
    assert asked == 1
    assert desk.messages() == []
    assert "could not ask, and does not try again" in caplog.text
    assert desk.platform.token not in caplog.text
    assert desk.left() == 0
    assert desk.done == []


def test_a_call_over_which_many_workers_have_died_is_not_asked_about_any_more(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant_queue.worker.channel_questions.MAX_CHANNEL_DEATHS", 3)
    desk.park()
    deaths = 0

    def die(name: str, _: Batch) -> None:
        nonlocal deaths
        if name == "before Ask":
            deaths += 1
            raise Crash(name)

    for _ in range(3):
        with pytest.raises(Crash):
            desk.work(die)
    desk.work(die)
    assert deaths == 3
    assert desk.messages() == []
    assert desk.left() == 0
