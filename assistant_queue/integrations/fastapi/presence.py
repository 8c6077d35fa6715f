"""Presence: the names of a thread's listeners, over all processes of a service."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from assistant_queue.errors import AssistantQueueError
from assistant_queue.integrations.fastapi.frames import Frame, note
from assistant_queue.store.ops.present_names import read_present, remove_present

if TYPE_CHECKING:
    from assistant_queue.client.async_queue import AsyncAssistantMessageQueue

LOOK_S = 1.0
"""Seconds between two reads, one round trip for all threads. Chosen: a new listener is seen within
one."""
_RENEW_EVERY = 5
"""Looks between two renewals of this process's names. Chosen: a third of `present_names.LIFE_MS`."""

_log = logging.getLogger(__name__)


class Presence:
    """The listeners' names of all processes, stored in one sorted set per thread.

    1. `here` adds a name for the duration of a block
    2. while there are listeners, reads the sets once a second and calls `changed` after a change
    """

    def __init__(self, queue: AsyncAssistantMessageQueue, changed: Callable[[str], None]) -> None:
        """Create an empty presence.

        Args:
            queue: Its Redis and prefix.
            changed: Called with a thread id when the names of the thread have changed.
        """
        self._core = queue.core
        self._changed = changed
        self._process = secrets.token_hex(4)
        self._own: dict[str, Counter[str]] = {}
        self._seen: dict[str, tuple[str, ...]] = {}
        self._looking: asyncio.Task[None] | None = None

    def people(self, thread_id: str) -> tuple[str, ...]:
        """Return the names of a thread's listeners, sorted."""
        return self._seen.get(thread_id, ())

    def frame(self, thread_id: str) -> Frame:
        """Return the names as a frame for listeners."""
        return note("presence", thread_id, people=list(self.people(thread_id)))

    @asynccontextmanager
    async def here(self, thread_id: str, name: str | None) -> AsyncIterator[None]:
        """Listen under a name; None is not listed."""
        names = self._own.setdefault(thread_id, Counter())
        names[name or ""] += 1
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_often(), name="presence")
        try:
            await self._look([thread_id], renew=True)
            yield
        finally:
            names[name or ""] -= 1
            is_gone = not names[name or ""]
            if is_gone:
                del names[name or ""]
            if not names:  # before any await: a cancelled listener leaves nothing in memory
                self._own.pop(thread_id, None)
                self._seen.pop(thread_id, None)
            if is_gone:
                await self._forget(thread_id, name)

    async def close(self) -> None:
        """Stop reading."""
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking

    # --- Redis ------------------------------------------------------------------------------------

    async def _forget(self, thread_id: str, name: str | None) -> None:
        """Remove a name: listeners of this process see it at once, others within a second."""
        if name is None:
            return
        gone = remove_present(self._core.namespace, thread_id, name, process=self._process)
        with suppress(AssistantQueueError):  # it lapses by itself
            await self._core.store.run(gone)
            await self._look([thread_id], renew=False)

    async def _look_often(self) -> None:
        rounds = 0
        while self._own:
            await asyncio.sleep(LOOK_S)
            rounds += 1
            await self._look(list(self._own), renew=rounds % _RENEW_EVERY == 0)

    async def _look(self, thread_ids: list[str], *, renew: bool) -> None:
        try:
            found = await self._core.store.run(
                read_present(
                    self._core.namespace,
                    thread_ids,
                    process=self._process,
                    renewed=self._names(thread_ids) if renew else None,
                )
            )
        except AssistantQueueError as error:
            _log.debug("presence cannot be read at the moment: %s", error)
            return
        for thread_id, people in found.items():
            if thread_id in self._own and people != self._seen.get(thread_id):
                self._seen[thread_id] = people
                self._changed(thread_id)

    def _names(self, thread_ids: list[str]) -> dict[str, list[str]]:
        return {
            thread_id: [name for name in self._own.get(thread_id, ()) if name]
            for thread_id in thread_ids
        }
