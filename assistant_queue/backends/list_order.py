"""Learn the order in which a server lists a conversation's items, from a conversation made for that."""

from __future__ import annotations

import asyncio
import logging
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

import anyio

from assistant_queue.backends.content import text_of
from assistant_queue.backends.item_lists import ListReader
from assistant_queue.backends.streams import Json, fetch
from assistant_queue.errors import BackendError, RequestRefused

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_log = logging.getLogger(__name__)

_ITEMS = 12
"""In the conversation of the trial. Chosen: 12! orders, so that the right one is no accident; the provider takes 20 items in one call."""

_LIMIT = 7
"""Items of a page in the trial. Chosen: so that a second page is needed, and its cursor."""


_NEXT_SECOND_S = 1.1
"""Until times of whole seconds differ. Chosen: a little more than a second."""


class ListOrder(Enum):
    """What a server does when it is asked for the newest items first."""

    NEWEST_FIRST = "newest first"
    OLDEST_FIRST = "oldest first"
    NONE = "an order of its own"


class OrderTrial:
    """Finds out, once for a server, how it lists items. Anything a conversation holds already is no evidence: its order is the question.

    1. makes a conversation with numbered items
    2. reads them back over two pages
    3. deletes it

    Attributes:
        order: None until a trial was made.
        tells_the_end: A page says truthfully that it is the last one.
    """

    def __init__(self, reading: AsyncOpenAI, writing: AsyncOpenAI) -> None:
        self._items = reading.conversations.items.with_streaming_response
        self._conversations = writing.conversations.with_streaming_response
        self._adding = writing.conversations.items.with_streaming_response
        self._once = asyncio.Lock()
        self.order: ListOrder | None = None
        self.tells_the_end = True

    async def learn(self, conversation_id: str, *, thread: str) -> ListOrder:
        """The order, by a trial if none has been made.

        Args:
            conversation_id: The conversation that the question is about; it is never touched.
            thread: Named in errors.

        Raises:
            BackendError: The trial could not be made now. Nothing is remembered.
        """
        async with self._once:
            if self.order is None:
                self.order = await self._tried(conversation_id, thread)
                _log.info("thread %r: this server lists a conversation's items in %s", thread, self.order.value)
            return self.order

    async def _tried(self, conversation_id: str, thread: str) -> ListOrder:
        trial_id = ""
        try:
            body: Json = {"items": _numbered(1, _ITEMS), "metadata": {"purpose": "order of items"}}
            made = await fetch(partial(self._conversations.create, **body), thread=thread)
            trial_id = str(made.get("id") or "")
            if trial_id in {"", conversation_id}:
                return ListOrder.NONE  # no conversation of its own
            return await self._order_of(trial_id, thread)
        except RequestRefused as refusal:
            if not refusal.counts:
                raise
            return ListOrder.NONE
        finally:
            if trial_id not in {"", conversation_id}:
                await self._deleted(trial_id, thread)

    async def _order_of(self, trial_id: str, thread: str) -> ListOrder:
        listed = await self._reader(trial_id, thread, _LIMIT).newest()
        if len(listed.items) < _ITEMS and not listed.is_odd:
            self.tells_the_end, listed = False, await self._reader(trial_id, thread, _LIMIT).newest(believes_the_end=False)
        if listed.is_odd:
            listed = await self._reader(trial_id, thread, _ITEMS + 1).newest()  # cursors are ignored: all in one page, then
        told = [text_of_user(item) for item in listed.items]
        forwards = [item["content"] for item in _numbered(1, _ITEMS)]
        if told == forwards[::-1] and listed.is_all:
            return ListOrder.NEWEST_FIRST
        if told != forwards or not listed.is_all:
            return ListOrder.NONE
        # A server that sorts by times of whole seconds shows items of one second in any order: a later one has to come last.
        await anyio.sleep(_NEXT_SECOND_S)
        body: Json = {"items": _numbered(_ITEMS + 1, _ITEMS + 1)}
        await fetch(partial(self._adding.create, trial_id, **body), thread=thread)
        again = await self._reader(trial_id, thread, _LIMIT).newest(believes_the_end=self.tells_the_end)
        is_last = again.is_all and [text_of_user(item) for item in again.items[_ITEMS:]] == [str(_ITEMS + 1)]
        return ListOrder.OLDEST_FIRST if is_last else ListOrder.NONE

    def _reader(self, trial_id: str, thread: str, limit: int) -> ListReader:
        return ListReader(partial(self._items.list, trial_id), thread=thread, most_pages=_ITEMS + 2, limit=limit)

    async def _deleted(self, trial_id: str, thread: str) -> None:
        try:
            await fetch(partial(self._conversations.delete, trial_id), thread=thread)
        except BackendError as error:
            _log.warning("conversation %s was made to learn the order of items and could not be deleted: %s", trial_id, error)


def _numbered(first: int, last: int) -> list[Json]:
    """A user's messages that say a number each."""
    return [{"type": "message", "role": "user", "content": str(number)} for number in range(first, last + 1)]


def text_of_user(item: Json) -> str:
    """The text of a user's message."""
    content = item.get("content")
    if isinstance(content, str):
        return content
    return "".join(text_of(part) for part in content if isinstance(part, dict)) if isinstance(content, list) else ""
