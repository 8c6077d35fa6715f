"""Lose the answer to each Redis command, and to each request, of a batch that is parked.

From the park on: the commands before it are those of `test_lost_replies`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest

from assistant_queue import Batch, ToolContext
from assistant_queue.core.flow import leaving
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import drop_connection
from tests.conftest import RedisServer
from tests.integration.approval_bot import model
from tests.integration.lossy_redis import LossyRedis
from tests.integration.test_background import NO_POLLS, SECRET
from tests.integration.test_crash_points import Bot
from tests.integration.test_lost_replies import LEASE_S, assert_nothing_sticks

SETTLES = {
    "approved": "refunded 3\n7 left",
    "denied": '{"error": "the function was not called: it was denied: no"}\n7 left',
    "expired": '{"error": "the function was not called: no answer came in time"}\n7 left',
}
TIMEOUT_S = 20.0
FOR_EVER_S = 1e10
"""The provider's clock is years ahead of the fake one."""


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(model, latency=0) as standing:
        yield standing
        assert standing.model_errors == ()
        assert standing.overlaps == ()


class Shop(Bot):
    """A queue with a function that asks first, and the story of one batch that is parked."""

    def __init__(
        self, url: str, prefix: str, provider: StandInProvider, protocol: str, verdict: str
    ) -> None:
        options = {"lock_duration": LEASE_S, "approval_timeout": TIMEOUT_S}
        super().__init__(url, prefix, provider, protocol, **options)
        self.verdict = verdict
        self.calls: list[str] = []
        self.settled: list[bool] = []
        self.asked: list[str] = []
        self.seen = len(provider.runs)
        self.queue.on("approval_requested", lambda one: self.asked.append(one.call_id))

        @self.queue.tool(approval="Refund {amount}?")
        def refund(amount: int, context: ToolContext) -> str:
            self.calls.append(context.call_id)
            return f"refunded {amount}"

        @self.queue.tool
        def stock() -> str:
            return "7 left"

    def live_through(
        self, loses: Callable[[], object], is_past: Callable[[], object] = lambda: None
    ) -> None:
        """Park, and lose answers from then on; settle the call; answer."""

        begins = [loses]

        def probe(name: str, _: Batch) -> None:
            if name in {"before Cancel", "before ParkBatch"} and begins:
                begins.pop()()
            if name == "after ParkBatch" and not self.settled:
                self.settle()
            if name == "after CloseCalls":
                is_past()

        self.message_id = self.queue.add_message_to_thread("t", "refund").message_id
        self.work(probe)

    def settle(self) -> None:
        self.settled.append(True)
        if self.verdict == "expired":
            return
        (found,) = self.queue.list_approvals()
        approves = self.verdict == "approved"
        act: Any = self.queue.approve if approves else self.queue.deny
        self.settled += [act(found.call_id, **({} if approves else {"reason": "no"}))]
        self.settled += [not act(found.call_id)]

    def check(self, where: str) -> None:
        status = self.queue.get_message(self.message_id)
        assert status is not None
        assert (status.status, status.reply) == ("completed", SETTLES[self.verdict]), where
        assert all(self.settled), where
        assert len(self.calls) == (self.verdict == "approved"), where
        assert len(self.asked) == 1, where
        assert self.queue.list_approvals() == [], where
        assert self.remembered("t", self.provider.runs[self.seen :]) == ["refund"], where
        (record,) = self.queue.get_timeline("t")
        assert [one.verdict for one in record.tool_calls if one.name == "refund"] == [
            self.verdict
        ], where
        asked = self.queue.get_metrics().approvals
        assert {name: count for name, count in asked.items() if count} == {
            "requested": 1,
            self.verdict: 1,
        }, where
        assert_nothing_sticks(self, where, lasted_s=LEASE_S + TIMEOUT_S)


