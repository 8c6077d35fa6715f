"""Changes of a batch that is under way, as its holder makes them: messages join it, or are revised.

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
from assistant_queue.core.wishes import Wish, wish_in
from assistant_queue.models import Message
from assistant_queue.store.calls import Namespace, Operation, plain, text, texts
from assistant_queue.store.message_codec import digest, pack, unpack_readable
from assistant_queue.store.ops.leases import MAX_BATCH, Lease, check, message_keys


def join(
    namespace: Namespace,
    lease: Lease,
    phase: Phase,
    progress: Progress,
    *,
    most: int,
    most_chars: int | None = None,
    own_authors: bool = False,
    event: str,
    run_id: str,
) -> Operation[tuple[tuple[Message, ...], int, Wish | None]]:
    """Let the waiting messages join the batch, and store its progress.

    Args:
        namespace: The queue.
        lease: The batch's.
        phase: How far it got.
        progress: Its memory.
        most: Most messages that it has then.
        most_chars: Most characters that they have then.
        own_authors: Only messages of its authors join.
        event: Type of the event that names them.
        run_id: The run that the event names.

    Returns:
        All messages of the batch, how many entries are not messages, and a wish that is left.
    """
    reply = yield namespace.call(
        "join",
        lease.thread_id,
        token=lease.token,
        number=next(lease.numbers),
        phase=phase.value,
        progress=progress.dump(),
        most=min(most, MAX_BATCH),
        largest=MAX_BATCH,
        most_chars="" if most_chars is None else most_chars,
        own_authors="1" if own_authors else "",
        kind=event,
        run_id=run_id,
    )
    check(text(reply[0]), lease.thread_id)
    messages, invalid = unpack_readable(texts(reply[2]))
    return messages, invalid, wish_in(text(reply[1]))


def trim(namespace: Namespace, lease: Lease, keep: int, *, result_ttl_s: float) -> Operation[None]:
    """Return all but the first `keep` messages to the list, with their edits and without removed.

    Only before anything of them was sent.
    """
    messages = lease.claimed.batch.messages
    back = messages[keep:]
    revisions: Mapping[str, Message | None] = {}
    count = ""
    while True:
        own = [_returned(message, revisions) for message in back]
        reply = yield namespace.call(
            "trim",
            lease.thread_id,
            rest=message_keys(namespace, [message.id for message in back]),
            token=lease.token,
            number=next(lease.numbers),
            keep=keep,
            count=count,
            revisions=json.dumps(own, ensure_ascii=False) if any(own) else "",
            left="1" if any(message.id in revisions for message in messages[:keep]) else "",
            result_ttl_ms=max(to_ms(result_ttl_s), 1),
        )
        check(text(reply[0]), lease.thread_id)
        if text(reply[0]) != "revised":
            return
        revisions, count = yield from read_revisions(namespace, lease)


def _returned(message: Message, revisions: Mapping[str, Message | None]) -> int | tuple[str, str]:
    """Return what the script does with a message: its new entry and digest, 1 to remove it."""
    edited = revisions.get(message.id, message)
    if edited is None:
        return 1
    return 0 if edited is message else (pack(edited), digest(edited.content))


def refuse(namespace: Namespace, lease: Lease, reason: str) -> Operation[None]:
    """Publish that the batch is not interrupted, and why; forget the wish."""
    over = namespace.keys.over(secrets.token_hex(8))
    reply = yield namespace.call(
        "refuse", lease.thread_id, keys={"over": over}, token=lease.token, reason=reason
    )
    check(text(reply[0]), lease.thread_id)


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
