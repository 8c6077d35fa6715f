"""Wishes for the batch of a thread, as callers make them and workers listen to them."""

from __future__ import annotations

import json
import secrets

from assistant_queue.core.wishes import Wish
from assistant_queue.models import Message
from assistant_queue.store.calls import Namespace, Operation, plain, text
from assistant_queue.store.message_codec import digest, pack


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