@pytest.mark.parametrize(
    ("protocol", "verdict"),
    [("responses", "approved"), ("chat_completions", "denied"), ("assistants", "expired")],
)
def test_a_call_that_waits_survives_the_loss_of_any_answer_of_redis(
    lossy: LossyRedis, prefix: str, provider: StandInProvider, protocol: str, verdict: str
) -> None:
    for number in itertools.count(1):
        shop = Shop(lossy.url, f"{prefix}-{number}", provider, protocol, verdict)
        with shop.queue:
            lossy.lose(0)
            shop.live_through(partial(lossy.lose, number), lossy.lose_no_more)
            shop.check(f"lost the answer to command {number}: {lossy.lost}")
        if lossy.lost is None:
            break
    assert "EVALSHA" in lossy.kinds
    assert number > 10


REQUESTS = {
    "responses": [["responses.create"], ["responses.create", "items.list"]],
    "chat_completions": [["chat.completions.create"]],
    "assistants": [["runs.submit_tool_outputs"], ["runs.submit_tool_outputs", "runs.retrieve"]],
    "assistants-late": [["runs.cancel"], ["runs.create"], ["runs.cancel", "runs.retrieve"]],
}
"""Requests of a batch after its park, of which the answers are lost together. `late`: its run
would expire, and is ended first."""


def test_a_call_that_waits_survives_the_loss_of_any_answer_of_the_provider(
    one_redis: RedisServer,
    prefix: str,
    provider: StandInProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for way, chosen in REQUESTS.items():
        with monkeypatch.context() as patch:
            if "late" in way:
                patch.setattr(leaving, "MARGIN_S", FOR_EVER_S)
            for operations in chosen:
                name = f"{prefix}-{way}-{'-'.join(operations)}"
                shop = Shop(one_redis.url, name, provider, way.partition("-")[0], "approved")
                with shop.queue:
                    lose_answers_of_the_provider(shop, operations)


def lose_answers_of_the_provider(shop: Shop, operations: Sequence[str]) -> None:
    provider = shop.provider
    met = {one: len(provider.calls(one)) for one in operations}

    def loses() -> None:
        for one in operations:
            provider.fault(one, drop_connection(accept=True))

    shop.live_through(loses)
    provider.clear_faults()
    assert all(len(provider.calls(one)) > count for one, count in met.items()), operations
    status = shop.queue.get_message(shop.message_id)
    assert status is not None
    assert status.status == "completed", operations
    assert "refunded 3" in str(status.reply), operations
    assert "7 left" in str(status.reply), operations
    assert len(shop.calls) == 1, operations
    texts = shop.remembered("t", provider.runs[shop.seen :])
    assert texts == ["refund"], operations
    assert shop.queue.list_failed() == [], operations


def test_a_webhook_survives_the_loss_of_any_answer(
    lossy: LossyRedis, prefix: str, provider: StandInProvider
) -> None:
    endpoint = provider.send_webhooks("http://127.0.0.1:9/never", SECRET)
    endpoint.hold()
    for number in itertools.count(1):
        lossy.lose(0)
        bot = Bot(
            lossy.url,
            f"{prefix}-{number}",
            provider,
            "responses",
            lock_duration=LEASE_S,
            run_mode="background",
            webhook_secret=SECRET,
            **NO_POLLS,
        )
        heard: list[bool] = []

        def probe(
            name: str,
            _: Batch,
            bot: Bot = bot,
            number: int = number,
            heard: list[bool] = heard,
        ) -> None:
            if name == "after AwaitRun" and not heard:
                body, headers = endpoint.signed(provider.runs[-1].id)
                lossy.lose(number)
                heard.append(bot.queue.handle_provider_webhook(body, headers))
                heard.append(bot.queue.handle_provider_webhook(body, headers))
                lossy.lose_no_more()

        with bot.queue as queue:
            message_id = queue.add_message_to_thread("t", f"{number} hi").message_id
            bot.work(probe)
            where = f"lost the answer to command {number}: {lossy.lost}"
            status = queue.get_message(message_id)
            assert status is not None
            assert (status.status, status.reply) == ("completed", f"You said: {number} hi"), where
            assert heard == [True, False], where
            assert_nothing_sticks(bot, where)  # no poll was due before
        if lossy.lost is None:
            break
    assert number > 3
