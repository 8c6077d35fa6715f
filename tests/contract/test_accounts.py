"""Results that say what they answer: labels, messages, times, attempts; stored, and read back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from assistant_queue import (
    AssistantMessageQueue,
    InvalidArgument,
    MessageStatus,
    RunResult,
    Timeline,
    ToolContext,
)
from assistant_queue.store.calls import plain, text
from assistant_queue.testing.harness import Crash
from assistant_queue.testing.provider import (
    Reply,
    RunFailure,
    ToolCalls,
    Turn,
    refuse,
    say_in_order,
)
from assistant_queue.testing.rehearsal import Rehearsal

Begin = Callable[..., Rehearsal]
ANN = {"author": "Ann", "metadata": {"chat": "7"}, "tenant": "acme"}


@pytest.fixture
def results() -> list[RunResult]:
    return []


@pytest.fixture
def tenants() -> list[str | None]:
    return []


@pytest.fixture
def begin(results: list[RunResult], tenants: list[str | None]) -> Iterator[Begin]:
    with ExitStack() as stack:

        def start(says: Any = None, **options: Any) -> Rehearsal:
            options = {"model": "m-1", "message_delay": 2.0, "on_reply": results.append} | options
            queue = AssistantMessageQueue(**options)
            stack.callback(queue.close)

            @queue.tool
            def weather(context: ToolContext) -> str:
                tenants.append(context.tenant)
                return "rain"

            return stack.enter_context(Rehearsal(queue, **({"model": says} if says else {})))

        yield start


def status_of(play: Rehearsal, message_id: str) -> MessageStatus:
    status = play.queue.get_message(message_id)
    assert status is not None
    return status


def now_of(play: Rehearsal) -> datetime:
    return datetime.fromtimestamp(play.clock.ms / 1000, tz=UTC)


def stored(play: Rehearsal) -> str:
    """Everything that Redis holds under the queue's prefix, as one text."""
    store = play.queue.core.store
    found: list[str] = []
    for raw in store.run(_each("KEYS", "*")):
        key = text(raw)
        if ":message:" in key or ":batch:" in key:
            found += map(text, store.run(_each("HGETALL", key)).values())
    return "\n".join(found)


def _each(*words: Any) -> Any:
    return (yield plain(*words))


# --- what it answers ------------------------------------------------------------------------------


def test_a_result_has_the_messages_that_it_answers_and_their_labels(
    begin: Begin, results: list[RunResult]
) -> None:
    play = begin()
    play.say("chat", "hi", **ANN)
    play.say("chat", "one question", author="Ben", metadata={"chat": "8"})
    play.say("chat", "about my order", author="Ann", metadata={"chat": "9"}, message_id="m3")
    before = now_of(play)
    play.run_until_idle()
    (result,) = results
    assert [message.text for message in result.messages] == [
        "hi",
        "one question",
        "about my order",
    ]
    assert tuple(message.id for message in result.messages) == result.message_ids
    assert [message.queued_at for message in result.messages] == [before] * 3
    assert [message.tenant for message in result.messages] == ["acme", None, None]
    assert result.authors == ("Ann", "Ben")
    assert result.metadata == {"chat": "9"}
    assert (result.tenant, result.model) == ("acme", "m-1")


def test_a_tool_is_given_the_tenant(begin: Begin, tenants: list[str | None]) -> None:
    play = begin(say_in_order(ToolCalls([("weather", {})]), Reply("It rains.")))
    play.ask("ann", "rain?", tenant="acme")
    assert tenants == ["acme"]


def test_the_model_does_not_see_the_tenant(begin: Begin) -> None:
    play = begin()
    play.ask("ann", "hello", tenant="a-tenant-of-ours")
    assert all(
        "a-tenant-of-ours" not in json.dumps(request.body) for request in play.provider.requests
    )


@pytest.mark.parametrize("tenant", ["", " ", "x" * 129, 7, "two\nlines", "\ud800"])
def test_a_tenant_is_a_short_printable_label(begin: Begin, tenant: Any) -> None:
    play = begin()
    with pytest.raises(InvalidArgument, match="tenant"):
        play.say("ann", "hello", tenant=tenant)
    with pytest.raises(InvalidArgument, match="row 0: tenant"):
        play.queue.add_messages([{"thread_id": "ann", "message": "hello", "tenant": tenant}])


