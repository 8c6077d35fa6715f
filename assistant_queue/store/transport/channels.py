"""Waiting for messages on a Redis channel, blocking and awaited."""

from __future__ import annotations

from typing import Any, Self

from assistant_queue.store.transport.refusals import translated

CONFIRM_S = 5.0
"""Seconds to wait for Redis to confirm a subscription. Chosen: as long as a caller waits between
two reads of a message's state."""


class ChannelSubscription:
    """A subscription to one channel for the length of a `with` block, on a blocking client.

    Within the block the subscription is confirmed: a message that is published from then on ends a
    `wait`. Every call raises as `SyncStore.run` does.
    """

    def __init__(self, client: Any, channel: str) -> None:
        self._pubsub: Any = client.pubsub()
        self._channel = channel

    def __enter__(self) -> Self:
        try:
            with translated():
                self._pubsub.subscribe(self._channel)
                self._pubsub.get_message(timeout=CONFIRM_S)
        except BaseException:
            self._pubsub.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._pubsub.close()

    def wait(self, timeout_s: float) -> None:
        """Return at the next message, or after `timeout_s` seconds."""
        with translated():
            self._pubsub.get_message(timeout=timeout_s)


class AsyncChannelSubscription:
    """`ChannelSubscription` for `async with`, on an asyncio client."""

    def __init__(self, client: Any, channel: str) -> None:
        self._pubsub: Any = client.pubsub()
        self._channel = channel

    async def __aenter__(self) -> Self:
        try:
            with translated():
                await self._pubsub.subscribe(self._channel)
                await self._pubsub.get_message(timeout=CONFIRM_S)
        except BaseException:
            await self._pubsub.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pubsub.aclose()

    async def wait(self, timeout_s: float) -> None:
        """Return at the next message, or after `timeout_s` seconds."""
        with translated():
            await self._pubsub.get_message(timeout=timeout_s)


class ChannelListener:
    """A blocking subscription to one channel at a time, for `with`. Errors are redis-py's."""

    def __init__(self, client: Any) -> None:
        self._pubsub: Any = client.pubsub(ignore_subscribe_messages=True)
        self._channel = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pubsub.close()

    def listen(self, channel: str) -> bool:
        """Subscribe to this channel instead of another; False if it is subscribed to already."""
        if channel == self._channel:
            return False
        self._pubsub.subscribe(channel)
        if self._channel:
            self._pubsub.unsubscribe(self._channel)
        self._channel = channel
        return True

    def wait(self, timeout_s: float) -> bool:
        """Wait for a message, `timeout_s` seconds at most; True if there was one.

        The confirmation of a subscription ends a wait early, without a message.
        """
        return self._pubsub.get_message(timeout=timeout_s) is not None

    def read(self, timeout_s: float) -> str | None:
        """Return the next message, None if there was none; a confirmation ends it as a `wait`."""
        message = self._pubsub.get_message(timeout=timeout_s)
        data = None if message is None else message["data"]
        return data.decode("utf-8", "surrogateescape") if isinstance(data, bytes) else data
