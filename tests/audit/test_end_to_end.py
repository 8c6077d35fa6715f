"""The audit beside real workers: every batch once, with what was said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from assistant_queue import AssistantMessageQueue
from assistant_queue.integrations.audit import SqlAudit
from assistant_queue.testing import StandInProvider
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