def test_rows_have_tenants_too_and_an_edit_keeps_the_labels(
    begin: Begin, results: list[RunResult]
) -> None:
    play = begin()
    (receipt,) = play.queue.add_messages([{"thread_id": "ann", "message": "hello", **ANN}])
    before = now_of(play)
    assert play.queue.edit_message(receipt.message_id, "hello!")
    play.run_until_idle()
    (message,) = results[0].messages
    assert (message.text, message.tenant, message.author) == ("hello!", "acme", "Ann")
    assert message.queued_at == before


# --- the status of a message ----------------------------------------------------------------------


def test_a_status_has_labels_and_times_from_the_add_to_the_end(
    begin: Begin, results: list[RunResult]
) -> None:
    play = begin(remove_on_complete=True)
    queued = now_of(play)
    receipt = play.say("ann", "hello", **ANN)
    waiting = status_of(play, receipt.message_id)
    due = queued + timedelta(seconds=2)
    labels = ("Ann", {"chat": "7"}, "acme")
    assert (waiting.author, waiting.metadata, waiting.tenant) == labels
    assert (waiting.status, waiting.queued_at, waiting.due_at) == ("queued", queued, due)
    assert waiting.timeline == Timeline(queued_at=queued, due_at=due)
    assert (waiting.usage, waiting.delivery, waiting.approval) == (None, "none", None)
    play.run_until_idle()
    done = status_of(play, receipt.message_id)
    assert (done.author, done.metadata, done.tenant) == labels
    assert (done.queued_at, done.due_at) == (queued, due)
    assert done.usage == results[0].usage
    times = done.timeline
    assert (times.queued_at, times.due_at) == (queued, due)
    assert None not in {times.claimed_at, times.sent_at, times.first_token_at, times.completed_at}
    assert times.claimed_at == results[0].started_at
    assert times.completed_at == results[0].ended_at
    (attempt,) = times.attempts
    assert (attempt.number, attempt.run_id, attempt.error) == (1, done.run_id, None)
    assert attempt.worker is not None
    assert (attempt.started_at, attempt.ended_at) == (times.claimed_at, times.completed_at)


def test_the_due_time_of_a_waiting_message_is_that_of_its_window(begin: Begin) -> None:
    play = begin(window="sliding", max_wait=10)
    first = play.say("ann", "hello")
    play.clock.advance(1)
    second = play.say("ann", "more")
    due = now_of(play) + timedelta(seconds=2)
    assert status_of(play, first.message_id).due_at == due
    assert status_of(play, second.message_id).due_at == due


def test_a_message_in_a_back_off_shows_its_attempts(begin: Begin) -> None:
    play = begin(say_in_order(RunFailure("server_error", "no"), Reply("at last")))
    receipt = play.say("ann", "hello")
    play.run_until_idle()
    done = status_of(play, receipt.message_id)
    first, second = done.timeline.attempts
    assert (first.number, second.number) == (1, 2)
    assert first.error is not None
    assert first.error.code == "server_error"
    assert first.run_id not in {None, second.run_id}
    assert first.ended_at is not None
    assert first.ended_at < second.started_at
    assert second.run_id == done.run_id
    assert done.timeline.sent_at is not None
    assert done.timeline.sent_at >= second.started_at


def test_a_failed_message_has_its_times_and_attempts(begin: Begin) -> None:
    play = begin(lambda _: RunFailure("server_error", "no"), max_attempts=2)
    receipt = play.say("ann", "hello", **ANN)
    play.run_until_idle()
    failed = status_of(play, receipt.message_id)
    assert (failed.status, failed.tenant, failed.delivery) == ("failed", "acme", "none")
    assert [one.number for one in failed.timeline.attempts] == [1, 2]
    assert failed.timeline.claimed_at is not None
    assert failed.timeline.completed_at is None
    play.provider.model = lambda _: Reply("at last")
    play.queue.retry_failed(failed.batch_id or "")
    play.run_until_idle()
    retried = status_of(play, receipt.message_id)
    assert (retried.status, retried.queued_at) == ("completed", failed.queued_at)


