"""Direct provider calls of both queue classes: blocking and asyncio."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from assistant_queue.client.portal import Portal
from assistant_queue.client.queue_core import QueueCore, open_core_on_loop
from assistant_queue.models import Content, RunInfo, ThreadInfo, ThreadMessage, ToolOutput
from assistant_queue.store.transport.stores import AsyncStore, SyncStore

if TYPE_CHECKING:
    from assistant_queue.client.provider_calls import ProviderCalls

T = TypeVar("T")

Outputs = Sequence[Mapping[str, Any] | ToolOutput]
"""Outputs of one round: `{"tool_call_id", "output"}` or `ToolOutput`, one for each call."""


class ProviderCallMethods:
    """Single calls on the provider's threads, beside the queue; docs/direct-calls.md lists them.

    A call that writes holds the thread's lease for its duration and raises ThreadBusy while a
    worker or another call has it. All raise ConfigurationError without a backend, NotSupported if
    the backend lacks the call, and the provider's refusals as BackendError: nothing is repeated,
    nothing is queued.
    """

    core: QueueCore[SyncStore]
    _portal: Portal[ProviderCalls]

    def _open_provider_calls(self) -> None:
        core = self.core

        def open_on_loop() -> ProviderCalls:
            # Imported here: a process that only adds messages needs no provider.
            from assistant_queue.client.provider_calls import ProviderCalls

            return ProviderCalls(open_core_on_loop(core))

        self._portal = Portal(open_on_loop, _close_both)

    def _close_provider_calls(self) -> None:
        self._portal.close()

    def _direct(self, work: Callable[[ProviderCalls], Coroutine[Any, Any, T]]) -> T:
        return self._portal.call(work)

    def create_thread(self, metadata: Mapping[str, str] | None = None) -> str:
        """Create a thread at the provider; its id can be used as `thread_id` everywhere.

        Raises:
            InvalidArgument: The metadata are not pairs of strings, or too many or too long. Nothing
                was created.
            RequestRefused: The provider refused. Nothing was created.
            OutcomeUnknown: Its answer was lost; a thread of unknown id may have been created.
        """
        return self._direct(lambda direct: direct.create_thread(metadata))

    def get_thread(self, thread_id: str) -> ThreadInfo:
        """Return a thread as the provider knows it.

        Raises:
            UnknownThread: The provider does not know it, or it has no conversation yet.
        """
        return self._direct(lambda direct: direct.get_thread(thread_id))

    def create_message(self, thread_id: str, content: Content) -> str:
        """Add a user's message to the provider's thread without a run; return its provider id.

        To have a message answered, use `add_message_to_thread`.

        Raises:
            ThreadBusy: A worker or another call holds the thread. Nothing was sent.
            InvalidArgument: The content is empty, too long or of the wrong type. Nothing was sent.
            RequestRefused: The provider refused. Nothing was added.
            OutcomeUnknown: Its answer was lost: check with `list_messages` before repeating the
                call.
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
        """Return messages of the provider's thread, newest first by default.

        Args:
            thread_id: The thread.
            limit: 1 to 100.
            order: `desc`, newest first, or `asc`.
            after: The id of a message: the page starts after it, in this order.
            before: The id of a message: the page ends before it, in this order.

        Raises:
            UnknownThread: The provider does not know it, or it has no conversation yet.
        """
        return self._direct(
            lambda direct: direct.list_messages(thread_id, limit, order, after, before)
        )

    def create_run(
        self,
        thread_id: str,
        instructions: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> RunInfo:
        """Start a run over the provider's thread.

        Returns when the provider has accepted the run, not when it has ended.

        Args:
            thread_id: The thread.
            instructions: For this run; None sends none (`default_instructions` are for batches).
            tools: Instead of the queue's tools; an empty list for none.
            metadata: Pairs of strings for the run.

        Raises:
            ThreadBusy: A worker or another call holds the thread. Nothing was sent.
            ConversationBusy: A run unknown to the queue is working on the thread. Nothing was
                started.
            OutcomeUnknown: The provider's answer was lost: check with `list_messages` before
                repeating the call.
        """
        return self._direct(
            lambda direct: direct.create_run(thread_id, instructions, tools, metadata)
        )

    def get_run(self, thread_id: str, run_id: str) -> RunInfo:
        """Return a run's present state, with the calls it waits for.

        Raises:
            RunVanished: The provider does not know this run.
        """
        return self._direct(lambda direct: direct.get_run(thread_id, run_id))

    def cancel_run(self, thread_id: str, run_id: str) -> RunInfo:
        """Ask the provider to stop a run.

        The run may be one that a worker follows: the queue then treats it as failed.

        Raises:
            RunVanished: The provider does not know this run.
            RequestRefused: It cannot be cancelled: it has ended, or runs in the foreground.
        """
        return self._direct(lambda direct: direct.cancel_run(thread_id, run_id))

    def submit_tool_outputs(self, thread_id: str, run_id: str, outputs: Outputs) -> RunInfo:
        """Answer all calls a run waits for; return the run that continues.

        On Responses that is another run with another id.

        Raises:
            ThreadBusy: A worker or another call holds the thread. Nothing was sent.
            InvalidArgument: These are not the outputs the run waits for. Nothing was sent.
            RunVanished: The provider does not know this run. Nothing was sent.
            OutcomeUnknown: Its answer was lost: check with `get_run` or `list_messages` before
                repeating the call.
        """
        return self._direct(lambda direct: direct.submit_tool_outputs(thread_id, run_id, outputs))


class AsyncProviderCallMethods:
    """Single calls on the provider's threads, for asyncio; docs/direct-calls.md lists them."""

    core: QueueCore[AsyncStore]
    _made: ProviderCalls | None

    def _open_provider_calls(self) -> None:
        self._made = None

    @property
    def _direct(self) -> ProviderCalls:
        if self._made is None:
            from assistant_queue.client.provider_calls import ProviderCalls

            self._made = ProviderCalls(self.core)
        return self._made

    async def _close_provider_calls(self) -> None:
        if self._made is not None:
            await self._made.close()

    async def create_thread(self, metadata: Mapping[str, str] | None = None) -> str:
        """Create a thread at the provider; its id can be used as `thread_id` everywhere.

        Raises:
            InvalidArgument: The metadata are not pairs of strings, or too many or too long. Nothing
                was created.
            RequestRefused: The provider refused. Nothing was created.
            OutcomeUnknown: Its answer was lost; a thread of unknown id may have been created.
        """
        return await self._direct.create_thread(metadata)

    async def get_thread(self, thread_id: str) -> ThreadInfo:
        """Return a thread as the provider knows it.

        Raises:
            UnknownThread: The provider does not know it, or it has no conversation yet.
        """
        return await self._direct.get_thread(thread_id)

    async def create_message(self, thread_id: str, content: Content) -> str:
        """Add a user's message to the provider's thread without a run; return its provider id.

        To have a message answered, use `add_message_to_thread`.

        Raises:
            ThreadBusy: A worker or another call holds the thread. Nothing was sent.
            InvalidArgument: The content is empty, too long or of the wrong type. Nothing was sent.
            RequestRefused: The provider refused. Nothing was added.
            OutcomeUnknown: Its answer was lost: check with `list_messages` before repeating the
                call.
        """
        return await self._direct.create_message(thread_id, content)

    async def list_messages(
        self,
        thread_id: str,
        limit: int = 20,
        order: Literal["asc", "desc"] = "desc",
        after: str | None = None,
        before: str | None = None,
    ) -> list[ThreadMessage]:
        """Return messages of the provider's thread, newest first by default.

        Args:
            thread_id: The thread.
            limit: 1 to 100.
            order: `desc`, newest first, or `asc`.
            after: The id of a message: the page starts after it, in this order.
            before: The id of a message: the page ends before it, in this order.

        Raises:
            UnknownThread: The provider does not know it, or it has no conversation yet.
        """
        return await self._direct.list_messages(thread_id, limit, order, after, before)

    async def create_run(
        self,
        thread_id: str,
        instructions: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> RunInfo:
        """Start a run over the provider's thread.

        Returns when the provider has accepted the run, not when it has ended.

        Args:
            thread_id: The thread.
            instructions: For this run; None sends none (`default_instructions` are for batches).
            tools: Instead of the queue's tools; an empty list for none.
            metadata: Pairs of strings for the run.

        Raises:
            ThreadBusy: A worker or another call holds the thread. Nothing was sent.
            ConversationBusy: A run unknown to the queue is working on the thread. Nothing was
                started.
            OutcomeUnknown: The provider's answer was lost: check with `list_messages` before
                repeating the call.
        """
        return await self._direct.create_run(thread_id, instructions, tools, metadata)

    async def get_run(self, thread_id: str, run_id: str) -> RunInfo:
        """Return a run's present state, with the calls it waits for.

        Raises:
            RunVanished: The provider does not know this run.
        """
        return await self._direct.get_run(thread_id, run_id)

    async def cancel_run(self, thread_id: str, run_id: str) -> RunInfo:
        """Ask the provider to stop a run.

        The run may be one that a worker follows: the queue then treats it as failed.

        Raises:
            RunVanished: The provider does not know this run.
            RequestRefused: It cannot be cancelled: it has ended, or runs in the foreground.
        """
        return await self._direct.cancel_run(thread_id, run_id)

    async def submit_tool_outputs(self, thread_id: str, run_id: str, outputs: Outputs) -> RunInfo:
        """Answer all calls a run waits for; return the run that continues.

        On Responses that is another run with another id.

        Raises:
            ThreadBusy: A worker or another call holds the thread. Nothing was sent.
            InvalidArgument: These are not the outputs the run waits for. Nothing was sent.
            RunVanished: The provider does not know this run. Nothing was sent.
            OutcomeUnknown: Its answer was lost: check with `get_run` or `list_messages` before
                repeating the call.
        """
        return await self._direct.submit_tool_outputs(thread_id, run_id, outputs)


async def _close_both(direct: ProviderCalls) -> None:
    await direct.close()
    await direct.store.close()
