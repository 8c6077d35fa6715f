"""Runs in the background: parked while the provider works, woken by a webhook or a poll."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from assistant_queue import AssistantMessageQueue, ConfigurationError
from assistant_queue.errors import InvalidPayload, NotAuthenticated
from assistant_queue.testing.provider import (
    Never,
    Reply,
    StandInProvider,
    ToolCalls,
    WebhookEndpoint,
    say_in_order,
)
from tests.conftest import RedisServer
from tests.integration.conftest import wait_until

SECRET = "whsec_" + "c2VjcmV0" * 4


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as provider:
        yield provider
    assert provider.model_errors == ()
    assert provider.overlaps == ()


@pytest.fixture
def endpoint(provider: StandInProvider) -> WebhookEndpoint:
    """An endpoint that sends nothing by itself."""
    endpoint = provider.send_webhooks("http://127.0.0.1:9/never", SECRET)
    endpoint.hold()
    return endpoint


def queue_of(
    server: RedisServer, prefix: str, provider: StandInProvider, **options: Any
) -> AssistantMessageQueue:
    if "assistant_id" not in options:
        options.setdefault("model", "any")
    return AssistantMessageQueue(
        redis_url=server.url,
        queue_prefix=prefix,
        openai_api_key=provider.api_key,
        openai_base_url=provider.base_url,
        message_delay=0,
        run_mode="background",
        webhook_secret=SECRET,
        **options,
    )


@contextmanager
def answering(queue: AssistantMessageQueue) -> Iterator[None]:
    """Answer with a worker on a thread of this process."""
    worker = queue.start_worker()
    try:
        yield
    finally:
        worker.stop()


@pytest.mark.parametrize("protocol", ["responses", "assistants"])
def test_polls_take_a_run_with_tools_to_its_end(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, protocol: str
) -> None:
    provider.model = say_in_order(ToolCalls([("clock", {})]), Reply("It is noon."))
    options = {"assistant_id": provider.assistant_id} if protocol == "assistants" else {}
    with queue_of(one_redis, prefix, provider, **options) as queue:

        @queue.tool
        def clock() -> str:
            """Tell the time."""
            return "noon"

        with answering(queue):
            assert queue.ask("ann", "What time is it?", timeout=60) == "It is noon."
        assert not any(run.stream for run in provider.runs)
        with redis.Redis.from_url(one_redis.url) as client:
            assert not client.exists(f"{prefix}:runs")
        assert queue.get_thread_status("ann").state == "idle"


def test_polls_of_a_run_at_work_are_no_news(
    one_redis: RedisServer, prefix: str, provider: StandInProvider
) -> None:
    with queue_of(one_redis, prefix, provider) as queue:
        started: list[str] = []
        queue.on("started", lambda batch: started.append(batch.id))
        after = queue.open_events("ann")
        with answering(queue):
            with provider.hold():
                receipt = queue.add_message_to_thread("ann", "hi")
                wait_until(
                    lambda: len(provider.calls("responses.retrieve")) >= 2, "it is polled twice"
                )
            assert queue.wait_for_reply(receipt.message_id, timeout=60) == "You said: hi"
        types: list[str] = []
        for event in queue.events("ann", after=after):
            types.append(event.type)
            if event.type == "reply_ready":
                break
        assert (types.count("batch_claimed"), types.count("run_started")) == (1, 1)
        assert len(started) == 1
        (entry,) = queue.get_timeline("ann")
        assert entry.attempts == 1
        assert len(entry.timeline.attempts) == 2  # the start, and the look that saw the end


NO_POLLS: dict[str, Any] = {"poll_rate": 0.004}
"""The first poll of a run comes after 250 s."""


def parked(queue: AssistantMessageQueue, thread: str) -> bool:
    return queue.get_thread_status(thread).state == "parked"


def test_a_webhook_wakes_a_parked_batch_once(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, endpoint: WebhookEndpoint
) -> None:
    with queue_of(one_redis, prefix, provider, **NO_POLLS) as queue, answering(queue):
        with provider.hold() as gate:
            receipt = queue.add_message_to_thread("ann", "hi")
            (run_id,) = gate.wait_reached()
            wait_until(lambda: parked(queue, "ann"), "the batch is parked")
            status = queue.get_queue_status()
            assert (status.parked_count, status.active_count) == (1, 0)
            assert "works on it in the background: run" in str(queue.explain("ann"))
        provider.wait_for(runs_ended=1)
        body, headers = endpoint.signed(run_id)
        forged = {**headers, "webhook-signature": "v1,bm8="}
        for given in (forged, {}, {**headers, "webhook-timestamp": "1"}):
            with pytest.raises(NotAuthenticated):
                queue.handle_provider_webhook(body, given)
        with pytest.raises(InvalidPayload):
            queue.handle_provider_webhook(b"x" * 100_000, headers)
        assert not queue.handle_provider_webhook(*endpoint.signed("resp_of_another"))
        assert not queue.handle_provider_webhook(*endpoint.signed(run_id, "batch.completed"))
        assert queue.handle_provider_webhook(body, headers)
        assert not queue.handle_provider_webhook(body, headers)
        assert queue.wait_for_reply(receipt.message_id, timeout=30) == "You said: hi"
        assert not queue.handle_provider_webhook(*endpoint.signed(run_id))
        assert len(provider.calls("responses.retrieve")) == 1


def test_a_run_in_the_air_is_stopped_and_interrupted(
    one_redis: RedisServer, prefix: str, provider: StandInProvider
) -> None:
    provider.model = say_in_order(Never(), Reply("both"), Never())
    with queue_of(one_redis, prefix, provider, **NO_POLLS) as queue, answering(queue):
        first = queue.add_message_to_thread("ann", "one")
        wait_until(lambda: parked(queue, "ann"), "the batch is parked")
        queue.add_message_to_thread("ann", "two", mid_run="interrupt")
        wait_until(
            lambda: len(provider.runs) == 2 and parked(queue, "ann"), "the second run is in the air"
        )
        assert provider.runs[0].status == "cancelled"
        assert provider.runs[1].user_texts == ("one", "two")
        assert not queue.get_message(first.message_id).reply
        provider.wait_for(runs_ended=2)
        with redis.Redis.from_url(one_redis.url, decode_responses=True) as client:
            (run_id,) = client.hkeys(f"{prefix}:runs")
            assert run_id == provider.runs[1].id
        endpoint = provider.send_webhooks("http://127.0.0.1:9/never", SECRET)
        endpoint.hold()
        assert queue.handle_provider_webhook(*endpoint.signed(run_id))
        assert queue.wait_for_reply(first.message_id, timeout=30) == "both"
        last = queue.add_message_to_thread("bob", "three")
        wait_until(lambda: parked(queue, "bob"), "the batch is parked")
        assert queue.stop("bob")
        wait_until(
            lambda: queue.get_message(last.message_id).status == "cancelled", "it is stopped"
        )
        assert provider.runs[-1].status == "cancelled"


def test_what_the_provider_keeps_no_more_is_read_from_the_conversation(
    one_redis: RedisServer, prefix: str
) -> None:
    with (
        StandInProvider(latency=0, background_kept_for=0) as provider,
        queue_of(one_redis, prefix, provider) as queue,
        answering(queue),
    ):
        assert queue.ask("ann", "hi", timeout=60) == "You said: hi"
        assert len(provider.runs) == 1


def test_no_run_is_started_that_could_not_be_polled_in_time_unless_webhooks_come(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, endpoint: WebhookEndpoint
) -> None:
    options = {"poll_rate": 0.003}  # one run is polled every 333 s: there is no room for another
    with queue_of(one_redis, prefix, provider, **options) as queue, answering(queue):
        provider.model = lambda turn: Never() if turn.user_texts == ("hi",) else Reply("done")
        queue.add_message_to_thread("ann", "hi")
        wait_until(lambda: parked(queue, "ann"), "the batch is parked")
        # Later than a worker believes what it has read of the runs at work.
        waiting = queue.add_message_to_thread("bob", "ho", message_delay=0.5)
        wait_until(lambda: parked(queue, "bob"), "the batch is parked")
        assert len(provider.runs) == 1
        assert "no run was sent" in queue.explain(waiting.message_id).because
        assert queue.get_message(waiting.message_id).attempts == 0


def test_a_run_that_does_not_end_is_given_up_at_its_deadline(
    one_redis: RedisServer, prefix: str, provider: StandInProvider
) -> None:
    provider.model = lambda _turn: Never()
    options: dict[str, Any] = {"run_timeout": 1.5, "max_attempts": 1}
    with queue_of(one_redis, prefix, provider, **options) as queue, answering(queue):
        receipt = queue.add_message_to_thread("ann", "hi")
        wait_until(lambda: queue.get_message(receipt.message_id).status == "failed", "it fails")
        assert [run.status for run in provider.runs] == ["cancelled"]
        (failed,) = queue.list_failed()
        assert failed.error.code == "run_expired"


def test_a_completion_window_goes_out_without_a_stream(
    one_redis: RedisServer, prefix: str, provider: StandInProvider
) -> None:
    window = {"background_options": {"completion_window": "8h"}}
    with queue_of(one_redis, prefix, provider, run_options=window) as queue:
        assert queue.core.config.run_limit == 600 + 8 * 3600
        with answering(queue):
            assert queue.ask("ann", "hi", timeout=30) == "You said: hi"
    (request,) = provider.calls("responses.create")
    assert request.body is not None
    assert request.body["background_options"] == {"completion_window": "8h"}
    assert "stream" not in request.body


def test_the_mode_is_refused_where_no_provider_continues_alone() -> None:
    for options, words in (
        ({"model": "m", "protocol": "chat_completions"}, "a chat completion ends with its request"),
        ({"backend": lambda _texts: "hi"}, "works in the worker itself"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            AssistantMessageQueue(run_mode="background", **options)  # type: ignore[arg-type]
    window = {"background_options": {"completion_window": "2h"}}
    with pytest.raises(ConfigurationError, match="needs run_mode='background'"):
        AssistantMessageQueue(model="m", run_options=window)
    with (
        AssistantMessageQueue(model="m", run_mode="background") as queue,
        pytest.raises(ConfigurationError, match="webhook_secret is missing"),
    ):
        queue.handle_provider_webhook(b"{}", {})
