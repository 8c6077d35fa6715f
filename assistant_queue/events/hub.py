"""One reader for everybody in this process who listens: one blocking read over all their threads, handed on to each."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Mapping
from typing import Any

from assistant_queue.core.progress import moment
from assistant_queue.errors import AssistantQueueError, StoreError, StoreUnavailable
from assistant_queue.event_models import Event, EventsMissed
from assistant_queue.events.subscription import Place, Subscription
from assistant_queue.store import events
from assistant_queue.store.calls import Operation, Space, blocking, plain, text
from assistant_queue.store.events import is_missed, order
from assistant_queue.store.stores import AsyncStore
from assistant_queue.store.sweeping import glancing

_log = logging.getLogger(__name__)

BATCH = 100
"""Entries of one thread in one read. Chosen: the least that `event_limit` can be: a shorter answer proves that nothing was trimmed."""
BLOCK_S = 4.0
"""Seconds that a read waits at most. Chosen: below every socket time-out; with it a lost stream is noticed."""
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.05, 2.0
"""Seconds between two tries while Redis is away: the first, and the longest. Chosen."""
CLOSE_S = 1.0
"""How long the waiting read may take to end when it is woken. Chosen: longer only where Redis is away."""
_REFRESHES = 3
"""How often a stream's life is prolonged within `event_ttl`. Chosen: one that is missed does no harm."""


class _Feed:
    """One thread that somebody here listens to.

    Attributes:
        cursor: The id up to which the reader has read.
    """

    def __init__(self, thread_id: str, cursor: str) -> None:
        self.thread_id = thread_id
        self.cursor = cursor
        self.subscriptions: set[Subscription] = set()

    def hand_on(self, event: Event, place: Place | None) -> None:
        """Give an event to everybody; `place` is where it stands in the stream."""
        for subscription in self.subscriptions:
            subscription.offer(event, place)


