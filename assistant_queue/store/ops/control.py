"""Control operations: cancel, edit, pause, forget, the start-up checks, a direct call's lease."""

from __future__ import annotations

import json
import logging
import secrets
from dataclasses import replace
from typing import Any

from assistant_queue.config import to_ms
from assistant_queue.errors import ConfigurationMismatch, FormatTooNew, MessageNotFound, ThreadBusy
from assistant_queue.models import Message
from assistant_queue.store.calls import Namespace, Operation, plain, reading, text
from assistant_queue.store.keys import FORMAT_VERSION
from assistant_queue.store.message_codec import digest, pack, unpack_readable
from assistant_queue.store.ops import operation_log
from assistant_queue.store.ops.record_scans import entries_in, keys_with
from assistant_queue.store.ops.sweeping import NOT_BACK, sweep

_log = logging.getLogger(__name__)

CHANGED = "changed"
"""A script's reply if the message has changed since the caller read it."""


def cancel(namespace: Namespace, message_id: str, result_ttl_s: float) -> Operation[bool]:
    """Withdraw a waiting message; False if it is in a batch already, has ended, or is unknown."""
    nonce = secrets.token_hex(4)
    word = CHANGED
    while word == CHANGED:  # another call edited it meanwhile
        thread_id, rev = yield plain("HMGET", namespace.keys.message(message_id), "thread", "rev")
        if thread_id is None:
            return False
        reply = yield namespace.call(
            "cancel",
            text(thread_id),
            keys={"message": namespace.keys.message(message_id)},
            message_id=message_id,
            rev=text(rev or ""),
            nonce=nonce,
            result_ttl_ms=max(to_ms(result_ttl_s), 1),
        )
        word = text(reply[0])
    done = word == "cancelled"
    if done:
        # Wakes callers that wait for its reply.
        yield plain("PUBLISH", namespace.keys.done(text(thread_id)), message_id)
    return done


def edit(namespace: Namespace, message: Message) -> Operation[bool]:
    """Replace a waiting message's content; False if it is in a batch already, or has ended.

    Raises:
        MessageNotFound: There is no such message.
    """
    nonce = secrets.token_hex(4)
    word = CHANGED
    while word == CHANGED:  # another call edited it meanwhile
        thread_id, rev = yield plain("HMGET", namespace.keys.message(message.id), "thread", "rev")
        if thread_id is None:
            raise MessageNotFound(
                f"There is no message {message.id!r}: it was never added, or its record expired "
                "after result_ttl"
            )
        waiting = yield from waiting_message(namespace, text(thread_id), message.id)
        if waiting is None:
            return False
        edited = replace(waiting, content=message.content)
        reply = yield namespace.call(
            "edit",
            text(thread_id),
            keys={"message": namespace.keys.message(message.id)},
            message_id=message.id,
            rev=text(rev or ""),
            nonce=nonce,
            entry=pack(edited),
            chars=len(edited.text),
            digest=digest(edited.content),
        )
        word = text(reply[0])
    return word == "edited"


def waiting_message(
    namespace: Namespace, thread_id: str, message_id: str
) -> Operation[Message | None]:
    """Return a waiting message as the list has it; None if it does not wait."""
    known_places: Any = None
    while True:
        places = yield [
            plain("HGET", namespace.keys.message(message_id), "seq"),
            plain("HGET", namespace.keys.thread(thread_id), "head"),
        ]
        # 1. this call reads the message's place   2. a worker claims messages before it, or returns
        # some   3. this call reads the entry at that place
        # So a place with another message is read again, until it has not moved.
        if places[0] is None or places == known_places:
            return None
        known_places = places
        with reading(namespace.keys.thread(thread_id)):
            index = int(places[0]) - int(places[1] or 1)
        entry = (
            (yield plain("LINDEX", namespace.keys.pending(thread_id), index))
            if index >= 0
            else None
        )
        found, _ = unpack_readable([text(entry)] if entry else [])
        if found and found[0].id == message_id:
            return found[0]


def _once(namespace: Namespace) -> dict[str, str]:
    """Return the key that identifies a late copy of a call, which would undo later calls."""
    return {"over": namespace.keys.over(secrets.token_hex(8))}


def pause_queue(namespace: Namespace) -> Operation[None]:
    """Accept messages and claim nothing until `resume_queue`; a paused queue keeps its time."""
    yield namespace.call("pause_queue", keys=_once(namespace))


def resume_queue(namespace: Namespace) -> Operation[None]:
    """Claim again; threads that became due meanwhile are woken, longest overdue first."""
    yield namespace.call("resume_queue", keys=_once(namespace))
    yield from sweep(namespace)


def pause_thread(namespace: Namespace, thread_id: str) -> Operation[None]:
    """Accept messages of one thread and claim nothing of it.

    A batch that a worker holds runs to its end.
    """
    yield namespace.call("pause", thread_id, keys=_once(namespace))


def resume_thread(namespace: Namespace, thread_id: str) -> Operation[None]:
    """Claim a paused thread again."""
    yield namespace.call("resume", thread_id, keys=_once(namespace), constants=NOT_BACK)


def flush(namespace: Namespace, thread_id: str) -> Operation[bool]:
    """End the window of a thread's waiting messages; False if none waits that wants a reply."""
    reply = yield namespace.call("flush", thread_id, keys=_once(namespace))
    return text(reply[0]) == "flushed"


