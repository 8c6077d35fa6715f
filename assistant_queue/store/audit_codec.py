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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from assistant_queue.accounting import AttemptInfo, Timeline, ToolCallRecord
from assistant_queue.auditing import AuditMessage, AuditOutcome, AuditRecord, Erasure
from assistant_queue.core.account import STORED_TIMES
from assistant_queue.core.compact_json import to_json
from assistant_queue.core.progress import moment
from assistant_queue.core.stored_rows import ToolRow, dump_tools, load_tools, load_usage
from assistant_queue.models import TEXT_PARTS, Content, ErrorInfo, Message, RunResult
from assistant_queue.store.calls import AuditRules
from assistant_queue.store.message_codec import SAID
from assistant_queue.store.reply_codec import NAMES, pack_reply

_MOST_VALUE_CHARS = 300
"""Characters of a value of a part that is not text. Chosen: an address stays whole, the data of a
picture does not."""

_HEAD = re.compile(r"(\S+) \d+ (\d+) ")
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
    return {"audit": to_json(more), "audit_of": "" if is_sent else pack_reply(short)}


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
    batch_id, size = head.groups()
    # Lua counts bytes.
    tail = entry[head.end() :]
    thread_id = tail[: int(size)]
    if not thread_id.isascii():
        raw = tail.encode("utf-8", "surrogateescape")[: int(size)]
        thread_id = raw.decode("utf-8", "surrogateescape")
    payload = tail[len(thread_id) :]
    if not payload:
        return Erasure(thread_id)
    # Not by way of a `RunResult`: a busy worker reads some hundred of them a second.
    with suppress(ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError):
        return _record_of(queue, batch_id, thread_id, json.loads(payload))
    return None


_RUN_ID, _WHY = (NAMES[name] for name in ("run_id", "incomplete_reason"))
_REPLY, _REPLIES, _FALLBACK = (NAMES[name] for name in ("reply", "replies", "fallback"))
_USAGE, _ATTEMPTS = (NAMES[name] for name in ("usage", "attempts"))
_STARTED, _ENDED = (NAMES[name] for name in ("started_at", "ended_at"))


def _record_of(queue: str, batch_id: str, thread_id: str, packed: Mapping[str, Any]) -> AuditRecord:
    more = packed["z"]
    started_ms = packed[_STARTED]
    account = packed.get("a", {})
    messages = tuple(map(_audit_message, packed["m"]))
    usage = load_usage(packed[_USAGE]) if packed.get(_USAGE) else None
    error = more.get("x")
    return AuditRecord(
        queue=queue,
        batch_id=batch_id,
        thread_id=thread_id,
        outcome=more["o"],
        messages=messages,
        reply=packed[_REPLY] if _REPLY in packed else "\n\n".join(packed[_REPLIES]) or None,
        ended_at=moment(started_ms + packed[_ENDED]),
        run_id=packed[_RUN_ID],
        model=account.get("m") or (usage.model if usage else None),
        tenant=account.get("t"),
        usage=usage,
        timeline=_timeline_of(account, started_ms, messages),
        attempts=packed.get(_ATTEMPTS, 1),
        tools=tuple(map(_tool_call, load_tools(more.get("t", ())))),
        reason=more.get("r", packed.get(_WHY)),
        error=None if error is None else ErrorInfo(code=error[0], message=error[1]),
        fallback=bool(packed.get(_FALLBACK)),
        truncated="c" in more,
        answered_by=account.get("p"),
    )


def _timeline_of(
    account: Mapping[str, Any], started_ms: int, messages: Sequence[AuditMessage]
) -> Timeline:
    times = {
        name: moment(started_ms + account[short])
        for short, name in STORED_TIMES.items()
        if short in account
    }
    if "queued_at" not in times:
        known = [one.queued_at for one in messages if one.queued_at is not None]
        if known:
            times["queued_at"] = min(known)
    times["claimed_at"] = moment(started_ms)
    attempts = tuple(_attempt(row, started_ms) for row in account.get("a", ()))
    return Timeline(**times, attempts=attempts)


def _attempt(row: Sequence[Any], started_ms: int) -> AttemptInfo:
    number, began, ended, worker, run_id, code, said, *_ = [*row, *_NOTHING[len(row) :]]
    return AttemptInfo(
        number=number,
        started_at=moment(started_ms + began),
        ended_at=moment(started_ms + ended) if ended else None,
        worker=worker or None,
        run_id=run_id or None,
        error=ErrorInfo(code=code, message=said) if code else None,
    )


_NOTHING: tuple[Any, ...] = (0, 0, 0, "", "", "", "")
"""The fields of the row of an attempt, empty. Source: core/stored_rows.py."""


def _audit_message(plain: Mapping[str, Any]) -> AuditMessage:
    """Return a packed message (`message_codec.py`)."""
    content = plain["c"]
    queued_ms = plain.get("q")
    mark = plain.get("w")
    parts = () if isinstance(content, str) else content
    return AuditMessage(
        message_id=plain["id"],
        text="\n".join(_texts_of(parts)) if parts else content,
        author=plain.get("a"),
        tenant=plain.get("t"),
        instructions=plain.get("i"),
        metadata=plain.get("m") or _NO_PAIRS,
        attachments=tuple(part for part in parts if "text" not in part),
        queued_at=None if queued_ms is None else moment(queued_ms),
        wants_reply=mark is None,
        role="assistant" if mark == SAID else "user",
        answered_by=plain.get("p"),
    )


_NO_PAIRS: Mapping[str, str] = MappingProxyType({})


def _texts_of(parts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    return (part["text"] for part in parts if isinstance(part.get("text"), str))


def _tool_call(row: ToolRow) -> ToolCallRecord:
    return ToolCallRecord(
        name=row.name,
        call_id=row.call_id,
        started_at=moment(row.started_ms) if row.started_ms else None,
        duration_s=row.ms / 1000,
        error_code=row.error or None,
        verdict=row.verdict or None,
        settled_by=row.by or None,
        settled_at=moment(row.settled_ms) if row.settled_ms else None,
    )
