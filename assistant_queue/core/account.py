"""Times, attempts and labels of a batch: as values, and as they are stored beside its result.

Results hold the fields that version 0.1 reads, and no others: what came later is stored apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from assistant_queue.accounting import AttemptInfo, Timeline
from assistant_queue.core.progress import Progress, moment
from assistant_queue.core.stored_rows import AttemptRow, dump_rows, load_rows
from assistant_queue.core.window import is_never
from assistant_queue.models import Batch, ErrorInfo, Message, RunResult, Usage

STORED_TIMES = {
    "q": "queued_at",
    "d": "due_at",
    "c": "claimed_at",
    "s": "sent_at",
    "f": "first_token_at",
}
"""Stored names of the times that a result does not have itself."""


def time_of(ms: int) -> datetime | None:
    """Return a time of the store's; None for 0, which is not known, and for no due time."""
    return None if ms == 0 or is_never(ms) else moment(ms)


def ms_of(at: datetime | None) -> int:
    """The opposite of `time_of`."""
    return 0 if at is None else round(at.timestamp() * 1000)


def first_queued_at(messages: Sequence[Message]) -> datetime | None:
    """Return when the oldest message was accepted; None if version 0.1 added them all."""
    return min((one.queued_at for one in messages if one.queued_at is not None), default=None)


def timeline_of(
    messages: tuple[Message, ...],
    progress: Progress,
    *,
    claimed_ms: int,
    due_ms: int = 0,
    completed_ms: int = 0,
) -> Timeline:
    """Return the times of a batch so far."""
    return Timeline(
        queued_at=first_queued_at(messages),
        due_at=time_of(due_ms),
        claimed_at=time_of(claimed_ms),
        sent_at=time_of(progress.run_sent_ms),
        first_token_at=time_of(progress.first_text_ms),
        completed_at=time_of(completed_ms),
        attempts=tuple(map(_attempt_info, progress.tries)),
    )


def added(one: Usage | None, other: Usage | None) -> Usage | None:
    """Return the tokens of both; None if neither was counted."""
    return one if other is None else other if one is None else one + other


def answering(result: RunResult, batch: Batch) -> RunResult:
    """Return a result with the messages that it answers, and their labels."""
    return replace(result, **labels_answered(batch))


def labels_answered(batch: Batch) -> dict[str, Any]:
    """Return the fields of a result with the messages that it answers, and their labels."""
    return {
        "messages": batch.messages,
        "authors": batch.authors,
        "metadata": batch.metadata,
        "tenant": batch.tenant,
    }


def _attempt_info(row: AttemptRow) -> AttemptInfo:
    return AttemptInfo(
        number=row.number,
        started_at=moment(row.started_ms),
        ended_at=time_of(row.ended_ms),
        worker=row.worker or None,
        run_id=row.run_id or None,
        error=row.error,
    )


def _attempt_row(info: AttemptInfo) -> AttemptRow:
    return AttemptRow(
        number=info.number,
        started_ms=ms_of(info.started_at),
        ended_ms=ms_of(info.ended_at),
        worker=info.worker or "",
        run_id=info.run_id or "",
        error=info.error,
    )


def dump_account(
    *,
    tenant: str | None,
    model: str | None,
    timeline: Timeline,
    keep_text: bool,
    answered_by: str | None = None,
) -> dict[str, Any]:
    """Return what is stored beside a result, as plain values.

    Args:
        tenant: The label of its messages.
        model: The model that answered.
        timeline: Its times and attempts.
        keep_text: False to leave out the words of errors, which may quote a message.
        answered_by: The person that answered instead of a run.
    """
    plain: dict[str, Any] = {}
    if tenant is not None:
        plain["t"] = tenant
    if model is not None:
        plain["m"] = model
    if answered_by is not None:
        plain["p"] = answered_by
    for name, attribute in STORED_TIMES.items():
        at = getattr(timeline, attribute)
        if at is not None:
            plain[name] = ms_of(at)
    rows = [_attempt_row(info) for info in timeline.attempts]
    if not keep_text:
        rows = [
            row
            if row.error is None
            else replace(row, error=ErrorInfo(code=row.error.code, message=""))
            for row in rows
        ]
    if rows:
        plain["a"] = dump_rows(rows)
    return plain


def load_timeline(plain: Mapping[str, Any]) -> Timeline:
    """Return the times that `dump_account` stored.

    Raises:
        TypeError, ValueError, IndexError: It did not store them.
    """
    times = {
        attribute: time_of(int(plain.get(name, 0))) for name, attribute in STORED_TIMES.items()
    }
    return Timeline(**times, attempts=tuple(map(_attempt_info, load_rows(plain.get("a", ())))))


def with_account(result: RunResult, plain: Mapping[str, Any], delivered_ms: int = 0) -> RunResult:
    """Return a stored result with what was stored beside it; of version 0.1, nothing was."""
    timeline = replace(
        load_timeline(plain),
        claimed_at=result.started_at,
        completed_at=result.ended_at,
        delivered_at=time_of(delivered_ms),
    )
    model = plain.get("m") or (result.usage.model if result.usage else None)
    return replace(
        result,
        tenant=plain.get("t"),
        model=model,
        timeline=timeline,
        answered_by=plain.get("p"),
    )
