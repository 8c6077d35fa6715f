"""The log of operations: what operators did from the operations page, newest first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from assistant_queue.core.progress import moment
from assistant_queue.errors import NotPermitted, StoreError, StoreUnavailable
from assistant_queue.store.calls import Namespace, Operation, each_or_error, plain, text
from assistant_queue.store.quarantine import quarantine

MOST = 1000
"""Operations that are kept. Chosen: weeks of a team; a longer record is the service's log."""


@dataclass(frozen=True, slots=True, kw_only=True)
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
    """

    at: datetime
    by: str | None
    operation: str
    thread_id: str | None = None
    done: bool = True
    count: int | None = None
    detail: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None


def append(namespace: Namespace, record: OperationRecord) -> Operation[None]:
    """Keep an operation.

    Raises:
        StoreError: Redis did not take it.
    """
    key = namespace.keys.operations
    calls = [plain("LPUSH", key, _dump(record)), plain("LTRIM", key, 0, MOST - 1)]
    replies = yield from each_or_error(calls)
    failed = next((one for one in replies if isinstance(one, StoreError)), None)
    if failed is None:
        return
    if isinstance(failed, NotPermitted | StoreUnavailable):
        raise failed
    yield from quarantine(namespace, "operations", key)
    yield calls


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


def _dump(record: OperationRecord) -> str:
    row = {
        "at": round(record.at.timestamp() * 1000),
        "by": record.by,
        "op": record.operation,
        "t": record.thread_id,
        "done": record.done,
        "n": record.count,
        "d": dict(record.detail),
        "x": record.error,
    }
    kept = {name: value for name, value in row.items() if value not in (None, {}, True)}
    return json.dumps(kept, separators=(",", ":"))


def _load(stored: str) -> OperationRecord | None:
    """Return a stored operation; None for a text that is none."""
    with suppress(ValueError, KeyError, TypeError, OverflowError, AttributeError):
        row: dict[str, Any] = json.loads(stored)
        return OperationRecord(
            at=moment(int(row["at"])),
            by=row.get("by"),
            operation=str(row["op"]),
            thread_id=row.get("t"),
            done=bool(row.get("done", True)),
            count=row.get("n"),
            detail={str(name): str(value) for name, value in row.get("d", {}).items()},
            error=row.get("x"),
        )
    return None
