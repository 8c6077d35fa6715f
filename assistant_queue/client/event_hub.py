"""The event hub: one blocking read over all threads that this process subscribes to.

The feed of all threads is read like one more thread, `ALL_THREADS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from typing import Any

from assistant_queue.client.subscription import Place, Subscription
from assistant_queue.core.progress import moment
from assistant_queue.errors import AssistantQueueError, StoreError, StoreUnavailable
from assistant_queue.events import Event, EventsMissed
from assistant_queue.store.calls import Namespace
from assistant_queue.store.ops import event_log
from assistant_queue.store.ops.event_log import is_missed, order
from assistant_queue.store.ops.event_reading import Rows, StreamReader, count_streams
from assistant_queue.store.transport.stores import AsyncStore

_log = logging.getLogger(__name__)

BATCH = 100
"""Entries of one thread in one read. Chosen: the least that `event_limit` can be: a shorter answer
proves that nothing was trimmed."""
BLOCK_S = 4.0
"""Seconds that a read waits at most. Chosen: below every socket time-out; with it a lost stream is
noticed."""
_FIRST_PAUSE_S = 0.05
_LAST_PAUSE_S = 2.0
"""Seconds between two attempts while Redis is away: the first, and the longest. Chosen: soon
enough after a short outage, and rare in a long one."""
CLOSE_S = 1.0
"""Seconds that the waiting read may take to end when it is woken. Chosen: it takes longer only if
Redis is away."""
_REFRESHES = 3
"""Extensions of a stream's life within `event_ttl`. Chosen: a missed one does no harm."""


class _Thread:
    """A thread with subscriptions in this process.

    Attributes:
        cursor: The id up to which the reader has read.
    """

    def __init__(self, thread_id: str, cursor: str) -> None:
        self.thread_id = thread_id
        self.cursor = cursor
        self.subscriptions: set[Subscription] = set()

    def publish(self, event: Event, place: Place | None) -> None:
        """Offer an event to every subscription; `place` is its position in the stream."""
        for subscription in self.subscriptions:
            subscription.offer(event, place)


