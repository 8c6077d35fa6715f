"""The lease of a thread for the length of one provider call."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from assistant_queue.client.queue_core import QueueCore
from assistant_queue.errors import StoreError, ThreadBusy
from assistant_queue.store.ops import control
from assistant_queue.store.ops.leases import renewal_s
from assistant_queue.store.transport.stores import AsyncStore

_log = logging.getLogger(__name__)

T = TypeVar("T")


class CallLeases:
    """Take, renew and give back the leases of provider calls, on one event loop.

    A lease is taken, renewed and given back with the same token. `unlock` leaves a mark by which a
    late copy of its `lock` changes nothing.
    """

    def __init__(self, core: QueueCore[AsyncStore], lease_s: float) -> None:
        """`lease_s` is the length of each lease."""
        self._store = core.store
        self._namespace = core.namespace
        self._lease_s = lease_s

    @contextlib.asynccontextmanager
    async def hold(self, thread_id: str) -> AsyncIterator[str]:
        """Hold a thread's lease within the block; yields its token.

        Raises:
            ThreadBusy: A worker or another call holds it, or a batch of it is not over. Nothing was
                changed.
        """
        token = secrets.token_hex(8)
        is_over = asyncio.Event()
        renewing: asyncio.Task[None] | None = None
        try:
            await _to_its_end(self._lock(thread_id, token))
            renewing = asyncio.create_task(self._renew(thread_id, token, is_over))
            yield token
        finally:
            is_over.set()
            await _to_its_end(self._give_back(thread_id, token, renewing))

    async def _lock(self, thread_id: str, token: str) -> None:
        await self._store.run(
            control.lock(self._namespace, thread_id, token=token, lease_s=self._lease_s)
        )

    async def _renew(self, thread_id: str, token: str, is_over: asyncio.Event) -> None:
        """Lock again with the same token, until the call is over or the lease is lost."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(renewal_s(self._lease_s)):
                    await is_over.wait()
            if is_over.is_set():
                return
            try:
                await self._lock(thread_id, token)
            except ThreadBusy:
                _log.warning(
                    "thread %r: the lease of a direct call is lost; a worker continues with the "
                    "thread before the call is over",
                    thread_id,
                )
                return
            except StoreError as error:
                _log.warning(
                    "thread %r: the lease of a direct call was not renewed: %s; it is tried again",
                    thread_id,
                    error,
                )

    async def _give_back(
        self, thread_id: str, token: str, renewing: asyncio.Task[None] | None
    ) -> None:
        if renewing is not None:
            await asyncio.wait({renewing})  # a renewal on its way must not arrive after the unlock
        try:
            await self._store.run(control.unlock(self._namespace, thread_id, token=token))
        except StoreError as error:
            # The call's effect stands. The lease lapses, and the sweeper wakes the thread.
            _log.warning(
                "thread %r: the lease of a direct call was not given back, it lapses in %g s: %s",
                thread_id,
                self._lease_s,
                error,
            )


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Await work that a cancellation must not interrupt; the cancellation is raised after it."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            # Read the task's error, or asyncio would log it; the cancellation is what is raised.
            task.exception()
        raise
