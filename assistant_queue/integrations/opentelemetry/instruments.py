"""Instruments of the metrics, by OpenTelemetry's semantic conventions."""

from __future__ import annotations

from opentelemetry.metrics import Meter
from opentelemetry.util.types import AttributeValue

from assistant_queue.integrations.opentelemetry.attributes import Attributes
from assistant_queue.observing import Outcome

_TOKENS = tuple(4**exponent for exponent in range(14))
_OPERATIONS = tuple(0.01 * 2**exponent for exponent in range(14))
_FIRST_CHUNKS = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
)
_MESSAGING = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""Bounds of the buckets. Source: the conventions."""

_OF_METRICS = frozenset(
    {
        "error.type",
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "gen_ai.response.model",
        "gen_ai.tool.name",
        "messaging.destination.name",
        "messaging.operation.name",
        "messaging.system",
        "server.address",
        "server.port",
    }
)
"""Attributes of spans with few values. An id, and what the provider says, have many."""


class Instruments:
    """The metrics of a queue."""

    def __init__(self, meter: Meter) -> None:
        """Create the instruments; record nothing yet."""
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Tokens of a round",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
        self._operation = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "Duration of a round or of a tool",
            explicit_bucket_boundaries_advisory=_OPERATIONS,
        )
        self._first_chunk = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            "s",
            "Time from the start of a round to its first text",
            explicit_bucket_boundaries_advisory=_FIRST_CHUNKS,
        )
        self._client = meter.create_histogram(
            "messaging.client.operation.duration",
            "s",
            "Duration of an add, or of a try of a delivery",
            explicit_bucket_boundaries_advisory=_MESSAGING,
        )
        self._process = meter.create_histogram(
            "messaging.process.duration",
            "s",
            "Time that a worker had a batch",
            explicit_bucket_boundaries_advisory=_OPERATIONS,
        )
        self._sent = meter.create_counter(
            "messaging.client.sent.messages", "{message}", "Messages that were added"
        )
        self._consumed = meter.create_counter(
            "messaging.client.consumed.messages",
            "{message}",
            "Messages in batches that a worker took",
        )

    def round_ended(self, attributes: Attributes, seconds: float, outcome: Outcome) -> None:
        """Record a round."""
        chosen = _few(attributes)
        self._operation.record(seconds, chosen)
        if outcome.first_text_s is not None:
            self._first_chunk.record(outcome.first_text_s, chosen)
        if outcome.usage is not None:
            usage = outcome.usage
            self._tokens.record(usage.input_tokens, {**chosen, "gen_ai.token.type": "input"})
            self._tokens.record(usage.output_tokens, {**chosen, "gen_ai.token.type": "output"})

    def tool_ended(self, attributes: Attributes, seconds: float) -> None:
        """Record the call of a tool."""
        self._operation.record(seconds, _few(attributes))

    def added(self, attributes: Attributes, seconds: float, messages: int) -> None:
        """Record an add."""
        chosen = _few(attributes)
        self._client.record(seconds, chosen)
        self._sent.add(messages, chosen)

    def processed(self, attributes: Attributes, seconds: float, messages: int) -> None:
        """Record that a worker is over with a batch, for now."""
        chosen = _few(attributes)
        self._process.record(seconds, chosen)
        self._consumed.add(messages, chosen)

    def delivered(self, attributes: Attributes, seconds: float) -> None:
        """Record a try of a delivery."""
        self._client.record(seconds, _few(attributes))


def _few(attributes: Attributes) -> dict[str, AttributeValue]:
    return {name: value for name, value in attributes.items() if name in _OF_METRICS}
