"""The direct calls: one call each on a thread of the provider, beside the queue.

1. check the arguments
2. for a call that writes: take the thread's lease and renew it while the call lasts
3. look up the thread's conversation; a call that creates something creates a missing one first
4. forget the stored end of the conversation before anything is written after it
5. send the request, once
6. give the lease back in any case; messages that were added meanwhile get their wake-up then
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

from assistant_queue.backends.base import Backend
from assistant_queue.backends.factory import make_backend
from assistant_queue.backends.provider_calls import (
    DirectBackend,
    Page,
    Place,
    RunOptions,
    as_direct,
    direct_calls,
    not_supported,
)
from assistant_queue.client import arguments, provider_call_arguments
from assistant_queue.client.call_lease import CallLeases
from assistant_queue.client.observed_calls import ObservedCalls
from assistant_queue.client.queue_core import QueueCore
from assistant_queue.config.protocol import name_of_backend
from assistant_queue.core.thread_ids import providers_id
from assistant_queue.errors import BackendError, UnknownThread
from assistant_queue.models import Content, RunInfo, ThreadInfo, ThreadMessage
from assistant_queue.store.ops import control, conversations, journal, leases
from assistant_queue.store.transport.stores import AsyncStore

T = TypeVar("T")

MAX_PAGE = 100
"""Messages of one page. Source: the provider's published API description."""


