"""Operations of those who steer: cancel, edit, pause, forget, and the lease of a direct call."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterator
from typing import Any

from assistant_queue.config import to_ms
from assistant_queue.errors import ConfigurationMismatch, FormatTooNew, MessageNotFound, ThreadBusy
from assistant_queue.models import Message, MessageStatus
from assistant_queue.store.calls import Operation, Space, each, plain, reading, text
from assistant_queue.store.keys import FORMAT_VERSION
from assistant_queue.store.packing import digest, pack, unpack_readable
from assistant_queue.store.producing import read_message
from assistant_queue.store.quarantine import literal
from assistant_queue.store.sweeping import NOT_BACK, sweep

_log = logging.getLogger(__name__)

CHANGED = "changed"
"""What a script says of a message that is not what its caller has read."""
_SCAN = 1000
"""Keys looked at in one round trip of a scan. Chosen: about a millisecond of Redis' time."""


def cancel(space: Space, message_id: str, result_ttl_s: float) -> Operation[bool]:
    """Take a waiting message out; False if it is in a batch already, or over, or unknown."""
    nonce, word = secrets.token_hex(4), CHANGED
    while word == CHANGED:  # another call has edited it meanwhile
        thread_id, rev = yield plain("HMGET", space.keys.message(message_id), "thread", "rev")
        if thread_id is None:
            return False
        reply = yield space.call(
            "cancel",
            text(thread_id),
            keys={"message": space.keys.message(message_id)},
            message_id=message_id,
            rev=text(rev or ""),
            nonce=nonce,
            result_ttl_ms=max(to_ms(result_ttl_s), 1),
        )
        word = text(reply[0])
    done = word == "cancelled"
    if done:
        yield plain("PUBLISH", space.keys.done(text(thread_id)), message_id)  # whoever waits for its reply learns that there is none
    return done


def edit(space: Space, message: Message) -> Operation[bool]:
    """Give a waiting message another content; False if it is in a batch already, or over.

    Raises:
        MessageNotFound: There is no such message.
    """
    nonce, word = secrets.token_hex(4), CHANGED
    while word == CHANGED:  # another call has edited it meanwhile
        thread_id, rev = yield plain("HMGET", space.keys.message(message.id), "thread", "rev")
        if thread_id is None:
            raise MessageNotFound(f"there is no message {message.id!r}: it was never added, or its record has outlived result_ttl")
        waiting = yield from waiting_message(space, text(thread_id), message.id)
        if waiting is None:
            return False
        edited = Message(
            id=message.id, content=message.content, instructions=waiting.instructions, author=waiting.author, metadata=waiting.metadata
        )
        reply = yield space.call(
            "edit",
            text(thread_id),
            keys={"message": space.keys.message(message.id)},
            message_id=message.id,
            rev=text(rev or ""),
            nonce=nonce,
            entry=pack(edited),
            digest=digest(edited.content),
        )
        word = text(reply[0])
    return word == "edited"


def waiting_message(space: Space, thread_id: str, message_id: str) -> Operation[Message | None]:
    """Return a message that still waits, as it stands in the list; None if it does not wait."""
    looked_at: Any = None
    while True:
        places = yield [
            plain("HGET", space.keys.message(message_id), "seq"),
            plain("HGET", space.keys.thread(thread_id), "head"),
        ]
        # 1. this call reads where the message stands   2. a worker claims those before it, or gives some back   3. this call looks there
        # So a place that holds another message is read again, until it has not moved.
        if places[0] is None or places == looked_at:
            return None
        looked_at = places
        with reading(space.keys.thread(thread_id)):
            index = int(places[0]) - int(places[1] or 1)
        entry = (yield plain("LINDEX", space.keys.pending(thread_id), index)) if index >= 0 else None
        found, _ = unpack_readable([text(entry)] if entry else [])
        if found and found[0].id == message_id:
            return found[0]


def _once(space: Space) -> dict[str, str]:
    """The key by which a copy of a call is known that would undo what came after it."""
    return {"over": space.keys.over(secrets.token_hex(8))}


def pause_queue(space: Space) -> Operation[None]:
    """Accept messages and claim nothing until `resume_queue`; a queue that is paused already stays paused since then."""
    yield space.call("pause_queue", keys=_once(space))


def resume_queue(space: Space) -> Operation[None]:
    """Claim again; what fell due meanwhile is woken, longest overdue first."""
    yield space.call("resume_queue", keys=_once(space))
    yield from sweep(space)


def pause_thread(space: Space, thread_id: str) -> Operation[None]:
    """One thread: messages are accepted, nothing is claimed. What a worker holds goes on to its end."""
    yield space.call("pause", thread_id, keys=_once(space))


def resume_thread(space: Space, thread_id: str) -> Operation[None]:
    """Look at a paused thread again."""
    yield space.call("resume", thread_id, keys=_once(space), constants=NOT_BACK)


def lock(space: Space, thread_id: str, *, token: str, lease_s: float) -> Operation[None]:
    """Take a thread's lease for a direct call, or take it anew.

    Raises:
        ThreadBusy: A worker or another call holds it, a batch of it is not over, or `unlock` was called with this token.
            Nothing was changed.
    """
    reply = yield space.call("lock", thread_id, keys={"over": space.keys.over(token)}, token=token, lease_ms=to_ms(lease_s))
    if text(reply[0]) == "busy":
        raise ThreadBusy(f"thread {thread_id!r} is being worked on; nothing was sent - try again when get_thread_status() says idle")


