"""Wishes for the batch of a thread, as callers make them and workers listen to them."""

from __future__ import annotations

import secrets

from assistant_queue.store.calls import Namespace, Operation, plain, text


def stop(namespace: Namespace, thread_id: str) -> Operation[bool]:
    """Have a thread's batch stopped; False if it has none that a run answers."""
    over = namespace.keys.over(secrets.token_hex(8))
    reply = yield namespace.call("stop", thread_id, keys={"over": over})
    return text(reply[0]) == "stopping"


def wake_listeners(namespace: Namespace) -> Operation[None]:
    """Wake the listeners of all workers, which look whether they were closed."""
    yield plain("PUBLISH", namespace.keys.wishes, "")
