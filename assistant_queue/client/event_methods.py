"""Event methods of both queue classes: blocking and asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from assistant_queue.client import arguments
from assistant_queue.client.commands import Commands
from assistant_queue.client.event_hub import EventHub
from assistant_queue.client.portal import Portal
from assistant_queue.client.queue_core import QueueCore, open_core_on_loop
from assistant_queue.client.subscription import Subscription
from assistant_queue.events import Event
from assistant_queue.store.ops.event_log import ALL_THREADS
from assistant_queue.store.transport.connect import disconnect
from assistant_queue.store.transport.stores import AsyncStore, SyncStore


class _Closed(Exception):
    """The queue was closed while a caller waited for events."""


class EventMethods:
    """Subscriptions to events, of a thread and of all threads; docs/events.md lists them.

    One connection, on a thread of the queue, reads for all subscribers of this process.
    """

    core: QueueCore[SyncStore]
    _commands: Commands
    _store: SyncStore
    _listeners: Portal[EventHub]

    def _open_events(self) -> None:
        core = self.core

        def open_on_loop() -> EventHub:
            return EventHub(core.namespace, open_core_on_loop(core).store)

        self._listeners = Portal(
            open_on_loop, _close_hub, name="assistant-queue-events", cut_off=_Closed
        )

    def _close_events(self) -> None:
        self._listeners.close()

    def open_events(self, thread_id: str) -> str:
        """Keep a thread's events from now on and return the id to start after.

        Call it before adding the message to follow, then `events(thread_id, after=id)`.

        Raises:
            ConfigurationError: Events are "off" in this queue.
            StoreUnavailable: Redis did not answer.
        """
        return self._store.run(self._commands.listen(thread_id))

    def typing(self, thread_id: str, author: str | None = None) -> None:
        """Publish that a person types.

        Subscribers see it, and a sliding window stays open for some seconds, within `max_wait`; a
        fixed window does not change. Call it for every key press: at most one command is sent every
        two seconds.

        Raises:
            InvalidArgument: The thread id or the author's name is invalid. Nothing was sent.
            StoreUnavailable: Redis did not answer.
        """
        self._store.run(self._commands.typing(thread_id, author))

    def events(
        self, thread_id: str, after: str | None = None, *, timeout: float | None = None
    ) -> Iterator[Event]:
        """Iterate over a thread's events until `close`.

        Args:
            thread_id: The conversation.
            after: The id of an event: start strictly after it. None: start with this call (on the
                asyncio class, with the first `anext`). "0": start with the oldest kept event.
            timeout: Seconds without an event after which the iteration ends; None for no limit.

        Yields:
            Events in order, none twice; an `EventsMissed` if events after `after` may be lost.

        Raises:
            InvalidArgument: `after` is not an id, or `timeout` not a number of seconds.
            ConfigurationError: Events are "off" in this queue.
            StoreError: Redis refused. While Redis is unreachable, the iteration waits.
        """
        patience_s = arguments.check_patience(timeout)
        begin = self.open_events(thread_id) if after is None else arguments.check_event_id(after)
        arguments.check_thread_id(thread_id)
        if patience_s != 0:
            self._commands.warn_of_blocking("events")
        return self._listen(thread_id, begin, patience_s)

    def feed(self, after: str | None = None, *, timeout: float | None = None) -> Iterator[Event]:
        """Iterate over the events of all threads until `close`.

        All events but `text_delta` and `typing`, as `events` yields them, in one order; with ids of
        the feed. Events are published in it only while it is read: it lives `event_ttl` past the
        last look of a reader, and has at least the newest 10,000 (2,000 once a thread was
        forgotten).

        Args:
            after: The id of an event of the feed: start strictly after it. None: start with this
                call (on the asyncio class, with the first `anext`). "0": start with the oldest kept
                event.
            timeout: Seconds without an event after which the iteration ends; None for no limit.

        Yields:
            Events in order, none twice; an `EventsMissed`, with `thread_id=""`, if events after
            `after` may be lost.

        Raises:
            InvalidArgument: `after` is not an id, or `timeout` not a number of seconds.
            ConfigurationError: Events are "off" in this queue.
            StoreError: Redis refused. While Redis is unreachable, the iteration waits.
        """
        patience_s = arguments.check_patience(timeout)
        if after is None:
            begin = self._store.run(self._commands.listen_to_all())
        else:
            begin = arguments.check_event_id(after)
        if patience_s != 0:
            self._commands.warn_of_blocking("feed")
        return self._listen(ALL_THREADS, begin, patience_s)

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


class AsyncEventMethods:
    """Subscriptions to events, for asyncio: names and errors of `EventMethods`."""

    core: QueueCore[AsyncStore]
    _commands: Commands
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
        """Keep a thread's events from now on and return the id to start after.

        Call it before adding the message to follow, then `events(thread_id, after=id)`.

        Raises:
            ConfigurationError: Events are "off" in this queue.
            StoreUnavailable: Redis did not answer.
        """
        return await self._store.run(self._commands.listen(thread_id))

    async def typing(self, thread_id: str, author: str | None = None) -> None:
        """Publish that a person types.

        Subscribers see it, and a sliding window stays open for some seconds, within `max_wait`; a
        fixed window does not change. Call it for every key press: at most one command is sent every
        two seconds.

        Raises:
            InvalidArgument: The thread id or the author's name is invalid. Nothing was sent.
            StoreUnavailable: Redis did not answer.
        """
        await self._store.run(self._commands.typing(thread_id, author))

    def events(
        self, thread_id: str, after: str | None = None, *, timeout: float | None = None
    ) -> AsyncIterator[Event]:
        """Iterate over a thread's events until `close`.

        Args:
            thread_id: The conversation.
            after: The id of an event: start strictly after it. None: start with this call (on the
                asyncio class, with the first `anext`). "0": start with the oldest kept event.
            timeout: Seconds without an event after which the iteration ends; None for no limit.

        Yields:
            Events in order, none twice; an `EventsMissed` if events after `after` may be lost.

        Raises:
            InvalidArgument: `after` is not an id, or `timeout` not a number of seconds.
            ConfigurationError: Events are "off" in this queue.
            StoreError: Redis refused. While Redis is unreachable, the iteration waits.
        """
        patience_s = arguments.check_patience(timeout)
        begin = None if after is None else arguments.check_event_id(after)
        return self._listen(arguments.check_thread_id(thread_id), begin, patience_s)

    def feed(
        self, after: str | None = None, *, timeout: float | None = None
    ) -> AsyncIterator[Event]:
        """Iterate over the events of all threads until `close`.

        All events but `text_delta` and `typing`, as `events` yields them, in one order; with ids of
        the feed. Events are published in it only while it is read: it lives `event_ttl` past the
        last look of a reader, and has at least the newest 10,000 (2,000 once a thread was
        forgotten).

        Args:
            after: The id of an event of the feed: start strictly after it. None: start with this
                call (on the asyncio class, with the first `anext`). "0": start with the oldest kept
                event.
            timeout: Seconds without an event after which the iteration ends; None for no limit.

        Yields:
            Events in order, none twice; an `EventsMissed`, with `thread_id=""`, if events after
            `after` may be lost.

        Raises:
            InvalidArgument: `after` is not an id, or `timeout` not a number of seconds.
            ConfigurationError: Events are "off" in this queue.
            StoreError: Redis refused. While Redis is unreachable, the iteration waits.
        """
        patience_s = arguments.check_patience(timeout)
        begin = None if after is None else arguments.check_event_id(after)
        return self._listen(ALL_THREADS, begin, patience_s)

    async def _listen(
        self, thread_id: str, after: str | None, patience_s: float | None
    ) -> AsyncIterator[Event]:
        if self._hub is None:
            namespace = self.core.namespace
            self._hub = EventHub(namespace, AsyncStore(self._listening, namespaces=(namespace,)))
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
