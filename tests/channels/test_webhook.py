"""The webhook channel: an independent library checks its signatures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import standardwebhooks

from assistant_queue.channels import Part, PartNotSent, PartSent, Signer, Webhook
from assistant_queue.errors import InvalidArgument, InvalidPayload, NotAuthenticated, RetryLater
from assistant_queue.testing.channels import AnswerWith, LoseAnswer, MemoryProgress, WebhookReceiver
from assistant_queue.testing.channels.conformance import RecordingQueue, result_of


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as running:
        yield running


@pytest.fixture
def channel(receiver: WebhookReceiver) -> Webhook:
    return Webhook(receiver.url, receiver.secret)


async def test_another_library_accepts_the_signature(
    receiver: WebhookReceiver, channel: Webhook
) -> None:
    await channel.deliver(result_of(channel, "ann", "Grüß dich"), MemoryProgress())
    (request,) = receiver.requests
    event = standardwebhooks.Webhook(receiver.secret).verify(request.raw, dict(request.headers))
    assert event["type"] == "reply.created"
    assert event["data"]["reply"] == "Grüß dich"
    assert event["data"]["thread_id"] == "webhook:ann"
    assert event["data"]["batch_id"] == "b1"
    assert request.headers["webhook-id"] == "b1.0"
    await channel.close()


def test_a_request_signed_by_another_library_is_accepted(
    receiver: WebhookReceiver, channel: Webhook
) -> None:
    from datetime import UTC, datetime

    body = json.dumps(
        {"type": "message.created", "data": {"id": "1", "address": "ann", "text": "Hi"}}
    )
    now = datetime.now(UTC)
    headers = {
        "Webhook-Id": "m1",
        "Webhook-Timestamp": str(int(now.timestamp())),
        "Webhook-Signature": standardwebhooks.Webhook(receiver.secret).sign("m1", now, body),
    }
    queue = RecordingQueue()
    channel.receive(queue, body, headers)
    assert [(one[0], one[2]) for one in queue.messages] == [("webhook:ann:1", "Hi")]


async def test_a_result_without_a_text_is_delivered_too(
    receiver: WebhookReceiver, channel: Webhook
) -> None:
    await channel.deliver(result_of(channel, "ann", None), MemoryProgress())
    assert receiver.replies == [None]
    await channel.close()


async def test_one_connection_carries_many_replies(
    receiver: WebhookReceiver, channel: Webhook
) -> None:
    for number in range(3):
        assert isinstance(await channel.send("ann", Part(text="Hi", key=f"b{number}.0")), PartSent)
    assert len(receiver.requests) == 3
    assert len({one.headers["webhook-id"] for one in receiver.requests}) == 3
    await channel.close()


async def test_a_lost_answer_is_sent_again_and_recognised(
    receiver: WebhookReceiver, channel: Webhook
) -> None:
    receiver.fault(LoseAnswer(accept=True))
    progress = MemoryProgress()
    result = result_of(channel, "ann", "Hello")
    with pytest.raises(RetryLater):
        await channel.deliver(result, progress)
    await channel.deliver(result, progress)
    assert receiver.replies == ["Hello"]
    assert receiver.repeated == ["b1.0"]
    await channel.close()


@pytest.mark.parametrize("status", [302, 400, 401, 404, 500, 503])
async def test_any_other_answer_is_tried_again(
    receiver: WebhookReceiver, channel: Webhook, status: int
) -> None:
    headers = {"location": f"{receiver.url}/elsewhere"} if status == 302 else {}
    receiver.fault(AnswerWith(status, headers=headers))
    outcome = await channel.send("ann", Part(text="Hi", key="b1.0"))
    assert outcome == PartNotSent(f"the receiver answered {status}")
    assert len(receiver.requests) == 1, "redirects are not followed"
    assert isinstance(await channel.send("ann", Part(text="Hi", key="b1.0")), PartSent)
    await channel.close()


def test_edits_and_deletions(receiver: WebhookReceiver, channel: Webhook) -> None:
    queue = RecordingQueue()
    for kind, text in (
        ("message.created", "Helo"),
        ("message.edited", "Hello"),
        ("message.deleted", ""),
    ):
        channel.receive(queue, *receiver.message("ann", text, message_id="1", kind=kind))
        if kind != "message.deleted":
            assert [one[2] for one in queue.messages] == [text]
    assert queue.messages == []


def test_an_old_request_is_refused(receiver: WebhookReceiver, channel: Webhook) -> None:
    body, _ = receiver.message("ann", "Hi", message_id="1")
    for age in (-301.0, 301.0):
        import time

        old = Signer(receiver.secret, now=lambda age=age: time.time() - age)
        with pytest.raises(NotAuthenticated, match="five minutes"):
            channel.receive(RecordingQueue(), body, old.sign("m1", body))


def test_a_changed_body_is_refused(receiver: WebhookReceiver, channel: Webhook) -> None:
    body, headers = receiver.message("ann", "Hi", message_id="1")
    with pytest.raises(NotAuthenticated, match="wrong"):
        channel.receive(RecordingQueue(), body.replace(b"Hi", b"Ho"), headers)


def test_a_parsed_body_cannot_be_checked(receiver: WebhookReceiver, channel: Webhook) -> None:
    body, headers = receiver.message("ann", "Hi", message_id="1")
    with pytest.raises(InvalidPayload, match="raw"):
        channel.receive(RecordingQueue(), json.loads(body), headers)


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"type": "x", "data": {}},
        {"type": "message.created", "data": []},
        {"type": "message.created", "data": {"id": 1, "address": "a", "text": "x"}},
        {"type": "message.created", "data": {"id": "1", "text": "x"}},
        {"type": "message.created", "data": {"id": "1", "address": "a", "text": 5}},
        {"type": "message.created", "data": {"id": "1", "address": "a", "author": 5}},
        {"type": "message.created", "data": {"id": "1", "address": "a", "metadata": []}},
    ],
)
def test_an_event_that_is_none_is_refused(
    receiver: WebhookReceiver, channel: Webhook, event: Any
) -> None:
    body = json.dumps(event).encode()
    with pytest.raises(InvalidPayload):
        channel.receive(RecordingQueue(), body, Signer(receiver.secret).sign("m1", body))


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_short", "whsec_%%%", "x" * 200])
def test_a_secret_that_is_none_is_refused(secret: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        Webhook("https://example.com", secret)
    assert not secret or secret in {"whsec_", ""} or secret not in str(refusal.value)


@pytest.mark.parametrize("url", ["", "example.com", "ftp://example.com", "https://"])
def test_an_address_that_is_none_is_refused(url: str, receiver: WebhookReceiver) -> None:
    with pytest.raises(InvalidArgument, match="url"):
        Webhook(url, receiver.secret)
