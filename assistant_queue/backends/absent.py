"""Answer batches of a worker without a provider.

Every batch is answered by `fallback_reply` and kept in the failed list.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from assistant_queue.backends.no_conversations import NoConversations, failing
from assistant_queue.core.runs import (
    CannotAsk,
    Capabilities,
    Finding,
    FoundBy,
    RunEvent,
    RunRequest,
)
from assistant_queue.errors import NotConfigured
from assistant_queue.models import ToolCall


class AbsentBackend(NoConversations):
    """Refuse every batch without a request.

    Args:
        why: What is missing, for the failed list.
    """

    name = "none"
    # Runs that another worker may have started cannot be looked up here, so nothing may be sent
    # again.
    capabilities = Capabilities(found_by=FoundBy.NOT_AT_ALL, conversations=False)

    def __init__(self, why: str) -> None:
        self._why = why

    def start(self, request: RunRequest) -> AsyncIterator[RunEvent]:
        """Refuse the batch."""
        return self._refuse(request)

    def submit(
        self,
        request: RunRequest,
        run_id: str,
        calls: Sequence[ToolCall],
        outputs: Mapping[str, str],
    ) -> AsyncIterator[RunEvent]:
        """Refuse the outputs."""
        return self._refuse(request)

    def follow(
        self, request: RunRequest, run_id: str, cursor: int | None = None
    ) -> AsyncIterator[RunEvent]:
        """Refuse to look."""
        return self._refuse(request)

    def _refuse(self, request: RunRequest) -> AsyncIterator[RunEvent]:
        return failing(
            NotConfigured(
                f"no provider is configured for thread {request.batch.thread_id!r}: {self._why}"
            )
        )

    async def find(
        self, request: RunRequest, run_id: str | None = None, calls: Sequence[ToolCall] = ()
    ) -> Finding:
        """Report that there is no provider to ask."""
        return CannotAsk(
            reason="another worker started this batch and no provider is configured here: "
            f"{self._why}"
        )

    async def cancel(self, request: RunRequest, run_id: str) -> None:
        """Do nothing: no run was started."""

    async def close(self) -> None:
        """Do nothing: there are no connections."""
