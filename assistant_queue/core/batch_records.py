"""Records of batches, read from the entries of a thread's journal (`journal_entries.py`).

What a newer version adds to an entry is ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

from assistant_queue.accounting import (
    AttemptInfo,
    BatchRecord,
    DeliveryRecord,
    ErrorInfo,
    Timeline,
    ToolCallRecord,
    Usage,
)
from assistant_queue.core.journal_entries import DEFAULT_TIER, OUTCOMES, PERSON, STATES, TIMES
from assistant_queue.core.packed_ids import unpack_id
from assistant_queue.core.progress import moment
from assistant_queue.core.stored_rows import load_usage

_HEAD = 8
"""Fields that each entry of a batch has; after them its further fields, and deliveries."""
_APART = 0
"""In the place of the message ids: the entry is a delivery alone."""


def load_records(thread_id: str, entries: Iterable[str]) -> list[BatchRecord]:
    """Return the batches of a journal, newest first; entries that cannot be read are left out."""
    found: dict[str, BatchRecord] = {}
    for entry in entries:
        with suppress(ValueError, TypeError, IndexError, AttributeError, OverflowError, KeyError):
            _, packed_id, ids, *fields = row = json.loads(entry)
            batch_id = unpack_id(packed_id)
            if ids == _APART:
                if batch_id in found:
                    found[batch_id] = _delivered(found[batch_id], fields[0], row[0])
                continue
            record = _load_batch(thread_id, batch_id, row)
            for one in row[_HEAD:]:
                if isinstance(one, list):
                    record = _delivered(record, one, row[0])
            found[batch_id] = record
    return list(reversed(found.values()))


def _load_batch(thread_id: str, batch_id: str, row: list[Any]) -> BatchRecord:
    ended_ms, _, packed_ids, before, attempt_rows, usage_row, tools, is_pending = row[:_HEAD]
    more = next((one for one in row[_HEAD:] if isinstance(one, dict)), {})
    outcome = OUTCOMES[more.get("o", "c")]
    ended_at = moment(_whole(ended_ms))
    attempts = tuple(_load_attempt(one, ended_ms) for one in attempt_rows)
    usage = _load_usage(usage_row) if usage_row else None
    runs = [one.run_id for one in attempts] + [unpack_id(more.get("i", ""))]
    ids = tuple(unpack_id(one) for one in packed_ids)
    times = {
        name: None if ms is None else moment(ended_ms - ms)
        for name, ms in zip(TIMES, before, strict=False)
    }
    if outcome == "said":
        times["queued_at"] = ended_at
    return BatchRecord(
        batch_id=batch_id,
        thread_id=thread_id,
        message_ids=ids,
        message_count=_whole(more.get("n", len(ids))),
        outcome=outcome,
        ended_at=ended_at,
        reason=_word(more.get("r")),
        error_code=_word(more.get("x")),
        attempts=_whole(more.get("k", attempts[-1].number if attempts else 0)),
        run_ids=tuple(dict.fromkeys(one for one in runs if one)),
        timeline=Timeline(
            **times, completed_at=None if outcome == "failed" else ended_at, attempts=attempts
        ),
        usage=usage,
        model=_word(more.get("m")) or (usage.model if usage else None),
        tenant=_word(more.get("t")),
        tool_calls=tuple(_load_call(one, ended_ms) for one in tools or ()),
        delivery=DeliveryRecord(state="pending" if is_pending else "none"),
        answered_by=_word(more.get(PERSON)),
    )


def _load_attempt(row: Sequence[Any], ended_ms: int) -> AttemptInfo:
    number, started, ended, worker, run_id, code = [*row, *[None] * 6][:6]
    return AttemptInfo(
        number=_whole(number),
        started_at=moment(ended_ms - started),
        ended_at=None if ended is None else moment(ended_ms - ended),
        worker=_word(worker),
        run_id=unpack_id(run_id) if run_id else None,
        error=ErrorInfo(code=cast("str", _word(code)), message="") if code else None,
    )


def _load_call(row: Sequence[Any], ended_ms: int) -> ToolCallRecord:
    name, call_id, before, ms, code, verdict, by, settled = [*row, *[None] * 4][:8]
    return ToolCallRecord(
        name=_word(name) or "",
        call_id=_word(call_id) or "",
        started_at=None if before is None else moment(ended_ms - before),
        duration_s=_whole(ms) / 1000,
        error_code=_word(code),
        verdict=_word(verdict),
        settled_by=_word(by),
        settled_at=None if settled is None else moment(ended_ms - _whole(settled)),
    )


def _load_usage(row: Sequence[Any]) -> Usage:
    filled = [*row, *(0, 0, 0, 0, 0, 0, 0, "", "")[len(row) :]]
    filled[2] = filled[2] or filled[0] + filled[1]
    filled[7] = filled[7] or None
    filled[8] = DEFAULT_TIER if filled[8] == 1 else filled[8] or None
    return load_usage(filled)


def _delivered(record: BatchRecord, row: Sequence[Any], from_ms: int) -> BatchRecord:
    """Return a record with a settled delivery; the tries of several add up.

    Args:
        record: Of its batch.
        row: The delivery; its time is counted from `from_ms`, that of its entry.
        from_ms: ms.
    """
    after_ms, letter, channel, tries, ids, code = [*row, *[None] * 2][:6]
    state = STATES[letter]
    delivery = DeliveryRecord(
        state=state,
        channel=_word(channel),
        tries=record.delivery.tries + _whole(tries),
        part_ids=tuple(_word(one) for one in ids or ()),
        error_code=_word(code),
    )
    timeline = record.timeline
    if state == "delivered":
        timeline = replace(timeline, delivered_at=moment(from_ms + _whole(after_ms)))
    return replace(record, delivery=delivery, timeline=timeline)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("a number of the journal")
    return value


def _word(value: Any) -> str | None:
    """Return a text; None for none."""
    if value is not None and not isinstance(value, str):
        raise TypeError("a word of the journal")
    return value or None
