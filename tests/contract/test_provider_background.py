"""The stand-in's background responses and webhooks, as the real client sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from assistant_queue.testing.channels.platform_server import (
    AnswerWith,
    PlatformAnswer,
    PlatformRequest,
    PlatformServer,
)
from assistant_queue.testing.provider import RunFailure, StandInProvider, WebhookEndpoint


class Receiver(PlatformServer):
    """Accepts every webhook."""

    def handle(self, request: PlatformRequest) -> PlatformAnswer:
        return PlatformAnswer(204)


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as provider:
        yield provider
    assert provider.model_errors == ()


@pytest.fixture
def client(provider: StandInProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=provider.base_url, api_key=provider.api_key, max_retries=0
    ) as client:
        yield client


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def started(client: openai.OpenAI, **asked: Any) -> str:
    return client.responses.create(model="m", input="hi", background=True, **asked).id


def unwrapped(client: openai.OpenAI, endpoint: WebhookEndpoint, request: PlatformRequest) -> Any:
    return client.webhooks.unwrap(request.raw, request.headers, secret=endpoint.secret)


def test_every_end_of_a_background_response_is_a_webhook_that_the_library_reads(
    provider: StandInProvider, client: openai.OpenAI, receiver: Receiver
) -> None:
    endpoint = provider.send_webhooks(receiver.url)
    client.responses.create(model="m", input="in the foreground")
    with provider.hold() as gate:
        cancelled = started(client)
        gate.wait_reached()
        client.responses.cancel(cancelled)
    done = started(client)
    endpoint.wait_sent(2)
    provider.model = lambda _turn: RunFailure("server_error", "broken")
    failed = started(client)
    endpoint.wait_sent(3)
    events = [unwrapped(client, endpoint, request) for request in receiver.requests]
    assert {(event.type, event.data.id) for event in events} == {
        ("response.cancelled", cancelled),
        ("response.completed", done),
        ("response.failed", failed),
    }
    assert [sent.status for sent in endpoint.sent] == [204] * 3


def test_webhooks_go_wrong_as_planned(
    provider: StandInProvider, client: openai.OpenAI, receiver: Receiver
) -> None:
    endpoint = provider.send_webhooks(receiver.url)
    endpoint.misbehave("never")
    endpoint.misbehave("twice")
    endpoint.misbehave("wrong_signature")
    endpoint.misbehave("unknown_run")
    runs = []
    for count in (0, 2, 3, 4):
        runs.append(started(client))
        provider.wait_for(runs_ended=len(runs))
        endpoint.wait_sent(count)
    twice, again, forged, unknown = endpoint.sent
    assert twice.webhook == again.webhook
    assert [sent.webhook.run_id for sent in (twice, forged)] == runs[1:3]
    assert unknown.webhook.run_id not in runs
    with pytest.raises(openai.InvalidWebhookSignatureError):
        unwrapped(client, endpoint, receiver.requests[2])
    endpoint.hold()
    late = [started(client), started(client)]
    provider.wait_for(runs_ended=6)
    assert len(endpoint.sent) == 4
    endpoint.release(reverse=True)
    ordered = [run.id for run in sorted(provider.runs[-2:], key=lambda run: run.ended_at or 0)]
    assert sorted(ordered) == sorted(late)
    assert [sent.webhook.run_id for sent in endpoint.wait_sent(6)[4:]] == ordered[::-1]


def test_a_webhook_is_sent_again_until_it_is_taken(
    provider: StandInProvider, client: openai.OpenAI, receiver: Receiver
) -> None:
    endpoint = provider.send_webhooks(receiver.url)
    receiver.fault(AnswerWith(503))
    started(client)
    first, second = endpoint.wait_sent(2)
    assert (first.status, second.status) == (503, 204)
    assert first.webhook.id == second.webhook.id


def test_a_background_response_is_forgotten_after_a_while_and_its_items_are_not() -> None:
    with (
        StandInProvider(latency=0, background_kept_for=0.0) as provider,
        openai.OpenAI(base_url=provider.base_url, api_key=provider.api_key) as client,
    ):
        conversation = client.conversations.create().id
        plain = client.responses.create(model="m", input="kept").id
        response = started(client, conversation=conversation)
        provider.wait_for(runs_ended=2)
        for _ in range(2):  # its timer fires in a later iteration of the provider's loop
            provider.create_conversation()
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(response)
        assert client.responses.retrieve(plain).status == "completed"
        assert provider.assistant_texts(conversation) == ["You said: hi"]


def test_a_long_completion_window_is_for_the_background_without_a_stream(
    client: openai.OpenAI,
) -> None:
    window: Any = {"completion_window": "8h"}
    assert started(client, background_options=window)
    for asked in ({"background": True, "stream": True}, {}):
        with pytest.raises(openai.BadRequestError, match="completion window"):
            client.responses.create(model="m", input="hi", background_options=window, **asked)
    with pytest.raises(openai.BadRequestError):
        started(client, background_options={"completion_window": "1d"})
