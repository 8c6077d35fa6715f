"""Share the methods of backends without conversations at a provider."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

from assistant_queue.core.runs import WRITTEN, RunEvent
from assistant_queue.errors import BackendError


class NoConversations:
    """The conversation methods of a `Backend` with `conversations=False`. None makes a request."""

    async def open_conversation(self, thread_id: str) -> str:
        """Return the thread's own id."""
        return thread_id

    async def drop_conversation(self, conversation_id: str) -> None:
        """Do nothing: there is no conversation to delete."""

    async def locate(self, conversation_id: str) -> str | None:
        """Return None: there is no anchor."""
        return None


async def remembering(history: Callable[[], Awaitable[str | None]]) -> AsyncIterator[RunEvent]:
    """Yield the events of a batch that joins a history of our own, without a request."""
    accepted, ended = WRITTEN
    yield accepted
    yield replace(ended, anchor=await history())


async def failing(error: BackendError) -> AsyncIterator[RunEvent]:
    """Raise `error` when the events are iterated, as a request would."""
    events: tuple[RunEvent, ...] = ()
    for event in events:
        yield event
    raise error
