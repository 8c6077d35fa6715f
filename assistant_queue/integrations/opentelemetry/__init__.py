"""Spans and metrics of a queue for OpenTelemetry. Needs the extra `opentelemetry`.

Spans and attributes are listed in docs/tracing.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assistant_queue.errors import MissingExtra

try:
    from opentelemetry import metrics, trace
except ImportError as error:
    raise MissingExtra(
        f"{error}; the extra has it: pip install 'assistant-queue[opentelemetry]'"
    ) from error

from assistant_queue.integrations.opentelemetry.observer import SpanObserver

if TYPE_CHECKING:
    from assistant_queue.client.async_queue import AsyncAssistantMessageQueue
    from assistant_queue.client.queue import AssistantMessageQueue

__all__ = ["instrument"]


def instrument(
    queue: AssistantMessageQueue | AsyncAssistantMessageQueue,
    *,
    capture_content: bool = False,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
) -> None:
    """Have a queue emit spans and metrics, where it adds messages and in its workers.

    Call it in the module of the queue, which workers import. A second call replaces the first. The
    trace context of an add is stored with its messages, so that the worker's spans link to it.

    Args:
        queue: The queue object, of either class.
        capture_content: Put the texts of messages and replies, and the arguments and outputs of
            tools, into attributes. Off: no text leaves the queue.
        tracer_provider: None for the global one, also if it is set later.
        meter_provider: Likewise.
    """
    queue.config.observers.observer = SpanObserver(
        queue.config,
        captures_content=capture_content,
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
    )
