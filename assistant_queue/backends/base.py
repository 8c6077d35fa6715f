"""Define the contract between the flow and a provider.

A backend turns a frozen batch into the provider's requests and the provider's answers into a few
events. It keeps no state between calls, decides nothing about retries (the client's own are off for
every call that creates something), and raises only the `BackendError` branch of
`assistant_queue.errors`:

    RequestRefused    the request was provably not accepted (refused connection, 4xx)
    OutcomeUnknown    it may have been (time-out, 5xx, connection lost before an id was seen)
    StreamCut         it was, its id is known, and the stream ended early
    RunVanished       it was, and the provider does not know the run any more

A failed run is not an exception: it is a `RunEnded` with `status="failed"`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from assistant_queue.core.runs import (
    ActionRequired,
    CannotAsk,
    Capabilities,
    Finding,
    FoundBy,
    InputItem,
    NotFound,
    RunAccepted,
    RunEnded,
    RunEvent,
    RunRequest,
    TextChunk,
    Undecided,
)
from assistant_queue.deprecated import old_names
from assistant_queue.models import ToolCall

__all__ = [
    "ActionRequired",
    "Backend",
    "CannotAsk",
    "Capabilities",
    "ChecksRuns",
    "Finding",
    "FoundBy",
    "InputItem",
    "NotFound",
    "RenewsConversations",
    "RunAccepted",
    "RunEnded",
    "RunEvent",
    "RunRequest",
    "TextChunk",
    "Undecided",
]

if not TYPE_CHECKING:  # a type checker would take any name for one of this module
    __getattr__ = old_names(__name__)


@runtime_checkable
class Backend(Protocol):
    """A provider, as the flow sees it.

    Every method may raise the errors listed at the top of this module.
    """

    name: str
    capabilities: Capabilities

    async def open_conversation(self, thread_id: str) -> str:
        """Create the provider's conversation for a mapped thread id and return its id."""

    async def drop_conversation(self, conversation_id: str) -> None:
        """Delete a conversation that lost the race to be the mapped one."""

    async def locate(self, conversation_id: str) -> str | None:
        """Return the id of the conversation's last item.

        None if the conversation is empty or the backend needs no anchor.

        Raises:
            UnknownThread: The provider does not know the conversation.
        """

    def start(self, request: RunRequest) -> AsyncIterator[RunEvent]:
        """Send the batch as one run."""

    def submit(
        self,
        request: RunRequest,
        run_id: str,
        calls: Sequence[ToolCall],
        outputs: Mapping[str, str],
    ) -> AsyncIterator[RunEvent]:
        """Answer the round's calls, all at once (`outputs` by call id, strings), and continue.

        The first event is a `RunAccepted` with the id that the round after this one has (the same
        id on Assistants).
        """

    def follow(
        self, request: RunRequest, run_id: str, cursor: int | None = None
    ) -> AsyncIterator[RunEvent]:
        """Watch a run that is known to be accepted.

        After `cursor` where streams can be resumed, else from what can be read.

        A cursor of 0 asks for the stream from its beginning; None for what can be read, whatever is
        cheapest.
        """

    async def find(
        self, request: RunRequest, run_id: str | None = None, calls: Sequence[ToolCall] = ()
    ) -> Finding:
        """Determine the outcome of a request after its answer was lost.

        Args:
            request: As it was sent.
            run_id: The last run known, None if the lost request was the batch's first.
            calls: The calls that the lost request answered, empty if it was the batch itself.
        """

    async def cancel(self, request: RunRequest, run_id: str) -> None:
        """Ask the provider to stop a run.

        Returns when the run has ended or the provider will not say more.
        """

    async def close(self) -> None:
        """Close connections."""


@runtime_checkable
class RenewsConversations(Protocol):
    """Renew conversations: implemented by backends that set `capabilities.renews`."""

    async def renew_conversation(
        self, request: RunRequest, calls: Sequence[ToolCall] = ()
    ) -> tuple[str, str | None] | None:
        """Create a conversation that begins with the later half of the request's.

        Args:
            request: Refused for the conversation's length.
            calls: Open calls that will be answered in the new conversation: the items since the
                request's anchor are in it, too.

        Returns:
            The new conversation's id and the id of its last item before the batch's own (None if
            there is none); None if there is nothing before the batch that could be left out. The
            old conversation stays as it is.
        """


@runtime_checkable
class ChecksRuns(Protocol):
    """Look at runs: implemented by backends that set `capabilities.background`."""

    async def check_run(
        self, request: RunRequest, run_id: str
    ) -> RunAccepted | ActionRequired | RunEnded:
        """Look at a run once; `RunAccepted` while it is in progress.

        Raises:
            RunVanished: The provider does not know the run (any more).
        """
