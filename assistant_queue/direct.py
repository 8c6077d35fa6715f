"""The direct calls: one call on the provider's thread, beside the queue and without getting in its way.

1. arguments are checked
2. what writes takes the thread's lease, and renews it for as long as the call lasts; what reads does not
3. the thread's conversation is looked up; what creates something creates that first, too
4. the stored end of the conversation is forgotten before anything is written behind it
5. the call goes out, once
6. the lease is given back, whatever happened; messages that came meanwhile get their wake-up there
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

from assistant_queue import arguments, direct_arguments
from assistant_queue.backends.base import Backend
from assistant_queue.backends.direct import DirectBackend, Page, Place, RunOptions, as_direct, direct_calls, not_supported
from assistant_queue.config import Config
from assistant_queue.core.thread_ids import providers_id
from assistant_queue.errors import BackendError, StoreError, ThreadBusy, UnknownThread
from assistant_queue.models import Content, RunInfo, ThreadInfo, ThreadMessage
from assistant_queue.store import control, conversations, holding
from assistant_queue.store.calls import Space
from assistant_queue.store.stores import AsyncStore

_log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_PAGE = 100
"""Messages of one page. Source: the provider's published API description."""


class Direct:
    """The direct calls of one queue object, on one event loop. The backend, and with it openai, is made at the first of them."""

    def __init__(self, config: Config, space: Space, store: AsyncStore) -> None:
        self._config, self._space, self.store = config, space, store
        # The longest a request takes that is neither answered nor given up, and as much again.
        self._lease_s = 2 * config.request_timeout
        self._making = asyncio.Lock()
        self._backend: Backend | None = None
        self._direct: DirectBackend | None = None

    async def close(self) -> None:
        """Give the backend's connections back, unless the backend is the caller's own."""
        backend, self._backend, self._direct = self._backend, None, None
        if backend is not None and self._config.backend is None:
            await backend.close()

    # --- calls ------------------------------------------------------------------------------------------------------------

    async def create_thread(self, metadata: Mapping[str, str] | None) -> str:
        """`create_thread`."""
        pairs = arguments.check_metadata(metadata)
        direct = await self._calls("create_thread")
        with _told("create_thread", "(new)", is_writing=True):
            created = await direct.create_thread(pairs)
        if providers_id(created, self._config.thread_ids) is None:
            # Where this id would be taken for one of the caller's, it is mapped to itself.
            await self.store.run(control.introduce(self._space, None))
            async with self._leased(created) as token:
                await self.store.run(holding.set_conversation(self._space, created, created, token=token))
        return created

    async def get_thread(self, thread_id: str) -> ThreadInfo:
        """`get_thread`."""
        checked = arguments.check_thread_id(thread_id)
        async with self._reading("get_thread", checked) as (direct, place):
            return await direct.get_thread(place)

    async def create_message(self, thread_id: str, content: Content) -> str:
        """`create_message`."""
        checked, made = arguments.check_thread_id(thread_id), arguments.check_content(content)
        async with self._writing("create_message", checked) as (direct, place):
            return await direct.create_message(place, made)

    async def list_messages(
        self, thread_id: str, limit: int, order: Literal["asc", "desc"], after: str | None, before: str | None
    ) -> list[ThreadMessage]:
        """`list_messages`."""
        checked = arguments.check_thread_id(thread_id)
        page = Page(
            limit=arguments.check_limit(limit, MAX_PAGE),
            order=direct_arguments.check_order(order),
            after=direct_arguments.check_cursor(after, "after"),
            before=direct_arguments.check_cursor(before, "before"),
        )
        async with self._reading("list_messages", checked) as (direct, place):
            return await direct.list_messages(place, page)

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
            tools=direct_arguments.check_tools(tools),
            metadata=arguments.check_metadata(metadata),
            within_s=self._config.run_timeout,
        )
        async with self._writing("create_run", checked) as (direct, place):
            return await direct.create_run(place, options)

    async def get_run(self, thread_id: str, run_id: str) -> RunInfo:
        """`get_run`."""
        checked, run = arguments.check_thread_id(thread_id), direct_arguments.check_run_id(run_id)
        async with self._reading("get_run", checked) as (direct, place):
            return await direct.get_run(place, run)

    async def cancel_run(self, thread_id: str, run_id: str) -> RunInfo:
        """`cancel_run`: without the lease, because what it stops may be the holder's own run."""
        checked, run = arguments.check_thread_id(thread_id), direct_arguments.check_run_id(run_id)
        async with self._reading("cancel_run", checked) as (direct, place):
            return await direct.cancel_run(place, run)

    async def submit_tool_outputs(self, thread_id: str, run_id: str, outputs: Sequence[Any]) -> RunInfo:
        """`submit_tool_outputs`."""
        checked, run = arguments.check_thread_id(thread_id), direct_arguments.check_run_id(run_id)
        made = direct_arguments.make_outputs(outputs)
        async with self._writing("submit_tool_outputs", checked, creates=False, answers=True) as (direct, place):
            return await direct.submit_tool_outputs(place, run, made, self._config.run_timeout)

    # --- the backend --------------------------------------------------------------------------------------------------------

    async def _calls(self, call: str) -> DirectBackend:
        """What carries the calls out.

        Raises:
            ConfigurationError: No backend is configured, or its key is missing.
            NotSupported: The backend has no such call.
        """
        async with self._making:
            if self._backend is None:
                from assistant_queue.worker.backend import make_backend

                # Importing openai takes a second: not on the loop.
                self._backend = await asyncio.to_thread(make_backend, self._config)
            if self._direct is None:
                self._direct = direct_calls(self._backend, call)
        if not callable(getattr(self._direct, call, None)):
            raise not_supported(self._backend, call)
        return self._direct

    # --- the thread ---------------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _reading(self, call: str, thread_id: str) -> AsyncIterator[tuple[DirectBackend, Place]]:
        direct = await self._calls(call)
        place = await self._place(thread_id)
        with _told(call, thread_id, is_writing=call == "cancel_run"):
            yield direct, place

    @contextlib.asynccontextmanager
    async def _writing(
        self, call: str, thread_id: str, *, creates: bool = True, answers: bool = False
    ) -> AsyncIterator[tuple[DirectBackend, Place]]:
        """Hold the thread; `answers`: the calls that its last batch left open have outputs after this."""
        direct = await self._calls(call)
        await self.store.run(control.introduce(self._space, None))
        async with self._leased(thread_id) as token:
            with _told(call, thread_id, is_writing=True):
                place = await (self._place_made(thread_id, token) if creates else self._place(thread_id))
                if self._backend is not None and not self._backend.capabilities.stateless:  # there it is the history itself
                    await self.store.run(conversations.forget_end(self._space, thread_id, token=token))
                yield direct, place
                if answers:
                    await self.store.run(conversations.forget_open_calls(self._space, thread_id, token=token))

    async def _place(self, thread_id: str) -> Place:
        if self._backend is not None and self._backend.capabilities.stateless:
            return Place(thread_id, "", await self.store.run(conversations.find_end(self._space, thread_id)))
        conversation_id = providers_id(thread_id, self._config.thread_ids)
        if conversation_id is None and self._backend is not None and not self._backend.capabilities.conversations:
            return Place(thread_id, "")
        if conversation_id is None:
            conversation_id = await self.store.run(conversations.find_conversation(self._space, thread_id))
        if conversation_id is None:
            raise UnknownThread(
                f"thread {thread_id!r} has no conversation at the provider yet; "
                "its first message in the queue, create_message() or create_run() makes one"
            )
        return Place(thread_id, conversation_id)

    async def _place_made(self, thread_id: str, token: str) -> Place:
        try:
            return await self._place(thread_id)
        except UnknownThread:
            backend = self._backend
            if backend is None:
                raise
        opened = await backend.open_conversation(thread_id)
        counts, _ = await self.store.run(holding.set_conversation(self._space, thread_id, opened, token=token))
        if counts != opened:
            with contextlib.suppress(BackendError):
                await backend.drop_conversation(opened)
        return Place(thread_id, counts)

    # --- the lease ----------------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _leased(self, thread_id: str) -> AsyncIterator[str]:
        """Hold the thread's lease within the block, which is given its token.

        Raises:
            ThreadBusy: A worker or another call holds it, or a batch of it is not over. Nothing was changed.
        """
        token, over = secrets.token_hex(8), asyncio.Event()
        renewing: asyncio.Task[None] | None = None
        try:
            await _to_its_end(self.store.run(control.lock(self._space, thread_id, token=token, lease_s=self._lease_s)))
            renewing = asyncio.create_task(self._renew(thread_id, token, over))
            yield token
        finally:
            over.set()
            await _to_its_end(self._give_back(thread_id, token, renewing))

    async def _renew(self, thread_id: str, token: str, over: asyncio.Event) -> None:
        """Take the lease again, with the same token, at a third of its length."""
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(over.wait(), self._lease_s / 3)
            if over.is_set():
                return
            try:
                await self.store.run(control.lock(self._space, thread_id, token=token, lease_s=self._lease_s))
            except ThreadBusy:
                _log.warning("thread %r: the lease of a direct call is lost, a worker goes on while the call is not over", thread_id)
                return
            except StoreError as error:
                _log.warning("thread %r: the lease of a direct call was not renewed yet: %s", thread_id, error)

    async def _give_back(self, thread_id: str, token: str, renewing: asyncio.Task[None] | None) -> None:
        if renewing is not None:
            await asyncio.wait({renewing})  # a renewal on its way must not arrive after the unlock
        try:
            await self.store.run(control.unlock(self._space, thread_id, token=token))
        except StoreError as error:
            # What the call did stands, whatever becomes of the lease: it lapses, and the sweeper looks after the thread.
            _log.warning("thread %r: the lease of a direct call was not given back, it lapses in %g s: %s", thread_id, self._lease_s, error)


@contextlib.contextmanager
def _told(call: str, thread_id: str, *, is_writing: bool) -> Iterator[None]:
    """Within the block, the provider's errors are told in the words of a direct call."""
    try:
        yield
    except BackendError as error:
        told = as_direct(error, call, thread_id, is_writing=is_writing)
        if told is error:
            raise
        raise told from (error.__cause__ or error)


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Await what a cancellation must not cut in two: it follows when the work is over."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # the cancellation is what counts; an error that is not read would be logged
        raise
