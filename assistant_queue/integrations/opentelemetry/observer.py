"""The observer that makes spans and metrics of what a queue does."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, SpanKind

from assistant_queue import observing
from assistant_queue.integrations.opentelemetry.attributes import (
    MESSAGING_SYSTEM,
    Attributes,
    input_content,
    output_content,
    provider_attributes,
    round_outcome,
)
from assistant_queue.integrations.opentelemetry.instruments import Instruments
from assistant_queue.integrations.opentelemetry.span_observation import (
    PROPAGATOR,
    SpanObservation,
    Suppression,
)
from assistant_queue.observing import Observation, Outcome, Subject

if TYPE_CHECKING:
    from assistant_queue.config import Config
    from assistant_queue.models import Message

_SCOPE = "assistant_queue"
_MAX_LINKS = 128
"""Links of one span. Source: the default limit of the SDKs."""
_MAX_KNOWN = 1000
"""Batches whose span is remembered for their delivery. Chosen: more than wait for one in a
process."""
_FLUSH_MS = 5000
"""Milliseconds that an export may hold the end of a worker. Chosen: a collector that is away must
not stop jobs for long."""


class SpanObserver:
    """Makes spans and metrics.

    1. `send`: a PRODUCER span for each add, whose context is stored with the messages
    2. `process`: a CONSUMER span for each time that a worker takes a batch, in a separate trace,
       with a link to each message's trace
    3. within it `chat` for each round and `execute_tool` for each call; other instrumentations are
       suppressed while this package asks the provider
    4. `chat` for each direct call that runs the model, a span with the call's name for any other
    5. `deliver` for each try, with a span for each part; a child of `process` in the process that
       ran the batch, else linked to the messages' traces alone
    """

    def __init__(
        self,
        config: Config,
        *,
        captures_content: bool,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        """Export nothing yet."""
        self._tracer = trace.get_tracer(_SCOPE, tracer_provider=tracer_provider)
        self._instruments = Instruments(metrics.get_meter(_SCOPE, meter_provider=meter_provider))
        self._providers = (tracer_provider, meter_provider)
        self._provider = provider_attributes(config)
        self._captures_content = captures_content
        self._processed: OrderedDict[str, SpanContext] = OrderedDict()
        self._begin: dict[type[Any], Callable[[Any], Observation]] = {
            observing.Adding: self._adding,
            observing.Processing: self._processing,
            observing.Round: self._round,
            observing.Asking: lambda _: Suppression(),
            observing.Calling: self._calling,
            observing.Executing: self._executing,
            observing.Delivering: self._delivering,
            observing.SendingPart: self._sending_part,
        }

    def begin(self, subject: Subject) -> Observation:
        """Start a span."""
        return self._begin[type(subject)](subject)

    def flush(self) -> None:
        """Export what has ended, within bounds."""
        for provider in (
            self._providers[0] or trace.get_tracer_provider(),
            self._providers[1] or metrics.get_meter_provider(),
        ):
            force_flush = getattr(provider, "force_flush", None)
            if force_flush is not None:
                force_flush(_FLUSH_MS)

    # --- messages ---------------------------------------------------------------------------------

    def _adding(self, subject: observing.Adding) -> Observation:
        count = len(subject.messages)
        attributes = _messaging("send", subject.queue)
        if count == 1:
            attributes["messaging.message.id"] = subject.messages[0].id
        else:
            attributes["messaging.batch.message_count"] = count
        if len(set(subject.thread_ids)) == 1:
            attributes["messaging.message.conversation_id"] = subject.thread_ids[0]

        def end(ended: Attributes, seconds: float, _: Outcome) -> None:
            self._instruments.added(ended, seconds, count)

        span = self._tracer.start_span(
            f"send {subject.queue}", kind=SpanKind.PRODUCER, attributes=attributes
        )
        return SpanObservation(span, attributes, end)

    def _processing(self, subject: observing.Processing) -> Observation:
        batch = subject.batch
        count = len(batch.messages)
        attributes = _messaging("process", subject.queue)
        attributes |= {
            "messaging.batch.message_count": count,
            "messaging.message.conversation_id": batch.thread_id,
            "assistant_queue.batch.id": batch.id,
        }
        if subject.deaths:
            attributes["assistant_queue.batch.takeovers"] = subject.deaths
        if batch.tenant is not None:
            attributes["assistant_queue.tenant"] = batch.tenant

        def end(ended: Attributes, seconds: float, outcome: Outcome) -> None:
            span.set_attributes(_batch_outcome(outcome))
            self._instruments.processed(ended, seconds, count)

        span = self._tracer.start_span(
            f"process {subject.queue}",
            context=Context(),
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            links=_links(batch.messages),
        )
        self._remember(batch.id, span.get_span_context())
        return SpanObservation(span, attributes, end)

    def _remember(self, batch_id: str, found: SpanContext) -> None:
        self._processed[batch_id] = found
        self._processed.move_to_end(batch_id)
        while len(self._processed) > _MAX_KNOWN:
            self._processed.popitem(last=False)

    # --- a run ------------------------------------------------------------------------------------

    def _round(self, subject: observing.Round) -> Observation:
        is_ours = subject.backend is None
        operation = "chat" if is_ours else "invoke_agent"
        attributes: Attributes = {
            "gen_ai.operation.name": operation,
            "gen_ai.conversation.id": subject.conversation_id or subject.batch.thread_id,
            "assistant_queue.batch.id": subject.batch.id,
        }
        if subject.backend is None:
            attributes |= {**self._provider, "gen_ai.request.stream": True}
        else:
            attributes["gen_ai.agent.name"] = subject.backend
        if subject.is_followed:
            attributes["assistant_queue.run.followed"] = True
        what = subject.backend or self._provider.get("gen_ai.request.model")
        span = self._tracer.start_span(
            f"{operation} {what}" if what else operation,
            kind=SpanKind.CLIENT if is_ours else SpanKind.INTERNAL,
            attributes=attributes,
        )
        if self._captures_content:
            span.set_attributes(input_content(subject))

        def end(ended: Attributes, seconds: float, outcome: Outcome) -> None:
            found = round_outcome(outcome)
            span.set_attributes(found)
            if self._captures_content:
                span.set_attributes(output_content(outcome))
            self._instruments.round_ended({**ended, **found}, seconds, outcome)

        # Spans of an agent framework are wanted; `chat` stands for our own requests.
        return SpanObservation(span, attributes, end, is_suppressing=is_ours)

    def _calling(self, subject: observing.Calling) -> Observation:
        is_ours = subject.backend is None
        operation = "chat" if subject.runs else subject.call
        attributes: Attributes = {"gen_ai.operation.name": operation}
        if subject.conversation_id or subject.thread_id:
            attributes["gen_ai.conversation.id"] = subject.conversation_id or subject.thread_id
        if subject.run_id is not None:
            attributes["gen_ai.response.id"] = subject.run_id
        if subject.backend is None:
            attributes |= self._provider
        else:
            attributes["gen_ai.agent.name"] = subject.backend
        model = self._provider.get("gen_ai.request.model") if subject.runs else None
        span = self._tracer.start_span(
            f"{operation} {model}" if model else operation,
            kind=SpanKind.CLIENT if is_ours else SpanKind.INTERNAL,
            attributes=attributes,
        )

        def end(ended: Attributes, seconds: float, outcome: Outcome) -> None:
            found = round_outcome(outcome)
            span.set_attributes(found)
            self._instruments.round_ended({**ended, **found}, seconds, outcome)

        return SpanObservation(span, attributes, end, is_suppressing=is_ours)

    def _executing(self, subject: observing.Executing) -> Observation:
        function = subject.call.function
        attributes: Attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": function.name,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": subject.call.id,
        }
        span = self._tracer.start_span(
            f"execute_tool {function.name}", kind=SpanKind.INTERNAL, attributes=attributes
        )
        if self._captures_content:
            span.set_attribute("gen_ai.tool.call.arguments", function.arguments)

        def end(ended: Attributes, seconds: float, outcome: Outcome) -> None:
            if self._captures_content and outcome.output is not None:
                span.set_attribute("gen_ai.tool.call.result", outcome.output)
            self._instruments.tool_ended(ended, seconds)

        return SpanObservation(span, attributes, end)

    # --- a delivery -------------------------------------------------------------------------------

    def _delivering(self, subject: observing.Delivering) -> Observation:
        attributes = _messaging("deliver", subject.channel)
        attributes |= {
            "messaging.message.conversation_id": subject.thread_id,
            "assistant_queue.batch.id": subject.batch_id,
            "assistant_queue.delivery.earlier_tries": subject.tries,
        }
        before = self._processed.get(subject.batch_id)
        parent = Context()
        if before is not None:
            parent = trace.set_span_in_context(trace.NonRecordingSpan(before), parent)
        span = self._tracer.start_span(
            f"deliver {subject.channel}",
            context=parent,
            kind=SpanKind.CLIENT,
            attributes=attributes,
            links=_links(subject.messages),
        )

        def end(ended: Attributes, seconds: float, outcome: Outcome) -> None:
            if outcome.error is None:
                self._processed.pop(subject.batch_id, None)
            self._instruments.delivered(ended, seconds)

        return SpanObservation(span, attributes, end)

    def _sending_part(self, subject: observing.SendingPart) -> Observation:
        attributes = _messaging("send_part", subject.channel)
        attributes |= {
            "assistant_queue.batch.id": subject.batch_id,
            "assistant_queue.part.index": subject.index,
            "assistant_queue.part.total": subject.total,
        }
        span = self._tracer.start_span(
            f"send_part {subject.channel}", kind=SpanKind.CLIENT, attributes=attributes
        )

        def end(_: Attributes, __: float, outcome: Outcome) -> None:
            if outcome.part_id is not None:
                span.set_attribute("messaging.message.id", outcome.part_id)

        return SpanObservation(span, attributes, end)


def _messaging(operation: str, destination: str) -> Attributes:
    return {
        "messaging.system": MESSAGING_SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": "process" if operation == "process" else "send",
        "messaging.destination.name": destination,
    }


def _batch_outcome(outcome: Outcome) -> Attributes:
    found: Attributes = {"assistant_queue.batch.outcome": outcome.status or "left"}
    if outcome.attempts:
        found["assistant_queue.batch.attempts"] = outcome.attempts
    if outcome.run_id:
        found["assistant_queue.run.id"] = outcome.run_id
    if outcome.usage is not None:
        found["assistant_queue.batch.total_tokens"] = outcome.usage.total_tokens
    return found


def _links(messages: Sequence[Message]) -> list[Link]:
    """Return a link for each trace of these messages; one call may have added several."""
    found: dict[str, tuple[SpanContext, list[str]]] = {}
    for message in messages:
        if message.trace is None:
            continue
        parent, _, state = message.trace.partition(" ")
        carrier = {"traceparent": parent, "tracestate": state}
        span = trace.get_current_span(PROPAGATOR.extract(carrier, Context()))
        if span.get_span_context().is_valid:
            found.setdefault(parent, (span.get_span_context(), []))[1].append(message.id)
    links = []
    for context, ids in found.values():
        attributes: Attributes = {}
        if len(ids) == 1:
            attributes["messaging.message.id"] = ids[0]
        links.append(Link(context, attributes))
    return links[:_MAX_LINKS]
