"""Creating a conversation that begins with what was said in another one."""

from __future__ import annotations

import logging

from assistant_queue.backends.addresses import opened
from assistant_queue.backends.streams import Call
from assistant_queue.errors import RequestRefused

_log = logging.getLogger(__name__)


async def seeded(seed: Call, empty: Call, *, thread: str, path: str) -> str:
    """The id of a conversation that was created with items, or of an empty one if the server takes none: a thread must not end for that.

    Args:
        seed: Creates it with the items.
        empty: Creates it without.
        thread: Named in errors.
        path: Of both requests, below the base URL.
    """
    try:
        return await opened(seed, thread=thread, path=path)
    except RequestRefused as refusal:
        if refusal.retryable:
            raise
        _log.warning(
            "thread %r: the server does not create conversations with items (%s); the thread goes on without what was said before",
            thread, refusal.provider_code or refusal.status_code,
        )  # fmt: skip
    return await opened(empty, thread=thread, path=path)
