"""The audit beside real workers: every batch once, with what was said."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from assistant_queue import (
    AssistantMessageQueue,
    Batch,
    FunctionBackend,
    GuestCall,
    OpenCalls,
    RunContext,
)
from assistant_queue.integrations.audit import SqlAudit
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Never, Reply, RunFailure
from tests.audit.conftest import rows_of
from tests.conftest import PATIENCE_S, RedisServer
from tests.integration.conftest import wait_until


def answer(batch: Any) -> str:
    """Return what a batch holds, or fail, from a function."""
    if "fail" in batch.messages[-1].text:
        raise ValueError("no such lamp")
    return "You said: " + " | ".join(message.text for message in batch.messages)


@pytest.fixture(params=["responses", "assistants", "chat_completions", "function"])
def options(
    request: pytest.FixtureRequest,
    one_redis: RedisServer,
    prefix: str,
    provider: StandInProvider,
    audit: SqlAudit,
) -> dict[str, Any]:
    shared = {
        "redis_url": one_redis.url,
        "queue_prefix": prefix,
        "openai_api_key": provider.api_key,
        "openai_base_url": provider.base_url,
        "message_delay": 0.0,
        "max_attempts": 1,
        "audit": audit,
    }
    chosen: dict[str, dict[str, Any]] = {
        "responses": {"model": "stand-in-model"},
        "assistants": {"assistant_id": provider.assistant_id},
        "chat_completions": {"model": "stand-in-model", "protocol": "chat_completions"},
        "function": {"backend": answer},
    }
    return shared | chosen[request.param]


@pytest.fixture
def queue(options: dict[str, Any]) -> Iterator[AssistantMessageQueue]:
    with AssistantMessageQueue(**options) as made:
        yield made


def test_a_batch_is_a_row_with_its_messages(queue: AssistantMessageQueue, audit: SqlAudit) -> None:
    first = queue.add_message_to_thread(
        "t", "My lamp", author="Ann", message_delay=60, metadata={"a": "ä\x00"}, tenant="acme"
    )
    second = queue.add_message_to_thread("t", "is broken", author="Ben")
    queue.flush("t")
    queue.start_worker()
    reply = queue.wait_for_reply(second.message_id, PATIENCE_S)
    wait_until(lambda: rows_of(audit, "batches"), "the row")
    (batch,) = rows_of(audit, "batches")
    status = queue.get_message(first.message_id)
    assert status is not None
    assert batch["reply"] == reply
    assert (batch["batch_id"], batch["thread_id"]) == (status.batch_id, "t")
    assert (batch["outcome"], batch["tenant"]) == ("completed", "acme")
    assert batch["claimed_at"] is not None
    assert batch["ended_at"] >= batch["claimed_at"] >= batch["queued_at"]
    assert [one["text"] for one in rows_of(audit, "messages")] == ["My lamp", "is broken"]
    ann, ben = rows_of(audit, "messages")
    assert (ann["author"], ben["author"]) == ("Ann", "Ben")
    assert (ann["message_id"], ann["metadata"]) == (first.message_id, {"a": "ä�"})


def test_a_batch_that_was_stopped_is_there(
    options: dict[str, Any], audit: SqlAudit, provider: StandInProvider
) -> None:
    provider.model = lambda turn: Never() if turn.user_texts[-1] == "wait" else Reply("hi")
    hold = threading.Event()

    def hang(batch: Batch) -> str:
        hold.wait(PATIENCE_S)
        return str(batch.id)

    if "backend" in options:
        options["backend"] = hang
    with AssistantMessageQueue(**options) as queue:
        queue.start_worker()
        receipt = queue.add_message_to_thread("t", "wait")
        wait_until(lambda: queue.get_thread_status("t").state == "active", "it runs")
        wait_until(lambda: queue.stop("t"), "there is a batch to stop")
        hold.set()
        wait_until(lambda: rows_of(audit, "batches"), "the row")
    (batch,) = rows_of(audit, "batches")
    (message,) = rows_of(audit, "messages")
    assert batch["outcome"] == "stopped"
    assert message["message_id"] == receipt.message_id


@pytest.mark.parametrize("outcome", ["completed", "failed"])
def test_messages_that_were_left_to_the_next_batch_are_not_in_this_one(
    options: dict[str, Any], audit: SqlAudit, provider: StandInProvider, outcome: str
) -> None:
    fails = outcome == "failed"
    provider.model = lambda _: RunFailure("server_error", "oops") if fails else Reply("hi")
    options |= {"separate_authors": True, "message_delay": 60.0}
    with AssistantMessageQueue(**options) as queue:
        ids = [
            queue.add_message_to_thread("t", "fail" if fails else "hello", author=author).message_id
            for author in ("Ann", "Ben")
        ]
        queue.flush("t")
        queue.start_worker()
        wait_until(lambda: len(rows_of(audit, "batches")) == 2, "both are over")
    assert {row["outcome"] for row in rows_of(audit, "batches")} == {outcome}
    assert sorted(row["message_id"] for row in rows_of(audit, "messages")) == sorted(ids)


def test_the_people_that_decided_and_answered_are_there(
    one_redis: RedisServer, prefix: str, audit: SqlAudit
) -> None:
    def asks(_: Batch, context: RunContext) -> str | OpenCalls:
        call = GuestCall(call_id="call_0", tool="refund")
        return OpenCalls([call]) if context.state is None else "no refund"

    with AssistantMessageQueue(
        backend=FunctionBackend(asks, history=5),
        redis_url=one_redis.url,
        queue_prefix=prefix,
        message_delay=0.0,
        audit=audit,
    ) as queue:
        queue.take_over("of-a-person", "mia")
        queue.add_message_to_thread("of-a-person", "hello")
        queue.say("of-a-person", "Mia here", author="mia")
        worker = queue.start_worker()
        receipt = queue.add_message_to_thread("asks", "refund me")
        wait_until(queue.list_approvals, "it is asked")
        queue.deny(queue.list_approvals()[0].call_id, by="eve")
        assert queue.wait_for_reply(receipt.message_id, PATIENCE_S) == "no refund"
        wait_until(lambda: len(rows_of(audit, "batches")) == 2, "both are written")
        worker.stop()
    rows = {row["thread_id"]: row for row in rows_of(audit, "batches")}
    (call,) = rows["asks"]["tools"]
    assert (call["name"], call["verdict"], call["settled_by"]) == ("refund", "denied", "eve")
    assert rows["asks"]["answered_by"] is None
    assert rows["of-a-person"]["answered_by"] == "mia"
    said = {row["text"]: row["answered_by"] for row in rows_of(audit, "messages")}
    assert said["hello"] == "mia"
