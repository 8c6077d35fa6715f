"""Entries of a thread's journal: batches that ended, as they are stored. No texts.

An entry is a JSON list that begins with the ms of the end and the batch's id. A delivery is another
list, after the fields of its batch, or an entry by itself (`lua/_journal.lua`). `batch_records.py`
reads them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from assistant_queue.accounting import (
    AttemptInfo,
    BatchOutcome,
    DeliveryStatus,
    ErrorInfo,
    Timeline,
    Usage,
)
from assistant_queue.core.account import ms_of
from assistant_queue.core.compact_json import to_json
from assistant_queue.core.delivery import DeliveryState
from assistant_queue.core.history_notes import AUTHORS, dump_authors, dump_items
from assistant_queue.core.packed_ids import pack_id
from assistant_queue.core.progress import Progress
from assistant_queue.core.stored_rows import LEAST_USAGE, ToolRow, dump_usage
from assistant_queue.models import Message, RunResult
from assistant_queue.values import valueclass

MOST_IDS = 100
"""Message ids of an entry: the first, and the latest. Chosen: few batches have more."""
MOST_PARTS = 50
"""Part ids of a delivery. Chosen: a reply of 200,000 characters on a platform of 4,096."""
MOST_TOOLS = 20
"""Calls of tools of an entry: the first, and the latest. Chosen: as attempts."""
_MOST_NAME_CHARS = 64
"""Characters of a tool's name. Source: the provider's limit."""
MOST_CHARS = 256
"""Characters of an id of the provider or a platform, and of a name. Chosen: longer than theirs."""

_CODE = re.compile(r"[\w.:/-]{1,64}")
"""A code, which programs compare; a provider may send words in its place."""
_NO_CODE = "other"

TIMES = ("claimed_at", "queued_at", "due_at", "sent_at", "first_token_at")
"""Order of the times in an entry, each as the ms until the end; a new one goes to the end."""
DEFAULT_TIER = "default"
"""Stored as 1."""
STATES: Mapping[str, DeliveryStatus] = {"d": "delivered", "u": "undelivered", "n": "unknown"}
"""Stored letters of a delivery's state."""
OUTCOMES: Mapping[str, BatchOutcome] = {
    "c": "completed",
    "i": "incomplete",
    "f": "failed",
    "s": "said",
    "x": "stopped",
}
"""Stored letters of an outcome."""

PERSON = "w"
"""Name of the field of an entry that has the person that answered."""

ROOM = 36
"""Blanks at the end of an entry with a pending delivery. Chosen: as long as most deliveries. A
list of Redis with last entries that grow takes a quarter more memory."""

_LETTERS = {state: letter for letter, state in STATES.items()}
_OUTCOME_LETTERS = {outcome: letter for letter, outcome in OUTCOMES.items()}


def _code(said: str | None) -> str:
    """Return a code; "" for none. Words are none."""
    if not said:
        return ""
    return said if _CODE.fullmatch(said) else _NO_CODE


def _id(said: str | None) -> str:
    return pack_id((said or "")[:MOST_CHARS])


def _trimmed(row: list[Any], least: int = 0) -> list[Any]:
    """Return a row without the empty fields at its end."""
    while len(row) > least and not row[-1] and row[-1] != 0:
        row.pop()
    return row


@valueclass(frozen=True, slots=True, kw_only=True)
class EndedBatch:
    """A batch that ends, as far as its entry has it.

    Attributes:
        ended_ms: When, ms.
        run_id: The latest run; "" if there was none.
        reason: Of the failed list, or of an incomplete run.
        has_delivery: A reply joins the outbox.
        messages: Its messages, for the notes of the history (`history_notes.py`).
        shown: The provider's ids of the items of its answer; of a batch that was written without a
            run, of its messages.
        answered_by: The person that answered instead of a run.
    """

    batch_id: str
    message_ids: Sequence[str]
    outcome: BatchOutcome
    ended_ms: int
    timeline: Timeline
    attempts: int
    run_id: str = ""
    usage: Usage | None = None
    model: str | None = None
    tenant: str | None = None
    tools: Sequence[ToolRow] = ()
    reason: str | None = None
    error_code: str | None = None
    has_delivery: bool = False
    messages: Sequence[Message] = ()
    shown: Sequence[str] = ()
    answered_by: str | None = None


def dump_batch(ended: EndedBatch) -> str:
    """Return the entry of a batch."""
    known = ended.timeline.attempts
    rows = [_dump_attempt(one, ended.ended_ms) for one in known]
    kept_ids = _ends(list(ended.message_ids), MOST_IDS)
    ids = [pack_id(one) for one in kept_ids]
    by_id = {one.id: one for one in ended.messages}
    messages = [by_id[one] for one in kept_ids] if by_id.keys() >= set(kept_ids) else []
    is_written = not ended.run_id and not any(one.wants_reply for one in messages)
    items = dump_items(messages, ended.shown, is_written=is_written)
    named = ended.usage.model if ended.usage else None
    more = {
        "o": "" if ended.outcome == "completed" else _OUTCOME_LETTERS[ended.outcome],
        "r": _code(ended.reason),
        "x": _code(ended.error_code),
        "k": "" if ended.attempts == (known[-1].number if known else 0) else ended.attempts,
        "n": "" if len(ended.message_ids) == len(ids) else len(ended.message_ids),
        "i": "" if ended.run_id in {one.run_id for one in known} else _id(ended.run_id),
        "m": "" if ended.model == named else (ended.model or "")[:MOST_CHARS],
        "t": ended.tenant or "",
        AUTHORS: dump_authors(messages) or "",
        PERSON: (ended.answered_by or "")[:MOST_CHARS],
    }
    kept = {name: value for name, value in more.items() if value != ""}
    times = [_before(ended.ended_ms, getattr(ended.timeline, name)) for name in TIMES]
    entry = to_json(
        [
            ended.ended_ms,
            pack_id(ended.batch_id),
            ids,
            _trimmed(times),
            rows,
            _dump_usage(ended.usage) if ended.usage else 0,
            _dump_tools(ended.tools, ended.ended_ms) if ended.tools else 0,
            int(ended.has_delivery),
            *([kept] if kept else []),
            *([items] if items else []),
        ]
    )
    return entry + " " * (ROOM * ended.has_delivery)