def unlock(space: Space, thread_id: str, *, token: str) -> Operation[None]:
    """Give the lease of a direct call back; no copy of its `lock` that is still on its way takes it again."""
    yield space.call("unlock", thread_id, keys={"over": space.keys.over(token)}, token=token)


def forget(space: Space, thread_id: str) -> Operation[None]:
    """Remove every key of a thread. Looks through all records, so it takes the longer the more there are.

    Raises:
        ThreadBusy: A worker holds the thread. Nothing was changed.
    """
    for _ in range(10):
        entries = yield [plain("LRANGE", key, 0, -1) for key in (space.keys.pending(thread_id), space.keys.frozen(thread_id))]
        waiting, _ = unpack_readable(list(_entries(entries)))
        others = [space.keys.message(message.id) for message in waiting]
        others += yield from _records_of(thread_id, space.keys.message("*"))
        batches = yield from _records_of(thread_id, space.keys.record("*"))
        batch_ids = [key.removeprefix(space.keys.record("")) for key in batches]
        others += [*batches, *(key(batch_id) for batch_id in batch_ids for key in (space.keys.dead, space.keys.delivery))]
        seen = sum(len(row) for row in entries)
        rest = list(dict.fromkeys(others))
        reply = yield space.call("forget", thread_id, keys=_once(space), rest=rest, seen=seen, batch_ids=json.dumps(batch_ids))
        word = text(reply[0])
        if word == "forgotten":
            return
        if word == "busy":
            break
    raise ThreadBusy(f"thread {thread_id!r} is being worked on; nothing of it was removed - pause it, wait until it is idle, and try again")


def _records_of(thread_id: str, pattern: str) -> Operation[list[str]]:
    found: list[str] = []
    cursor = 0
    while True:
        cursor, names = yield plain("SCAN", cursor, "MATCH", literal(pattern[:-1]) + "*", "COUNT", _SCAN)
        owners = yield from each([plain("HGET", name, "thread") for name in names])
        found += [text(name) for name, owner in zip(names, owners, strict=True) if owner and text(owner) == thread_id]
        cursor = int(cursor)
        if cursor == 0:
            return found


def messages_of(space: Space, thread_id: str) -> Operation[list[MessageStatus]]:
    """What waits and what is being worked on in a thread, in order."""
    rows = yield [plain("LRANGE", key, 0, -1) for key in (space.keys.frozen(thread_id), space.keys.pending(thread_id))]
    statuses: list[MessageStatus] = []
    messages, _ = unpack_readable(list(_entries(rows)))
    for message in messages:
        status = yield from read_message(space, message.id)
        if status is not None:
            statuses.append(status)
    return statuses


def _entries(rows: Any) -> Iterator[str]:
    return (text(entry) for row in rows for entry in row if entry)


def introduce(space: Space, fingerprint: dict[str, Any] | None) -> Operation[None]:
    """A producer's first word: the keys' format, and what it believes this queue to be (None: it does not know).

    Raises:
        FormatTooNew: A newer version has written here. Nothing was changed.
    """
    (found,) = yield plain("MGET", space.keys.format)  # of a key of another type it says that there is none, and SET replaces it
    yield from _agree_on_format(space, found)
    if fingerprint is not None:
        said = json.dumps(fingerprint, sort_keys=True)
        yield space.call("introduce", keys={"fingerprint": space.keys.fingerprint, **_once(space)}, fingerprint=said)


def _agree_on_format(space: Space, found: Any) -> Operation[None]:
    """See that the keys are of a version this package reads, and say which it writes; an older one is read as it is."""
    said = "" if found is None else text(found)
    if found is not None and not said.isdecimal():
        _log.error("%s held %r, which is no version; it was replaced", space.keys.format, said)
    version = int(said) if said.isdecimal() else 0
    if version > FORMAT_VERSION:
        raise FormatTooNew(
            f"the keys under {space.prefix!r} are of format {said}, this version reads up to {FORMAT_VERSION}; upgrade assistant-queue here"
        )
    if version < FORMAT_VERSION:
        yield plain("SET", space.keys.format, FORMAT_VERSION)


def check_in(space: Space, own: dict[str, Any] | None) -> Operation[None]:
    """A worker's first word: it reads these keys, and is the one its producers mean (`own` None: it was told not to ask).

    Raises:
        FormatTooNew: A newer version has written here. Nothing was changed.
        ConfigurationMismatch: It is configured for something else. Nothing was changed.
    """
    format_found, found = yield plain("MGET", space.keys.format, space.keys.fingerprint)
    yield from _agree_on_format(space, format_found)
    if found is None or own is None:
        return
    try:
        theirs = json.loads(text(found))
    except ValueError:
        theirs = None
    if not isinstance(theirs, dict):
        _log.error("%s held what is no fingerprint; the next producer writes it anew", space.keys.fingerprint)
        return
    # A producer without tools need not know those of its workers; one with tools means workers that have some.
    names = (own.keys() | theirs.keys()) - (set() if theirs.get("tools") else {"tools"})
    differing = sorted(name for name in names if own.get(name) != theirs.get(name))
    if differing:
        lines = ", ".join(f"{name}: producers {theirs.get(name)!r}, here {own.get(name)!r}" for name in differing)
        raise ConfigurationMismatch(
            f"queue {space.prefix!r} is another one here ({lines}); configure both alike, use another queue_prefix, or set "
            "allow_mismatch=True to go on all the same"
        )
