"""Encoding of the audit's spool: a batch that ended, as its script appends it, and as a record.

    <batch id> <ms> <length of the thread id> <thread id><packed reply with "z">
    - <ms> <length of the thread id> <thread id>                 the thread was forgotten
    (empty)                                                      an entry of a forgotten thread

The packed reply is that of the outbox (`reply_codec.py`): a batch that is delivered is sent once.
`z` has what it lacks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from assistant_queue.accounting import ToolCallRecord
from assistant_queue.auditing import AuditMessage, AuditOutcome, AuditRecord, Erasure
from assistant_queue.core.progress import moment
from assistant_queue.core.stored_rows import ToolRow, dump_tools, load_tools
from assistant_queue.models import TEXT_PARTS, Content, ErrorInfo, Message, RunResult
from assistant_queue.store.calls import AuditRules
from assistant_queue.store.reply_codec import pack_reply, unpack_reply

_MOST_VALUE_CHARS = 300
"""Characters of a value of a part that is not text. Chosen: an address stays whole, the data of a
picture does not."""

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_HEAD = re.compile(r"(\S+) (\d+) (\d+) ")
NOTHING: dict[str, Any] = {"audit": "", "audit_of": ""}
"""Arguments of the scripts of a queue without an audit."""


def pack_batch(
    rules: AuditRules,
    result: RunResult,
    tools: Sequence[ToolRow],
    *,
    packed: str = "",
    reason: str | None = None,
    error: ErrorInfo | None = None,
) -> dict[str, Any]:
    """Return a batch as the scripts that end it take it; nothing without an audit.

    Args:
        rules: What the audit keeps.
        result: The batch, with its messages.
        tools: Its calls of tools.
        packed: Its packed reply, if the same script is given it.
        reason: Of the failed list.
        error: Why it failed.
    """
    if not rules.most:
        return NOTHING
    short = _shortened(result, rules.max_chars)
    more: dict[str, Any] = {"o": _outcome_of(result)}
    if tools:
        more["t"] = dump_tools(tools)
    if reason is not None:
        more["r"] = reason
    if error is not None:
        more["x"] = [error.code, error.message[: rules.max_chars]]
    if short is not result:
        more["c"] = 1
    is_sent = bool(packed) and short is result
    return {"audit": _encode(more), "audit_of": "" if is_sent else pack_reply(short)}


def _outcome_of(result: RunResult) -> AuditOutcome:
    is_answered = result.run_id or any(
        message.wants_reply and message.role == "user" for message in result.messages
    )
    return result.status if is_answered else "said"


def _shortened(result: RunResult, most: int) -> RunResult:
    """Return a result without what is too long; the same one if nothing is."""
    messages = tuple(_short_message(message, most) for message in result.messages)
    is_long = any(len(one) > most for one in (result.reply or "", *result.replies))
    if not is_long and all(map(_is_same, messages, result.messages)):
        return result
    return replace(
        result,
        messages=messages,
        reply=None if result.reply is None else result.reply[:most],
        replies=tuple(one[:most] for one in result.replies),
    )


def _is_same(one: Message, other: Message) -> bool:
    return one is other


def _short_message(message: Message, most: int) -> Message:
    content = message.content
    if isinstance(content, str) and len(content) <= most and not message.instructions:
        return message  # nearly every message
    short = _short_content(content, most)
    instructions = message.instructions and message.instructions[:most]
    if short == content and instructions == message.instructions:
        return message
    return replace(message, content=short, instructions=instructions)


def _short_content(content: Content, most: int) -> Content:
    if isinstance(content, str):
        return content[:most]
    return [
        {
            name: _short_value(value, most if part.get("type") in TEXT_PARTS else _MOST_VALUE_CHARS)
            for name, value in part.items()
        }
        for part in content
    ]


def _short_value(value: Any, most: int) -> Any:
    if isinstance(value, str):
        return value[:most]
    if isinstance(value, Mapping):
        return {name: _short_value(one, most) for name, one in value.items()}
    return value


def unpack_entry(queue: str, entry: str) -> AuditRecord | Erasure | None:
    """Return an entry as a record, or as the erasure of a thread; None for nothing of either."""
    head = _HEAD.match(entry)
    if head is None:
        return None
    batch_id, ms, size = head.groups()
    # Lua counts bytes.
    tail = entry[head.end() :].encode("utf-8", "surrogateescape")
    thread_id = tail[: int(size)].decode("utf-8", "surrogateescape")
    payload = tail[int(size) :].decode("utf-8", "surrogateescape")
    if not payload:
        return Erasure(thread_id)
    waiting = unpack_reply(thread_id, f"{batch_id} {ms} reply {payload}")
    if waiting is None:
        return None
    with suppress(ValueError, TypeError, KeyError, IndexError, AttributeError):
        return _record_of(queue, waiting.result, json.loads(payload)["z"])
    return None


def _record_of(queue: str, result: RunResult, more: Mapping[str, Any]) -> AuditRecord:
    error = more.get("x")
    return AuditRecord(
        queue=queue,
        batch_id=result.batch_id,
        thread_id=result.thread_id,
        outcome=more["o"],
        messages=tuple(map(_audit_message, result.messages)),
        reply=result.reply,
        ended_at=result.ended_at,
        run_id=result.run_id,
        model=result.model,
        tenant=result.tenant,
        usage=result.usage,
        timeline=result.timeline,
        attempts=result.attempts,
        tools=tuple(map(_tool_call, load_tools(more.get("t", ())))),
        reason=more.get("r", result.incomplete_reason),
        error=None if error is None else ErrorInfo(code=error[0], message=error[1]),
        fallback=result.fallback,
        truncated="c" in more,
    )


def _audit_message(message: Message) -> AuditMessage:
    content = message.content
    attachments = () if isinstance(content, str) else [p for p in content if "text" not in p]
    return AuditMessage(
        message_id=message.id,
        text=message.text,
        author=message.author,
        tenant=message.tenant,
        instructions=message.instructions,
        metadata=message.metadata,
        attachments=attachments,
        queued_at=message.queued_at,
        wants_reply=message.wants_reply,
        role=message.role,
    )


def _tool_call(row: ToolRow) -> ToolCallRecord:
    return ToolCallRecord(
        name=row.name,
        call_id=row.call_id,
        started_at=moment(row.started_ms) if row.started_ms else None,
        duration_s=row.ms / 1000,
        error_code=row.error or None,
    )
