"""Operations on the failed list: list, retry, discard."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from assistant_queue.config import to_ms
from assistant_queue.core.delivery import DeliveryState
from assistant_queue.core.progress import load_error, moment
from assistant_queue.errors import BatchNotFound, NotPermitted, StoreError, StoreUnavailable
from assistant_queue.models import ErrorInfo, FailedBatch
from assistant_queue.store.calls import (
    Call,
    Namespace,
    Operation,
    each,
    plain,
    reading,
    text,
    texts,
)
from assistant_queue.store.message_codec import pack, unpack
from assistant_queue.store.quarantine import CORRUPT, quarantine, without
from assistant_queue.store.reply_codec import payload_of

OF_REPLIES = frozenset({"undelivered", "delivery_unknown"})
"""Reasons of the failed list about a reply: its batch is completed."""

_PAGE = 1000
"""Rows of one page when the whole list is read. Chosen: as `list_failed` allows."""


def list_failed(
    namespace: Namespace, limit: int, after: str | None
) -> Operation[list[FailedBatch]]:
    """Return the failed batches, oldest first; `after` is the last batch id of the previous page.

    Raises:
        BatchNotFound: `after` is not in the list.
    """
    start = 0
    if after is not None:
        rank = yield from _sorted_set(namespace, plain("ZRANK", namespace.keys.failed, after))
        if rank is None:
            raise BatchNotFound(_gone(after))
        start = int(rank) + 1
    found = texts(
        (
            yield from _sorted_set(
                namespace, plain("ZRANGE", namespace.keys.failed, start, start + limit - 1)
            )
        )
    )
    ids = yield from without(namespace.keys.failed, found)
    return (yield from failed_rows(namespace, ids))


def failed_rows(namespace: Namespace, ids: Sequence[str]) -> Operation[list[FailedBatch]]:
    """Return the failed batches of these ids; those that left the list meanwhile are left out."""
    records = yield from each(
        [
            plain("HMGET", namespace.keys.record(batch_id), "thread", "failure", "failed_at")
            for batch_id in ids
        ]
    )
    # A record that cannot be read is listed, too: it has messages, and an operator has to decide.
    return [
        failed_row(namespace, batch_id, ["", "", ""] if record is None else texts(record))
        for batch_id, record in zip(ids, records, strict=True)
        if record is None or record[0]
    ]


def _sorted_set(namespace: Namespace, call: Call) -> Operation[Any]:
    try:
        return (yield call)
    except NotPermitted:
        raise
    except StoreError:
        yield from quarantine(namespace, "failed", namespace.keys.failed)
        return (yield call)


def failed_row(namespace: Namespace, batch_id: str, record: Sequence[str]) -> FailedBatch:
    """Return a failed batch by its record's thread, failure and time."""
    try:
        with reading(namespace.keys.record(batch_id)):
            return _failed_batch(batch_id, record)
    except StoreError as error:
        return FailedBatch(
            batch_id=batch_id,
            thread_id=record[0],
            message_ids=(),
            reason="corrupt",
            error=ErrorInfo(code=CORRUPT, message=str(error)),
            attempts=0,
            known_run_id=None,
            failed_at=moment(0),
        )


def read_failed(namespace: Namespace, batch_id: str) -> Operation[FailedBatch]:
    """Return one failed batch.

    Raises:
        BatchNotFound: It is not in the failed list.
    """
    (found,) = yield from each(
        [plain("HMGET", namespace.keys.record(batch_id), "thread", "failure", "failed_at", "state")]
    )
    if found is None:
        return failed_row(namespace, batch_id, ["", "", ""])
    record = texts(found)
    # A reply that was not delivered has a failure, and its batch is completed.
    if record[3] != "failed" and not (record[3] == "completed" and record[1]):
        raise BatchNotFound(_gone(batch_id))
    return failed_row(namespace, batch_id, record)


def _failed_batch(batch_id: str, record: Sequence[str]) -> FailedBatch:
    failure: dict[str, Any] = json.loads(record[1])
    return FailedBatch(
        batch_id=batch_id,
        thread_id=record[0],
        message_ids=tuple(failure["message_ids"]),
        reason=failure["reason"],
        error=load_error(failure["error"]),
        attempts=failure["attempts"],
        known_run_id=failure["known_run_id"],
        failed_at=moment(int(record[2])),
    )


def retry_failed(namespace: Namespace, batch_id: str) -> Operation[None]:
    """Return a failed batch to its thread's head, due at once; a reply to its outbox.

    Raises:
        BatchNotFound: It is not in the failed list; nothing was changed.
        StoreError: Its stored data was not written by this queue; nothing was changed.
    """
    failed = yield from read_failed(namespace, batch_id)
    if failed.reason in OF_REPLIES:
        return (yield from _return_delivery(namespace, failed))
    entries = texts((yield plain("LRANGE", namespace.keys.dead(batch_id), 0, -1)))
    with reading(namespace.keys.record(batch_id)):
        if not failed.thread_id:
            raise ValueError(batch_id)
        failure = json.loads(
            text((yield plain("HGET", namespace.keys.record(batch_id), "failure")) or b"{}")
        )
        is_held = bool(failure.get("held"))
    with reading(namespace.keys.dead(batch_id)):
        stored = int(failure.get("stored", 0))
        messages = [
            replace(unpack(entry), held=is_held or place < stored)
            for place, entry in enumerate(entries)
        ]
    reply = yield namespace.call(
        "return_failed",
        failed.thread_id,
        keys={"record": namespace.keys.record(batch_id), "dead": namespace.keys.dead(batch_id)},
        rest=[namespace.keys.message(message.id) for message in messages],
        batch_id=batch_id,
        nonce=secrets.token_hex(4),
        entries=json.dumps([pack(message) for message in messages], ensure_ascii=False),
    )
    if text(reply[0]) == "gone":
        raise BatchNotFound(_gone(batch_id))


