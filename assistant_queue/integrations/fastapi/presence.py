"""Who is here: the names of those who listen to a thread, over all processes of a service."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from assistant_queue.errors import AssistantQueueError
from assistant_queue.integrations.fastapi.frames import Frame, note
from assistant_queue.store.calls import Call, Operation, plain, text

if TYPE_CHECKING:
    from assistant_queue.aio import AsyncAssistantMessageQueue

LOOK_S = 1.0
"""Between two looks at who else is here; one round trip for all threads. Chosen: who comes is seen within a second."""
LIFE_MS = 15_000
"""How long a name counts that is not renewed: of a process that was killed. Chosen."""
_RENEW_EVERY = 5
_APART = "\x00"

_log = logging.getLogger(__name__)


class Presence:
    """Names of this process and of the others, kept in one sorted set for each thread.

    1. `here` adds a name for the length of a block, and takes it away
    2. while anybody is here, looks once a second who else is, and says so when it has changed
    """

    def __init__(self, queue: AsyncAssistantMessageQueue, changed: Callable[[str], None]) -> None:
        """Nobody is here.

        Args:
            queue: Its Redis and prefix.
            changed: Called with a thread whose people have changed.
        """
        self._queue, self._changed = queue, changed
        self._process = secrets.token_hex(4)
        self._own: dict[str, Counter[str]] = {}
        self._seen: dict[str, tuple[str, ...]] = {}
        self._looking: asyncio.Task[None] | None = None

    def people(self, thread_id: str) -> tuple[str, ...]:
        """Who is here, by name."""
        return self._seen.get(thread_id, ())

    def frame(self, thread_id: str) -> Frame:
        """The same, as listeners are told."""
        return note("presence", thread_id, people=list(self.people(thread_id)))

    @asynccontextmanager
    async def here(self, thread_id: str, name: str | None) -> AsyncIterator[None]:
        """Listen under a name; None listens unseen."""
        names = self._own.setdefault(thread_id, Counter())
        names[name or ""] += 1
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_often(), name="who is here")
        try:
            await self._look([thread_id], renew=True)
            yield
        finally:
            names[name or ""] -= 1
            is_gone = not names[name or ""]
            if is_gone:
                del names[name or ""]
            if not names:  # before anything is awaited: who is cancelled here leaves nothing behind
                self._own.pop(thread_id, None)
                self._seen.pop(thread_id, None)
            if is_gone:
                await self._forget(thread_id, name)

    async def close(self) -> None:
        """Stop looking."""
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking

    # --- Redis --------------------------------------------------------------------------------------------------------

    def _key(self, thread_id: str) -> str:
        return self._queue._door.space.keys.present(thread_id)  # noqa: SLF001 - the queue's own keys

    async def _forget(self, thread_id: str, name: str | None) -> None:
        """Somebody left; the others are told at once where they are of this process, within a second elsewhere."""
        if name is None:
            return

        def gone() -> Operation[None]:
            yield plain("ZREM", self._key(thread_id), self._member(name))

        with suppress(AssistantQueueError):  # it lapses by itself
            await self._queue._store.run(gone())  # noqa: SLF001
            await self._look([thread_id], renew=False)

    def _member(self, name: str) -> str:
        return f"{name}{_APART}{self._process}"

    async def _look_often(self) -> None:
        rounds = 0
        while self._own:
            await asyncio.sleep(LOOK_S)
            rounds += 1
            await self._look(list(self._own), renew=rounds % _RENEW_EVERY == 0)

    async def _look(self, thread_ids: list[str], *, renew: bool) -> None:
        try:
            found = await self._queue._store.run(self._read(thread_ids, renew=renew))  # noqa: SLF001
        except AssistantQueueError as error:
            _log.debug("who is here cannot be read at the moment: %s", error)
            return
        for thread_id, people in found.items():
            if thread_id in self._own and people != self._seen.get(thread_id):
                self._seen[thread_id] = people
                self._changed(thread_id)

    def _read(self, thread_ids: list[str], *, renew: bool) -> Operation[dict[str, tuple[str, ...]]]:
        now = int(time.time() * 1000)
        calls: list[Call] = []
        if renew:
            for thread_id in thread_ids:
                key, names = self._key(thread_id), [name for name in self._own.get(thread_id, ()) if name]
                if names:
                    calls.append(plain("ZADD", key, *(part for name in names for part in (now + LIFE_MS, self._member(name)))))
                    calls.append(plain("PEXPIRE", key, 2 * LIFE_MS))
        writes = len(calls)
        calls += [plain("ZRANGEBYSCORE", self._key(thread_id), now, "+inf") for thread_id in thread_ids]
        replies = yield calls
        found = {}
        for thread_id, members in zip(thread_ids, replies[writes:], strict=True):
            everybody = {text(member).partition(_APART)[0] for member in members}
            found[thread_id] = tuple(sorted(everybody, key=str.casefold))
        return found
