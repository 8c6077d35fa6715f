"""The direct calls on the two front doors: blocking and awaited."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from assistant_queue.config import Config
from assistant_queue.door import Door
from assistant_queue.models import Content, RunInfo, ThreadInfo, ThreadMessage, ToolOutput
from assistant_queue.portal import Portal
from assistant_queue.store.connect import async_from, fresh
from assistant_queue.store.stores import AsyncStore

if TYPE_CHECKING:
    from assistant_queue.direct import Direct

T = TypeVar("T")

Outputs = Sequence[Mapping[str, Any] | ToolOutput]
"""What answers a round: `{"tool_call_id", "output"}` or `ToolOutput`, one for each call."""


class DirectCalls:
    """Calls on the provider's threads, one by one, beside the queue; docs/direct-calls.md has them.

    What writes holds the thread's lease for the length of the call and raises ThreadBusy while a worker or another call has it. All of
    them raise ConfigurationError without a backend, NotSupported where the backend has no such call, and the provider's refusals as
    BackendError: nothing is repeated, nothing is queued.
    """

    config: Config
    _door: Door
    _portal: Portal[Direct]

    def _open_direct(self) -> None:
        config, space = self.config, self._door.space

        def open_on_loop() -> Direct:
            from assistant_queue.direct import Direct  # a producer needs none of it

            return Direct(config, space, AsyncStore(_own_client(config), spaces=(space,)))

        self._portal = Portal(open_on_loop, _close_both)

    def _close_direct(self) -> None:
        self._portal.close()

    def _direct(self, work: Callable[[Direct], Coroutine[Any, Any, T]]) -> T:
        return self._portal.call(work)

    def create_thread(self, metadata: Mapping[str, str] | None = None) -> str:
        """Create a thread at the provider; its id can be used as `thread_id` everywhere.

        Raises:
            InvalidArgument: The metadata are no pairs of strings, or too many or too long. Nothing was created.
            RequestRefused: The provider said no. Nothing was created.
            OutcomeUnknown: Its answer was lost; a thread of unknown id may have been created.
        """
        return self._direct(lambda direct: direct.create_thread(metadata))

    def get_thread(self, thread_id: str) -> ThreadInfo:
        """A thread as the provider knows it.

        Raises:
            UnknownThread: The provider does not know it, or it has no conversation yet.
        """
        return self._direct(lambda direct: direct.get_thread(thread_id))

    def create_message(self, thread_id: str, content: Content) -> str:
        """Add a user's message to the provider's thread without having it answered; the provider's id of it.

        What shall be answered belongs into `add_message_to_thread`.

        Raises:
            ThreadBusy: A worker or another call holds the thread. Nothing was sent.
            InvalidArgument: The content is empty, too long or of the wrong type. Nothing was sent.
            RequestRefused: The provider said no. Nothing was added.
            OutcomeUnknown: Its answer was lost: look with `list_messages` before repeating the call.
        """
        return self._direct(lambda direct: direct.create_message(thread_id, content))

    def list_messages(
        self,
        thread_id: str,
        limit: int = 20,
        order: Literal["asc", "desc"] = "desc",
        after: str | None = None,
        before: str | None = None,
    ) -> list[ThreadMessage]:
        """The messages that the provider's thread holds; newest first unless told otherwise.

        Args:
            thread_id: The thread.
            limit: 1 to 100.
            order: `desc`, newest first, or `asc`.
            after: The id of a message: the page begins behind it, in this order.
            before: The id of a message: the page ends right before it, in this order.

        Raises:
            UnknownThread: The provider does not know it, or it has no conversation yet.
        """
        return self._direct(lambda direct: direct.list_messages(thread_id, limit, order, after, before))

    def create_run(
        self,
        thread_id: str,
        instructions: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> RunInfo:
        """Start a run over what the provider's thread holds; returns when the provider has taken it, not when it is over.

        Args:
            thread_id: The thread.
            instructions: For this run; None sends none, `default_instructions` are for batches.
            tools: Instead of the queue's own; an empty list for none.
            metadata: Pairs of strings for the run.

        Raises:
            ThreadBusy: A worker or another call holds the thread. Nothing was sent.
            ConversationBusy: A run that the queue does not know is working on the thread. Nothing was started.
            OutcomeUnknown: The provider's answer was lost: look with `list_messages` before repeating the call.
        """
        return self._direct(lambda direct: direct.create_run(thread_id, instructions, tools, metadata))

    def get_run(self, thread_id: str, run_id: str) -> RunInfo:
        """A run as it stands, with the calls it waits for.

        Raises:
            RunVanished: The provider does not know this run.
        """
        return self._direct(lambda direct: direct.get_run(thread_id, run_id))

    def cancel_run(self, thread_id: str, run_id: str) -> RunInfo:
        """Ask the provider to stop a run, also one that a worker follows: the queue then treats it as failed.

        Raises:
            RunVanished: The provider does not know this run.
            RequestRefused: It cannot be cancelled: it is over, or runs in the foreground.
        """
        return self._direct(lambda direct: direct.cancel_run(thread_id, run_id))

    def submit_tool_outputs(self, thread_id: str, run_id: str, outputs: Outputs) -> RunInfo:
        """Answer the calls a run waits for, all at once; the run that goes on. On Responses that is another run with an id of its own.

        Raises:
            ThreadBusy: A worker or another call holds the thread. Nothing was sent.
            InvalidArgument: These are not the outputs the run waits for. Nothing was sent.
            RunVanished: The provider does not know this run. Nothing was sent.
            OutcomeUnknown: Its answer was lost: look with `get_run` or `list_messages` before repeating the call.
        """
        return self._direct(lambda direct: direct.submit_tool_outputs(thread_id, run_id, outputs))


class AsyncDirectCalls:
    """`DirectCalls`, awaited."""

    config: Config
    _door: Door
    _store: AsyncStore
    _made: Direct | None

    def _open_direct(self) -> None:
        self._made = None

    @property
    def _direct(self) -> Direct:
        if self._made is None:
            from assistant_queue.direct import Direct

            self._made = Direct(self.config, self._door.space, self._store)
        return self._made

    async def _close_direct(self) -> None:
        if self._made is not None:
            await self._made.close()

    async def create_thread(self, metadata: Mapping[str, str] | None = None) -> str:
        """As `AssistantMessageQueue.create_thread`."""
        return await self._direct.create_thread(metadata)

    async def get_thread(self, thread_id: str) -> ThreadInfo:
        """As `AssistantMessageQueue.get_thread`."""
        return await self._direct.get_thread(thread_id)

    async def create_message(self, thread_id: str, content: Content) -> str:
        """As `AssistantMessageQueue.create_message`."""
        return await self._direct.create_message(thread_id, content)

    async def list_messages(
        self,
        thread_id: str,
        limit: int = 20,
        order: Literal["asc", "desc"] = "desc",
        after: str | None = None,
        before: str | None = None,
    ) -> list[ThreadMessage]:
        """As `AssistantMessageQueue.list_messages`."""
        return await self._direct.list_messages(thread_id, limit, order, after, before)

    async def create_run(
        self,
        thread_id: str,
        instructions: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> RunInfo:
        """As `AssistantMessageQueue.create_run`."""
        return await self._direct.create_run(thread_id, instructions, tools, metadata)

    async def get_run(self, thread_id: str, run_id: str) -> RunInfo:
        """As `AssistantMessageQueue.get_run`."""
        return await self._direct.get_run(thread_id, run_id)

    async def cancel_run(self, thread_id: str, run_id: str) -> RunInfo:
        """As `AssistantMessageQueue.cancel_run`."""
        return await self._direct.cancel_run(thread_id, run_id)

    async def submit_tool_outputs(self, thread_id: str, run_id: str, outputs: Outputs) -> RunInfo:
        """As `AssistantMessageQueue.submit_tool_outputs`."""
        return await self._direct.submit_tool_outputs(thread_id, run_id, outputs)


def _own_client(config: Config) -> Any:
    """An asyncio client for the portal's own loop."""
    found = async_from(config.redis, config.redis_url)
    return fresh(found) if found is config.redis else found


async def _close_both(direct: Direct) -> None:
    await direct.close()
    await direct.store.close()
