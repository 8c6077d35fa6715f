"""What is remembered of a thread's conversation at the provider, for calls that are not a batch's. Written under the thread's lease."""

from __future__ import annotations

from assistant_queue.store.calls import Operation, Space, plain, text


def find_conversation(space: Space, thread_id: str) -> Operation[str | None]:
    """The conversation a mapped thread has, None if it has none yet."""
    found = yield plain("HGET", space.keys.conversation(thread_id), "id")
    return None if found is None else text(found)


def find_end(space: Space, thread_id: str) -> Operation[str | None]:
    """The conversation's end after the last batch; where the queue keeps the history itself: the history."""
    found = yield plain("HGET", space.keys.conversation(thread_id), "anchor")
    return None if found is None else text(found)


def forget_end(space: Space, thread_id: str, *, token: str) -> Operation[None]:
    """Forget the anchor, because the direct call that holds the lease writes behind it: the next batch asks for the conversation's end."""
    yield space.call("forget_end", thread_id, token=token, field="anchor")


def forget_open_calls(space: Space, thread_id: str, *, token: str) -> Operation[None]:
    """Forget the calls that an earlier batch left open, because they have their outputs: the next batch need not answer them."""
    yield space.call("forget_end", thread_id, token=token, field="open")
