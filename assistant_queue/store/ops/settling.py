"""Store operations of tool calls that are answered from outside; they need no lease."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress

from assistant_queue.approvals import Approval
from assistant_queue.core import measures
from assistant_queue.core.progress import Progress
from assistant_queue.core.settlements import Settlement, SettlementKind, approval_of, open_calls
from assistant_queue.errors import ApprovalNotFound, InvalidArgument, StoreError
from assistant_queue.store.calls import (
    Namespace,
    Operation,
    each,
    plain,
    reading,
    text,
    texts,
    whole_number,
)
from assistant_queue.store.ops.packed_fields import ASK, PROGRESS, is_of, joined
from assistant_queue.store.ops.sweeping import scored

_LABELS = ("thread", "batch", "at", "until", "settled")
_CALL = (*_LABELS, *ASK)
"""Fields that are read of a call's record."""

_CHUNK = 500
"""Calls that are read in one round trip. Chosen: about two milliseconds of Redis' time."""


def settle(namespace: Namespace, call_id: str, settlement: Settlement) -> Operation[bool]:
    """Settle an open call; False if it was settled before.

    Raises:
        ApprovalNotFound: There is no such call.
    """
    key = namespace.keys.call(call_id)
    thread_id = yield plain("HGET", key, "thread")
    if thread_id is None:
        raise _not_found(call_id)
    reply = yield namespace.call(
        "settle",
        text(thread_id),
        keys={"call": key},
        call_id=call_id,
        nonce=secrets.token_hex(8),
        verdict=settlement.dump(),
        news=settlement.news(),
        counts=namespace.counted(lambda: measures.call_settled(settlement.kind.value)),
    )
    word = text(reply[0])
    if word == "unknown":
        raise _not_found(call_id)
    return word == "settled"


def thread_of(namespace: Namespace, call_id: str) -> Operation[str | None]:
    """Return the thread of a call, open or settled; None if there is no record of it."""
    found = yield plain("HGET", namespace.keys.call(call_id), "thread")
    return None if found is None else text(found)


def read_open(namespace: Namespace, call_id: str) -> Operation[Approval | None]:
    """Return an open call; None if there is none of this id, or it was settled."""
    key = namespace.keys.call(call_id)
    fields = texts((yield plain("HMGET", key, *_CALL)))
    if not _is_open(fields):
        return None
    batch = yield plain("HGET", namespace.keys.thread(fields[0]), "batch")
    with reading(key):
        return _approval(call_id, "" if batch is None else text(batch), fields)


def _is_open(fields: Sequence[str]) -> bool:
    settled, ask = fields[len(_LABELS) - 1 : len(_LABELS) + 1]
    return bool(ask) and not settled


def _approval(call_id: str, batch_id: str, fields: Sequence[str]) -> Approval:
    """Return an open call from the fields `_CALL` of its record."""
    thread_id, _, at, until, _ = fields[: len(_LABELS)]
    return approval_of(
        thread_id,
        joined(fields[len(_LABELS) :]),
        whole_number(at),
        whole_number(until),
        call_id=call_id,
        batch_id=batch_id,
    )


def _not_found(call_id: str) -> ApprovalNotFound:
    return ApprovalNotFound(
        f"There is no open tool call {call_id!r}: it was never asked for, or its batch is over; "
        "list_approvals() returns the open ones"
    )


def read_settlements(
    namespace: Namespace, call_ids: Sequence[str], expired: Sequence[str] = ()
) -> Operation[dict[str, Settlement]]:
    """Return the settlements of those calls that have one, after the `expired` ones were settled.

    A call with a record that is gone, or was written by another program, has expired.
    """
    for call_id in expired:
        with suppress(ApprovalNotFound):
            yield from settle(namespace, call_id, Settlement(kind=SettlementKind.EXPIRED))
    rows = yield from each(
        [
            plain("HMGET", namespace.keys.call(one), "batch", "verdict", "settled")
            for one in call_ids
        ]
    )
    found: dict[str, Settlement] = {}
    for call_id, row in zip(call_ids, rows, strict=True):
        batch, verdict, settled = texts(row or [None] * 3)
        if verdict:
            with suppress(ValueError, TypeError, KeyError):
                found[call_id] = Settlement.load(verdict, whole_number(settled))
        if call_id not in found and (verdict or settled or not batch):
            found[call_id] = Settlement(kind=SettlementKind.EXPIRED, at_ms=whole_number(settled))
    return found


# --- the open calls -------------------------------------------------------------------------------


def list_open(
    namespace: Namespace, limit: int, after: str | None, thread_id: str | None
) -> Operation[list[Approval]]:
    """Return the open calls, oldest first; of one thread, or of all.

    Raises:
        InvalidArgument: There is no record of the call `after`.
    """
    since = -1
    if after is not None:
        found = yield plain("HGET", namespace.keys.call(after), "at")
        if found is None:
            raise InvalidArgument(
                f"after: there is no record of the tool call {after!r} any more; begin with the "
                "first page"
            )
        since = whole_number(text(found))
    if thread_id is not None:
        key = namespace.keys.thread(thread_id)
        fields = texts((yield plain("HMGET", key, "batch", "shut", "asks", *PROGRESS)))
        batch_id, shut, asks, *progress = fields
        with reading(key):
            known = Progress.load(joined(progress) if batch_id else "")
        rows = yield from _read(namespace, open_calls(known, batch_id, shut, asks))
        rows.sort(key=lambda row: (row.requested_at, row.call_id))
        return [row for row in rows if _is_after(row, since, after)][:limit]
    rows = []
    start = 0
    while len(rows) < limit:
        reply = yield plain(
            "ZRANGE",
            namespace.keys.approvals,
            max(since, 0),
            "+inf",
            "BYSCORE",
            "LIMIT",
            start,
            _CHUNK,
            "WITHSCORES",
        )
        pairs = list(scored(reply))
        page = yield from _read(namespace, [name for name, _ in pairs])
        rows += [row for row in page if _is_after(row, since, after)]
        start += len(pairs)
        if len(pairs) < _CHUNK:
            break
    return rows[:limit]


def _is_after(row: Approval, since: int, after: str | None) -> bool:
    at_ms = round(row.requested_at.timestamp() * 1000)
    return after is None or (at_ms, row.call_id) > (since, after)


def _read(namespace: Namespace, ids: Sequence[str]) -> Operation[list[Approval]]:
    """Return those of the calls that are open; those of batches that are over are left out."""
    records = yield from each([plain("HMGET", namespace.keys.call(one), *_CALL) for one in ids])
    fields = [texts(record or [None] * len(_CALL)) for record in records]
    batches = yield from each(
        [plain("HGET", namespace.keys.thread(thread_id), "batch") for thread_id, *_ in fields]
    )
    rows: list[Approval] = []
    for call_id, record, now in zip(ids, fields, batches, strict=True):
        batch_id = "" if now is None else text(now)
        if _is_open(record) and is_of(batch_id, record[1]):
            with suppress(StoreError), reading(namespace.keys.call(call_id)):
                rows.append(_approval(call_id, batch_id, record))
    return rows
