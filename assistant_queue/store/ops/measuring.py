"""Operation that reads the metrics: what the scripts have counted, and what is now.

Two round trips, a third one while wake-ups stand in line; none of them scans threads.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from assistant_queue.core.attempt_log import WORKER_LOST
from assistant_queue.core.measures import BOUNDS, DURATIONS, OTHER, USAGE_FIELDS, label_of
from assistant_queue.core.progress import moment
from assistant_queue.errors import NotPermitted, StoreError
from assistant_queue.metrics import Histogram, Metrics, TokenMetrics, ToolMetrics, WorkerMetrics
from assistant_queue.store import wakeup_codec, wakeups
from assistant_queue.store.calls import (
    Namespace,
    Operation,
    each_or_error,
    plain,
    text,
    texts,
    whole_number,
)
from assistant_queue.store.ops.rq_signs import stamp_ms
from assistant_queue.store.ops.statuses import (
    COUNTED,
    counters_in,
    queue_status_of,
    status_calls,
)
from assistant_queue.store.quarantine import quarantine

_EVER = ("cancelled", "discarded", "forgotten", "said", "duplicates", "takeovers")
"""Counters that never decrease, besides those of the status. Source: lua/_common.lua."""
_ACCEPTED = (
    *("active", "parked", "waiting", "delayed", "completed", "failed"),
    *("cancelled", "discarded", "forgotten"),
)
"""Counters of which exactly one includes each message, and each reply of `say`."""
_VITAL = 3
"""Replies without which there are no metrics: the time, the counts, the counters."""
_MOST_WORKERS = 1000
"""Workers whose records are read. Chosen: some milliseconds of Redis' time."""
_WORKER = (
    "last_heartbeat",
    "state",
    wakeups.CONCURRENCY_FIELD,
    wakeups.RUNNING_FIELD,
    wakeups.ABANDONED_FIELD,
)


def read_metrics(namespace: Namespace) -> Operation[Metrics]:
    """Return the metrics; workers and the oldest due time only if this user of Redis may read them.

    Raises:
        NotPermitted: The user may not read what was counted.
    """
    keys = namespace.keys
    replies = yield from each_or_error(
        [
            plain("TIME"),
            plain("HGETALL", keys.metrics),
            *status_calls(namespace, *_EVER),
            plain("ZCARD", keys.due),
            plain("ZRANGE", keys.due, 0, 0),
            plain("LINDEX", wakeups.queue_key(namespace.prefix), 0),
            plain("SMEMBERS", wakeups.workers_key(namespace.prefix)),
        ]
    )
    if isinstance(replies[1], StoreError) and not isinstance(replies[1], NotPermitted):
        yield from quarantine(namespace, "metrics", keys.metrics)
        replies[1] = []
    for reply in replies[:_VITAL]:
        if isinstance(reply, NotPermitted):
            raise reply
    time, *rest = replies
    stored, *status, threads, first, head, names = (
        None if isinstance(reply, StoreError) else reply for reply in rest
    )
    now_ms = namespace.time_ms(time)
    known = sorted(map(text, names or ()))[:_MOST_WORKERS]
    due, job, *records = yield from each_or_error(
        [
            plain("ZSCORE", keys.due, first[0] if first else ""),
            plain("HGET", wakeups.job_key(text(head or "")), "data"),
            *(plain("HMGET", name, *_WORKER) for name in known),
        ]
    )
    due_ms = min(_first_due(due), (yield from _due_of(namespace, job, now_ms)), now_ms)
    counters = dict(zip((*COUNTED, *_EVER), counters_in(status[0]), strict=False))
    return _metrics_of(
        dict(_numbers(stored)),
        counters,
        at=moment(now_ms),
        status=queue_status_of(status),
        thread_count=int(threads or 0),
        oldest_due_s=(now_ms - due_ms) / 1000,
        workers=tuple(
            _worker(name, record)
            for name, record in zip(known, records, strict=True)
            if not isinstance(record, StoreError) and record[0] is not None
        ),
        sees_workers=names is not None
        and not any(isinstance(record, NotPermitted) for record in records),
        is_counted=namespace.is_counted,
    )


# --- what is now ----------------------------------------------------------------------------------

_LATER = 1 << 62


def _first_due(reply: Any) -> int:
    """Return when the thread that is checked next must be checked, ms."""
    return _LATER if reply is None or isinstance(reply, StoreError) else round(float(reply))


def _due_of(namespace: Namespace, job: Any, now_ms: int) -> Operation[int]:
    """Return when the thread was due whose wake-up is the first in line: of those, the oldest."""
    if not isinstance(job, bytes):
        return _LATER
    try:
        thread_id = wakeup_codec.thread_of(job)
    except pickle.UnpicklingError:
        return _LATER
    (reply,) = yield from each_or_error(
        [plain("HMGET", namespace.keys.thread(thread_id), "state", "due", "until")]
    )
    state, due, until = ("", "", "") if isinstance(reply, StoreError) else texts(reply)
    is_held = whole_number(until) > now_ms
    return whole_number(due) if state and whole_number(due) and not is_held else _LATER


def _worker(name: str, record: Sequence[Any]) -> WorkerMetrics:
    seen, state, concurrency, running, abandoned = texts(record)
    seen_ms = stamp_ms(seen)
    return WorkerMetrics(
        name=name.removeprefix(wakeups.worker_key("")),
        concurrency=whole_number(concurrency) or 1,
        running=whole_number(running) if running else int(state == "busy"),
        abandoned_calls=whole_number(abandoned),
        seen_at=moment(seen_ms) if seen_ms else None,
    )


