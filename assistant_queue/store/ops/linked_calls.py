"""Reading of one tool call for its links: what is asked, or how it was settled."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from assistant_queue.accounting import ToolCallRecord
from assistant_queue.approvals import Approval
from assistant_queue.core.batch_records import load_records
from assistant_queue.core.settlements import Settlement, approval_of, public_id
from assistant_queue.errors import NotPermitted
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
from assistant_queue.store.ops.journal import read_entries
from assistant_queue.store.ops.packed_fields import ASK, is_of, joined
from assistant_queue.values import valueclass

_FIELDS = ("thread", "batch", "at", "until", "verdict", "settled", *ASK)


@valueclass(frozen=True, slots=True, kw_only=True)
class LinkedCall:
    """A tool call, as a link finds it.

    Attributes:
        asked: What is asked; None once its texts are removed.
        is_open: It waits for an answer.
        verdict: How it was settled: a value of `SettlementKind`; None while that is not known.
        by: The name that was given with that; None for none.
        settled_ms: When; 0 if it is not known.
        now_ms: The store's time.
    """

    asked: Approval | None
    is_open: bool
    now_ms: int
    verdict: str | None = None
    by: str | None = None
    settled_ms: int = 0


def read_linked(namespace: Namespace, call_id: str) -> Operation[LinkedCall | None]:
    """Return a call; None if there is no record of it, or its batch is over without an answer.

    After its outputs were submitted the call's record does not say how it was settled: from the end
    of its batch on the journal does.
    """
    key = namespace.keys.call(call_id)
    row, time = yield from each([plain("HMGET", key, *_FIELDS), plain("TIME")])
    fields = texts(row or [None] * len(_FIELDS))
    thread_id, batch, at, until, verdict, settled, *pieces = fields
    if not thread_id:
        return None
    now_ms = namespace.time_ms(time)
    (now,) = yield from each([plain("HGET", namespace.keys.thread(thread_id), "batch")])
    is_current = now is not None and is_of(text(now), batch)
    asked = None
    if ask := joined(pieces):
        with reading(key):
            asked = approval_of(
                thread_id,
                ask,
                whole_number(at),
                whole_number(until),
                call_id=call_id,
                batch_id=text(now) if is_current else batch,
            )
    if not verdict and not settled:
        if asked is None or not is_current:
            return None
        return LinkedCall(asked=asked, is_open=True, now_ms=now_ms)
    known = None
    if verdict:
        with suppress(ValueError, TypeError, KeyError):
            known = Settlement.load(verdict, 0)
    found = LinkedCall(
        asked=asked,
        is_open=False,
        now_ms=now_ms,
        verdict=known.kind.value if known else None,
        by=known.by if known else None,
        settled_ms=whole_number(settled),
    )
    if verdict:
        return found
    noted = yield from _in_journal(namespace, thread_id, batch, call_id)
    if noted is None:
        return found
    return replace(found, verdict=noted.verdict, by=noted.settled_by)


def _in_journal(
    namespace: Namespace, thread_id: str, batch: str, call_id: str
) -> Operation[ToolCallRecord | None]:
    """Return a call as the journal has it; None if it does not."""
    try:
        entries = yield from read_entries(namespace, thread_id)
    except NotPermitted:
        return None
    for record in load_records(thread_id, entries):
        for call in record.tool_calls if is_of(record.batch_id, batch) else ():
            if call_id in {
                public_id(call.call_id, record.batch_id),
                public_id(call.call_id, record.batch_id, is_taken=True),
            }:
                return call
    return None


def read_asked(namespace: Namespace, call_id: str) -> Operation[tuple[Approval | None, int]]:
    """Return an open call, None if there is none of this id, and the store's time, ms."""
    found = yield from read_linked(namespace, call_id)
    return (found.asked, found.now_ms) if found is not None and found.is_open else (None, 0)
