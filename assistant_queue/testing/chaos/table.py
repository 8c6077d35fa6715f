"""The one table that says how it went."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from assistant_queue.testing.chaos.runner import Outcome

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
    "fault": "faults of the provider",
    "missed": "blows that met nothing",
}
_ALWAYS = frozenset({"kill", "stop", "restart", "fault", "missed"})


def figures(seconds: Sequence[float]) -> str:
    """Median and longest."""
    if not seconds:
        return "none"
    return f"p50 {statistics.median(seconds):.2f} s, max {max(seconds):.2f} s, of {len(seconds)}"


def _rows(outcome: Outcome) -> Iterator[tuple[str, object]]:
    verdict, done = outcome.verdict, outcome.done
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
    yield "left in the queue", outcome.left
    for kind, what in _DONE.items():
        if done[kind] or kind in _ALWAYS:
            yield what, done[kind]
    yield "workers that ended by themselves", outcome.ended_by_themselves
    yield "adds repeated", outcome.repeated
    yield "runs", ", ".join(f"{count} {status}" for status, count in sorted(outcome.runs.items()))
    for cause, what in (("kill", "recovery from a kill"), ("stop", "recovery from a SIGSTOP"), ("restart", "recovery from Redis' return")):
        yield what, figures([one.seconds for one in outcome.recoveries if one.cause == cause])
    yield "from add to answer", figures(verdict.waits)
    yield "drained in", f"{outcome.drained_s:.1f} s"


def table(outcome: Outcome) -> str:
    """The table, and after it what was found."""
    settings = outcome.settings
    head = (
        f"chaos: {settings.protocol}, {settings.seconds:g} s, seed {settings.seed}, {settings.workers} workers, lease {settings.lease:g} s"
    )
    lines = [head, *(f"  {name:<34}{value}" for name, value in _rows(outcome))]
    lines += [f"! {detail}" for detail in outcome.verdict.details[:_SHOWN]]
    return "\n".join([*lines, "OK" if outcome.holds else "NOT OK"])
