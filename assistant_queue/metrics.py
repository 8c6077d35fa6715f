"""Metrics of a queue, as values: what was counted in Redis since the prefix exists, and what is now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from assistant_queue.models import QueueStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """A distribution of durations.

    Attributes:
        bounds: Upper bounds of the buckets in seconds, ascending; a bound belongs to its bucket.
        counts: Durations in each bucket; the last entry, one more than `bounds`, has the longer
            ones.
        sum_s: All durations together, in seconds.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum_s: float = 0.0

    @property
    def count(self) -> int:
        """Number of durations."""
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """Return the bound below which this share of the durations is; None without durations.

        `inf` if it is above the last bound.

        Args:
            share: From 0 to 1: 0.5 is the median.
        """
        if not self.count:
            return None
        wanted = share * self.count
        seen = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            seen += count
            if seen and seen >= wanted:
                return bound
        return float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolMetrics:
    """Calls of one tool.

    Attributes:
        calls: Calls that have ended.
        errors: Those that raised, timed out, or were refused.
        seconds: Their durations together.
    """

    calls: int = 0
    errors: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenMetrics:
    """Tokens of one model and tenant; the names of the fields are those of `Usage`.

    Attributes:
        model: The model; "" if the provider did not name it, "other" beyond the bound.
        tenant: The label of the messages; "" for none, "other" beyond the bound.
    """

    model: str
    tenant: str
    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerMetrics:
    """One worker that is registered with RQ.

    Attributes:
        name: RQ's name of it.
        concurrency: Batches that it takes at once.
        running: Batches that it has.
        abandoned_calls: Calls of user code that exceeded their time and still run in its process.
        seen_at: Its last sign of life; aware, UTC.
    """

    name: str
    concurrency: int = 1
    running: int = 0
    abandoned_calls: int = 0
    seen_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Metrics of a queue: counted by the scripts that change it, exact over forks and kills.

    Counts never decrease while the prefix exists. Durations are those of whole batches, in seconds.

    Attributes:
        at: When they were read, by Redis' clock; aware, UTC.
        status: Messages and replies by state, now.
        thread_count: Threads that are not idle, now.
        oldest_due_s: Seconds since the thread that is overdue longest was due; 0.0 if none is.
        messages: Messages by what became of them: `queued`, `answered`, `failed`, `cancelled`,
            `deduplicated`.
        batches: Batches by outcome: `completed`, `incomplete`, `failed`, `stopped`.
        approvals: Tool calls that were to be answered from outside: `requested`, and by how they
            were: `approved`, `denied`, `answered`, `expired`.
        persons: Threads that a person answers instead of the model: `taken_over`, once more if
            another person does, and `handed_back`. `forget_thread` counts as neither.
        runs: Times that a batch was sent to the provider.
        runs_saved: Answered messages less the batches that answered them.
        errors: Attempts that ended with an error, by its code; `worker_lost` are the takeovers.
        takeovers: Batches that were claimed from a worker that had died or lost its lease.
        durations: By name. `window_wait`: a batch's first message to the end of its window;
            `queue_wait`: from there to the claim; `first_token`: the request to the first text;
            `run`: the claim to the end of the batch; `delivery`: its end to the platform's
            acceptance; `end_to_end`: its first message to the delivery, or to its end if nothing is
            delivered.
        tools: By the tool's name.
        tokens: By model and tenant.
        deliveries: Channel -> outcome -> tries of a delivery: `delivered`, `retried`,
            `undelivered`, `unknown`. The channel of the callback is `on_reply`.
        abandoned_calls: Calls of user code that exceeded their time.
        workers: Workers that are registered, now; none if they cannot be read.
        sees_workers: This user of Redis may read RQ's records of workers.
        cut: Labels of which too many values were met: later ones are counted as "other". Of
            `channels`, `errors`, `models`, `tenants` and `tools`.
        is_counted: This queue object counts; False with `metrics=False`: the counts, if there are
            any, are those of other processes, but for `messages` and `takeovers`.
    """

    at: datetime
    status: QueueStatus
    thread_count: int = 0
    oldest_due_s: float = 0.0
    messages: Mapping[str, int] = field(default_factory=dict)
    batches: Mapping[str, int] = field(default_factory=dict)
    approvals: Mapping[str, int] = field(default_factory=dict)
    persons: Mapping[str, int] = field(default_factory=dict)
    runs: int = 0
    runs_saved: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)
    takeovers: int = 0
    durations: Mapping[str, Histogram] = field(default_factory=dict)
    tools: Mapping[str, ToolMetrics] = field(default_factory=dict)
    tokens: tuple[TokenMetrics, ...] = ()
    deliveries: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    abandoned_calls: int = 0
    workers: tuple[WorkerMetrics, ...] = ()
    sees_workers: bool = True
    cut: tuple[str, ...] = ()
    is_counted: bool = True
