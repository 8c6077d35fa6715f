"""Records of the audit as rows of its tables."""

from __future__ import annotations

from typing import Any

from assistant_queue.accounting import AttemptInfo, ToolCallRecord, Usage
from assistant_queue.auditing import AuditMessage, AuditRecord

Row = dict[str, Any]

_UNKNOWN = "�"
_NO_USAGE = Usage()


def clean(text: str, most: int | None = None) -> str:
    """Return a text without what databases refuse: NUL, and halves of surrogate pairs."""
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")
    if "\0" in text:
        text = text.replace("\0", _UNKNOWN)
    return text if most is None else text[:most]


def _some(text: str | None, most: int | None = None) -> str | None:
    return None if text is None else clean(text, most)


def _plain(value: Any) -> Any:
    """Return a value of a message for a column of JSON."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(name)): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def batch_row(record: AuditRecord) -> Row:
    """Return the row of a batch."""
    usage = record.usage or _NO_USAGE
    times = record.timeline
    return {
        "queue": record.queue,
        "batch_id": record.batch_id,
        "thread_id": clean(record.thread_id),
        "outcome": record.outcome,
        "reason": _some(record.reason, 64),
        "error_code": _some(record.error.code, 128) if record.error else None,
        "error_message": _some(record.error.message) if record.error else None,
        "run_id": clean(record.run_id, 256) or None,
        "model": _some(record.model, 256),
        "service_tier": _some(usage.service_tier, 64),
        "tenant": _some(record.tenant, 256),
        "reply": _some(record.reply),
        "fallback": record.fallback,
        "truncated": record.truncated,
        "attempts": record.attempts,
        **(_tokens(usage) if record.usage else _NO_TOKENS),
        "queued_at": times.queued_at,
        "due_at": times.due_at,
        "claimed_at": times.claimed_at,
        "sent_at": times.sent_at,
        "first_token_at": times.first_token_at,
        "ended_at": record.ended_at,
        "tries": [_try(one) for one in times.attempts] or None,
        "tools": [_tool(one) for one in record.tools] or None,
        "answered_by": _some(record.answered_by, 256),
    }


def _tokens(usage: Usage) -> Row:
    return {
        "input_tokens": usage.input_tokens,
        "cached_input_tokens": usage.cached_input_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "total_tokens": usage.total_tokens,
        "rounds": usage.rounds,
    }


_NO_TOKENS: Row = dict.fromkeys(_tokens(_NO_USAGE))
"""Tokens of a batch for which the provider counted none: not known, which is not 0."""


def _try(one: AttemptInfo) -> Row:
    row: Row = {"number": one.number, "started_at": one.started_at.isoformat()}
    if one.ended_at is not None:
        row["ended_at"] = one.ended_at.isoformat()
    if one.worker is not None:
        row["worker"] = clean(one.worker)
    if one.run_id is not None:
        row["run_id"] = clean(one.run_id)
    if one.error is not None:
        row["error"] = clean(one.error.code)
    return row


def _tool(one: ToolCallRecord) -> Row:
    row = {
        "name": one.name,
        "call_id": one.call_id,
        "started_at": one.started_at.isoformat() if one.started_at else None,
        "duration_s": one.duration_s,
        "error": one.error_code,
        "verdict": one.verdict,
        "settled_by": one.settled_by,
        "settled_at": one.settled_at.isoformat() if one.settled_at else None,
    }
    return {name: _plain(value) for name, value in row.items() if value is not None}


def message_rows(record: AuditRecord) -> list[Row]:
    """Return the rows of the messages of a batch."""
    return [
        _message_row(record, position, message) for position, message in enumerate(record.messages)
    ]


def _message_row(record: AuditRecord, position: int, message: AuditMessage) -> Row:
    return {
        "queue": record.queue,
        "batch_id": record.batch_id,
        "position": position,
        "message_id": clean(message.message_id),
        "role": message.role,
        "author": _some(message.author),
        "tenant": _some(message.tenant, 256),
        "text": clean(message.text),
        "instructions": _some(message.instructions),
        "metadata": _plain(dict(message.metadata)) if message.metadata else None,
        "attachments": [_plain(dict(one)) for one in message.attachments] or None,
        "wants_reply": message.wants_reply,
        "queued_at": message.queued_at,
        "answered_by": _some(message.answered_by, 256),
    }
