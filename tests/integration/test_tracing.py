"""Spans and metrics of a queue, by OpenTelemetry's own SDK, in rehearsals and in real workers."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from opentelemetry import context as otel_context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from assistant_queue import AssistantMessageQueue, FunctionBackend, RequestRefused, RetryLater
from assistant_queue.channels import Telegram
from assistant_queue.integrations.opentelemetry import instrument
from assistant_queue.store.ops.message_records import RECORD
from assistant_queue.testing.channels import AnswerWith, StandInTelegram
from assistant_queue.testing.harness import Crash
from assistant_queue.testing.provider import Reply, RunFailure, ToolCalls, refuse
from assistant_queue.testing.rehearsal import Rehearsal
from tests.channels.rigs import hurried
from tests.conftest import PATIENCE_S
from tests.integration.conftest import Service, wait_until
from tests.integration.span_file import read_spans

RUNNING = {"queued", "in_progress"}
Rehearse = Callable[..., Rehearsal]


class Recorded:
    """The spans and metrics of a test, by the SDK."""

    def __init__(self) -> None:
        self.spans = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def of(self, queue: AssistantMessageQueue, **options: Any) -> AssistantMessageQueue:
        instrument(queue, tracer_provider=self.tracers, meter_provider=self.meters, **options)
        return queue

    def all(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans.get_finished_spans() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        names = [span.name for span in self.spans.get_finished_spans()]
        assert names.count(name) == 1, names
        return self.all(name)[0]

    def metrics(self) -> dict[str, list[Any]]:
        found = self.reader.get_metrics_data()
        assert found is not None
        return {
            metric.name: list(metric.data.data_points)
            for resource in found.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def recorded(caplog: pytest.LogCaptureFixture) -> Iterator[Recorded]:
    made = Recorded()
    yield made
    assert [one for one in caplog.records if one.name == "assistant_queue.observing"] == []
    made.tracers.shutdown()
    made.meters.shutdown()


def a_queue(**options: Any) -> AssistantMessageQueue:
    return AssistantMessageQueue(**{"model": "gpt-5", "message_delay": 8, **options})


def linked(span: ReadableSpan) -> list[int]:
    return [link.context.trace_id for link in span.links]


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.trace_id


def with_a_tool(turn: Any) -> Any:
    if turn.round == 0:
        return ToolCalls([("order_status", {"order": "7"})])
    return Reply(f"It is {turn.tool_outputs[0].output}.")


def test_a_batch_has_a_trace_that_links_to_the_trace_of_each_message(
    rehearse: Rehearse, recorded: Recorded
) -> None:
    queue = recorded.of(a_queue(on_reply=lambda result: None))

    @queue.tool
    def order_status(order: str) -> str:
        """Look up an order."""
        with recorded.tracers.get_tracer("of the user").start_as_current_span("look up"):
            return f"{order} on its way"

    play = rehearse(queue, model=with_a_tool)
    play.say("ann", "Hi!")
    play.say("ann", "Where is order 7?")
    play.run_until_idle()

    sends = recorded.all("send assistant")
    process = recorded.one("process assistant")
    assert process.parent is None
    assert process.kind is SpanKind.CONSUMER
    assert {span.kind for span in sends} == {SpanKind.PRODUCER}
    assert linked(process) == [trace_of(span) for span in sends]
    assert trace_of(process) not in linked(process)
    chats = recorded.all("chat gpt-5")
    tool = recorded.one("execute_tool order_status")
    own = recorded.one("look up")
    inside = [*chats, tool]
    assert [span.parent.span_id for span in inside] == [process.context.span_id] * 3
    assert own.parent.span_id == tool.context.span_id
    assert [span.attributes["gen_ai.response.finish_reasons"] for span in chats] == [
        ("tool_calls",),
        ("stop",),
    ]
    assert all(span.attributes["gen_ai.usage.input_tokens"] > 0 for span in chats)
    assert process.attributes["assistant_queue.batch.outcome"] == "completed"
    assert process.attributes["messaging.batch.message_count"] == 2
    assert tool.attributes["gen_ai.tool.call.id"].startswith("call")
    deliver = recorded.one("deliver on_reply")
    assert deliver.parent.span_id == process.context.span_id
    assert linked(deliver) == linked(process)
    assert all(span.status.status_code is StatusCode.UNSET for span in [*inside, process, deliver])


def test_contents_are_attributes_only_on_request(rehearse: Rehearse, recorded: Recorded) -> None:
    def played(captures: bool) -> str:
        queue = recorded.of(
            a_queue(default_instructions="be brief", on_reply=lambda _: None),
            capture_content=captures,
        )

        @queue.tool
        def order_status(order: str) -> str:
            """Look up an order."""
            return f"{order} secret-output"

        play = rehearse(queue, model=with_a_tool)
        play.say("ann", "secret-question", metadata={"key": "secret-metadata"})
        play.run_until_idle()
        spans = recorded.spans.get_finished_spans()
        recorded.spans.clear()
        return json.dumps([dict(span.attributes or {}) for span in spans])

    assert "secret" not in played(captures=False)
    told = played(captures=True)
    for text in ("secret-question", "secret-output", "be brief", "gen_ai.output.messages"):
        assert text in told


def test_nothing_is_stored_of_a_queue_that_is_not_instrumented(rehearse: Rehearse) -> None:
    play = rehearse(a_queue())
    play.say("ann", "Hi!")
    core = play.queue.core
    (entry,) = core.store.client.lrange(core.namespace.keys.pending("ann"), 0, -1)
    assert set(json.loads(entry)) == {"id", "c", "q"}
    assert core.config.observers.observer is None


def test_the_context_is_stored_with_the_message_and_is_none_of_its_metadata(
    rehearse: Rehearse, recorded: Recorded
) -> None:
    play = rehearse(recorded.of(a_queue()))
    with recorded.tracers.get_tracer("of the user").start_as_current_span("request") as outer:
        receipt = play.say("ann", "Hi!", metadata={"a": "b"})
    play.queue.edit_message(receipt.message_id, "Hello!")
    core = play.queue.core
    record = core.store.client.hmget(core.namespace.keys.message(receipt.message_id), RECORD)
    assert b"traceparent" not in b"".join(value or b"" for value in record)
    assert play.status(receipt).metadata == {"a": "b"}
    play.run_until_idle()
    send = recorded.one("send assistant")
    assert send.parent.span_id == outer.get_span_context().span_id
    assert linked(recorded.one("process assistant")) == [trace_of(send)]


def test_messages_of_one_call_are_one_span_and_one_link(
    rehearse: Rehearse, recorded: Recorded
) -> None:
    play = rehearse(recorded.of(a_queue()))
    play.queue.add_messages({"thread_id": "ann", "message": f"{n}"} for n in range(3))
    play.run_until_idle()
    send = recorded.one("send assistant")
    assert send.attributes["messaging.batch.message_count"] == 3
    assert linked(recorded.one("process assistant")) == [trace_of(send)]


def test_each_attempt_has_its_spans_and_failures_are_marked(
    rehearse: Rehearse, recorded: Recorded
) -> None:
    play = rehearse(recorded.of(a_queue(max_attempts=2)))
    play.provider.model = lambda _: RunFailure("server_error", "no")
    play.say("ann", "Hi!")
    play.run_until_idle()
    (send,) = recorded.all("send assistant")
    first, second = recorded.all("process assistant")
    assert linked(first) == linked(second) == [trace_of(send)]
    assert trace_of(first) != trace_of(second)
    outcomes = [span.attributes["assistant_queue.batch.outcome"] for span in (first, second)]
    assert outcomes == ["retrying", "failed"]
    chats = recorded.all("chat gpt-5")
    assert len(chats) == 2
    for span in [first, second, *chats]:
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes["error.type"]


def test_a_refused_add_ends_its_span_with_the_error(rehearse: Rehearse, recorded: Recorded) -> None:
    play = rehearse(recorded.of(a_queue(max_pending=1)))
    play.say("ann", "Hi!")
    with pytest.raises(Exception, match="waiting messages"):
        play.say("ann", "Hi again!")
    refused = recorded.all("send assistant")[1]
    assert refused.attributes["error.type"] == "thread_full"


def test_a_delivery_that_is_tried_again_has_a_span_for_each_try(
    rehearse: Rehearse, recorded: Recorded
) -> None:
    tries: list[str] = []

    def on_reply(result: Any) -> None:
        tries.append(result.batch_id)
        if len(tries) == 1:
            raise RetryLater(1)

    play = rehearse(recorded.of(a_queue(on_reply=on_reply)))
    play.say("ann", "Hi!")
    play.run_until_idle()
    first, second = recorded.all("deliver on_reply")
    assert first.status.status_code is StatusCode.ERROR
    assert second.status.status_code is StatusCode.UNSET
    assert second.attributes["assistant_queue.delivery.earlier_tries"] == 1
    assert linked(first) == linked(second) == [trace_of(recorded.one("send assistant"))]


def test_a_channel_has_a_span_for_each_part(rehearse: Rehearse, recorded: Recorded) -> None:
    with StandInTelegram() as platform:
        channel = hurried(Telegram(platform.token, api_url=platform.url, stream="off"))
        play = rehearse(
            recorded.of(a_queue(channels=[channel])), model=lambda _: Reply("word " * 1200)
        )
        platform.chat(77)
        body = {
            "ok": False,
            "error_code": 429,
            "description": "Too Many Requests: retry after 7",
            "parameters": {"retry_after": 7},
        }
        platform.fault(AnswerWith(429, body), of="sendMessage")
        play.say("telegram:77", "Hi!")
        play.run_until_idle()
    failed, deliver = recorded.all("deliver telegram")
    refused, *parts = recorded.all("send_part telegram")
    assert refused.parent.span_id == failed.context.span_id
    assert refused.attributes["error.type"] == failed.attributes["error.type"]
    assert [span.parent.span_id for span in parts] == [deliver.context.span_id] * 2
    assert [span.attributes["assistant_queue.part.index"] for span in parts] == [0, 1]
    assert all(span.attributes["messaging.message.id"] for span in parts)


def test_a_worker_that_continues_a_run_links_again(rehearse: Rehearse, recorded: Recorded) -> None:
    play = rehearse(recorded.of(a_queue()))
    play.say("ann", "Hi!")
    crashed: list[str] = []

    def probe(name: str, _: object) -> None:
        if name == "before Watch" and not crashed:
            crashed.append(name)
            raise Crash(name)

    with pytest.raises(Crash):
        play.run_until_idle(probe)
    play.clock.advance(31)
    play.run_until_idle()
    left, process = recorded.all("process assistant")
    assert left.attributes["assistant_queue.batch.outcome"] == "left"
    assert process.attributes["assistant_queue.batch.takeovers"] == 1
    assert linked(left) == linked(process)
    (cut, chat) = recorded.all("chat gpt-5")
    assert cut.attributes["error.type"] == "cancelled"
    assert chat.attributes["assistant_queue.run.followed"] is True
    assert chat.attributes["gen_ai.usage.output_tokens"] > 0


def test_a_run_in_the_background_has_a_span_for_its_start_and_one_for_its_end(
    rehearse: Rehearse, recorded: Recorded
) -> None:
    play = rehearse(recorded.of(a_queue(run_mode="background")))
    play.say("ann", "Hi!")
    play.run_until_idle()
    begun, ended = recorded.all("chat gpt-5")
    assert {span.status.status_code for span in (begun, ended)} == {StatusCode.UNSET}
    assert begun.attributes["gen_ai.response.id"] == ended.attributes["gen_ai.response.id"]
    assert "gen_ai.usage.output_tokens" not in begun.attributes
    assert ended.attributes["gen_ai.usage.output_tokens"] > 0
    assert ended.attributes["assistant_queue.run.followed"] is True
    started, answered = recorded.all("process assistant")
    assert started.attributes["assistant_queue.batch.outcome"] == "parked"
    assert answered.attributes["assistant_queue.batch.outcome"] == "completed"


@pytest.mark.parametrize("sender", ["library", "aiohttp"])
def test_requests_to_the_provider_have_no_second_span_of_an_instrumented_client(
    rehearse: Rehearse, recorded: Recorded, monkeypatch: pytest.MonkeyPatch, sender: str
) -> None:
    """Instrumentations patch the client, and ask the context whether to make a span."""
    tracer = recorded.tracers.get_tracer("of the client")
    if sender == "library":
        monkeypatch.setenv("OPENAI_LOG", "warn")  # which aiohttp is not used with
        patched = type(openai.AsyncOpenAI(api_key="x")._client).__mro__[2]
        name = "send"
    else:
        patched = aiohttp.ClientSession
        name = "_request"
    unpatched = getattr(patched, name)

    async def send(client: Any, *args: Any, **options: Any) -> Any:
        if otel_context.get_value(otel_context._SUPPRESS_INSTRUMENTATION_KEY):
            return await unpatched(client, *args, **options)
        with tracer.start_as_current_span("HTTP"):
            return await unpatched(client, *args, **options)

    monkeypatch.setattr(patched, name, send)
    play = rehearse(recorded.of(a_queue()))
    play.ask("ann", "Hi!")
    assert recorded.all("HTTP") == []
    assert recorded.one("chat gpt-5")
    play.queue.config.observers.observer = None
    play.ask("ann", "Hi again!")
    assert recorded.all("HTTP")  # they are made of a queue that is not instrumented


def test_a_function_of_the_users_is_an_agent_whose_spans_nest(
    rehearse: Rehearse, recorded: Recorded
) -> None:
    async def my_agent(batch: Any) -> str:
        with recorded.tracers.get_tracer("of the framework").start_as_current_span("chat inside"):
            return "done"

    play = rehearse(recorded.of(a_queue(model=None, backend=FunctionBackend(my_agent))))
    play.ask("ann", "Hi!")
    (agent,) = [s for s in recorded.spans.get_finished_spans() if s.name.startswith("invoke_agent")]
    assert "my_agent" in agent.name
    assert recorded.one("chat inside").parent.span_id == agent.context.span_id


def test_an_observer_that_raises_changes_nothing(
    rehearse: Rehearse, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def begin(self, subject: object) -> Any:
            if type(subject).__name__ in {"Adding", "Executing"}:
                raise RuntimeError("begin")
            return self

        def active(self) -> Any:
            raise RuntimeError("active")

        def end(self, outcome: object) -> None:
            raise RuntimeError("end")

        def flush(self) -> None:
            raise RuntimeError("flush")

    queue = a_queue()

    @queue.tool
    def order_status(order: str) -> str:
        """Look up an order."""
        return order

    queue.config.observers.observer = Broken()
    play = rehearse(queue, model=with_a_tool)
    with caplog.at_level(logging.WARNING):
        assert play.ask("ann", "Hi!") == "It is 7."
    warnings = [one for one in caplog.records if one.name == "assistant_queue.observing"]
    assert len(warnings) == 1


def test_metrics_count_tokens_and_durations(rehearse: Rehearse, recorded: Recorded) -> None:
    queue = recorded.of(a_queue(on_reply=lambda _: None))

    @queue.tool
    def order_status(order: str) -> str:
        """Look up an order."""
        return order

    play = rehearse(queue, model=with_a_tool)
    play.say("ann", "Hi!")
    play.say("ann", "Where is it?")
    play.run_until_idle()
    found = recorded.metrics()
    chats = recorded.all("chat gpt-5")
    for kind in ("input", "output"):
        (point,) = [
            one
            for one in found["gen_ai.client.token.usage"]
            if one.attributes["gen_ai.token.type"] == kind
        ]
        assert point.sum == sum(span.attributes[f"gen_ai.usage.{kind}_tokens"] for span in chats)
        assert point.explicit_bounds[:3] == (1, 4, 16)
    durations = {
        one.attributes["gen_ai.operation.name"]: one.count
        for one in found["gen_ai.client.operation.duration"]
    }
    assert durations == {"chat": 2, "execute_tool": 1}
    assert sum(one.value for one in found["messaging.client.sent.messages"]) == 2
    assert sum(one.value for one in found["messaging.client.consumed.messages"]) == 2
    assert [one.count for one in found["messaging.process.duration"]] == [1]
    ids = {"ann", *(span.attributes["gen_ai.response.id"] for span in chats)}
    for points in found.values():
        assert all(ids.isdisjoint(map(str, point.attributes.values())) for point in points)


def test_each_kind_of_worker_exports_its_spans(service: Service, tmp_path: Path) -> None:
    spans = tmp_path / "spans.jsonl"
    service.spans = str(spans)
    service.on_reply = True
    queue = service.start()
    receipt = queue.add_message_to_thread("ann", "Hi!")
    queue.wait_for_reply(receipt.message_id, timeout=60)
    wait_until(lambda: service.noted("replies"), "the reply is delivered")
    queue.config.observers.flush()
    wanted = {"process", "chat", "deliver"}
    if service.kind in {"asyncio", "concurrent"}:  # others export when a job ends
        for process in service.processes:
            process.terminate()
            process.wait()
        if service.kind == "asyncio":
            queue.close()

    def exported() -> list[dict[str, Any]]:
        rows = read_spans(spans)
        return rows if wanted <= {row["name"].split()[0] for row in rows} else []

    found = wait_until(exported, "the worker has exported")
    (send,) = [row for row in found if row["name"].startswith("send ")]
    (process_span,) = [row for row in found if row["name"].startswith("process ")]
    assert process_span["links"] == [send["trace"]]
    assert {row["scope"] for row in found} == {"assistant_queue"}
    is_here = service.kind == "asyncio"
    assert (process_span["pid"] == os.getpid()) is is_here


@pytest.mark.parametrize("service", ["forking"], indirect=True)
def test_the_span_of_a_killed_worker_is_missing_and_the_next_one_links(
    service: Service, tmp_path: Path
) -> None:
    spans = tmp_path / "spans.jsonl"
    service.spans = str(spans)
    queue = service.start(workers=2, lock_duration=2.0)
    gate = service.provider.hold()
    receipt = queue.add_message_to_thread("ann", "Hi!")
    gate.wait_reached(timeout=PATIENCE_S)
    wait_until(lambda: queue.get_thread_status("ann").run_id, "the run's id is stored")
    service.kill_a_run()
    gate.release()
    queue.wait_for_reply(receipt.message_id, PATIENCE_S)
    queue.config.observers.flush()

    def exported() -> list[dict[str, Any]]:
        return [row for row in read_spans(spans) if row["name"].startswith("process ")]

    (process,) = wait_until(exported, "the other worker has exported")
    rows = read_spans(spans)
    (send,) = [row for row in rows if row["name"].startswith("send ")]
    (chat,) = [row for row in rows if row["name"].startswith("chat ")]
    assert process["links"] == [send["trace"]]
    assert process["attributes"]["assistant_queue.batch.takeovers"] == 1
    assert chat["attributes"]["assistant_queue.run.followed"] is True
    assert chat["trace"] == process["trace"]


# --- direct calls ---------------------------------------------------------------------------------


def test_over_assistants_the_last_round_has_the_tokens_of_the_run(
    rehearse: Rehearse, recorded: Recorded
) -> None:
    queue = recorded.of(AssistantMessageQueue(assistant_id="asst_1", message_delay=8))

    @queue.tool
    def order_status(order: str) -> str:
        """Look up an order."""
        return f"{order} on its way"

    play = rehearse(queue, model=with_a_tool)
    assert play.ask("ann", "Where is order 7?") == "It is 7 on its way."
    process = recorded.one("process assistant")
    first, last = recorded.all("chat")
    tool = recorded.one("execute_tool order_status")
    assert [span.parent.span_id for span in (first, tool, last)] == [process.context.span_id] * 3
    assert linked(process) == [trace_of(recorded.one("send assistant"))]
    reasons = [span.attributes["gen_ai.response.finish_reasons"] for span in (first, last)]
    assert reasons == [("tool_calls",), ("stop",)]
    assert "gen_ai.usage.input_tokens" not in first.attributes
    assert last.attributes["gen_ai.usage.input_tokens"] > 0
    assert {span.attributes["gen_ai.agent.id"] for span in (first, last)} == {"asst_1"}
    assert first.attributes["gen_ai.response.id"] == last.attributes["gen_ai.response.id"]
    assert first.attributes["gen_ai.conversation.id"].startswith("thread_")
    assert process.attributes["assistant_queue.run.id"].startswith("run_")


@pytest.mark.parametrize("protocol", ["responses", "assistants"])
def test_direct_calls_have_spans_and_those_that_run_the_model_its_tokens(
    rehearse: Rehearse, recorded: Recorded, protocol: str
) -> None:
    chosen = {"assistant_id": "asst_1"} if protocol == "assistants" else {"model": "gpt-5"}
    queue = recorded.of(AssistantMessageQueue(message_delay=8, **chosen))
    play = rehearse(queue, model=with_a_tool)
    direct = play.queue
    direct.create_message("ann", "a text that is in no span")
    run = direct.create_run(
        "ann", tools=[{"type": "function", "name": "order_status", "parameters": {}}]
    )
    play.provider.wait_for(lambda _: play.provider.runs[-1].status not in RUNNING)
    waiting = direct.get_run("ann", run.id)
    (call,) = waiting.required_calls
    with pytest.raises(Exception, match="waits for the outputs"):
        direct.submit_tool_outputs("ann", run.id, [{"tool_call_id": "x", "output": "o"}])
    later = direct.submit_tool_outputs(
        "ann", run.id, [{"tool_call_id": call.id, "output": "on its way"}]
    )
    name = "chat" if protocol == "assistants" else "chat gpt-5"
    started, refused, submitted = recorded.all(name)
    assert started.attributes["gen_ai.response.id"] == run.id
    assert started.attributes["gen_ai.operation.name"] == "chat"
    assert refused.status.status_code is StatusCode.ERROR
    assert refused.attributes["error.type"] == "invalid_argument"
    assert submitted.attributes["gen_ai.response.id"] == later.id
    looked = recorded.one("get_run")
    assert looked.attributes["gen_ai.response.id"] == run.id
    assert looked.attributes["gen_ai.response.finish_reasons"] == ("tool_calls",)
    assert "gen_ai.usage.input_tokens" not in looked.attributes
    assert recorded.one("create_message").kind is SpanKind.CLIENT
    told = json.dumps([dict(one.attributes or {}) for one in recorded.spans.get_finished_spans()])
    assert "a text" not in told
    durations = {
        one.attributes["gen_ai.operation.name"]: one.count
        for one in recorded.metrics()["gen_ai.client.operation.duration"]
        if "error.type" not in one.attributes
    }
    assert durations == {"chat": 2, "create_message": 1, "get_run": 1}


def test_a_refused_direct_call_ends_its_span_with_the_error(
    rehearse: Rehearse, recorded: Recorded
) -> None:
    play = rehearse(recorded.of(a_queue()))
    play.provider.fault("items.create", refuse(400))
    with pytest.raises(RequestRefused):
        play.queue.create_message("ann", "Hi!")
    assert recorded.one("create_message").attributes["error.type"] == "request_refused"


def test_the_history_that_the_queue_keeps_itself_is_read_without_a_span(
    rehearse: Rehearse, recorded: Recorded
) -> None:
    play = rehearse(recorded.of(a_queue(protocol="chat_completions")))
    play.ask("ann", "Hi!")
    recorded.spans.clear()
    assert len(play.queue.list_messages("ann")) == 2
    assert recorded.spans.get_finished_spans() == ()
