"""Encoding of a reply in the outbox: a header that scripts read, and the result with its messages.

A result that is stored elsewhere has no messages; here they stay until the reply is delivered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from assistant_queue.core.account import (
    STORED_TIMES,
    answering,
    dump_account,
    first_queued_at,
    ms_of,
    with_account,
)
from assistant_queue.core.compact_json import to_json
from assistant_queue.core.progress import load_result
from assistant_queue.core.stored_rows import LEAST_USAGE, dump_usage
from assistant_queue.models import Batch, RunResult
from assistant_queue.store.message_codec import plain_message, unpack_readable

NAMES = {
    "run_id": "i",
    "message_ids": "d",
    "messages_processed": "n",
    "status": "s",
    "incomplete_reason": "x",
    "reply": "o",
    "replies": "p",
    "usage": "u",
    "attempts": "k",
    "started_at": "b",
    "ended_at": "e",
    "fallback": "f",
}
"""Stored names of a result's fields, but for those that the header has. `m` are its messages, `a`
its account (core/account.py), `v` the message of the platform that shows half of it."""
_DEFAULTS: Mapping[str, Any] = {
    "status": "completed",
    "incomplete_reason": None,
    "usage": None,
    "attempts": 1,
}
"""Values that are not stored."""
_CLAIMED = "c"
_QUEUED = "q"
_PREVIEW = "v"
_HEADER_WORDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingReply:
    """A reply in the outbox.

    Attributes:
        result: As `on_reply` gets it, with its messages; those of a batch that version 0.1 ended
            are not known.
        since_ms: When it joined the line.
        preview: The platform's id of the message that shows half of it; None for none.
    """

    result: RunResult
    since_ms: int
    preview: str | None = None


def pack_reply(result: RunResult, preview: str | None = None) -> str:
    """Return a reply without its header, which the script writes."""
    started_ms = ms_of(result.started_at)
    ids = tuple(message.id for message in result.messages)
    plain: dict[str, Any] = {
        "run_id": result.run_id,
        "message_ids": ... if ids == result.message_ids else result.message_ids,
        "messages_processed": (
            ... if result.messages_processed == len(ids) else result.messages_processed
        ),
        "status": result.status,
        "incomplete_reason": result.incomplete_reason,
        "reply": _reply_beside(result),
        "replies": result.replies,
        "usage": None if result.usage is None else _trimmed(dump_usage(result.usage)),
        "attempts": result.attempts,
        "started_at": started_ms,
        "ended_at": ms_of(result.ended_at) - started_ms,
        "fallback": result.fallback or ...,
    }
    packed = {
        NAMES[name]: value
        for name, value in plain.items()
        if value is not ... and value != _DEFAULTS.get(name, ...)
    }
    packed["m"] = [plain_message(message) for message in result.messages]
    account = dump_account(
        tenant=result.tenant,
        model=result.model,
        timeline=result.timeline,
        keep_text=True,
        answered_by=result.answered_by,
    )
    account.pop(_CLAIMED, None)  # the result has it
    if result.timeline.queued_at == first_queued_at(result.messages):
        account.pop(_QUEUED, None)
    packed["a"] = _moved(account, -started_ms)
    if preview is not None:
        packed[_PREVIEW] = preview
    return to_json(packed)


def _reply_beside(result: RunResult) -> Any:
    """Return a reply that is not that of `replies`; an ellipsis if it is."""
    joined = result.replies[0] if len(result.replies) == 1 else "\n\n".join(result.replies)
    return ... if result.replies and result.reply == joined else result.reply


def _trimmed(row: list[Any]) -> list[Any]:
    """Return a row of tokens without the empty fields at its end."""
    while len(row) > LEAST_USAGE and not row[-1]:
        row.pop()
    return row


def _moved(account: Mapping[str, Any], by_ms: int) -> dict[str, Any]:
    """Return an account with its times counted from another one: shorter numbers."""
    moved = dict(account)
    for name in STORED_TIMES.keys() & account.keys():
        moved[name] += by_ms
    if "a" in account:
        moved["a"] = [_row_moved(row, by_ms) for row in account["a"]]
    return moved


def _row_moved(row: Sequence[Any], by_ms: int) -> list[Any]:
    number, started, *rest = row
    if rest:
        # 0 is an end that is not known; a known one is never counted as 0.
        rest[0] = rest[0] and (rest[0] + by_ms or rest[0])
    return [number, started + by_ms, *rest]


def unpack_reply(thread_id: str, entry: str) -> WaitingReply | None:
    """Return a reply; None if it was not written by `pack_reply`."""
    header = entry.split(" ", _HEADER_WORDS)
    with suppress(ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError):
        batch_id, since, kind, payload = header
        packed = json.loads(payload)
        entries = [json.dumps(one, ensure_ascii=False) for one in packed["m"]]
        messages, _ = unpack_readable(entries)
        plain = {name: packed[short] for name, short in NAMES.items() if short in packed}
        plain = {
            **_DEFAULTS,
            "reply": "\n\n".join(plain["replies"]) or None,
            "message_ids": [message.id for message in messages],
            "messages_processed": len(messages),
            **plain,
            "ended_at": plain["ended_at"] + plain["started_at"],
        }
        result = load_result({**plain, "thread_id": thread_id, "batch_id": batch_id})
        account = _moved(packed.get("a", {}), plain["started_at"])
        result = replace(with_account(result, account), late=kind == "late")
        if _QUEUED not in account:
            timeline = replace(result.timeline, queued_at=first_queued_at(messages))
            result = replace(result, timeline=timeline)
        if messages:
            batch = Batch(id=batch_id, thread_id=thread_id, messages=messages)
            result = answering(result, batch)
        preview = packed.get(_PREVIEW)
        return WaitingReply(
            result=result,
            since_ms=int(since),
            preview=preview if isinstance(preview, str) else None,
        )
    return None


def payload_of(entry: str) -> str:
    """Return an entry without its header."""
    return entry.split(" ", _HEADER_WORDS)[_HEADER_WORDS]
