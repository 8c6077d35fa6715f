"""The table of a run's outcome."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from assistant_queue.testing.chaos.chaos_outcome import ChaosOutcome
from assistant_queue.testing.chaos.delivery_oracle import RepliesVerdict

_SHOWN = 20
_DONE = {
    "kill": "kill -9 of workers",
    "stop": "SIGSTOP, SIGCONT of workers",
    "starve": "workers without memory",
    "restart": "restarts of Redis",
    "stall": "standstills of Redis",
    "crowd": "times at maxclients",
    "truncate": "crashes that cost a second",
    "fail_over": "failovers by the Sentinel",
    "set_clock_back": "clock set back an hour",
    "add_bulk": "producers killed in a bulk",
    "platform": "faults of the chat platforms",
    "fault": "faults of the provider",
    "missed": "blows that met nothing",
}
_ALWAYS = frozenset({"kill", "stop", "restart", "fault", "missed"})


def figures(seconds: Sequence[float]) -> str:
    """Format median and maximum."""
    if not seconds:
        return "none"
    return f"p50 {statistics.median(seconds):.2f} s, max {max(seconds):.2f} s, of {len(seconds)}"


def _rows(outcome: ChaosOutcome) -> Iterator[tuple[str, object]]:
    verdict = outcome.verdict
    done = outcome.done
    yield "sent", verdict.sent
    yield "answered once", verdict.once
    yield "lost", verdict.lost
    yield "doubled", verdict.doubled
    yield "parked", verdict.parked
    yield "dead letters", verdict.dead
    yield "overlapping", verdict.overlapping
    yield "out of order", verdict.out_of_order
    yield "from nobody, or in a wrong place", verdict.strange
    if verdict.excused_lost or verdict.excused_doubled:
        yield "lost with what Redis forgot", verdict.excused_lost
        yield "doubled by what Redis forgot", verdict.excused_doubled
    if outcome.deliveries is not None:
        yield from _delivery_rows(outcome.deliveries)
    if outcome.said is not None:
        yield "said", outcome.said.said
        yield "  in their place once", outcome.said.once
        yield "  not acknowledged", outcome.said.unsure
        yield "  lost", outcome.said.lost
        yield "  doubled", outcome.said.doubled
        yield "  failed", outcome.said.failed
        yield "  out of order", outcome.said.out_of_order
        yield "  in a wrong place", outcome.said.strange
    if outcome.shown is not None:
        yield "replies said, on the platforms:", ""
        yield from _delivery_rows(outcome.shown)
    yield from _rows_of_wishes(outcome)
    yield from _rows_of_records(outcome)
    yield "left in the queue", outcome.left
    for kind, what in _DONE.items():
        if done[kind] or kind in _ALWAYS:
            yield what, done[kind]
    yield "workers that ended by themselves", outcome.ended_by_themselves
    yield "adds repeated", outcome.repeated
    yield "runs", ", ".join(f"{count} {status}" for status, count in sorted(outcome.runs.items()))
    for cause, what in (
        ("kill", "recovery from a kill"),
        ("stop", "recovery from a SIGSTOP"),
        ("restart", "recovery from Redis' return"),
    ):
        yield what, figures([one.seconds for one in outcome.recoveries if one.cause == cause])
    yield "from add to answer", figures(verdict.waits)
    yield "drained in", f"{outcome.drained_s:.1f} s"


def _rows_of_wishes(outcome: ChaosOutcome) -> Iterator[tuple[str, object]]:
    """Yield what became of steering, approvals and takeovers."""
    if outcome.steering is not None:
        yield "answered", outcome.steering.answered
        yield "answered with an edited text", outcome.steering.edited
        yield "cancelled by a stop or a removal", outcome.steering.cancelled
    if outcome.takeovers is not None:
        yield "takeovers", outcome.takeovers.takeovers
        yield "  replies of persons", outcome.takeovers.said
        yield "  answered by a person", outcome.takeovers.by_person
        yield "  answered by a run", outcome.takeovers.by_model
        yield "  cancelled with a run", outcome.takeovers.cancelled
    if outcome.approvals is not None:
        yield "calls approved", outcome.approvals.approved
        yield "  denied, or answered from outside", outcome.approvals.refused
        yield "  called again after a death", outcome.approvals.again


def _rows_of_records(outcome: ChaosOutcome) -> Iterator[tuple[str, object]]:
    """Yield what the queue says of itself."""
    if outcome.feed is not None:
        yield "events of the feed", f"{outcome.feed.events:,}, {outcome.feed.gaps} gap(s)"
    if outcome.counted is not None:
        words = ", ".join(f"{count} {name}" for name, count in outcome.counted.counted.items())
        yield "counted in the metrics", words
    if outcome.journals is not None:
        yield "batches in the journals", f"{outcome.journals.batches:,}"
        if outcome.journals.dated:
            yield "times in the history", f"{outcome.journals.dated:,}"
    if outcome.audit is not None:
        yield "rows of the audit", f"{outcome.audit.rows:,}, {outcome.audit.once:,} messages once"


def _delivery_rows(deliveries: RepliesVerdict) -> Iterator[tuple[str, object]]:
    yield "replies", deliveries.replies
    yield "  delivered once", deliveries.once
    yield "  parked", deliveries.parked
    yield "  lost", deliveries.lost
    yield "  doubled", deliveries.doubled
    yield "  given up", deliveries.given_up
    yield "  out of order", deliveries.out_of_order
    yield "  in a wrong chat, or never said", deliveries.strange


def table(outcome: ChaosOutcome) -> str:
    """Return the table, followed by the findings."""
    settings = outcome.settings
    head = (
        f"chaos: {settings.protocol}, {settings.seconds:g} s, seed {settings.seed}, "
        f"{settings.workers} workers, lease {settings.lease:g} s"
    )
    lines = [head, *(f"  {name:<34}{value}" for name, value in _rows(outcome))]
    judges = (
        outcome.verdict,
        outcome.deliveries,
        outcome.shown,
        outcome.said,
        outcome.feed,
        outcome.counted,
        outcome.journals,
        outcome.steering,
        outcome.approvals,
        outcome.takeovers,
        outcome.audit,
    )
    for found in judges:
        lines += [f"! {detail}" for detail in (() if found is None else found.details[:_SHOWN])]
    return "\n".join([*lines, "OK" if outcome.holds else "NOT OK"])
