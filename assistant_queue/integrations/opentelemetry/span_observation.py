"""One observation as a span; and what keeps other instrumentations from making a second one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from assistant_queue.integrations.opentelemetry.attributes import Attributes
from assistant_queue.observing import Outcome

_MAX_STATE = 512
"""Characters of a `tracestate` that are stored. Source: W3C Trace Context, 3.3.1.1."""

_SUPPRESSING = tuple(
    key
    for key in (
        getattr(otel_context, "_SUPPRESS_INSTRUMENTATION_KEY", None),
        getattr(otel_context, "_SUPPRESS_HTTP_INSTRUMENTATION_KEY", None),
        "suppress_instrumentation",
        "suppress_language_model_instrumentation",
    )
    if key is not None
)
"""Keys of a context in which other instrumentations make no spans. Source:
opentelemetry.instrumentation.utils and opentelemetry.semconv_ai."""

PROPAGATOR = TraceContextTextMapPropagator()


class SpanObservation:
    """A span that has started."""

    def __init__(
        self,
        span: Span,
        attributes: Attributes,
        on_end: Callable[[Attributes, float, Outcome], None],
        *,
        is_suppressing: bool = False,
    ) -> None:
        self._span = span
        self._attributes = attributes
        self._on_end = on_end
        self._is_suppressing = is_suppressing
        self._began = time.perf_counter()

    @property
    def trace(self) -> str | None:
        """The context of the span, as W3C writes it; None if it is not valid."""
        carrier: dict[str, str] = {}
        PROPAGATOR.inject(carrier, trace.set_span_in_context(self._span, Context()))
        parent = carrier.get("traceparent")
        state = carrier.get("tracestate")
        return f"{parent} {state}" if parent and state and len(state) <= _MAX_STATE else parent

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the span the current one; suppress other instrumentations if it says so."""
        current = trace.set_span_in_context(self._span)
        token = otel_context.attach(_suppressing(current) if self._is_suppressing else current)
        try:
            yield
        finally:
            otel_context.detach(token)

    def end(self, outcome: Outcome) -> None:
        """End the span."""
        seconds = time.perf_counter() - self._began
        ended = dict(self._attributes)
        try:
            if outcome.error is not None:
                ended["error.type"] = outcome.error
                self._span.set_attribute("error.type", outcome.error)
                self._span.set_status(Status(StatusCode.ERROR, outcome.error))
            self._on_end(ended, seconds, outcome)
        finally:
            self._span.end()


class Suppression:
    """A request without a span, also of other instrumentations."""

    trace = None

    @contextmanager
    def active(self) -> Iterator[None]:
        """Suppress other instrumentations."""
        token = otel_context.attach(_suppressing(otel_context.get_current()))
        try:
            yield
        finally:
            otel_context.detach(token)

    def end(self, outcome: Outcome) -> None:
        """Do nothing."""


def _suppressing(current: Context) -> Context:
    for key in _SUPPRESSING:
        current = otel_context.set_value(key, True, current)
    return current
