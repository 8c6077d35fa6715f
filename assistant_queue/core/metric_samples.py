"""Samples of the metrics: one a minute, and what happened between them.

A sample has the counts since the prefix exists, so that a missing one loses nothing but detail.

Fields of a sample, JSON
    m   messages: queued, answered, failed, cancelled
    b   batches: completed, incomplete, failed, stopped
    e   attempts that failed, by code
    h   durations: name -> numbers in the buckets, as far as there are some
    t   tokens: input, output, cached input
    d   deliveries: delivered, undelivered
    s   now: active, waiting, delayed, failed, delivering, undelivered
    n   now: threads that are not idle
    o   now: seconds since the oldest was due
    w   now: workers, their slots, batches that they have
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime
from itertools import pairwise
from typing import Any

from assistant_queue.core.compact_json import to_ascii_json
from assistant_queue.core.measures import BOUNDS
from assistant_queue.core.progress import moment
from assistant_queue.metrics import Histogram, Metrics
from assistant_queue.values import valueclass

MOST_ERRORS = 20
"""Error codes of a sample; the others are added up. Chosen: what a chart can show."""
DURATIONS = ("end_to_end", "first_token", "run", "queue_wait")
"""Durations of a sample. Chosen: those that an operator looks at first."""
OTHER = "other"
_MESSAGES = ("queued", "answered", "failed", "cancelled")
_BATCHES = ("completed", "incomplete", "failed", "stopped")
_DELIVERIES = ("delivered", "undelivered")
_TOKENS = ("input", "output", "cached")
_STATUS = ("active", "waiting", "delayed", "failed", "delivering", "undelivered")


@valueclass(frozen=True, slots=True, kw_only=True)
class MetricSpan:
    """Counts between two samples, and the state at the end.

    Attributes:
        began_at: Aware, UTC.
        ended_at: Aware, UTC.
        messages: `queued`, `answered`, `failed`, `cancelled`.
        batches: `completed`, `incomplete`, `failed`, `stopped`.
        errors: Attempts that failed, by the error's code.
        deliveries: `delivered`, `undelivered`.
        tokens: `input`, `output`, `cached`.
        p50: Durations in seconds by name, half are below; None without any.
        p95: Durations in seconds by name, 95 % are below; None without any.
        status: Messages and replies by state, at the end.
        thread_count: Threads that are not idle, at the end.
        oldest_due_s: At the end.
        workers: At the end.
    """

    began_at: datetime
    ended_at: datetime
    messages: Mapping[str, int] = field(default_factory=dict)
    batches: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[str, int] = field(default_factory=dict)
    deliveries: Mapping[str, int] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)
    p50: Mapping[str, float | None] = field(default_factory=dict)
    p95: Mapping[str, float | None] = field(default_factory=dict)
    status: Mapping[str, int] = field(default_factory=dict)
    thread_count: int = 0
    oldest_due_s: float = 0.0
    workers: int = 0


@valueclass(frozen=True, slots=True)
class Sample:
    """One sample: when it was taken, and its fields."""

    at_ms: int
    fields: Mapping[str, Any]


def sample_of(metrics: Metrics) -> Sample:
    """Return the sample of metrics that were just read."""
    errors = Counter(metrics.errors)
    shown = dict(errors.most_common(MOST_ERRORS))
    rest = errors.total() - sum(shown.values())
    if rest:
        shown[OTHER] = shown.get(OTHER, 0) + rest
    status = metrics.status
    deliveries: Counter[str] = Counter()
    for row in metrics.deliveries.values():
        deliveries.update(row)
    fields = {
        "m": [metrics.messages.get(name, 0) for name in _MESSAGES],
        "b": [metrics.batches.get(name, 0) for name in _BATCHES],
        "e": shown,
        "h": {
            name: _trimmed(metrics.durations[name].counts)
            for name in DURATIONS
            if name in metrics.durations
        },
        "t": [
            sum(getattr(one, name) for one in metrics.tokens)
            for name in ("input_tokens", "output_tokens", "cached_input_tokens")
        ],
        "d": [deliveries[name] for name in _DELIVERIES],
        "s": [getattr(status, f"{name}_count") for name in _STATUS],
        "n": metrics.thread_count,
        "o": round(metrics.oldest_due_s, 1),
        "w": [
            len(metrics.workers),
            sum(one.concurrency for one in metrics.workers),
            sum(one.running for one in metrics.workers),
        ],
    }
    return Sample(round(metrics.at.timestamp() * 1000), fields)


def dump_sample(sample: Sample) -> str:
    """Return a sample as it is stored."""
    return to_ascii_json({"at": sample.at_ms, **sample.fields})


def load_sample(stored: str) -> Sample | None:
    """Return a stored sample; None for a text that is none."""
    try:
        fields = json.loads(stored)
        return Sample(int(fields["at"]), fields) if isinstance(fields, dict) else None
    except (ValueError, KeyError, TypeError):
        return None


def spans_of(samples: Sequence[Sample]) -> list[MetricSpan]:
    """Return what happened between each two neighbours; samples come in order."""
    spans = []
    for before, after in pairwise(samples):
        try:
            spans.append(_span(before, after))
        except (ValueError, TypeError, AttributeError, IndexError, OverflowError):
            continue  # another program wrote it
    return spans


def _span(before: Sample, after: Sample) -> MetricSpan:
    errors_before = _numbers(before.fields.get("e"))
    errors = {
        code: max(count - errors_before.get(code, 0), 0)
        for code, count in _numbers(after.fields.get("e")).items()
    }
    durations = {name: _between(before, after, name) for name in DURATIONS}
    workers = list(after.fields.get("w") or ()) or [0]
    return MetricSpan(
        began_at=moment(before.at_ms),
        ended_at=moment(after.at_ms),
        messages=_grown(before, after, "m", _MESSAGES),
        batches=_grown(before, after, "b", _BATCHES),
        errors={code: count for code, count in errors.items() if count},
        deliveries=_grown(before, after, "d", _DELIVERIES),
        tokens=_grown(before, after, "t", _TOKENS),
        p50={name: _finite(found.quantile(0.5)) for name, found in durations.items()},
        p95={name: _finite(found.quantile(0.95)) for name, found in durations.items()},
        status=dict(zip(_STATUS, map(int, after.fields.get("s") or ()), strict=False)),
        thread_count=int(after.fields.get("n") or 0),
        oldest_due_s=float(after.fields.get("o") or 0.0),
        workers=int(workers[0]),
    )


def _grown(before: Sample, after: Sample, name: str, names: Sequence[str]) -> dict[str, int]:
    old = list(after.fields.get(name) or ()) and list(before.fields.get(name) or ())
    new = list(after.fields.get(name) or ())
    padded = [*old, *[0] * len(names)]
    return {
        word: max(int(count) - int(padded[place]), 0)
        for place, (word, count) in enumerate(zip(names, new, strict=False))
    }


def _between(before: Sample, after: Sample, name: str) -> Histogram:
    old = list((before.fields.get("h") or {}).get(name) or ())
    new = list((after.fields.get("h") or {}).get(name) or ())
    size = len(BOUNDS) + 1
    olds = [*map(int, old), *[0] * size][:size]
    news = [*map(int, new), *[0] * size][:size]
    counts = tuple(max(count - olds[place], 0) for place, count in enumerate(news))
    return Histogram(bounds=BOUNDS, counts=counts)


def _finite(value: float | None) -> float | None:
    """Return a quantile, the last bound for one above it: JSON has no infinity."""
    return value if value is None else min(value, BOUNDS[-1])


def _numbers(found: Any) -> dict[str, int]:
    return {str(name): int(count) for name, count in (found or {}).items()}


def _trimmed(counts: Sequence[int]) -> list[int]:
    """Return the numbers without zeros at the end."""
    found = list(counts)
    while found and not found[-1]:
        found.pop()
    return found