class EventHub:
    """Reads the streams of all threads that are listened to in this process, on one connection.

    1. a thousand who listen to one thread cost one read
    2. a thread that is new wakes the read that is waiting, by an entry in a stream of the hub's own
    3. a listener that is slow is left behind, and reads for itself until it has caught up
    4. goes on where it was when Redis comes back, and says so where something may have been missed

    Belongs to the event loop on which it is used.
    """

    def __init__(self, space: Space, store: AsyncStore) -> None:
        """Connects to nothing yet. `store` stays the caller's to close."""
        self._space = space
        self._store = store
        self._feeds: dict[str, _Feed] = {}
        self._id = secrets.token_hex(8)
        self._bell_cursor = events.START
        self._reader: asyncio.Task[None] | None = None
        self._refresh_at = self._look_at = 0.0
        limit_s = store.client.connection_pool.connection_kwargs.get("socket_timeout") or BLOCK_S * 2
        self._block_ms = round(1000 * min(BLOCK_S, limit_s / 2, space.events.ttl_ms / 1000 / _REFRESHES))

    async def subscribe(self, thread_id: str, after: str | None) -> Subscription:
        """Listen to a thread: behind `after`, from now on (None), or to everything that is kept ("0").

        Raises:
            ConfigurationError: Events are "off".
            StoreUnavailable: Redis did not answer.
        """
        stream = await self.open(thread_id)
        feed = self._feeds.get(thread_id)
        is_new = feed is None
        if feed is None:
            feed = self._feeds[thread_id] = _Feed(thread_id, stream.newest)
        cursor = stream.newest if after is None else after
        is_behind = cursor != stream.newest or order(cursor) < order(feed.cursor)
        subscription = Subscription(self, thread_id, cursor, is_behind=is_behind)
        feed.subscriptions.add(subscription)
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
    def _bell(self) -> str:
        return self._space.keys.bell(self._id)

    @property
    def client(self) -> Any:
        """The client that reads; whoever made it closes it."""
        return self._store.client

    async def open(self, thread_id: str) -> events.Stream:
        """See to it that a thread's events are kept from now on; raises as `subscribe` does."""
        return await self._store.run(events.listen(self._space, thread_id))

    def cursor_of(self, thread_id: str) -> str:
        """The id up to which the reader has read a thread."""
        return self._feeds[thread_id].cursor

    async def page(self, thread_id: str, after: str) -> events.Page:
        """What is kept behind an id, for those who are behind."""
        return await self._store.run(events.read(self._space, thread_id, after, BATCH))

    def leave(self, subscription: Subscription) -> None:
        """Listen no longer. A thread that nobody listens to is not read any more; its stream lapses."""
        feed = self._feeds.get(subscription.thread_id)
        if feed is not None:
            feed.subscriptions.discard(subscription)
            if not feed.subscriptions:
                del self._feeds[subscription.thread_id]

    async def close(self) -> None:
        """End every subscription, and the reading."""
        reader, self._reader = self._reader, None
        self._end(None)
        if reader is None:
            return
        # Woken rather than cancelled: redis-py can swallow the cancellation of a command that is answered just then.
        with contextlib.suppress(AssistantQueueError):
            await self._ring()
        await asyncio.wait({reader}, timeout=CLOSE_S)
        reader.cancel()
        await asyncio.wait({reader})

    def _end(self, error: AssistantQueueError | None) -> None:
        feeds, self._feeds = self._feeds, {}
        for feed in feeds.values():
            for subscription in feed.subscriptions:
                subscription.end(error)

    # --- the reader ---------------------------------------------------------------------------------------------------

    async def _ring(self) -> None:
        """Wake the reader: there is another thread to read."""
        ttl_ms = self._block_ms * 10
        await self._store.run(_both(plain("XADD", self._bell, "MAXLEN", 1, "*", "n", ""), plain("PEXPIRE", self._bell, ttl_ms)))

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        pause_s, away_since = _FIRST_PAUSE_S, 0.0
        while self._feeds:
            try:
                if away_since or self._is_time_to_refresh():
                    await self._refresh()
                if away_since:
                    _log.warning("Redis answers subscribers again, after %.1f s", loop.time() - away_since)
                    away_since = 0.0
                await self._take(await self._wait())
                if loop.time() >= self._look_at:
                    await self._look_after()
                pause_s = _FIRST_PAUSE_S
            except StoreUnavailable as error:
                if not away_since:
                    _log.warning("Redis does not answer those who listen: %s; trying again", error)
                    away_since = loop.time()
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LAST_PAUSE_S)
            except AssistantQueueError as error:
                self._end(error)
            except Exception as error:  # noqa: BLE001 - whoever listens must not wait for a reader that is not there
                _log.exception("events cannot be read any more")
                self._end(StoreError(f"events cannot be read any more: {type(error).__name__}: {error}"))

    async def _wait(self) -> dict[str, list[tuple[str, Any]]]:
        """What is new, by stream; nothing if nothing came for a while."""
        cursors = {self._bell: self._bell_cursor}
        cursors.update((self._space.keys.events(feed.thread_id), feed.cursor) for feed in self._feeds.values())
        call = blocking("XREAD", "COUNT", BATCH, "BLOCK", self._block_ms, "STREAMS", *cursors, *cursors.values())
        return _by_stream(await self._store.run(_one(call)))

    async def _take(self, answer: dict[str, list[tuple[str, Any]]]) -> None:
        bell = answer.pop(self._bell, None)
        if bell:
            self._bell_cursor = bell[-1][0]
        for feed in list(self._feeds.values()):
            rows = answer.get(self._space.keys.events(feed.thread_id))
            if rows:
                if len(rows) >= BATCH:
                    await self._check(feed)
                self._hand_on(feed, rows)

    def _hand_on(self, feed: _Feed, rows: list[tuple[str, Any]]) -> None:
        for entry_id, fields in rows:
            place = order(entry_id)
            if place <= order(feed.cursor):
                continue  # read for one who left and came again meanwhile
            feed.cursor = entry_id
            event = events.parse(feed.thread_id, entry_id, fields)
            if event is not None:
                feed.hand_on(event, place)

    async def _check(self, feed: _Feed) -> None:
        """More has come than one read takes: some of it may have been trimmed before it was read."""
        page = await self._store.run(events.read(self._space, feed.thread_id, feed.cursor, 1))
        if page.missed:
            feed.hand_on(self.missed(feed.thread_id, feed.cursor), None)

    async def _look_after(self) -> None:
        """Look once in a while whether all streams are there: one that is gone, because its thread was forgotten, wakes no reader.

        In the same round trip overdue threads are woken: where only RQ's own workers are, a listener may be the one caller there is.
        """
        self._look_at = asyncio.get_running_loop().time() + self._block_ms / 1000
        names = [self._space.keys.events(feed.thread_id) for feed in self._feeds.values()]
        if names:
            (there,) = await self._store.run(glancing(self._space, [plain("EXISTS", *names)]))
            if int(there) < len(names):
                await self._refresh()

    def _is_time_to_refresh(self) -> bool:
        now = asyncio.get_running_loop().time()
        if self._refresh_at == 0.0:
            self._refresh_at = now + self._space.events.ttl_ms / 1000 / _REFRESHES
        return now >= self._refresh_at

    async def _refresh(self) -> None:
        """Prolong the life of every stream that is listened to; who may have missed something is told."""
        self._refresh_at = 0.0
        for feed in list(self._feeds.values()):
            stream = await self.open(feed.thread_id)
            if is_missed(feed.cursor, stream.oldest, stream.newest):
                is_ahead = order(feed.cursor) > order(stream.newest)  # Redis came back with less than was read already
                feed.hand_on(self.missed(feed.thread_id, feed.cursor), order(events.START) if is_ahead else None)
                if is_ahead:
                    feed.cursor = events.START

    def missed(self, thread_id: str, after: str) -> EventsMissed:
        """What is said where events may be gone."""
        now_ms = self._space.clock.store_now_ms()
        at = moment(time.time() * 1000 if now_ms is None else now_ms)
        return EventsMissed(id=after, thread_id=thread_id, at=at, after=after)


def _one(call: Any) -> Operation[Any]:
    return (yield call)


def _both(*calls: Any) -> Operation[None]:
    yield list(calls)


def _by_stream(reply: Any) -> dict[str, list[tuple[str, Any]]]:
    """XREAD's answer, as either version of the protocol and redis-py give it: a list or a dict of streams."""
    if not reply:
        return {}
    streams = reply.items() if isinstance(reply, Mapping) else reply
    return {text(name): [(text(row[0]), row[1]) for row in _rows(rows)] for name, rows in streams}


def _rows(rows: Any) -> Any:
    # Of a dict redis-py 6 wraps the entries in one list more.
    return rows[0] if len(rows) == 1 and isinstance(rows[0], list) and not isinstance(rows[0][0], bytes | str) else rows