def lock(namespace: Namespace, thread_id: str, *, token: str, lease_s: float) -> Operation[None]:
    """Take a thread's lease for a direct call, or renew it.

    Raises:
        ThreadBusy: A worker or another call holds it, the thread has a batch, or `unlock` was
            called with this token. Nothing was changed.
    """
    reply = yield namespace.call(
        "lock",
        thread_id,
        keys={"over": namespace.keys.over(token)},
        token=token,
        lease_ms=to_ms(lease_s),
    )
    if text(reply[0]) == "busy":
        raise ThreadBusy(
            f"Thread {thread_id!r} is busy; nothing was sent: retry when get_thread_status() "
            "returns state 'idle'"
        )


def unlock(namespace: Namespace, thread_id: str, *, token: str) -> Operation[None]:
    """Release the lease of a direct call; no late copy of its `lock` takes it again."""
    yield namespace.call(
        "unlock", thread_id, keys={"over": namespace.keys.over(token)}, token=token
    )


def forget(namespace: Namespace, thread_id: str) -> Operation[None]:
    """Delete every key of a thread.

    Scans all records, so its time grows with their number.

    Raises:
        ThreadBusy: A worker holds the thread. Nothing was changed.
    """
    for _ in range(10):
        entries = yield [
            plain("LRANGE", key, 0, -1)
            for key in (namespace.keys.pending(thread_id), namespace.keys.frozen(thread_id))
        ]
        waiting, _ = unpack_readable(list(entries_in(entries)))
        others = [namespace.keys.message(message.id) for message in waiting]
        others += yield from keys_with(namespace.keys.message("*"), "thread", thread_id)
        batches = yield from keys_with(namespace.keys.record("*"), "thread", thread_id)
        batch_ids = [key.removeprefix(namespace.keys.record("")) for key in batches]
        others += [
            *batches,
            *(
                key(batch_id)
                for batch_id in batch_ids
                for key in (namespace.keys.dead, namespace.keys.delivery, namespace.keys.reply)
            ),
        ]
        calls = yield from keys_with(namespace.keys.call("*"), "thread", thread_id)
        others += calls
        seen = sum(len(row) for row in entries)
        rest = list(dict.fromkeys(others))
        reply = yield namespace.call(
            "forget",
            thread_id,
            keys=_once(namespace),
            rest=rest,
            seen=seen,
            batch_ids=json.dumps(batch_ids),
            call_ids=json.dumps([key.removeprefix(namespace.keys.call("")) for key in calls]),
        )
        word = text(reply[0])
        if word == "forgotten":
            yield from operation_log.erase(namespace, thread_id)
            return
        if word == "busy":
            break
    raise ThreadBusy(
        f"Thread {thread_id!r} is busy; nothing of it was deleted: pause it, wait until it is "
        "idle, and retry"
    )


def introduce(namespace: Namespace, fingerprint: dict[str, Any] | None) -> Operation[None]:
    """Store the keys' format and a producer's configuration of this queue (None: unknown).

    Raises:
        FormatTooNew: A newer version has written here. Nothing was changed.
    """
    # MGET returns None for a key of another type, and SET replaces it.
    (found,) = yield plain("MGET", namespace.keys.format)
    yield from _agree_on_format(namespace, found)
    if fingerprint is not None:
        said = json.dumps(fingerprint, sort_keys=True)
        yield namespace.call(
            "introduce",
            keys={"fingerprint": namespace.keys.fingerprint, **_once(namespace)},
            fingerprint=said,
        )


def _agree_on_format(namespace: Namespace, found: Any) -> Operation[None]:
    """Check that this package reads the keys' format, and store the version that it writes."""
    said = "" if found is None else text(found)
    if found is not None and not said.isdecimal():
        _log.error(
            "%s contained %r, which is not a version; it was replaced", namespace.keys.format, said
        )
    version = int(said) if said.isdecimal() else 0
    if version > FORMAT_VERSION:
        raise FormatTooNew(
            f"The keys under {namespace.prefix!r} are of format {said}, this version reads up to "
            f"{FORMAT_VERSION}; upgrade assistant-queue here"
        )
    if version < FORMAT_VERSION:
        yield plain("SET", namespace.keys.format, FORMAT_VERSION)


def check_in(namespace: Namespace, own: dict[str, Any] | None) -> Operation[None]:
    """Check the keys' format and a worker's configuration against its producers'.

    `own` is None if mismatches are allowed.

    Raises:
        FormatTooNew: A newer version has written here. Nothing was changed.
        ConfigurationMismatch: The producers are configured differently. Nothing was changed.
    """
    format_found, found = yield plain("MGET", namespace.keys.format, namespace.keys.fingerprint)
    yield from _agree_on_format(namespace, format_found)
    if found is None or own is None:
        return
    try:
        theirs = json.loads(text(found))
    except ValueError:
        theirs = None
    if not isinstance(theirs, dict):
        _log.error(
            "%s contained no fingerprint; the next producer replaces it",
            namespace.keys.fingerprint,
        )
        return
    # A producer without tools need not know those of its workers; one with tools expects workers
    # with tools.
    names = (own.keys() | theirs.keys()) - (set() if theirs.get("tools") else {"tools"})
    differing = sorted(name for name in names if own.get(name) != theirs.get(name))
    if differing:
        lines = ", ".join(
            f"{name}: producers {theirs.get(name)!r}, here {own.get(name)!r}" for name in differing
        )
        raise ConfigurationMismatch(
            f"Queue {namespace.prefix!r} is configured differently by its producers ({lines}); "
            "configure both alike, use another queue_prefix, or set allow_mismatch=True to start "
            "anyway"
        )
