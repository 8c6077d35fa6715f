"""Create a conversation that begins with the messages of another one."""

from __future__ import annotations

import logging

from assistant_queue.backends.openai.addresses import opened
from assistant_queue.backends.openai.streams import Call
from assistant_queue.errors import RequestRefused

_log = logging.getLogger(__name__)


async def seeded(seed: Call, empty: Call, *, thread: str, path: str) -> str:
    """Create a conversation with items, or an empty one if the server takes none.

    Returns its id: the thread continues either way.

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
            "thread %r: the server does not create conversations with items (%s); "
            "the thread continues without its earlier messages",
            thread,
            refusal.provider_code or refusal.status_code,
        )
    return await opened(empty, thread=thread, path=path)
