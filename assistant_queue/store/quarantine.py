"""Quarantine of keys with foreign content: rename them, log it, and retry the call."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Sequence
from typing import Any, TypeVar

from assistant_queue.core.measures import batch_quarantined
from assistant_queue.core.progress import dump_error
from assistant_queue.errors import StoreError
from assistant_queue.models import ErrorInfo
from assistant_queue.store.calls import Call, Each, Namespace, Operation, each, plain, text, texts
from assistant_queue.store.sendable import is_text

T = TypeVar("T")
_log = logging.getLogger(__name__)

MAX_REPAIRS = 8
"""Corrupt keys that one call repairs before it gives up. Chosen: a script has fewer keys that can
be corrupt, except for its messages."""
_SCAN = 1000
"""Keys of one round trip of a scan. Chosen: about a millisecond of Redis' time."""

CORRUPT = "corrupt"
"""The failure reason of a batch with unreadable stored data."""
_CORRUPT_WORDS = (b"corrupt", "corrupt")


def repairing(operation: Operation[T]) -> Operation[T]:
    """Return the operation with recovery: a key that a script reports as corrupt is quarantined.

    The call is then sent again: every script can be repeated.

    Raises:
        StoreError: The key is still corrupt.
    """
    try:
        step = next(operation)
        while True:
            try:
                reply = yield step
                if isinstance(step, Call):
                    if says_corrupt(reply):
                        reply = yield from _repaired_call(step, reply)
                elif isinstance(step, list):
                    # An operation that pipelines handles its replies itself.
                    yield from _repair_all(step, reply)
            except StoreError as error:
                step = operation.throw(error)
            else:
                step = operation.send(reply)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # the operation's own


def _repaired_call(call: Call, reply: Any) -> Operation[Any]:
    for _ in range(MAX_REPAIRS):
        yield from _quarantine(call, text(reply[1]), text(reply[2]))
        reply = yield call
        if not says_corrupt(reply):
            return reply
    raise _still_corrupt(reply)


def _repair_all(calls: list[Call], replies: list[Any]) -> Operation[None]:
    """Replace the replies that say `corrupt` by good ones; the other calls are not sent again."""
    for left in reversed(range(MAX_REPAIRS + 1)):
        bad = [
            number
            for number, call in enumerate(calls)
            if call.script is not None and says_corrupt(replies[number])
        ]
        if not bad:
            return
        # Many calls can report the same key.
        found = {text(replies[number][2]): number for number in reversed(bad)}
        for key, number in found.items():
            try:
                if not left:
                    raise _still_corrupt(replies[number])
                yield from _quarantine(calls[number], text(replies[number][1]), key)
            except StoreError as error:
                if not isinstance(calls, Each):
                    raise
                _fail([number for number in bad if text(replies[number][2]) == key], replies, error)
        again = [number for number in bad if not isinstance(replies[number], StoreError)]
        answers = (yield type(calls)(calls[number] for number in again)) if again else []
        for number, answer in zip(again, answers, strict=True):
            replies[number] = answer


def _fail(numbers: list[int], replies: list[Any], error: StoreError) -> None:
    for number in numbers:
        replies[number] = error


def says_corrupt(answer: Any) -> bool:
    """Return whether a script found a corrupt key, and changed nothing."""
    size = 3  # the word, the key's role, its name
    return isinstance(answer, list) and len(answer) == size and answer[0] in _CORRUPT_WORDS


def _still_corrupt(answer: Any) -> StoreError:
    return StoreError(
        f"The Redis key {text(answer[2])!r} is corrupt and could not be quarantined; "
        "nothing was changed: inspect the key"
    )


def _quarantine(call: Call, kind: str, key: str) -> Operation[None]:
    if call.namespace is None:
        return
    yield from quarantine(call.namespace, kind, key, call.thread_id)