def discard_failed(namespace: Namespace, batch_id: str, result_ttl_s: float) -> Operation[None]:
    """Discard a failed batch; its messages stay `failed` for `result_ttl_s`.

    Raises:
        BatchNotFound: It is not in the failed list; nothing was changed.
    """
    failed = yield from read_failed(namespace, batch_id)
    if failed.reason in OF_REPLIES:
        return (yield from _discard_delivery(namespace, failed, result_ttl_s))
    reply = yield namespace.call(
        "discard_failed",
        failed.thread_id,
        keys={"record": namespace.keys.record(batch_id), "dead": namespace.keys.dead(batch_id)},
        rest=[namespace.keys.message(message_id) for message_id in failed.message_ids],
        batch_id=batch_id,
        nonce=secrets.token_hex(4),
        result_ttl_ms=max(to_ms(result_ttl_s), 1),
    )
    if text(reply[0]) == "gone" and failed.reason == CORRUPT:  # its record was just quarantined
        yield [
            plain("ZREM", namespace.keys.failed, batch_id),
            plain("DEL", namespace.keys.dead(batch_id)),
        ]
    elif text(reply[0]) == "gone":
        raise BatchNotFound(_gone(batch_id))


def list_all_failed(namespace: Namespace) -> Operation[list[FailedBatch]]:
    """Return all failed batches, oldest first; as far as the list was read if it shrank meanwhile."""
    found: list[FailedBatch] = []
    page = yield from list_failed(namespace, _PAGE, None)
    while page:
        found += page
        try:
            page = yield from list_failed(namespace, _PAGE, page[-1].batch_id)
        except BatchNotFound:  # another call has just handled it
            break
    return found


def retry_all(namespace: Namespace, reason: str | None, thread_id: str | None) -> Operation[int]:
    """Retry the failed batches with this reason and thread (None: any); return their number."""
    return (yield from _each_failed(namespace, reason, thread_id, retry_failed))


def discard_all(
    namespace: Namespace, reason: str | None, thread_id: str | None, result_ttl_s: float
) -> Operation[int]:
    """Discard the failed batches with this reason and thread (None: any); return their number."""

    def discard(namespace: Namespace, batch_id: str) -> Operation[None]:
        return discard_failed(namespace, batch_id, result_ttl_s)

    return (yield from _each_failed(namespace, reason, thread_id, discard))


def _each_failed(
    namespace: Namespace,
    reason: str | None,
    thread_id: str | None,
    act: Callable[[Namespace, str], Operation[None]],
) -> Operation[int]:
    """Act on batches that were in the list at the beginning; skip those that left it meanwhile."""
    # All pages first: acting shortens the list, and a batch that fails again is not met twice.
    found = yield from list_all_failed(namespace)
    chosen = [
        row for row in found if reason in {None, row.reason} and thread_id in {None, row.thread_id}
    ]
    # A retried batch goes to its thread's head: the latest first keeps their order.
    count = 0
    for row in reversed(chosen):
        try:
            yield from act(namespace, row.batch_id)
        except (BatchNotFound, StoreError) as error:
            if isinstance(error, NotPermitted | StoreUnavailable):
                raise
            continue  # it left the list meanwhile, or cannot be read and stays
        count += 1
    return count


def _return_delivery(namespace: Namespace, failed: FailedBatch) -> Operation[None]:
    key = namespace.keys.reply(failed.batch_id)
    (found,) = yield from each([plain("HMGET", key, "entry", "progress")])
    entry, progress = texts(found or ["", ""])
    with reading(key):
        payload = payload_of(entry)
    state = DeliveryState.load(progress)
    # The parts that the platform has are not sent again.
    fresh = DeliveryState(part_ids=state.part_ids, preview=state.preview)
    reply = yield namespace.call(
        "return_delivery",
        failed.thread_id,
        keys={"record": namespace.keys.record(failed.batch_id), "reply": key},
        batch_id=failed.batch_id,
        failed_at=_ms(failed),
        nonce=secrets.token_hex(4),
        progress=fresh.dump(),
        payload=payload,
    )
    if text(reply[0]) == "gone":
        raise BatchNotFound(_gone(failed.batch_id))


def _discard_delivery(
    namespace: Namespace, failed: FailedBatch, result_ttl_s: float
) -> Operation[None]:
    reply = yield namespace.call(
        "discard_delivery",
        failed.thread_id,
        keys={
            "record": namespace.keys.record(failed.batch_id),
            "reply": namespace.keys.reply(failed.batch_id),
        },
        batch_id=failed.batch_id,
        failed_at=_ms(failed),
        nonce=secrets.token_hex(4),
        result_ttl_ms=max(to_ms(result_ttl_s), 1),
    )
    if text(reply[0]) == "gone":
        raise BatchNotFound(_gone(failed.batch_id))


def _ms(failed: FailedBatch) -> str:
    """Return the time of a failure as the record has it."""
    return f"{failed.failed_at.timestamp() * 1000:.0f}"


def _gone(batch_id: str) -> str:
    return (
        f"Batch {batch_id!r} is not in the failed list: it never failed, or was retried or "
        "discarded; see list_failed()"
    )
