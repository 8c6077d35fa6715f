"""Listening, on the two front doors: blocking and awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from assistant_queue import arguments
from assistant_queue.config import Config
from assistant_queue.door import Door
from assistant_queue.event_models import Event
from assistant_queue.events.hub import EventHub
from assistant_queue.events.subscription import Subscription
from assistant_queue.portal import Portal
from assistant_queue.store.connect import async_from, disconnect, fresh
from assistant_queue.store.stores import AsyncStore, SyncStore


class _Closed(Exception):
    """The queue was closed while its caller listened."""


class EventCalls:
    """What happens to a thread, as it happens; docs/events.md has the events.

    However many listen in this process, one connection reads for all of them, on a thread of the queue's own.
    """

    config: Config
    _door: Door
    _store: SyncStore
    _listeners: Portal[EventHub]

    def _open_events(self) -> None:
        config, space = self.config, self._door.space

        def open_on_loop() -> EventHub:
            client = async_from(config.redis, config.redis_url)
            return EventHub(space, AsyncStore(fresh(client) if client is config.redis else client, spaces=(space,)))

        self._listeners = Portal(open_on_loop, _close_hub, name="assistant-queue-events", cut_off=_Closed)

    def _close_events(self) -> None:
        self._listeners.close()

    def open_events(self, thread_id: str) -> str:
        """Have a thread's events kept from now on; the id to begin behind.

        Call it before adding a message whose events you want, then `events(thread_id, after=id)`.

        Raises:
            ConfigurationError: Events are "off" in this queue.
            StoreUnavailable: Redis did not answer.
        """
        return self._store.run(self._door.listen(thread_id))

    def typing(self, thread_id: str, author: str | None = None) -> None:
        """Publish that a person types: subscribers see it, and a sliding window stays open for some seconds, within `max_wait`.

        Call it as often as you like, with every key: at most every two seconds something is sent. A fixed window stays as it is.

        Raises:
            InvalidArgument: The thread id or the author's name is no such thing. Nothing was done.
            StoreUnavailable: Redis did not answer.
        """
        self._store.run(self._door.typing(thread_id, author))

    def events(self, thread_id: str, after: str | None = None, *, timeout: float | None = None) -> Iterator[Event]:
        """What happens to a thread, one event after another, until `close`.

        Args:
            thread_id: The conversation.
            after: The id of an event: strictly behind it. None: from this call on. "0": everything that is still kept, and on.
            timeout: Seconds without an event after which the iteration ends; None: it goes on.

        Yields:
            Events, in order, none twice. An `EventsMissed` where some may be gone that were behind `after`.

        Raises:
            InvalidArgument: `after` is no id, or `timeout` no number of seconds.
            ConfigurationError: Events are "off" in this queue.
            StoreError: Redis refused. While Redis is away the iteration waits.
        """
        patience_s = arguments.check_patience(timeout)
        begin = self.open_events(thread_id) if after is None else arguments.check_event_id(after)
        arguments.check_thread_id(thread_id)
        if patience_s != 0:
            self._door.warn_of_blocking("events")
        return self._listen(thread_id, begin, patience_s)

    def _listen(self, thread_id: str, after: str, patience_s: float | None) -> Iterator[Event]:
        call = self._listeners.call
        subscription = call(lambda hub: hub.subscribe(thread_id, after))
        try:
            while (event := call(lambda _: subscription.next(patience_s))) is not None:
                yield event
        except _Closed:
            subscription.is_over = True
        finally:
            if not subscription.is_over:
                call(lambda _: _leave(subscription))


class AsyncEventCalls:
    """`EventCalls`, awaited: the same names, meanings and errors."""

    config: Config
    _door: Door
    _store: AsyncStore
    _listening: Any
    _hub: EventHub | None

    def _open_events(self) -> None:
        self._hub = None

    async def _close_events(self) -> None:
        hub, self._hub = self._hub, None
        if hub is not None:
            await hub.close()

    async def open_events(self, thread_id: str) -> str:
        """As `EventCalls.open_events`."""
        return await self._store.run(self._door.listen(thread_id))

    async def typing(self, thread_id: str, author: str | None = None) -> None:
        """As `EventCalls.typing`."""
        await self._store.run(self._door.typing(thread_id, author))

    def events(self, thread_id: str, after: str | None = None, *, timeout: float | None = None) -> AsyncIterator[Event]:
        """As `EventCalls.events`; `after=None` means from the first `anext` on."""
        patience_s = arguments.check_patience(timeout)
        begin = None if after is None else arguments.check_event_id(after)
        return self._listen(arguments.check_thread_id(thread_id), begin, patience_s)

    async def _listen(self, thread_id: str, after: str | None, patience_s: float | None) -> AsyncIterator[Event]:
        if self._hub is None:
            self._hub = EventHub(self._door.space, AsyncStore(self._listening, spaces=(self._door.space,)))
        subscription = await self._hub.subscribe(thread_id, after)
        try:
            while (event := await subscription.next(patience_s)) is not None:
                yield event
        finally:
            subscription.leave()


async def _close_hub(hub: EventHub) -> None:
    await hub.close()
    await disconnect(hub.client)


async def _leave(subscription: Subscription) -> None:
    subscription.leave()
