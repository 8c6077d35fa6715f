"""Each outcome of a request, on each protocol: what the worker does, what the provider sees, how it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from assistant_queue import Batch
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.harness import Crash, InstantWorker
from tests.conftest import RedisServer, free_port
from tests.integration.request_matrix import (
    AGAIN,
    BACKOFF_S,
    BOTH,
    CHAT_ROWS,
    CLOSED,
    FOUND,
    HURRIED_S,
    LISTING_ROWS,
    LOST,
    PARKED,
    ROWS,
    SAID,
    UNHURRIED_S,
    ListingRow,
    Row,
    ending_orderly,
)
from tests.integration.test_crash_points import Bot

EACH = (*ROWS, *CHAT_ROWS)
CASES = [
    (row, protocol)
    for row in (*EACH, *(ending_orderly(row) for row in EACH if row.orderly))
    for protocol in row.protocols
]
TEXTS = ["one", "two"]


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as standing:
        yield standing
        assert standing.model_errors == ()


class LetGo:
    """Place of the batch when the worker first lets go of it; stops the worker there."""

    def __init__(self, bot: Bot) -> None:
        self._bot = bot
        self.then = ""
        self.wait_s = None
        self.counted = 0

    def __call__(self, name: str, _: Batch) -> None:
        ends = {"after Bury": "failed", "after Finish": "done"}
        if name == "after Postpone":
            queue = self._bot.queue
            status = queue.get_thread_status("t")
            assert status.due_at is not None
            self.then = status.state
            self.wait_s = round(status.due_at.timestamp() - self._bot.clock.ms / 1000, 3)
            progress: Any = queue._store.client.hget(
                queue._commands.namespace.keys.thread("t"), "progress"
            )
            self.counted = json.loads(progress).get("failures", 0)
            raise Crash(name)
        self.then = ends.get(name, self.then)


def work(bot: Bot, address: str | None, probe: Any = None, **options: Any) -> None:
    """Work the queue with other options, looking for the provider at another address."""
    config = bot.queue.config.model_copy(update=options)
    if address is not None:
        wrong = address.format(closed=free_port(), open=urlsplit(bot.provider.base_url).port)
        config = config.model_copy(update={"openai_base_url": wrong})
    InstantWorker(config, bot.clock, probe=probe).run_until_idle()


@pytest.mark.parametrize(
    ("row", "protocol"), CASES, ids=[f"{row.outcome}-{protocol}" for row, protocol in CASES]
)
def test_an_outcome_has_its_consequence(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, row: Row, protocol: str
) -> None:
    backoff = {"type": "fixed", "delay": BACKOFF_S}
    patience = {"request_timeout": UNHURRIED_S, "stream_idle_timeout": UNHURRIED_S}
    bot = Bot(
        one_redis.url,
        prefix,
        provider,
        protocol,
        backoff=backoff,
        retry_for=row.retry_for_s,
        run_timeout=60,
        **patience,
    )
    limits = {
        "request_timeout": row.request_timeout_s,
        "run_timeout": row.run_timeout_s,
        "stream_idle_timeout": row.stream_idle_timeout_s,
    }
    create = {
        "responses": "responses.create",
        "assistants": "runs.create",
        "chat_completions": "chat.completions.create",
    }[protocol]
    with bot.queue as queue:
        queue.add_message_to_thread("t", "warm-up")
        bot.work()
        runs, requests = len(provider.runs), len(provider.calls(create))
        receipts = [queue.add_message_to_thread("t", text) for text in TEXTS]
        provider.personality = row.personality or provider.personality
        if row.actions:
            refused_first = 1 if provider.personality.background == "refused" else 0
            provider.fault(create, *row.actions, times=row.times, nth=1 + refused_first)
        let_go = LetGo(bot)
        try:
            work(bot, row.address, let_go, **limits)
        except Crash:
            if row.lost:
                work(bot, CLOSED, **limits)
            else:
                bot.work()  # nothing is wrong any more, and nothing hurries

        assert (let_go.then, let_go.wait_s, let_go.counted) == (row.then, row.wait_s, row.counted)
        assert (len(provider.calls(create)) - requests, len(provider.runs) - runs) == (
            row.requests,
            row.runs,
        )
        is_completed = row.end == "completed"
        assert [failed.reason for failed in queue.list_failed()] == (
            [] if is_completed else [row.end]
        )
        statuses = [queue.get_message(receipt.message_id) for receipt in receipts]
        assert [one.status for one in statuses if one] == [
            "completed" if is_completed else "failed"
        ] * 2
        assert {one.attempts for one in statuses if one} == {row.attempts}
        assert bot.remembered("t", provider.runs)[1:] == (TEXTS if row.runs else []), (
            "exactly once, in order"
        )
        if is_completed:
            assert {one.reply for one in statuses if one} == {row.reply}
        if "is cut" in row.outcome:
            provider.wait_for(
                lambda oracle: (
                    [one.how for one in oracle.answers if one.op == create].count("cut") == 1
                )
            )
        completed = len([run for run in provider.runs[runs:] if run.status == "completed"])
        # If nothing is kept, an answer that no worker heard is no answer: it may be given twice,
        # and is remembered once.
        assert completed == (1 if row.runs else 0) or (
            protocol == "chat_completions" and completed == row.runs
        )
        assert provider.overlaps == ()
        status = queue.get_queue_status()
        counts = (
            status.completed_count,
            status.failed_count,
            status.active_count,
            status.waiting_count,
            status.delayed_count,
        )
        assert counts == ((3, 0, 0, 0, 0) if is_completed else (1, 2, 0, 0, 0))
        assert queue.get_thread_status("t").state == "idle"


@pytest.fixture(autouse=True)
def _the_next_second_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in sorts by places: a trial of its order has not to wait for another time."""
    monkeypatch.setattr("assistant_queue.backends.responses.list_order._NEXT_SECOND_S", 0.0)