def test_a_failed_message_shows_when_its_fallback_was_delivered(begin: Begin) -> None:
    play = begin(
        lambda _: RunFailure("server_error", "no"), max_attempts=1, fallback_reply="Sorry."
    )
    receipt = play.say("ann", "hello", **ANN)
    play.run_until_idle()
    failed = status_of(play, receipt.message_id)
    assert (failed.status, failed.reply, failed.delivery) == ("failed", "Sorry.", "delivered")
    assert failed.timeline.delivered_at == now_of(play)


def test_a_refusal_that_does_not_count_leaves_the_number(begin: Begin) -> None:
    play = begin()
    play.provider.fault("responses.create", refuse(429))
    receipt = play.say("ann", "hello")
    play.run_until_idle()
    attempts = status_of(play, receipt.message_id).timeline.attempts
    assert [one.number for one in attempts] == [1, 1]
    assert attempts[0].error is not None
    assert attempts[1].error is None


@pytest.mark.parametrize("point", ["before Start", "after Start", "before Watch"])
def test_an_attempt_of_a_worker_that_died_has_its_claim_and_no_end(
    begin: Begin, point: str
) -> None:
    play = begin()
    receipt = play.say("ann", "hello")

    def die(name: str, _: Any) -> None:
        if name == point:
            raise Crash

    with pytest.raises(Crash):
        play.run_until_idle(die)
    play.run_until_idle()
    done = status_of(play, receipt.message_id)
    lost, *_, last = done.timeline.attempts
    assert done.status == "completed"
    assert (lost.number, lost.ended_at) == (1, None)
    assert lost.error is not None
    assert lost.error.code == "worker_lost"
    assert lost.started_at == done.timeline.claimed_at
    assert (last.error, last.ended_at) == (None, done.timeline.completed_at)


# --- what is stored -------------------------------------------------------------------------------


def test_nothing_stored_holds_a_text_that_is_to_be_removed(begin: Begin) -> None:
    def model(turn: Turn) -> Any:
        return RunFailure("server_error", f"I cannot say {turn.user_texts[0]}") if fails else "ok"

    fails = True
    play = begin(model, remove_on_complete=True)
    receipt = play.say("ann", "a-secret-text", **ANN)

    def heal(name: str, _: Any) -> None:
        nonlocal fails
        fails = fails and not name.startswith("after Postpone")

    play.run_until_idle(heal)
    done = status_of(play, receipt.message_id)
    assert [one.error is None for one in done.timeline.attempts] == [False, True]
    assert "a-secret-text" not in stored(play)


def test_a_result_of_version_0_1_is_read_and_a_result_has_no_more_fields(begin: Begin) -> None:
    play = begin()
    receipt = play.say("ann", "hello", **ANN)
    play.run_until_idle()
    done = status_of(play, receipt.message_id)
    store = play.queue.core.store
    record = play.queue.core.namespace.keys.record(done.batch_id or "")
    plain_result = json.loads(text(store.run(_each("HGET", record, "result"))))
    assert set(plain_result) == {
        "thread_id", "run_id", "batch_id", "message_ids", "messages_processed", "status",
        "incomplete_reason", "reply", "replies", "usage", "attempts", "started_at", "ended_at",
    }  # fmt: skip
    store.run(_each("HDEL", record, "account", "delivery", "delivered_at"))
    message = play.queue.core.namespace.keys.message(receipt.message_id)
    store.run(_each("HDEL", message, "at", "labels"))
    old = status_of(play, receipt.message_id)
    assert (old.reply, old.author, old.tenant, old.queued_at) == (done.reply, None, None, None)
    assert old.timeline.attempts == ()
    assert old.timeline.completed_at == done.timeline.completed_at


# --- the journal ----------------------------------------------------------------------------------