class ProviderCalls:
    """The direct calls of one queue object, on one event loop.

    The first of them creates the backend, and imports openai with it.
    """

    def __init__(self, core: QueueCore[AsyncStore]) -> None:
        self.store = core.store
        self._config = core.config
        self._namespace = core.namespace
        # Twice the longest time that a request may take.
        self._leases = CallLeases(core, 2 * core.config.request_timeout)
        own = core.config.backend
        self._observed = ObservedCalls(
            core.config.observers, None if own is None else name_of_backend(own)
        )
        self._making = asyncio.Lock()
        self._backend: Backend | None = None
        self._direct: DirectBackend | None = None

    async def close(self) -> None:
        """Give the backend's connections back, unless the backend is the caller's own."""
        backend, self._backend, self._direct = self._backend, None, None
        if backend is not None and self._config.backend is None:
            await backend.close()

    # --- calls ------------------------------------------------------------------------------------

    async def create_thread(self, metadata: Mapping[str, str] | None) -> str:
        """`create_thread`."""
        pairs = arguments.check_metadata(metadata)
        direct = await self._calls("create_thread")
        with _errors_of("create_thread", "(new)", is_writing=True):
            created = await self._observed.calling("create_thread", direct.create_thread(pairs))
        if providers_id(created, self._config.thread_ids) is None:
            # Its form does not say that it is the provider's: map the id to itself.
            await self.store.run(control.introduce(self._namespace, None))
            async with self._leases.hold(created) as token:
                await self.store.run(
                    leases.set_conversation(self._namespace, created, created, token=token)
                )
        return created

    async def get_thread(self, thread_id: str) -> ThreadInfo:
        """`get_thread`."""
        checked = arguments.check_thread_id(thread_id)
        async with self._reading("get_thread", checked) as (direct, place):
            return await self._observe("get_thread", place, direct.get_thread(place))

    async def create_message(self, thread_id: str, content: Content) -> str:
        """`create_message`."""
        checked = arguments.check_thread_id(thread_id)
        made = arguments.check_content(content)
        async with self._writing("create_message", checked) as (direct, place):
            answer = direct.create_message(place, made)
            return await self._observe("create_message", place, answer)

    async def list_messages(
        self,
        thread_id: str,
        limit: int,
        order: Literal["asc", "desc"],
        after: str | None,
        before: str | None,
    ) -> list[ThreadMessage]:
        """`list_messages`."""
        checked = arguments.check_thread_id(thread_id)
        page = Page(
            limit=arguments.check_limit(limit, MAX_PAGE),
            order=provider_call_arguments.check_order(order),
            after=provider_call_arguments.check_cursor(after, "after"),
            before=provider_call_arguments.check_cursor(before, "before"),
        )
        async with self._reading("list_messages", checked) as (direct, place):
            notes = await self.store.run(journal.read_notes(self._namespace, checked))
            answer = direct.list_messages(replace(place, notes=notes), page)
            return await self._observe("list_messages", place, answer)

    async def create_run(
        self,
        thread_id: str,
        instructions: str | None,
        tools: Sequence[Mapping[str, Any]] | None,
        metadata: Mapping[str, str] | None,
    ) -> RunInfo:
        """`create_run`."""
        checked = arguments.check_thread_id(thread_id)
        options = RunOptions(
            instructions=arguments.check_instructions(instructions),
            tools=provider_call_arguments.check_tools(tools),
            metadata=arguments.check_metadata(metadata),
            within_s=self._config.run_timeout,
        )
        async with self._writing("create_run", checked) as (direct, place):
            return await self._observe("create_run", place, direct.create_run(place, options))

    async def get_run(self, thread_id: str, run_id: str) -> RunInfo:
        """`get_run`."""
        checked = arguments.check_thread_id(thread_id)
        run = provider_call_arguments.check_run_id(run_id)
        async with self._reading("get_run", checked) as (direct, place):
            return await self._observe("get_run", place, direct.get_run(place, run), run)

    async def cancel_run(self, thread_id: str, run_id: str) -> RunInfo:
        """`cancel_run`: without the lease, because what it stops may be the holder's own run."""
        checked = arguments.check_thread_id(thread_id)
        run = provider_call_arguments.check_run_id(run_id)
        async with self._reading("cancel_run", checked) as (direct, place):
            return await self._observe("cancel_run", place, direct.cancel_run(place, run), run)

    async def submit_tool_outputs(
        self, thread_id: str, run_id: str, outputs: Sequence[Any]
    ) -> RunInfo:
        """`submit_tool_outputs`."""
        checked = arguments.check_thread_id(thread_id)
        run = provider_call_arguments.check_run_id(run_id)
        made = provider_call_arguments.make_outputs(outputs)
        async with self._writing("submit_tool_outputs", checked, creates=False, answers=True) as (
            direct,
            place,
        ):
            answer = direct.submit_tool_outputs(place, run, made, self._config.run_timeout)
            return await self._observe("submit_tool_outputs", place, answer, run)

    async def _observe(
        self, call: str, place: Place, answer: Awaitable[T], run_id: str | None = None
    ) -> T:
        """Return the provider's answer; nothing is asked if the queue keeps the history itself."""
        if self._backend is not None and self._backend.capabilities.stateless:
            return await answer
        return await self._observed.calling(
            call,
            answer,
            thread_id=place.thread_id,
            conversation_id=place.conversation_id,
            run_id=run_id,
        )

    # --- the backend ------------------------------------------------------------------------------

    async def _calls(self, call: str) -> DirectBackend:
        """Return the backend's direct calls.

        Raises:
            ConfigurationError: No backend is configured, or its key is missing.
            NotSupported: The backend has no such call.
        """
        async with self._making:
            if self._backend is None:
                # In a thread: importing openai takes a second.
                self._backend = await asyncio.to_thread(make_backend, self._config)
            if self._direct is None:
                self._direct = direct_calls(self._backend, call)
        if not callable(getattr(self._direct, call, None)):
            raise not_supported(self._backend, call)
        return self._direct

    # --- the thread -------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _reading(
        self, call: str, thread_id: str
    ) -> AsyncIterator[tuple[DirectBackend, Place]]:
        direct = await self._calls(call)
        place = await self._place(thread_id)
        with _errors_of(call, thread_id, is_writing=call == "cancel_run"):
            yield direct, place

    @contextlib.asynccontextmanager
    async def _writing(
        self, call: str, thread_id: str, *, creates: bool = True, answers: bool = False
    ) -> AsyncIterator[tuple[DirectBackend, Place]]:
        """Hold the thread's lease; `answers`: the call answers the open calls of its last batch."""
        direct = await self._calls(call)
        await self.store.run(control.introduce(self._namespace, None))
        async with self._leases.hold(thread_id) as token:
            with _errors_of(call, thread_id, is_writing=True):
                place = await (
                    self._place_made(thread_id, token) if creates else self._place(thread_id)
                )
                # A stateless backend's end is the history itself.
                if self._backend is not None and not self._backend.capabilities.stateless:
                    await self.store.run(
                        conversations.forget_end(self._namespace, thread_id, token=token)
                    )
                yield direct, place
                if answers:
                    await self.store.run(
                        conversations.forget_open_calls(self._namespace, thread_id, token=token)
                    )

    async def _place(self, thread_id: str) -> Place:
        if self._backend is not None and self._backend.capabilities.stateless:
            return Place(
                thread_id,
                "",
                await self.store.run(conversations.find_end(self._namespace, thread_id)),
            )
        conversation_id = providers_id(thread_id, self._config.thread_ids)
        if (
            conversation_id is None
            and self._backend is not None
            and not self._backend.capabilities.conversations
        ):
            return Place(thread_id, "")
        if conversation_id is None:
            conversation_id = await self.store.run(
                conversations.find_conversation(self._namespace, thread_id)
            )
        if conversation_id is None:
            raise UnknownThread(
                f"thread {thread_id!r} has no conversation at the provider yet: "
                "its first message in the queue, create_message() or create_run() creates one"
            )
        return Place(thread_id, conversation_id)

    async def _place_made(self, thread_id: str, token: str) -> Place:
        try:
            return await self._place(thread_id)
        except UnknownThread:
            backend = self._backend
            if backend is None:
                raise
        opened = await self._observed.asking(backend.open_conversation(thread_id))
        counts, _ = await self.store.run(
            leases.set_conversation(self._namespace, thread_id, opened, token=token)
        )
        if counts != opened:
            with contextlib.suppress(BackendError):
                await self._observed.asking(backend.drop_conversation(opened))
        return Place(thread_id, counts)


@contextlib.contextmanager
def _errors_of(call: str, thread_id: str, *, is_writing: bool) -> Iterator[None]:
    """Raise the backend's errors within the block as errors of this direct call."""
    try:
        yield
    except BackendError as error:
        direct_error = as_direct(error, call, thread_id, is_writing=is_writing)
        if direct_error is error:
            raise
        raise direct_error from (error.__cause__ or error)