LISTING_CASES = [
    (row, protocol, lost) for row in LISTING_ROWS for protocol in BOTH for lost in LOST
]


@pytest.mark.parametrize(
    "case",
    LISTING_CASES,
    ids=[f"{row.server}-{protocol}-{lost}" for row, protocol, lost in LISTING_CASES],
)
def test_a_lost_answer_never_doubles_a_batch_however_the_server_lists(
    one_redis: RedisServer,
    prefix: str,
    provider: StandInProvider,
    case: tuple[ListingRow, str, str],
) -> None:
    row, protocol, lost = case
    backoff = {"type": "fixed", "delay": BACKOFF_S}
    bot = Bot(
        one_redis.url,
        prefix,
        provider,
        protocol,
        backoff=backoff,
        run_timeout=60,
        request_timeout=UNHURRIED_S,
    )
    create = {"responses": "responses.create", "assistants": "runs.create"}[protocol]
    with bot.queue as queue:
        queue.add_message_to_thread("t", "warm-up")
        bot.work()
        receipts = [queue.add_message_to_thread("t", text) for text in TEXTS]
        provider.personality = row.personality
        provider.fault(create, LOST[lost])
        work(bot, None, request_timeout=HURRIED_S if "time-out" in lost else UNHURRIED_S)

        runs = [run for run in provider.runs if run.user_texts == tuple(TEXTS)]
        assert len(runs) <= 1, "one run, or none"
        statuses = [queue.get_message(receipt.message_id) for receipt in receipts]
        if [failed.reason for failed in queue.list_failed()] == ["parked"]:
            fate = PARKED
        else:
            fate = AGAIN if len(provider.calls(create)) == 3 else FOUND
            assert [(one.status, one.reply) for one in statuses if one] == [("completed", SAID)] * 2
        assert fate in row.fates(protocol, lost)
        assert bot.remembered("t", provider.runs)[1:] == (TEXTS if runs else [])
        assert queue.get_thread_status("t").state == "idle"