def _ends(values: list[str], most: int) -> list[str]:
    return values if len(values) <= most else [values[0], *values[len(values) - most + 1 :]]


def _before(ended_ms: int, at: Any) -> int | None:
    return None if at is None else ended_ms - ms_of(at)


def _dump_attempt(one: AttemptInfo, ended_ms: int) -> list[Any]:
    code = _code(one.error.code) if one.error else ""
    row = [
        one.number,
        _before(ended_ms, one.started_at),
        _before(ended_ms, one.ended_at),
        (one.worker or "")[:MOST_CHARS],
        _id(one.run_id),
        code,
    ]
    return _trimmed(row, least=2)


def _dump_tools(rows: Sequence[ToolRow], ended_ms: int) -> list[list[Any]]:
    """Return calls without their outputs; model and user choose the names, so they are cut."""
    kept = rows if len(rows) <= MOST_TOOLS else (rows[0], *rows[len(rows) - MOST_TOOLS + 1 :])
    return [
        [
            row.name[:_MOST_NAME_CHARS],
            row.call_id[:MOST_CHARS],
            ended_ms - row.started_ms if row.started_ms else None,
            row.ms,
            *([_code(row.error)] if row.error or row.verdict else []),
            *(_dump_verdict(row, ended_ms) if row.verdict else []),
        ]
        for row in kept
    ]


def _dump_verdict(row: ToolRow, ended_ms: int) -> list[Any]:
    """Return the settlement of a call: its kind, the name that was given with it, and when."""
    at = ended_ms - row.settled_ms if row.settled_ms else None
    return [row.verdict, row.by[:_MOST_NAME_CHARS], at]


def _dump_usage(usage: Usage) -> list[Any]:
    row = dump_usage(usage)
    if row[2] == row[0] + row[1]:
        row[2] = 0
    row[7] = (row[7] or "")[:MOST_CHARS]
    row[8] = 1 if row[8] == DEFAULT_TIER else (row[8] or "")[:MOST_CHARS]
    while not row[-1] and len(row) > LEAST_USAGE:
        row.pop()
    return row


def of_result(
    result: RunResult, tools: Sequence[ToolRow], *, has_delivery: bool, shown: Sequence[str] = ()
) -> EndedBatch:
    """Return a batch that ended with a result."""
    timeline = result.timeline
    if timeline.claimed_at is None:
        timeline = replace(timeline, claimed_at=result.started_at)
    return EndedBatch(
        batch_id=result.batch_id,
        message_ids=result.message_ids,
        outcome=result.status,
        ended_ms=ms_of(result.ended_at),
        timeline=timeline,
        attempts=result.attempts,
        run_id=result.run_id,
        usage=result.usage,
        model=result.model,
        tenant=result.tenant,
        tools=tools,
        reason=result.incomplete_reason,
        has_delivery=has_delivery,
        messages=result.messages,
        shown=shown,
        answered_by=result.answered_by,
    )


def of_failure(
    batch_id: str,
    message_ids: Sequence[str],
    progress: Progress,
    *,
    timeline: Timeline,
    tenant: str | None,
    reason: str,
    error: ErrorInfo,
    ended_ms: int,
    has_delivery: bool,
    messages: Sequence[Message] = (),
) -> EndedBatch:
    """Return a batch that ends in the failed list."""
    return EndedBatch(
        batch_id=batch_id,
        message_ids=message_ids,
        outcome="failed",
        ended_ms=ended_ms,
        timeline=timeline,
        attempts=progress.attempts,
        run_id=progress.run_id or "",
        usage=progress.usage,
        tenant=tenant,
        tools=progress.tools,
        reason=reason,
        error_code=error.code,
        has_delivery=has_delivery,
        messages=messages,
        shown=progress.shown,
    )


def dump_said(batch_id: str, message_id: str, tenant: str | None) -> str:
    """Return the entry of a text of `say`, without the bracket and the time that `say.lua` adds."""
    said = EndedBatch(
        batch_id=batch_id,
        message_ids=(message_id,),
        outcome="said",
        ended_ms=0,
        timeline=Timeline(),
        attempts=0,
        tenant=tenant,
        has_delivery=True,
    )
    return dump_batch(said).partition(",")[2]


def dump_delivery(
    batch_id: str,
    status: DeliveryStatus,
    channel: str | None,
    state: DeliveryState,
    *,
    tries: int,
    error_code: str | None = None,
) -> str:
    """Return a settled delivery, as the scripts take it: the batch's id, and the delivery's fields.

    Args:
        batch_id: The batch.
        status: `delivered`, `undelivered` or `unknown`.
        channel: The channel's name.
        state: With the parts that the platform has.
        tries: Tries, this one included.
        error_code: Why it was given up.
    """
    ids = [None if one is None else one[:MOST_CHARS] for one in state.part_ids[:MOST_PARTS]]
    row = [_LETTERS[status], channel or "", tries, ids, _code(error_code)]
    return f"{pack_id(batch_id)} {to_json(_trimmed(row, least=3))[1:-1]}"
