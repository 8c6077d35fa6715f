"""Models of a message's times and attempts in responses and events."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from assistant_queue.integrations.fastapi.problems import QueueProblem, problem_of_code
from assistant_queue.models import AttemptInfo, Timeline


class AttemptRecord(BaseModel):
    """One attempt at the message's batch."""

    number: int
    started_at: datetime
    ended_at: datetime | None
    run_id: str | None
    problem: QueueProblem | None = Field(description="Why it failed.")


class TimelineRecord(BaseModel):
    """Times of the message; null for what has not happened."""

    queued_at: datetime | None
    due_at: datetime | None
    claimed_at: datetime | None
    sent_at: datetime | None
    first_token_at: datetime | None
    completed_at: datetime | None
    delivered_at: datetime | None
    attempts: list[AttemptRecord]


def timeline_record(timeline: Timeline) -> TimelineRecord:
    """Return a timeline for clients: without the names of workers, with texts for its errors."""
    return TimelineRecord(
        queued_at=timeline.queued_at,
        due_at=timeline.due_at,
        claimed_at=timeline.claimed_at,
        sent_at=timeline.sent_at,
        first_token_at=timeline.first_token_at,
        completed_at=timeline.completed_at,
        delivered_at=timeline.delivered_at,
        attempts=[_attempt(one) for one in timeline.attempts],
    )


def _attempt(attempt: AttemptInfo) -> AttemptRecord:
    error = attempt.error
    return AttemptRecord(
        number=attempt.number,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        run_id=attempt.run_id,
        problem=None if error is None else problem_of_code(error.code),
    )