# --- what was counted -----------------------------------------------------------------------------

_CHANGES = ("taken_over", "handed_back")
_SETTLEMENTS = ("requested", "approved", "denied", "answered", "expired")
_OUTCOMES = ("completed", "incomplete", "failed", "stopped")
_WORDS = {"a": 1, "p": 1, "m": 1, "b": 1, "e": 1, "t": 2, "h": 2, "d": 2, "k": 3}
"""Kind of a field -> the number of its other words."""
_Group = Mapping[tuple[str, ...], int]
"""The fields of one kind: their other words -> the number."""


def _numbers(reply: Any) -> Iterator[tuple[str, int]]:
    """Yield the fields that are whole numbers."""
    flat = list(reply or ())
    items = reply.items() if isinstance(reply, Mapping) else zip(flat[::2], flat[1::2], strict=True)
    for name, value in items:
        try:
            yield text(name), int(value)
        except ValueError:
            continue


def _metrics_of(fields: Mapping[str, int], counters: Mapping[str, int], **now: Any) -> Metrics:
    """Sort the fields; those of a newer version are ignored."""
    groups: dict[str, dict[tuple[str, ...], int]] = {kind: {} for kind in _WORDS}
    for field, count in fields.items():
        kind, *words = field.split(":")
        if len(words) == _WORDS.get(kind):
            groups[kind][tuple(words)] = count
    batches = {outcome: groups["b"].get((outcome,), 0) for outcome in _OUTCOMES}
    saved = fields.get("saved", 0)
    return Metrics(
        messages={
            "queued": sum(counters.get(name, 0) for name in _ACCEPTED) - counters.get("said", 0),
            "answered": saved + batches["completed"] + batches["incomplete"],
            "failed": groups["m"].get(("failed",), 0),
            "cancelled": counters.get("cancelled", 0),
            "deduplicated": counters.get("duplicates", 0),
        },
        batches=batches,
        approvals={kind: groups["a"].get((kind,), 0) for kind in _SETTLEMENTS},
        persons={change: groups["p"].get((change,), 0) for change in _CHANGES},
        runs=fields.get("again", 0) + sum(batches.values()),
        runs_saved=saved,
        errors=_errors(groups["e"], counters.get("takeovers", 0)),
        takeovers=counters.get("takeovers", 0),
        durations={name: _histogram(groups["h"], short) for name, short in DURATIONS.items()},
        tools=_tools(groups["t"]),
        tokens=_tokens(groups["k"]),
        deliveries=_deliveries(groups["d"]),
        abandoned_calls=fields.get("abandoned", 0),
        cut=_cut(groups),
        **now,
    )


def _errors(group: _Group, lost: int) -> dict[str, int]:
    """Return the attempts that failed; a worker that died is counted by the one that takes over."""
    found = {WORKER_LOST.code: lost} if lost else {}
    for (code,), count in group.items():
        found[label_of(code)] = found.get(label_of(code), 0) + count
    return found


def _histogram(group: _Group, short: str) -> Histogram:
    counts = tuple(group.get((short, str(bucket)), 0) for bucket in range(len(BOUNDS) + 1))
    return Histogram(bounds=BOUNDS, counts=counts, sum_s=group.get((short, "ms"), 0) / 1000)


def _tools(group: _Group) -> dict[str, ToolMetrics]:
    found: dict[str, list[int]] = {}
    for stored in dict.fromkeys(words[0] for words in group):
        row = found.setdefault(label_of(stored), [0, 0, 0])
        for place, ending in enumerate(("n", "e", "ms")):
            row[place] += group.get((stored, ending), 0)
    return {
        name: ToolMetrics(calls=calls, errors=errors, seconds=ms / 1000)
        for name, (calls, errors, ms) in found.items()
    }


def _tokens(group: _Group) -> tuple[TokenMetrics, ...]:
    stored: dict[tuple[str, ...], dict[str, int]] = {}
    for (*pair, ending), count in group.items():
        stored.setdefault(tuple(pair), {})[ending] = count
    found: dict[tuple[str, str], Counter[str]] = {}
    for (model, tenant), row in stored.items():
        tokens = found.setdefault((label_of(model), label_of(tenant)), Counter())
        tokens["input_tokens"] += row.get("a", 0) - row.get("o", 0)
        for short, name in USAGE_FIELDS.items():
            tokens[name] += row.get(short, 0)
    return tuple(
        TokenMetrics(model=model, tenant=tenant, **tokens)
        for (model, tenant), tokens in sorted(found.items())
    )


def _deliveries(group: _Group) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (channel, outcome), count in group.items():
        row = found.setdefault(label_of(channel), {})
        row[outcome] = row.get(outcome, 0) + count
    return found


def _cut(groups: Mapping[str, _Group]) -> tuple[str, ...]:
    """Return the labels of which some values are counted as `OTHER`."""
    labels = {"t": "tools", "e": "errors", "d": "channels", "k": "models"}
    cut = {labels[kind] for kind in labels for words in groups[kind] if words[0] == OTHER}
    cut |= {"tenants" for words in groups["k"] if words[1] == OTHER}
    return tuple(sorted(cut))
