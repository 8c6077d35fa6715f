"""The backend of a worker that has no provider: every batch is answered by `fallback_reply`, and kept in the failed list."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from assistant_queue.core.runs import CannotAsk, Capabilities, Finding, FoundBy, RunEvent, RunRequest
from assistant_queue.errors import NotConfigured
from assistant_queue.models import ToolCall


class AbsentBackend:
    """Sends nothing.

    Args:
        why: What is missing, for the failed list.
    """

    name = "none"
    # Of whatever another worker may have begun, nothing can be found here and nothing must be sent again.
    capabilities = Capabilities(found_by=FoundBy.NOT_AT_ALL, conversations=False)

    def __init__(self, why: str) -> None:
        self._why = why

    async def open_conversation(self, thread_id: str) -> str:
        """There are none; the thread's own id."""
        return thread_id

    async def drop_conversation(self, conversation_id: str) -> None:
        """Nothing to delete."""

    async def locate(self, conversation_id: str) -> str | None:  # noqa: ARG002 - the contract's
        """No anchor."""
        return None

    def start(self, request: RunRequest) -> AsyncIterator[RunEvent]:
        """Refuse the batch."""
        return self._refuse(request)

    def submit(self, request: RunRequest, run_id: str, calls: Sequence[ToolCall], outputs: Mapping[str, str]) -> AsyncIterator[RunEvent]:  # noqa: ARG002 - the contract's
        """Refuse the outputs."""
        return self._refuse(request)

    def follow(self, request: RunRequest, run_id: str, cursor: int | None = None) -> AsyncIterator[RunEvent]:  # noqa: ARG002 - the contract's
        """Refuse to look."""
        return self._refuse(request)

    async def _refuse(self, request: RunRequest) -> AsyncIterator[RunEvent]:
        events: tuple[RunEvent, ...] = ()
        for event in events:
            yield event
        raise NotConfigured(f"no provider is configured for thread {request.batch.thread_id!r}: {self._why}")

    async def find(self, request: RunRequest, run_id: str | None = None, calls: Sequence[ToolCall] = ()) -> Finding:  # noqa: ARG002 - the contract's
        """No provider to ask."""
        return CannotAsk(reason=f"another worker began with it, and here is no provider to ask: {self._why}")

    async def cancel(self, request: RunRequest, run_id: str) -> None:
        """Nothing to stop."""

    async def close(self) -> None:
        """Nothing to give back."""
