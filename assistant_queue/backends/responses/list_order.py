"""Learn the order in which a server lists items, from a conversation created for that."""

from __future__ import annotations

import asyncio
import logging
from enum import Enum

import anyio

from assistant_queue.backends.openai.content import text_of
from assistant_queue.backends.openai.item_lists import ListReader
from assistant_queue.backends.openai.provider_channel import ProviderChannel
from assistant_queue.backends.openai.sending import path_of
from assistant_queue.backends.openai.streams import Json, fetch
from assistant_queue.errors import BackendError, RequestRefused

_log = logging.getLogger(__name__)

_ITEMS = 12
"""Items of the trial conversation. Chosen: an arbitrary order matches by accident once in 12! (479
million) trials; the provider takes 20 items in one call."""

_LIMIT = 7
"""Items of a page in the trial. Chosen: less than `_ITEMS`, so that a cursor is needed."""

_NEXT_SECOND_S = 1.1
"""Pause before the last item of the trial. Chosen: timestamps in whole seconds then differ."""


class ListOrder(Enum):
    """Order in which a server lists items when it is asked for the newest first."""

    NEWEST_FIRST = "newest first"
    OLDEST_FIRST = "oldest first"
    NONE = "an arbitrary order"


class OrderTrial:
    """Determine, once per server, how it lists items.

    The items that a conversation already holds are no evidence: their order is the question.

    1. creates a conversation of numbered items
    2. reads them back over two pages
    3. deletes it

    Attributes:
        order: None until a trial was made.
        tells_the_end: The server's `has_more: false` on a page is true.
        keeps_order: False if a trial saw the order change between requests: then two equal readings
            of a list are an accident and prove nothing.
    """

    def __init__(self, channel: ProviderChannel) -> None:
        self._channel = channel
        self._once = asyncio.Lock()
        self.order: ListOrder | None = None
        self.tells_the_end = True
        self.keeps_order = True

    async def learn(self, conversation_id: str, *, thread: str) -> ListOrder:
        """Return the order, after a trial if none has been made.

        Args:
            conversation_id: The conversation that the question is about; it is never touched.
            thread: Named in errors.

        Raises:
            BackendError: The trial could not be made now. Nothing is remembered.
        """
        async with self._once:
            if self.order is None:
                self.order = await self._tried(conversation_id, thread)
                _log.info(
                    "thread %r: this server lists a conversation's items in %s",
                    thread,
                    self.order.value,
                )
            return self.order

    async def _tried(self, conversation_id: str, thread: str) -> ListOrder:
        trial_id = ""
        try:
            body: Json = {"items": _numbered(1, _ITEMS), "metadata": {"purpose": "order of items"}}
            made = await fetch(self._channel.write("/conversations", body), thread=thread)
            trial_id = str(made.get("id") or "")
            if trial_id in {"", conversation_id}:
                return ListOrder.NONE  # the server did not create a separate conversation
            return await self._order_of(trial_id, thread)
        except RequestRefused as refusal:
            if not refusal.counts:
                raise
            return ListOrder.NONE
        finally:
            if trial_id not in {"", conversation_id}:
                await self._deleted(trial_id, thread)

    async def _order_of(self, trial_id: str, thread: str) -> ListOrder:
        reader = self._reader(trial_id, thread, _LIMIT)
        listed = await reader.newest()
        if len(listed.items) < _ITEMS and not listed.is_odd:
            self.tells_the_end = False
            listed = await reader.newest(believes_the_end=False)
        if listed.is_odd:
            # The server ignores cursors: one page has to hold all.
            reader = self._reader(trial_id, thread, _ITEMS + 1)
            listed = await reader.newest()
        texts = [text_of_user(item) for item in listed.items]
        forwards = [item["content"] for item in _numbered(1, _ITEMS)]
        if texts == forwards[::-1] and listed.is_all:
            return ListOrder.NEWEST_FIRST
        if texts == forwards and listed.is_all and await self._appends(trial_id, thread):
            return ListOrder.OLDEST_FIRST
        self.keeps_order = not (await reader.whole()).is_odd
        return ListOrder.NONE

    async def _appends(self, trial_id: str, thread: str) -> bool:
        """Return whether an item of a later second is listed last.

        A server that sorts by timestamps in whole seconds lists items of one second in any order.
        """
        await anyio.sleep(_NEXT_SECOND_S)
        body: Json = {"items": _numbered(_ITEMS + 1, _ITEMS + 1)}
        await fetch(self._channel.write(_items_of(trial_id), body), thread=thread)
        listed = await self._reader(trial_id, thread, _LIMIT).newest(
            believes_the_end=self.tells_the_end
        )
        later = [text_of_user(item) for item in listed.items[_ITEMS:]]
        return listed.is_all and later == [str(_ITEMS + 1)]

    def _reader(self, trial_id: str, thread: str, limit: int) -> ListReader:
        return ListReader(
            self._channel,
            _items_of(trial_id),
            thread=thread,
            most_pages=_ITEMS + 2,
            limit=limit,
        )

    async def _deleted(self, trial_id: str, thread: str) -> None:
        try:
            await fetch(self._channel.delete(path_of("conversations", trial_id)), thread=thread)
        except BackendError as error:
            _log.warning(
                "conversation %s, created to learn the order of items, could not be deleted: %s",
                trial_id,
                error,
            )


def _items_of(trial_id: str) -> str:
    return path_of("conversations", trial_id, "items")


def _numbered(first: int, last: int) -> list[Json]:
    """Return user messages with one number each."""
    return [
        {"type": "message", "role": "user", "content": str(number)}
        for number in range(first, last + 1)
    ]


def text_of_user(item: Json) -> str:
    """Return the text of a user's message."""
    content = item.get("content")
    if isinstance(content, str):
        return content
    return (
        "".join(text_of(part) for part in content if isinstance(part, dict))
        if isinstance(content, list)
        else ""
    )
