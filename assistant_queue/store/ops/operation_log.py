"""The log of operations: what operators did, newest first.

An operation is in it from its beginning: one whose process died meanwhile is seen not to have
ended.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import field
from datetime import datetime
from typing import Any

from assistant_queue.core.compact_json import to_ascii_json
from assistant_queue.core.progress import moment
from assistant_queue.errors import StoreError
from assistant_queue.store.calls import Namespace, Operation, each_or_error, plain, text
from assistant_queue.values import valueclass

MOST = 1000
"""Operations that are kept. Chosen: weeks of a team; a longer record is the service's log."""


@valueclass(frozen=True, slots=True, kw_only=True)
class OperationRecord:
    """One operation.

    Attributes:
        at: Aware, UTC.
        by: The caller's name, or its id; None for an anonymous caller.
        operation: `pause`, `resume`, `stop` and so on.
        thread_id: The thread; None for the whole queue.
        done: Whether it changed anything.
        count: Number of batches that it was about; None if it is not about batches.
        detail: What it was limited to: `reason`, `message_id`, `batch_id`.
        error: The code of the problem it ended with.
        ended: Whether it is known how it ended. False: it is under way, or its process died, and it
            may have been performed.
    """

    at: datetime
    by: str | None
    operation: str
    thread_id: str | None = None
    done: bool = True
    count: int | None = None
    detail: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    ended: bool = True


def begin(namespace: Namespace, record: OperationRecord) -> Operation[str]:
    """Keep an operation that begins; return its entry, for `end`.

    Raises:
        StoreError: Redis did not take it.
    """
    entry = _dump(record, secrets.token_hex(4))
    yield namespace.call("record_operation", entry=entry, begun="", most=MOST)
    return entry


def end(namespace: Namespace, entry: str, record: OperationRecord) -> Operation[None]:
    """Keep how the operation of that entry ended, unless its thread was forgotten meanwhile.

    Raises:
        StoreError: Redis did not take it.
    """
    ended = _dump(record, str(json.loads(entry)["i"]))
    yield namespace.call("record_operation", entry=ended, begun=entry, most=MOST)


def read(
    namespace: Namespace, limit: int, thread_id: str | None = None
) -> Operation[list[OperationRecord]]:
    """Return the newest operations, or those on a thread; newest first."""
    most = limit - 1 if thread_id is None else MOST - 1
    (reply,) = yield from each_or_error([plain("LRANGE", namespace.keys.operations, 0, most)])
    rows = [] if isinstance(reply, StoreError) else reply
    found = [record for row in rows if (record := _load(text(row))) is not None]
    return [one for one in found if thread_id in {None, one.thread_id}][:limit]


def erase(namespace: Namespace, thread_id: str) -> Operation[None]:
    """Remove the operations on a thread, because it is forgotten."""
    key = namespace.keys.operations
    (reply,) = yield from each_or_error([plain("LRANGE", key, 0, -1)])
    if isinstance(reply, StoreError):
        return
    rows = []
    for row in reply:
        record = _load(text(row))
        if record is not None and record.thread_id == thread_id:
            rows.append(row)
    yield from each_or_error([plain("LREM", key, 0, row) for row in rows])


def _dump(record: OperationRecord, name: str) -> str:
    row = {
        "i": name,
        "at": round(record.at.timestamp() * 1000),
        "by": record.by,
        "op": record.operation,
        "t": record.thread_id,
        "done": record.done,
        "n": record.count,
        "d": dict(record.detail),
        "x": record.error,
        "e": record.ended,
    }
    # By identity: a count of 1 equals True.
    kept = {
        name: value
        for name, value in row.items()
        if value is not True and value is not None and value != {}
    }
    return to_ascii_json(kept)


def _load(stored: str) -> OperationRecord | None:
    """Return a stored operation; None for a text that is none."""
    with suppress(ValueError, KeyError, TypeError, OverflowError, AttributeError, RecursionError):
        row: dict[str, Any] = json.loads(stored)
        return OperationRecord(
            at=moment(int(row["at"])),
            by=_text(row.get("by")),
            operation=str(row["op"]),
            thread_id=_text(row.get("t")),
            done=bool(row.get("done", True)),
            count=None if row.get("n") is None else int(row["n"]),
            detail={str(name): str(value) for name, value in row.get("d", {}).items()},
            error=_text(row.get("x")),
            ended=bool(row.get("e", True)),
        )
    return None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