class EventHub:
    """Reads the streams of all threads with subscriptions in this process, on one connection.

    1. a thousand subscriptions to one thread cost one read
    2. a new thread wakes the waiting read, by an entry in the hub's own stream
    3. a slow subscription reads pages by itself until it has caught up with the hub
    4. after an outage of Redis the read resumes at the same ids; events that may have been lost are
       reported as `EventsMissed`

    Bound to the event loop on which it is used.
    """

    def __init__(self, namespace: Namespace, store: AsyncStore) -> None:
        """Connect to nothing yet. `store` stays the caller's to close."""
        self._namespace = namespace
        self._store = store
        self._threads: dict[str, _Thread] = {}
        self._reader: asyncio.Task[None] | None = None
        self._refresh_at = self._check_at = 0.0
        limit_s = (
            store.client.connection_pool.connection_kwargs.get("socket_timeout") or BLOCK_S * 2
        )
        block_s = min(BLOCK_S, limit_s / 2, namespace.events.ttl_ms / 1000 / _REFRESHES)
        self._streams = StreamReader(
            namespace, secrets.token_hex(8), block_ms=round(1000 * block_s), count=BATCH
        )

    async def subscribe(self, thread_id: str, after: str | None) -> Subscription:
        """Subscribe to a thread: after an id, from now on (None), or from the oldest event ("0").

        Raises:
            ConfigurationError: Events are "off".
            StoreUnavailable: Redis did not answer.
        """
        stream = await self.open(thread_id)
        thread = self._threads.get(thread_id)
        is_new = thread is None
        if thread is None:
            thread = self._threads[thread_id] = _Thread(thread_id, stream.newest)
        cursor = stream.newest if after is None else after
        is_behind = cursor != stream.newest or order(cursor) < order(thread.cursor)
        subscription = Subscription(self, thread_id, cursor, is_behind=is_behind)
        thread.subscriptions.add(subscription)
        if self._reader is None or self._reader.done():
            self._reader = asyncio.get_running_loop().create_task(self._read())
        elif is_new:
            try:
                await self._ring()
            except BaseException:
                self.leave(subscription)
                raise
        return subscription

    @property
    def client(self) -> Any:
        """The client that reads; its creator closes it."""
        return self._store.client

    async def open(self, thread_id: str) -> event_log.Stream:
        """Have a thread's events kept from now on; raises as `subscribe` does."""
        return await self._store.run(event_log.listen(self._namespace, thread_id))

    def cursor_of(self, thread_id: str) -> str:
        """Return the id up to which the reader has read a thread."""
        return self._threads[thread_id].cursor

    async def page(self, thread_id: str, after: str) -> event_log.EventPage:
        """Return a page of the events after an id, for a subscription that is behind."""
        return await self._store.run(event_log.read(self._namespace, thread_id, after, BATCH))

    def leave(self, subscription: Subscription) -> None:
        """Remove a subscription.

        A thread without subscriptions is not read any more; its stream expires.
        """
        thread = self._threads.get(subscription.thread_id)
        if thread is not None:
            thread.subscriptions.discard(subscription)
            if not thread.subscriptions:
                del self._threads[subscription.thread_id]

    async def close(self) -> None:
        """End every subscription and the reader."""
        reader, self._reader = self._reader, None
        self._end(None)
        if reader is None:
            return
        # Woken rather than cancelled: redis-py can swallow the cancellation of a command that is
        # answered just then.
        with contextlib.suppress(AssistantQueueError):
            await self._ring()
        await asyncio.wait({reader}, timeout=CLOSE_S)
        reader.cancel()
        await asyncio.wait({reader})

    def _end(self, error: AssistantQueueError | None) -> None:
        threads, self._threads = self._threads, {}
        for thread in threads.values():
            for subscription in thread.subscriptions:
                subscription.end(error)

    # --- the reader -------------------------------------------------------------------------------

    async def _ring(self) -> None:
        """Wake the reader, which reads one thread more from then on."""
        await self._store.run(self._streams.ring())

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        pause_s = _FIRST_PAUSE_S
        away_since = 0.0
        while self._threads:
            try:
                if away_since or self._is_time_to_refresh():
                    await self._refresh()
                if away_since:
                    _log.warning(
                        "Redis answers subscribers again, after %.1f s", loop.time() - away_since
                    )
                    away_since = 0.0
                await self._take(await self._wait())
                if loop.time() >= self._check_at:
                    await self._check_streams()
                pause_s = _FIRST_PAUSE_S
            except StoreUnavailable as error:
                if not away_since:
                    _log.warning("Redis does not answer subscribers: %s; trying again", error)
                    away_since = loop.time()
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LAST_PAUSE_S)
            except AssistantQueueError as error:
                self._end(error)
            except Exception as error:  # noqa: BLE001 - subscribers must not wait for ever
                _log.exception("events cannot be read any more")
                self._end(
                    StoreError(f"events cannot be read any more: {type(error).__name__}: {error}")
                )

    async def _wait(self) -> dict[str, Rows]:
        """Wait for entries of any thread; empty if none came for a while."""
        cursors = {thread.thread_id: thread.cursor for thread in self._threads.values()}
        return await self._store.run(self._streams.read(cursors))

    async def _take(self, answer: dict[str, Rows]) -> None:
        for thread in list(self._threads.values()):
            rows = answer.get(thread.thread_id)
            if rows:
                if len(rows) >= BATCH:
                    await self._check_trimmed(thread)
                self._publish(thread, rows)

    def _publish(self, thread: _Thread, rows: Rows) -> None:
        for entry_id, fields in rows:
            place = order(entry_id)
            if place <= order(thread.cursor):
                continue  # read already, for a subscription that left and came back
            thread.cursor = entry_id
            event = event_log.parse(thread.thread_id, entry_id, fields)
            if event is not None:
                thread.publish(event, place)

    async def _check_trimmed(self, thread: _Thread) -> None:
        """Report events that were trimmed before they were read, after a read that was full."""
        page = await self._store.run(
            event_log.read(self._namespace, thread.thread_id, thread.cursor, 1)
        )
        if page.missed:
            thread.publish(self.missed(thread.thread_id, thread.cursor), None)

    async def _check_streams(self) -> None:
        """Check regularly that all streams exist: a forgotten thread's stream wakes no reader.

        The same round trip wakes overdue threads: beside RQ's own workers, subscribers may be the
        only callers of the queue.
        """
        self._check_at = asyncio.get_running_loop().time() + self._streams.block_ms / 1000
        thread_ids = list(self._threads)
        if thread_ids:
            found = await self._store.run(count_streams(self._namespace, thread_ids))
            if found < len(thread_ids):
                await self._refresh()

    def _is_time_to_refresh(self) -> bool:
        now = asyncio.get_running_loop().time()
        if self._refresh_at == 0.0:
            self._refresh_at = now + self._namespace.events.ttl_ms / 1000 / _REFRESHES
        return now >= self._refresh_at

    async def _refresh(self) -> None:
        """Extend the life of every stream that is read; report events that may have been missed."""
        self._refresh_at = 0.0
        for thread in list(self._threads.values()):
            stream = await self.open(thread.thread_id)
            if is_missed(thread.cursor, stream.oldest, stream.newest):
                # Redis came back without events that were read already.
                is_ahead = order(thread.cursor) > order(stream.newest)
                thread.publish(
                    self.missed(thread.thread_id, thread.cursor),
                    order(event_log.START) if is_ahead else None,
                )
                if is_ahead:
                    thread.cursor = event_log.START

    def missed(self, thread_id: str, after: str) -> EventsMissed:
        """Return the event that reports that events after an id may be lost."""
        now_ms = self._namespace.clock.store_now_ms()
        at = moment(time.time() * 1000 if now_ms is None else now_ms)
        return EventsMissed(id=after, thread_id=thread_id, at=at, after=after)