def test_the_journal_has_what_a_result_had(begin: Begin, results: list[RunResult]) -> None:
    play = begin(say_in_order(ToolCalls([("weather", {})]), Reply("It rains.")))
    play.ask("ann", "rain?", message_id="m1", **ANN)
    (record,) = play.queue.get_timeline("ann")
    (result,) = results
    status = status_of(play, "m1")
    assert (record.batch_id, record.thread_id) == (result.batch_id, "ann")
    assert (record.message_ids, record.message_count) == (("m1",), 1)
    assert (record.outcome, record.reason, record.error_code) == ("completed", None, None)
    assert (record.attempts, record.run_ids) == (1, (result.run_id,))
    assert record.timeline == status.timeline
    assert record.timeline.delivered_at is not None
    assert (record.usage, record.model, record.tenant) == (result.usage, "m-1", "acme")
    assert record.ended_at == result.ended_at
    (call,) = record.tool_calls
    assert (call.name, call.error_code) == ("weather", None)
    assert call.call_id.startswith("call_")
    assert call.started_at is not None
    assert record.timeline.sent_at <= call.started_at <= record.ended_at  # type: ignore[operator]
    delivery = record.delivery
    assert (delivery.state, delivery.channel, delivery.tries) == ("delivered", "on_reply", 1)


def test_a_batch_that_failed_is_in_the_journal_with_the_codes_of_its_errors(begin: Begin) -> None:
    play = begin(lambda _: RunFailure(message="words of the provider"), max_attempts=2)
    play.say("ann", "hello", message_id="m1")
    play.run_until_idle()
    (record,) = play.queue.get_timeline("ann")
    (failed,) = play.queue.list_failed()
    assert (record.outcome, record.reason) == ("failed", failed.reason)
    assert (record.error_code, record.attempts) == (failed.error.code, 2)
    codes = [one.error.code for one in record.timeline.attempts if one.error]
    assert codes == ["server_error"] * 2
    assert {one.error.message for one in record.timeline.attempts if one.error} == {""}
    assert all(one.worker for one in record.timeline.attempts)
    assert len(record.run_ids) == 2
    assert record.delivery.state == "none"


def test_a_worker_that_takes_over_knows_the_calls_of_the_one_before(begin: Begin) -> None:
    play = begin(say_in_order(ToolCalls([("weather", {})]), Reply("It rains.")))
    play.say("ann", "rain?", message_id="m1")

    def die(name: str, _: Any) -> None:
        if name == "before Submit":
            raise Crash

    with pytest.raises(Crash):
        play.run_until_idle(die)
    play.run_until_idle()
    (record,) = play.queue.get_timeline("ann")
    assert [one.name for one in record.tool_calls] == ["weather"]
    assert [one.error.code for one in record.timeline.attempts if one.error] == ["worker_lost"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"limit": 0},
        {"limit": 1001},
        {"limit": True},
        {"limit": "5"},
        {"before": ""},
        {"before": 7},
        {"thread_id": ""},
        {"thread_id": None},
    ],
)
async def test_wrong_arguments_of_get_timeline_are_refused(
    begin: Begin, arguments: dict[str, Any]
) -> None:
    play = begin()
    given: dict[str, Any] = {"thread_id": "ann", **arguments}
    with pytest.raises(InvalidArgument):
        play.queue.get_timeline(**given)
    with pytest.raises(InvalidArgument):
        await play.async_queue.get_timeline(**given)


def test_both_classes_read_the_same_journal(begin: Begin) -> None:
    play = begin()
    for number in range(3):
        play.ask("ann", f"hello {number}")
    found = play.queue.get_timeline("ann", limit=2)
    older = play.queue.get_timeline("ann", 50, found[-1].batch_id)
    assert len(older) == 1

    async def read() -> None:
        queue = play.async_queue
        assert await queue.get_timeline("ann", limit=2) == found
        assert await queue.get_timeline("ann", before=found[-1].batch_id) == older

    asyncio.run(read())


def test_direct_calls_are_in_no_journal(begin: Begin) -> None:
    play = begin()
    thread_id = play.queue.create_thread()
    play.queue.create_message(thread_id, "hello")
    play.queue.create_run(thread_id)
    assert play.queue.get_timeline(thread_id) == []
