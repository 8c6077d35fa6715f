"""The kept history of the metrics: one sample a minute, for a day.

The leader of the workers takes them, and so does the HTTP service while its operations page is
open. An entry's id is its minute: a second sample of a minute is refused by Redis, whichever
process takes it.
"""

from __future__ import annotations

from collections.abc import Sequence

from assistant_queue.core.metric_samples import (
    MetricSpan,
    Sample,
    dump_sample,
    load_sample,
    sample_of,
    spans_of,
)
from assistant_queue.errors import NotPermitted, StoreError, StoreUnavailable
from assistant_queue.metrics import Metrics
from assistant_queue.store.calls import Namespace, Operation, each_or_error, plain, text
from assistant_queue.store.ops.measuring import read_metrics
from assistant_queue.store.quarantine import quarantine

SAMPLE_MS = 60_000
"""From one sample to the next. Chosen: enough for charts of hours, and no load."""
_MOST = 1441
"""Samples that are kept: those of a day. Chosen: about a megabyte."""
_SHORT_MS = 15_000
"""A last span that is shorter joins the one before. Chosen: a quarter of a minute."""
_FIELD = "m"
_WRONG_TYPE = "WRONGTYPE"


def keep_sample(namespace: Namespace) -> Operation[None]:
    """Take a sample of the metrics; nothing is kept for a user of Redis that may not write it."""
    try:
        metrics = yield from read_metrics(namespace)
    except NotPermitted:
        return
    yield from keep(namespace, metrics)


def keep(namespace: Namespace, metrics: Metrics) -> Operation[None]:
    """Keep metrics that were just read as the sample of their minute, if it has none."""
    sample = sample_of(metrics)
    key = namespace.keys.history
    entry_id = f"{sample.at_ms // SAMPLE_MS * SAMPLE_MS}-1"
    write = plain("XADD", key, "MAXLEN", "~", _MOST, entry_id, _FIELD, dump_sample(sample))
    (reply,) = yield from each_or_error([write])
    if isinstance(reply, StoreUnavailable):
        raise reply
    if isinstance(reply, StoreError) and _WRONG_TYPE in str(reply):
        yield from quarantine(namespace, "history", key)


def read_spans(
    namespace: Namespace, now: Metrics | None, *, now_ms: int, minutes: int, steps: int
) -> Operation[list[MetricSpan]]:
    """Return what happened in the latest minutes, oldest first, in at most `steps` spans.

    Args:
        namespace: The queue.
        now: Metrics that were just read: the end of the last span. None to end with a sample.
        now_ms: The time.
        minutes: How far back.
        steps: Spans of equal length; those without a sample are part of the next one.
    """
    key = namespace.keys.history
    step_ms = max(minutes * 60_000 // steps, SAMPLE_MS)
    last_ms = now_ms // step_ms * step_ms
    ends = [last_ms - step_ms * back for back in range(steps, -1, -1)]
    # The last sample of each step: as many short reads as there are steps, whatever is kept.
    calls = [plain("XREVRANGE", key, end_ms + step_ms - 1, end_ms, "COUNT", 1) for end_ms in ends]
    replies = yield from each_or_error(calls)
    samples = [found for reply in replies if (found := _newest(reply)) is not None]
    if now is not None:
        latest = sample_of(now)
        if len(samples) > 1 and latest.at_ms < samples[-1].at_ms + _SHORT_MS:
            samples.pop()  # the rates of a moment would jump
        samples.append(latest)
    return spans_of(samples)


def _newest(reply: object) -> Sample | None:
    if isinstance(reply, StoreError) or not isinstance(reply, Sequence) or not reply:
        return None
    fields = reply[0][1]
    # redis-py gives the fields as a dict, its older versions and scripts as a list.
    if isinstance(fields, dict):
        stored = fields.get(_FIELD.encode(), fields.get(_FIELD))
    else:
        stored = fields[1] if len(fields) > 1 else None
    return None if stored is None else load_sample(text(stored))
