"""Operations on the failed list: what a person sees, retries, discards."""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from typing import Any

from assistant_queue.config import to_ms
from assistant_queue.core.progress import load_error, moment
from assistant_queue.errors import BatchNotFound, NotPermitted, StoreError
from assistant_queue.models import ErrorInfo, FailedBatch
from assistant_queue.store.calls import Call, Operation, Space, each, plain, reading, text, texts
from assistant_queue.store.packing import pack, unpack
from assistant_queue.store.quarantine import CORRUPT, move_aside, without


def list_failed(space: Space, limit: int, after: str | None) -> Operation[list[FailedBatch]]:
    """The failed batches, oldest first; `after` is the last batch id of the page before.

    Raises:
        BatchNotFound: `after` is not in the list.
    """
    start = 0
    if after is not None:
        rank = yield from _sorted_set(space, plain("ZRANK", space.keys.failed, after))
        if rank is None:
            raise BatchNotFound(_gone(after))
        start = int(rank) + 1
    found = texts((yield from _sorted_set(space, plain("ZRANGE", space.keys.failed, start, start + limit - 1))))
    ids = yield from without(space.keys.failed, found)
    records = yield from each([plain("HMGET", space.keys.record(batch_id), "thread", "failure", "failed_at") for batch_id in ids])
    # A record that is none of ours is shown, too: messages hang on it, and a person has to decide.
    return [
        _row(space, batch_id, ["", "", ""] if record is None else texts(record))
        for batch_id, record in zip(ids, records, strict=True)
        if record is None or record[0]
    ]


def _sorted_set(space: Space, call: Call) -> Operation[Any]:
    try:
        return (yield call)
    except NotPermitted:
        raise
    except StoreError:
        yield from move_aside(space, "failed", space.keys.failed)
        return (yield call)


def _row(space: Space, batch_id: str, record: list[str]) -> FailedBatch:
    try:
        with reading(space.keys.record(batch_id)):
            return _failed_batch(batch_id, record)
    except StoreError as error:
        return FailedBatch(
            batch_id=batch_id,
            thread_id=record[0],
            message_ids=(),
            reason=CORRUPT,
            error=ErrorInfo(code=CORRUPT, message=str(error)),
            attempts=0,
            known_run_id=None,
            failed_at=moment(0),
        )


def read_failed(space: Space, batch_id: str) -> Operation[FailedBatch]:
    """One failed batch.

    Raises:
        BatchNotFound: It is not in the failed list.
    """
    (found,) = yield from each([plain("HMGET", space.keys.record(batch_id), "thread", "failure", "failed_at", "state")])
    if found is None:
        return _row(space, batch_id, ["", "", ""])
    record = texts(found)
    if record[3] != "failed":
        raise BatchNotFound(_gone(batch_id))
    return _row(space, batch_id, record)


def _failed_batch(batch_id: str, record: list[str]) -> FailedBatch:
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


def retry_failed(space: Space, batch_id: str) -> Operation[None]:
    """Put a failed batch back at its thread's head, due at once.

    Raises:
        BatchNotFound: It is not in the failed list; nothing was changed.
        StoreError: What is stored of it is not of our making; nothing was changed.
    """
    failed = yield from read_failed(space, batch_id)
    entries = texts((yield plain("LRANGE", space.keys.dead(batch_id), 0, -1)))
    with reading(space.keys.record(batch_id)):
        if not failed.thread_id:
            raise ValueError(batch_id)
        failure = json.loads(text((yield plain("HGET", space.keys.record(batch_id), "failure")) or b"{}"))
        is_held = bool(failure.get("held"))
    with reading(space.keys.dead(batch_id)):
        messages = [replace(unpack(entry), held=is_held) for entry in entries]
    reply = yield space.call(
        "return_failed",
        failed.thread_id,
        keys={"record": space.keys.record(batch_id), "dead": space.keys.dead(batch_id)},
        rest=[space.keys.message(message.id) for message in messages],
        batch_id=batch_id,
        nonce=secrets.token_hex(4),
        entries=json.dumps([pack(message) for message in messages], ensure_ascii=False),
    )
    if text(reply[0]) == "gone":
        raise BatchNotFound(_gone(batch_id))


def discard_failed(space: Space, batch_id: str, result_ttl_s: float) -> Operation[None]:
    """Give a failed batch up; its messages stay `failed` for `result_ttl_s`.

    Raises:
        BatchNotFound: It is not in the failed list; nothing was changed.
    """
    failed = yield from read_failed(space, batch_id)
    reply = yield space.call(
        "discard_failed",
        failed.thread_id,
        keys={"record": space.keys.record(batch_id), "dead": space.keys.dead(batch_id)},
        rest=[space.keys.message(message_id) for message_id in failed.message_ids],
        batch_id=batch_id,
        nonce=secrets.token_hex(4),
        result_ttl_ms=max(to_ms(result_ttl_s), 1),
    )
    if text(reply[0]) == "gone" and failed.reason == CORRUPT:  # its record was moved aside just now
        yield [plain("ZREM", space.keys.failed, batch_id), plain("DEL", space.keys.dead(batch_id))]
    elif text(reply[0]) == "gone":
        raise BatchNotFound(_gone(batch_id))


def _gone(batch_id: str) -> str:
    return f"batch {batch_id!r} is not in the failed list: it never failed, or was retried or discarded; see list_failed()"
