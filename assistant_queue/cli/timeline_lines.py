"""Lines about times, attempts and tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from datetime import datetime

from assistant_queue.accounting import AttemptInfo, Timeline, Usage
from assistant_queue.cli.output import shorten

_WIDTH = 100
"""Characters of an error. Chosen: one line."""


def time_lines(timeline: Timeline) -> Iterator[str]:
    """Yield a line for each time that is known, with the time since the first."""
    start = timeline.queued_at
    for one in fields(Timeline):
        at = getattr(timeline, one.name)
        if isinstance(at, datetime):
            since = "" if start is None else f"  {(at - start).total_seconds():+.3f} s"
            yield f"  {one.name.removesuffix('_at').replace('_', ' '):<11} {stamp(at)}{since}"


def attempt_line(attempt: AttemptInfo) -> str:
    """Return the line of an attempt."""
    took = ""
    if attempt.ended_at is not None:
        took = f", {(attempt.ended_at - attempt.started_at).total_seconds():.3f} s"
    by = f", worker {attempt.worker}" if attempt.worker else ""
    run = f", run {attempt.run_id}" if attempt.run_id else ""
    error = attempt.error
    why = f": {error.code} {shorten(error.message, _WIDTH)}".rstrip() if error else ""
    return f"  attempt {attempt.number}   {stamp(attempt.started_at)}{took}{by}{run}{why}"


def tokens(usage: Usage) -> str:
    """Return the tokens of a run in words."""
    return (
        f"{usage.input_tokens} in ({usage.cached_input_tokens} cached), "
        f"{usage.output_tokens} out, {usage.rounds} round(s)"
    )


def stamp(at: datetime) -> str:
    """Return a time to the millisecond."""
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d} UTC"
