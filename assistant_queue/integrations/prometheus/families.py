"""The metrics that Prometheus gets: the one table of names, types, labels and help texts.

The documents, the dashboard and the alert rules are generated from it or compared with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from assistant_queue.metrics import Histogram, Metrics, TokenMetrics, WorkerMetrics

Kind = Literal["counter", "gauge", "histogram"]
Sample = tuple[tuple[str, ...], float | Histogram]
"""Values of a family's labels, and the value that they have."""

QUEUE = "queue"
"""The label that every metric has: the `queue_prefix`."""

MESSAGES = ("queued", "answered", "failed", "cancelled", "deduplicated")
STATES = ("active", "waiting", "delayed", "parked", "failed")
CHANGES = ("taken_over", "handed_back")
APPROVALS = ("requested", "approved", "denied", "answered", "expired")
BATCHES = ("completed", "incomplete", "failed", "stopped")
REPLIES = ("delivering", "undelivered")
CALLS = ("ok", "error")
TOKENS = ("input", "cached_input", "cache_write", "output", "reasoning")
CUT = {
    "channels": "channel",
    "errors": "code",
    "models": "model",
    "tenants": "tenant",
    "tools": "tool",
}
"""Words of `Metrics.cut` -> the labels that they are about."""
DELIVERIES = ("delivered", "retried", "undelivered", "unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric.

    Attributes:
        name: As it is queried; a histogram's has `_bucket`, `_sum` or `_count` after it.
        kind: Its type.
        help: Its meaning, a sentence without a full stop.
        read: Returns its samples.
        labels: Its labels besides `queue`.
        known: Label -> the values that it can have, if these are fixed.
    """

    name: str
    kind: Kind
    help: str
    read: Callable[[Metrics], Iterable[Sample]]
    labels: tuple[str, ...] = ()
    known: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def _one(value: float) -> Iterable[Sample]:
    return [((), value)]


def _counts(found: Mapping[str, float], known: Iterable[str] = ()) -> Iterator[Sample]:
    """Return a sample for each name; a known one without a count is 0, so that it can be rated."""
    for name in dict.fromkeys([*known, *found]):
        yield (name,), found.get(name, 0)


def _in_states(metrics: Metrics, states: Iterable[str]) -> Iterator[Sample]:
    for state in states:
        yield (state,), getattr(metrics.status, f"{state}_count")


def _of_workers(count: Callable[[WorkerMetrics], int]) -> Callable[[Metrics], Iterable[Sample]]:
    """Return a reader of a sum over the workers; without a sample if they cannot be read."""

    def read(metrics: Metrics) -> Iterable[Sample]:
        return _one(sum(map(count, metrics.workers))) if metrics.sees_workers else []

    return read


def _tool_calls(metrics: Metrics) -> Iterator[Sample]:
    for tool, found in metrics.tools.items():
        yield (tool, "ok"), found.calls - found.errors
        yield (tool, "error"), found.errors


def _tokens(metrics: Metrics) -> Iterator[Sample]:
    for row in metrics.tokens:
        for kind in TOKENS:
            yield (row.model, row.tenant, kind), tokens_of(row, kind)


def tokens_of(row: TokenMetrics, kind: str) -> int:
    """Return the tokens of a kind in `TOKENS`."""
    count: int = getattr(row, f"{kind}_tokens")
    return count


def _deliveries(metrics: Metrics) -> Iterator[Sample]:
    for channel, found in metrics.deliveries.items():
        for (outcome,), count in _counts(found, DELIVERIES):
            yield (channel, outcome), count


def _duration(name: str, meaning: str) -> Family:
    def read(metrics: Metrics) -> Iterable[Sample]:
        found = metrics.durations.get(name)
        return [] if found is None else [((), found)]

    return Family(name=f"assistant_queue_{name}_seconds", kind="histogram", help=meaning, read=read)


UP = Family(
    name="assistant_queue_up",
    kind="gauge",
    help="1 if the metrics could be read; 0 if not, usually because Redis did not answer, and then "
    "the queue has no other metric",
    read=lambda _: _one(1),
)

FAMILIES: tuple[Family, ...] = (
    UP,
    Family(
        name="assistant_queue_messages_total",
        kind="counter",
        help="Messages by what became of them",
        labels=("outcome",),
        known={"outcome": MESSAGES},
        read=lambda metrics: _counts(metrics.messages, MESSAGES),
    ),
    Family(
        name="assistant_queue_approvals_total",
        kind="counter",
        help="Tool calls that were to be answered from outside: requested, and by how they were "
        "settled",
        labels=("outcome",),
        known={"outcome": APPROVALS},
        read=lambda metrics: _counts(metrics.approvals, APPROVALS),
    ),
    Family(
        name="assistant_queue_person_takeovers_total",
        kind="counter",
        help="Threads that a person has taken over from the model, or from another person, and that "
        "were handed back",
        labels=("change",),
        known={"change": CHANGES},
        read=lambda metrics: _counts(metrics.persons, CHANGES),
    ),
    Family(
        name="assistant_queue_messages_in_state",
        kind="gauge",
        help="Messages in a state now: active in a claimed batch, waiting for a worker, delayed by "
        "a window or a back-off, parked until a tool call is answered or a run has ended, failed in "
        "the failed list",
        labels=("state",),
        known={"state": STATES},
        read=lambda metrics: _in_states(metrics, STATES),
    ),
    Family(
        name="assistant_queue_replies_in_state",
        kind="gauge",
        help="Replies in a state now: delivering until the platform accepts them, undelivered in "
        "the failed list",
        labels=("state",),
        known={"state": REPLIES},
        read=lambda metrics: _in_states(metrics, REPLIES),
    ),
    Family(
        name="assistant_queue_threads",
        kind="gauge",
        help="Threads that are not idle now",
        read=lambda metrics: _one(metrics.thread_count),
    ),
    Family(
        name="assistant_queue_oldest_due_seconds",
        kind="gauge",
        help="Seconds since the thread that is overdue longest was due; 0 if none is",
        read=lambda metrics: _one(metrics.oldest_due_s),
    ),
    Family(
        name="assistant_queue_paused",
        kind="gauge",
        help="1 if the whole queue is paused",
        read=lambda metrics: _one(int(metrics.status.paused)),
    ),
    Family(
        name="assistant_queue_batches_total",
        kind="counter",
        help="Batches by outcome",
        labels=("outcome",),
        known={"outcome": BATCHES},
        read=lambda metrics: _counts(metrics.batches, BATCHES),
    ),
    Family(
        name="assistant_queue_runs_total",
        kind="counter",
        help="Times that a batch was sent to the provider",
        read=lambda metrics: _one(metrics.runs),
    ),
    Family(
        name="assistant_queue_runs_saved_total",
        kind="counter",
        help="Answered messages less the batches that answered them",
        read=lambda metrics: _one(metrics.runs_saved),
    ),
    Family(
        name="assistant_queue_attempt_errors_total",
        kind="counter",
        help="Attempts that ended with an error, by its code",
        labels=("code",),
        read=lambda metrics: _counts(metrics.errors),
    ),
    Family(
        name="assistant_queue_takeovers_total",
        kind="counter",
        help="Batches that were claimed from a worker that had died or lost its lease",
        read=lambda metrics: _one(metrics.takeovers),
    ),
    _duration("window_wait", "From a batch's first message to the end of its window"),
    _duration("queue_wait", "From the end of a batch's window to its claim"),
    _duration("first_token", "From a batch's request to its first text"),
    _duration("run", "From a batch's claim to its end"),
    _duration("delivery", "From a batch's end to the platform's acceptance of its reply"),
    _duration(
        "end_to_end",
        "From a batch's first message to the delivery of its reply, or to its end if nothing is "
        "delivered",
    ),
    Family(
        name="assistant_queue_tool_calls_total",
        kind="counter",
        help="Calls of a tool that have ended; error if it raised, timed out or was refused",
        labels=("tool", "outcome"),
        known={"outcome": CALLS},
        read=_tool_calls,
    ),
    Family(
        name="assistant_queue_tool_seconds_total",
        kind="counter",
        help="Durations of a tool's calls together",
        labels=("tool",),
        read=lambda metrics: _counts({name: one.seconds for name, one in metrics.tools.items()}),
    ),
    Family(
        name="assistant_queue_tokens_total",
        kind="counter",
        help="Tokens; cached_input and cache_write are parts of input, reasoning is a part of "
        "output",
        labels=("model", "tenant", "kind"),
        known={"kind": TOKENS},
        read=_tokens,
    ),
    Family(
        name="assistant_queue_deliveries_total",
        kind="counter",
        help="Tries of a delivery by outcome; the channel of the callback is on_reply",
        labels=("channel", "outcome"),
        known={"outcome": DELIVERIES},
        read=_deliveries,
    ),
    Family(
        name="assistant_queue_workers",
        kind="gauge",
        help="Workers that are registered now; missing, as the metrics of workers below, if this "
        "user of Redis may not read RQ's records",
        read=_of_workers(lambda _: 1),
    ),
    Family(
        name="assistant_queue_worker_slots",
        kind="gauge",
        help="Batches that all workers together take at once",
        read=_of_workers(lambda one: one.concurrency),
    ),
    Family(
        name="assistant_queue_worker_room",
        kind="gauge",
        help="Batches that all workers together could take now beside those that they have",
        read=_of_workers(lambda one: max(0, one.concurrency - one.running)),
    ),
    Family(
        name="assistant_queue_abandoned_calls_total",
        kind="counter",
        help="Calls of user code that exceeded their time",
        read=lambda metrics: _one(metrics.abandoned_calls),
    ),
    Family(
        name="assistant_queue_hanging_calls",
        kind="gauge",
        help="Calls of user code that exceeded their time and still run in a worker",
        read=_of_workers(lambda one: one.abandoned_calls),
    ),
    Family(
        name="assistant_queue_labels_cut",
        kind="gauge",
        help="1 for a label whose number of values reached its bound: further ones are counted as "
        "other",
        labels=("label",),
        known={"label": tuple(CUT.values())},
        read=lambda metrics: (((CUT.get(word, word),), 1) for word in metrics.cut),
    ),
)
"""All metrics, in the order in which they are shown."""
