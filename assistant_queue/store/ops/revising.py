"""Edits and removals of messages in a batch that is under way: callers make them, its holder obeys.

`LeaseLost` as in `leases`.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace

from assistant_queue.config import to_ms
from assistant_queue.core.progress import Progress
from assistant_queue.core.thread_state import Phase
from assistant_queue.models import Message
from assistant_queue.store.calls import Namespace, Operation, plain, text
from assistant_queue.store.message_codec import digest, pack, unpack_readable
from assistant_queue.store.ops.leases import Lease, check, message_keys


def revise(namespace: Namespace, message_id: str, edited: Message | None) -> Operation[bool]:
    """Have a message of a batch edited, or removed; False if it is in none that is under way.

    `edited` has the new content; None to remove the message.
    """
    key = namespace.keys.message(message_id)
    thread_id = yield plain("HGET", key, "thread")
    if thread_id is None:
        return False
    revision = "" if edited is None else json.dumps([pack(edited), digest(edited.content)])
    reply = yield namespace.call(
        "revise",
        text(thread_id),
        keys={"message": key, "over": namespace.keys.over(secrets.token_hex(8))},
        message_id=message_id,
        revision=revision,
    )
    return text(reply[0]) != "none"


def read_revisions(
    namespace: Namespace, lease: Lease
) -> Operation[tuple[Mapping[str, Message | None], str]]:
    """Return the revisions of a batch's messages, None for a removal, and their count as stored."""
    messages = lease.claimed.batch.messages
    keys = message_keys(namespace, [message.id for message in messages])
    count, *stored = yield [
        plain("HGET", namespace.keys.thread(lease.thread_id), "revisions"),
        *(plain("HGET", key, "revision") for key in keys),
    ]
    found: dict[str, Message | None] = {}
    for message, reply in zip(messages, stored, strict=True):
        batch_id, _, revision = ("" if reply is None else text(reply)).partition(" ")
        if batch_id != lease.claimed.batch.id:
            continue  # of an earlier batch
        found[message.id] = _edited(message, revision) if revision else None
    return found, "" if count is None else text(count)


def _edited(message: Message, revision: str) -> Message:
    """Return a message with its new content; as it is if another program changed that."""
    try:
        readable, _ = unpack_readable([json.loads(revision)[0]])
    except (ValueError, TypeError, IndexError, KeyError):
        readable = ()
    return replace(message, content=readable[0].content) if readable else message


def make_revisions(
    namespace: Namespace,
    lease: Lease,
    phase: Phase,
    progress: Progress,
    *,
    messages: Sequence[Message],
    revisions: Mapping[str, Message | None],
    count: str,
    result_ttl_s: float,
) -> Operation[bool]:
    """Store the messages that a batch has now, and its progress; False if there are more revisions.

    Nothing was changed then.
    """
    removed = [message_id for message_id, edited in revisions.items() if edited is None]
    edited = [one for one in revisions.values() if one is not None]
    reply = yield namespace.call(
        "revised",
        lease.thread_id,
        rest=message_keys(namespace, [*removed, *(one.id for one in edited)]),
        token=lease.token,
        number=next(lease.numbers),
        phase=phase.value,
        progress=progress.dump(),
        count=count,
        entries=json.dumps([pack(one) for one in messages], ensure_ascii=False),
        removed=json.dumps(removed),
        edited=json.dumps([[pack(one), digest(one.content)] for one in edited], ensure_ascii=False),
        result_ttl_ms=max(to_ms(result_ttl_s), 1),
    )
    check(text(reply[0]), lease.thread_id)
    return text(reply[0]) == "ok"