def quarantine(namespace: Namespace, kind: str, key: str, thread_id: str = "") -> Operation[None]:
    """Rename a corrupt key, and repair the data that depends on it.

    Args:
        namespace: Its namespace.
        kind: Its role: the name of a key of `lua/_common.lua`.
        key: Its name.
        thread_id: Its thread; empty if it belongs to none.

    Raises:
        StoreError: It is RQ's, and has to be repaired there.
    """
    error = ErrorInfo(
        code=CORRUPT,
        message="The thread's record in Redis could not be read: the batch's progress is unknown",
    )
    failure = json.dumps(
        {
            "reason": CORRUPT,
            "error": dump_error(error),
            "attempts": 0,
            "known_run_id": None,
            "held": False,
        },
        separators=(",", ":"),
    )
    reply = texts(
        (
            yield namespace.call(
                "quarantine",
                thread_id,
                keys={"broken": key},
                kind=kind,
                batch_id=secrets.token_hex(12),
                failure=failure[:-1].replace("%", "%%") + ',"message_ids":[%s]}',
                done=namespace.keys.done(thread_id),
                shelf=namespace.keys.shelf,
                counts=namespace.counted(lambda: batch_quarantined(CORRUPT)),
            )
        )
    )
    if reply[0] == "foreign":
        raise StoreError(
            f"The Redis key {reply[1]!r} is RQ's, and has another type than RQ's; "
            "nothing was changed: remove the key"
        )
    moved = reply[1:]
    for name in moved:
        _log.error(
            "thread %r: the content of %s was not written by this queue (%s); it is now %s",
            thread_id,
            key,
            kind,
            name,
        )
    keys = namespace.keys
    sets = (keys.due, keys.stopping, keys.failed, keys.deliveries)
    if any(name.endswith(tuple(f":{_last(key)}" for key in sets)) for name in moved):
        yield from _list_again(namespace)


def _last(key: str) -> str:
    return key.rpartition(":")[2]


def _list_again(namespace: Namespace) -> Operation[None]:
    """Rebuild the sets of threads, of failed batches and of deliveries from their own keys."""
    for key in (yield from _names(namespace.keys.thread(""))):
        # Due now: the next check finds whether there is anything to do, and when.
        yield plain("ZADD", namespace.keys.due, "NX", 0, key)
        (wish,) = yield from each([plain("HGET", namespace.keys.thread(key), "wish")])
        if wish is not None and text(wish).startswith("stop "):
            yield plain("ZADD", namespace.keys.stopping, "NX", 0, key)
    for key in (yield from _names(namespace.keys.outbox(""))):
        yield plain("ZADD", namespace.keys.deliveries, "NX", 0, key)
    for key in (yield from _names(namespace.keys.record(""))):
        (known,) = yield from each(
            [plain("HMGET", namespace.keys.record(key), "state", "failed_at", "failure")]
        )
        state, failed_at, failure = texts(known or ["", "", ""])
        # A reply that was not delivered has a failure, and its batch is completed.
        if state == "failed" or (state == "completed" and failure):
            yield plain(
                "ZADD", namespace.keys.failed, "NX", failed_at if failed_at.isdigit() else 0, key
            )


def _names(beginning: str) -> Operation[list[str]]:
    """Return the rest of the names of all keys that begin so."""
    found: list[str] = []
    cursor = 0
    while True:
        cursor, names = yield plain(
            "SCAN", cursor, "MATCH", literal(beginning) + "*", "COUNT", _SCAN
        )
        found += [text(name).removeprefix(beginning) for name in names]
        cursor = int(cursor)
        if cursor == 0:
            return [name for name in found if is_text(name)]


def literal(beginning: str) -> str:
    """Return a pattern that matches every character literally."""
    return "".join("\\" + char if char in "\\*?[]^" else char for char in beginning)


def without(key: str, names: Sequence[str]) -> Operation[list[str]]:
    """Return the names of a sorted set that are text; others are removed from it."""
    good = [name for name in names if is_text(name)]
    for name in names:
        if not is_text(name):
            _log.error("%s contained %r, which is not UTF-8; it was removed", key, name)
            yield plain("ZREM", key, name.encode("utf-8", "surrogateescape"))
    return good
