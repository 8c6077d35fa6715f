"""The stored state of a thread's conversation at the provider, for direct calls.

Written under the thread's lease.
"""

from __future__ import annotations

from assistant_queue.store.calls import Namespace, Operation, plain, text


def find_conversation(namespace: Namespace, thread_id: str) -> Operation[str | None]:
    """Return a mapped thread's conversation, None if it has none yet."""
    found = yield plain("HGET", namespace.keys.conversation(thread_id), "id")
    return None if found is None else text(found)


def find_end(namespace: Namespace, thread_id: str) -> Operation[str | None]:
    """Return the conversation's end after the last batch, or the history if the queue keeps it."""
    found = yield plain("HGET", namespace.keys.conversation(thread_id), "anchor")
    return None if found is None else text(found)


def forget_end(namespace: Namespace, thread_id: str, *, token: str) -> Operation[None]:
    """Delete the anchor, because the direct call that holds the lease writes after it.

    The next batch asks for the conversation's end.
    """
    yield namespace.call("forget_end", thread_id, token=token, field="anchor")


def forget_open_calls(namespace: Namespace, thread_id: str, *, token: str) -> Operation[None]:
    """Delete the tool calls that an earlier batch left open, because they have their outputs.

    The next batch need not answer them.
    """
    yield namespace.call("forget_end", thread_id, token=token, field="open")
