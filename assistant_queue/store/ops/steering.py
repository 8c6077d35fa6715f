"""Wishes for the batch of a thread: callers make them, its holder obeys.

`LeaseLost` as in `leases`.
"""

from __future__ import annotations

import secrets

from assistant_queue.core.progress import Progress
from assistant_queue.core.thread_state import Phase
from assistant_queue.core.wishes import Wish, wish_in
from assistant_queue.models import Message
from assistant_queue.store.calls import Namespace, Operation, plain, text, texts
from assistant_queue.store.message_codec import unpack_readable
from assistant_queue.store.ops.leases import MAX_BATCH, Lease, check


def stop(namespace: Namespace, thread_id: str) -> Operation[bool]:
    """Have a thread's batch stopped; False if it has none that a run answers."""
    over = namespace.keys.over(secrets.token_hex(8))
    reply = yield namespace.call("stop", thread_id, keys={"over": over})
    return text(reply[0]) == "stopping"


def promote(namespace: Namespace, message_id: str, wish: Wish) -> Operation[bool]:
    """Have a waiting message interrupt, or steer, the batch that is under way; False if none is.

    False also if the message does not wait.
    """
    word = "changed"
    while word == "changed":  # another call edited it meanwhile
        key = namespace.keys.message(message_id)
        thread_id, rev = yield plain("HMGET", key, "thread", "rev")
        if thread_id is None:
            return False
        reply = yield namespace.call(
            "promote",
            text(thread_id),
            keys={"message": key, "over": namespace.keys.over(secrets.token_hex(8))},
            message_id=message_id,
            rev=text(rev or ""),
            wish=wish.value,
        )
        word = text(reply[0])
    return word == "wished"


def wake_listeners(namespace: Namespace) -> Operation[None]:
    """Wake the listeners of all workers, which look whether they were closed."""
    yield plain("PUBLISH", namespace.keys.wishes, "")


def join(
    namespace: Namespace,
    lease: Lease,
    phase: Phase,
    progress: Progress,
    *,
    most: int,
    event: str,
    run_id: str,
) -> Operation[tuple[tuple[Message, ...], int, Wish | None]]:
    """Let the waiting messages join the batch, `most` in all, and store its progress.

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
        kind=event,
        run_id=run_id,
    )
    check(text(reply[0]), lease.thread_id)
    messages, invalid = unpack_readable(texts(reply[2]))
    return messages, invalid, wish_in(text(reply[1]))


def refuse(namespace: Namespace, lease: Lease, reason: str) -> Operation[None]:
    """Publish that the batch is not interrupted, and why; forget the wish."""
    over = namespace.keys.over(secrets.token_hex(8))
    reply = yield namespace.call(
        "refuse", lease.thread_id, keys={"over": over}, token=lease.token, reason=reason
    )
    check(text(reply[0]), lease.thread_id)
