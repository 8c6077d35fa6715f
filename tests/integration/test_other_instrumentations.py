"""Spans beside the usual instrumentations of `openai` and of HTTP clients: no second one of a call.

They are patched in for the length of a test, as `opentelemetry-instrument` does it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import openai
import pytest
from opentelemetry.sdk.trace import ReadableSpan

from assistant_queue import AssistantMessageQueue
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Reply, ToolCalls
from tests.conftest import PATIENCE_S, RedisServer
from tests.integration.test_tracing import Recorded, recorded, trace_of

__all__ = ["recorded"]

KINDS = {
    "official": ("opentelemetry.instrumentation.genai.openai", "OpenAIInstrumentor"),
    "openinference": ("openinference.instrumentation.openai", "OpenAIInstrumentor"),
    "aiohttp": ("opentelemetry.instrumentation.aiohttp_client", "AioHttpClientInstrumentor"),
}
OWN = "assistant_queue"


@pytest.fixture(params=KINDS)
def instrumented(request: pytest.FixtureRequest, recorded: Recorded) -> Iterator[str]:
    """One of them, exporting where the queue does."""
    module, name = KINDS[request.param]
    instrumentor = getattr(pytest.importorskip(module), name)()
    instrumentor.instrument(
        tracer_provider=recorded.tracers,
        meter_provider=recorded.meters,
        skip_dep_check=True,
    )
    yield str(request.param)
    instrumentor.uninstrument()


@pytest.fixture(params=["library", "aiohttp"])
def sender(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "library":
        monkeypatch.setenv("OPENAI_LOG", "warn")  # which aiohttp is not used with
    return str(request.param)


@pytest.fixture(params=["responses", "assistants", "chat_completions"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


Open = Callable[..., AssistantMessageQueue]


@pytest.fixture
def open_queue(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, protocol: str
) -> Iterator[Open]:
    opened: list[AssistantMessageQueue] = []

    def open_one(**options: Any) -> AssistantMessageQueue:
        chosen = (
            {"assistant_id": provider.assistant_id}
            if protocol == "assistants"
            else {"model": "gpt-5", "protocol": protocol}
        )
        opened.append(
            AssistantMessageQueue(
                redis_url=one_redis.url,
                queue_prefix=prefix,
                openai_api_key=provider.api_key,
                openai_base_url=provider.base_url,
                message_delay=0,
                **chosen,
                **options,
            )
        )
        return opened[-1]

    yield open_one
    for queue in opened:
        queue.close()


def with_a_tool(turn: Any) -> Any:
    if turn.tool_outputs:
        return Reply("It is on its way.")
    return ToolCalls([("order_status", {"order": "7"})])


def order_status(order: str) -> str:
    """Look up an order."""
    return order


def scopes(spans: Any) -> set[str]:
    return {span.instrumentation_scope.name for span in spans}


def names(recorded: Recorded) -> list[str]:
    return sorted(span.name for span in recorded.spans.get_finished_spans())


def chat(protocol: str) -> str:
    return "chat" if protocol == "assistants" else "chat gpt-5"


def test_a_batch_has_the_queues_spans_and_no_others(
    *,
    recorded: Recorded,
    instrumented: str,
    sender: str,
    protocol: str,
    open_queue: Open,
    provider: StandInProvider,
) -> None:
    provider.model = with_a_tool
    queue = recorded.of(open_queue())
    queue.tool(order_status)
    worker = queue.start_worker()
    assert queue.ask("ann", "Where is it?", timeout=PATIENCE_S) == "It is on its way."
    worker.stop()
    spans = recorded.spans.get_finished_spans()
    assert scopes(spans) == {OWN}, (instrumented, sender, names(recorded))
    found = {"send assistant", "process assistant", "execute_tool order_status", chat(protocol)}
    assert {span.name.replace(queue.config.queue_prefix, "assistant") for span in spans} == found
    chats = recorded.all(chat(protocol))
    assert len(chats) == 2
    assert sum(one.attributes.get("gen_ai.usage.output_tokens", 0) for one in chats) > 0


def test_the_instrumentations_make_spans_of_the_callers_own_requests(
    recorded: Recorded, instrumented: str, provider: StandInProvider
) -> None:
    """Or else the test above proves nothing."""

    async def ask() -> None:
        client = openai.AsyncOpenAI(api_key=provider.api_key, base_url=provider.base_url)
        async with client, aiohttp.ClientSession() as session:
            await client.responses.create(model="gpt-5", input="Hi!")
            async with session.get(provider.base_url):
                pass

    asyncio.run(ask())
    assert scopes(recorded.spans.get_finished_spans()) - {OWN}, instrumented


@pytest.mark.parametrize("protocol", ["responses", "assistants"])
def test_a_direct_call_has_one_span_below_that_of_its_caller(
    *,
    recorded: Recorded,
    instrumented: str,
    sender: str,
    protocol: str,
    open_queue: Open,
    provider: StandInProvider,
) -> None:
    queue = recorded.of(open_queue())
    with recorded.tracers.get_tracer("of the user").start_as_current_span("request") as outer:
        queue.create_message("ann", "Hi!")
        run = queue.create_run("ann")
        provider.wait_for(runs_ended=1)
        queue.get_run("ann", run.id)
        queue.list_messages("ann")
    spans = [one for one in recorded.spans.get_finished_spans() if one.name != "request"]
    assert scopes(spans) == {OWN}, (instrumented, sender, names(recorded))
    assert [one.name for one in spans] == [
        "create_message",
        chat(protocol),
        "get_run",
        "list_messages",
    ]
    assert {one.parent.span_id for one in spans} == {outer.get_span_context().span_id}
    assert {trace_of(one) for one in spans} == {outer.get_span_context().trace_id}
    assert spans[1].attributes["gen_ai.response.id"] == run.id
    assert [_operation(one) for one in spans] == [
        "create_message",
        "chat",
        "get_run",
        "list_messages",
    ]


def _operation(span: ReadableSpan) -> Any:
    assert span.attributes is not None
    return span.attributes["gen_ai.operation.name"]
