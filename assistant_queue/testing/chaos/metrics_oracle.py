"""The judge of the metrics: what the queue has counted against what the other judges counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from assistant_queue.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Witnessed:
    """Counts that do not come from the metrics.

    Attributes:
        messages: Messages that were accepted, without replies of `say`.
        failed: Those of them in the failed list without an answer.
        cancelled: Those of them that were cancelled with their batch.
        batches: Batches that answered messages, by the records of the messages.
        repeated: Adds that Redis did not answer and that were repeated: some found the message
            there.
        taken_over: Threads that were seen to change from a holder with a lapsed lease to another.
        delivered: Replies that are on their platforms once; None without any.
        parked: Replies in the failed list because it is unknown whether they are.
        unsure: Replies of `say` that Redis did not acknowledge: they may be delivered.
    """

    messages: int
    failed: int
    batches: int
    repeated: int
    taken_over: int
    delivered: int | None = None
    parked: int = 0
    unsure: int = 0
    cancelled: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsVerdict:
    """The outcome.

    Attributes:
        counted: Some of the counts, by name.
        details: One line for each count that is wrong.
    """

    counted: Mapping[str, int]
    details: tuple[str, ...] = field(default=())

    @property
    def holds(self) -> bool:
        """Whether every count is that of the other judges."""
        return not self.details


def judge_metrics(metrics: Metrics, seen: Witnessed) -> MetricsVerdict:
    """Compare.

    Args:
        metrics: As they are when nothing is open any more.
        seen: The other counts.
    """
    answered = metrics.batches["completed"] + metrics.batches["incomplete"]
    tries = {
        outcome: sum(row.get(outcome, 0) for row in metrics.deliveries.values())
        for outcome in ("delivered", "retried", "undelivered", "unknown")
    }
    counted = {
        **metrics.messages,
        "batches": sum(metrics.batches.values()),
        "takeovers": metrics.takeovers,
        "errors": sum(metrics.errors.values()),
        "delivered": tries["delivered"],
    }
    exact = {
        "messages queued": (metrics.messages["queued"], seen.messages),
        "messages answered": (
            metrics.messages["answered"],
            seen.messages - seen.failed - seen.cancelled,
        ),
        "messages cancelled": (metrics.messages["cancelled"], seen.cancelled),
        "batches that were answered": (answered, seen.batches),
        "runs saved": (metrics.runs_saved, metrics.messages["answered"] - answered),
        "durations of runs": (metrics.durations["run"].count, counted["batches"]),
        "durations of windows": (metrics.durations["window_wait"].count, counted["batches"]),
    }
    least = {
        "duplicates at most as many as adds were repeated": (
            seen.repeated,
            metrics.messages["deduplicated"],
        ),
        "takeovers at least as many as were seen": (metrics.takeovers, seen.taken_over),
    }
    if seen.delivered is not None:
        made = tries["delivered"] + tries["unknown"]
        shown = seen.delivered + seen.parked
        exact["durations of deliveries"] = (
            metrics.durations["delivery"].count,
            tries["delivered"],
        )
        least["deliveries at least as many as were shown"] = (made, shown)
        least["deliveries no more than were shown, and may have been"] = (shown + seen.unsure, made)
        least["deliveries at least as many as are known"] = (tries["delivered"], seen.delivered)
        least["deliveries in doubt at least as many as are listed"] = (
            tries["unknown"],
            seen.parked,
        )
    return MetricsVerdict(counted=counted, details=tuple(_wrong(exact, least)))


def _wrong(
    exact: Mapping[str, tuple[int, int]], least: Mapping[str, tuple[int, int]]
) -> Iterator[str]:
    for name, (found, expected) in exact.items():
        if found != expected:
            yield f"metrics: {name}: {found}, expected {expected}"
    for name, (more, less) in least.items():
        if more < less:
            yield f"metrics: {name}: {more} and {less}"
