"""What is not of our making is moved aside and logged, and the call that met it is made again."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Sequence
from typing import Any, TypeVar

from assistant_queue.core.progress import dump_error
from assistant_queue.errors import StoreError
from assistant_queue.models import ErrorInfo
from assistant_queue.store.calls import Call, Each, Operation, Space, each, plain, text, texts
from assistant_queue.store.sendable import is_text

T = TypeVar("T")
_log = logging.getLogger(__name__)

MAX_MENDS = 8
"""Corrupt keys that one call mends before it gives up. Chosen: a script has fewer keys that can be corrupt, its messages excepted."""
_SCAN = 1000

CORRUPT = "corrupt"
"""The reason of a batch whose stored form cannot be read."""


def mending(operation: Operation[T]) -> Operation[T]:
    """The operation; where a script says that a key is corrupt, that is moved aside and the call sent again. Every script can be repeated.

    Raises:
        StoreError: It does not help.
    """
    try:
        step = next(operation)
        while True:
            try:
                reply = yield step
                if isinstance(step, Call):
                    if says_corrupt(reply):
                        reply = yield from _mended_call(step, reply)
                elif isinstance(step, list):  # of what is sent ahead the sender looks after the replies
                    yield from _mend_all(step, reply)
            except StoreError as error:
                step = operation.throw(error)
            else:
                step = operation.send(reply)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # the operation's own


def _mended_call(call: Call, reply: Any) -> Operation[Any]:
    for _ in range(MAX_MENDS):
        yield from _move_aside(call, text(reply[1]), text(reply[2]))
        reply = yield call
        if not says_corrupt(reply):
            return reply
    raise _no_help(reply)


def _mend_all(calls: list[Call], replies: list[Any]) -> Operation[None]:
    """Put good replies in the place of those that say `corrupt`; the other calls are not sent again, however many these are."""
    for left in reversed(range(MAX_MENDS + 1)):
        bad = [number for number, call in enumerate(calls) if call.script is not None and says_corrupt(replies[number])]
        if not bad:
            return
        found = {text(replies[number][2]): number for number in reversed(bad)}  # one key can be met by many
        for key, number in found.items():
            try:
                if not left:
                    raise _no_help(replies[number])
                yield from _move_aside(calls[number], text(replies[number][1]), key)
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
    """The reply of a script that found a corrupt key, and changed nothing."""
    return isinstance(answer, list) and len(answer) == 3 and answer[0] in (b"corrupt", "corrupt")  # noqa: PLR2004


def _no_help(answer: Any) -> StoreError:
    return StoreError(f"the key {text(answer[2])!r} is corrupt and could not be moved aside; nothing was changed - look at it")


def _move_aside(call: Call, kind: str, key: str) -> Operation[None]:
    if call.space is None:
        return
    yield from move_aside(call.space, kind, key, call.thread_id)


def move_aside(space: Space, kind: str, key: str, thread_id: str = "") -> Operation[None]:
    """Move a corrupt key out of the way, and make good what hung on it.

    Args:
        space: Where it is.
        kind: What it should be: the name of a key of `lua/_common.lua`.
        key: Its name.
        thread_id: Whose it is; empty if it is no thread's.

    Raises:
        StoreError: It is RQ's, and RQ has to mend it.
    """
    error = ErrorInfo(code=CORRUPT, message="the thread's record in Redis could not be read: how far the batch got is not known")
    failure = json.dumps(
        {"reason": CORRUPT, "error": dump_error(error), "attempts": 0, "known_run_id": None, "held": False}, separators=(",", ":")
    )
    reply = texts(
        (
            yield space.call(
                "quarantine",
                thread_id,
                keys={"broken": key},
                kind=kind,
                batch_id=secrets.token_hex(12),
                failure=failure[:-1].replace("%", "%%") + ',"message_ids":[%s]}',
                done=space.keys.done(thread_id),
                shelf=space.keys.shelf,
            )
        )
    )
    if reply[0] == "foreign":
        raise StoreError(f"the key {reply[1]!r} is RQ's, and is not what RQ keeps there; nothing was changed - remove it")
    moved = reply[1:]
    for name in moved:
        _log.error("thread %r: %s held what is not of our making (%s); it is now %s", thread_id, key, kind, name)
    if any(name.endswith((f":{_last(space.keys.due)}", f":{_last(space.keys.failed)}")) for name in moved):
        yield from _list_again(space)


def _last(key: str) -> str:
    return key.rpartition(":")[2]


def _list_again(space: Space) -> Operation[None]:
    """The set of all threads, or of all failed batches, was not ours: make it anew from the threads' and batches' own keys."""
    for key in (yield from _names(space.keys.thread(""))):
        # Due now: whoever looks finds out whether there is anything to do, and when.
        yield plain("ZADD", space.keys.due, "NX", 0, key)
    for key in (yield from _names(space.keys.record(""))):
        (known,) = yield from each([plain("HMGET", space.keys.record(key), "state", "failed_at")])
        state, failed_at = texts(known or ["", ""])
        if state == "failed":
            yield plain("ZADD", space.keys.failed, "NX", failed_at if failed_at.isdigit() else 0, key)


def _names(beginning: str) -> Operation[list[str]]:
    """What follows this beginning in the names of keys."""
    found: list[str] = []
    cursor = 0
    while True:
        cursor, names = yield plain("SCAN", cursor, "MATCH", literal(beginning) + "*", "COUNT", _SCAN)
        found += [text(name).removeprefix(beginning) for name in names]
        cursor = int(cursor)
        if cursor == 0:
            return [name for name in found if is_text(name)]


def literal(beginning: str) -> str:
    """A pattern that takes every character as it is."""
    return "".join("\\" + char if char in "\\*?[]^" else char for char in beginning)


def without(key: str, names: Sequence[str]) -> Operation[list[str]]:
    """The names of a sorted set that are text; others are nobody's and are removed from it."""
    good = [name for name in names if is_text(name)]
    for name in names:
        if not is_text(name):
            _log.error("%s held %r, which is no name of ours; it was removed", key, name)
            yield plain("ZREM", key, name.encode("utf-8", "surrogateescape"))
    return good
