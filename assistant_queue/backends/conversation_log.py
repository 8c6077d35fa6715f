"""What a conversation holds, and responses by their id: the reading side of the Responses backend."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from assistant_queue.backends.conversation_items import is_oldest_first, tail_after, tail_of, what_became_of
from assistant_queue.backends.item_lists import Listed, ListReader
from assistant_queue.backends.list_order import ListOrder, OrderTrial
from assistant_queue.backends.response_reader import is_asked
from assistant_queue.backends.streams import Json, fetch
from assistant_queue.backends.unordered_items import in_place, is_absent, without_order
from assistant_queue.core.runs import Finding, NotFound, RunRequest
from assistant_queue.errors import RunVanished
from assistant_queue.models import ToolCall

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_MOST_PAGES = 50
"""Of a conversation that is read back. Chosen: beyond what a model can be shown."""


class ConversationLog:
    """Reads conversations and responses. Every method raises `BackendError`s of the call itself.

    Newest first is what servers are asked for and what some give that ignore `order`, and only what is new is read. That a batch is *not*
    there is proven before it is said:

    1. its texts are nowhere in the conversation, and that was all of it: the order does not matter
    2. else the order has to be known: the server is tried out once, with a conversation made for that
    3. a server that keeps to no order is read to its end, twice; what cannot be told then, cannot be asked
    """

    def __init__(self, reading: AsyncOpenAI, writing: AsyncOpenAI) -> None:
        self._items = reading.conversations.items.with_streaming_response
        self._responses = reading.responses.with_streaming_response
        self._trial = OrderTrial(reading, writing)

    async def response(self, request: RunRequest, run_id: str) -> Json:
        """One response.

        Raises:
            RunVanished: The provider does not know it.
        """
        return await fetch(partial(self._responses.retrieve, run_id), thread=request.batch.thread_id, missing=RunVanished)

    # --- the conversation's end -------------------------------------------------------------------------------------------

    async def last_id(self, conversation_id: str) -> str | None:
        """The id of the last item, None if there is none."""
        last = await self._end(conversation_id, order="desc")
        if last is None or self._trial.order is ListOrder.NEWEST_FIRST or not _may_be_the_first(last):
            return None if last is None else str(last["id"])
        if last["id"] == (await self._end(conversation_id, order="asc") or last)["id"]:
            # The same item at both ends: it is the only one, or `order` is ignored and it may be the first.
            listed = await self._reader(conversation_id, conversation_id).whole()
            return tail_of(listed.items, None, is_all=listed.is_all).anchor
        return str(last["id"])

    async def _end(self, conversation_id: str, **order: Any) -> Json | None:
        page = await fetch(partial(self._items.list, conversation_id, limit=1, **order), thread=conversation_id)
        data = page.get("data") or []
        return data[0] if data else None

    async def items(self, request: RunRequest) -> list[Json]:
        """All items of the conversation, oldest first if the server lists them as asked."""
        listed = await self._reader(request.conversation_id, request.batch.thread_id).newest()
        return list(reversed(listed.items))

    async def in_order(self, request: RunRequest) -> tuple[list[Json], bool]:
        """All items of the conversation, and whether they are oldest first; else the server keeps to no order that could be learned.

        Of a very long conversation they are the newest, as far as the server gives them first.
        """
        reader = self._reader(request.conversation_id, request.batch.thread_id)
        listed = await reader.newest()
        if len(listed.items) <= 1 and listed.is_all:
            return list(listed.items), True
        order = await self._trial.learn(request.conversation_id, thread=request.batch.thread_id)
        if order is ListOrder.NEWEST_FIRST and not listed.is_odd:
            return list(reversed(listed.items)), True
        whole = await reader.whole()
        return list(whole.items), order is ListOrder.OLDEST_FIRST and whole.is_all

    # --- a batch ------------------------------------------------------------------------------------------------------------

    async def what_became_of(self, request: RunRequest, run_id: str | None, calls: Sequence[ToolCall]) -> Finding:
        """Whether the conversation holds the batch, or the outputs of `calls`, and what the model made of them."""
        reader = self._reader(request.conversation_id, request.batch.thread_id)
        order = self._trial.order
        if order in {None, ListOrder.NEWEST_FIRST}:
            listed = await reader.newest(partial(_reaches, request.anchor), believes_the_end=self._trial.tells_the_end)
            if order is ListOrder.NEWEST_FIRST and not listed.is_odd:
                return _in_order(listed, request, run_id, calls)
            finding = await self._evident(reader, listed, request, run_id, calls)
            if finding is not None:
                return finding
            order = await self._trial.learn(request.conversation_id, thread=request.batch.thread_id)
            if order is ListOrder.NEWEST_FIRST and not listed.is_odd:
                return _in_order(listed, request, run_id, calls)
        whole = await reader.whole()
        if order is ListOrder.OLDEST_FIRST and whole.is_all:
            return what_became_of(tail_after(request.anchor, whole.items), request, run_id, calls)
        return without_order(whole.items, request, run_id, calls, is_all=whole.is_all)

    async def _evident(
        self, reader: ListReader, listed: Listed, request: RunRequest, run_id: str | None, calls: Sequence[ToolCall]
    ) -> Finding | None:
        """What these items say by themselves, of a server that has not been tried out; None if that is nothing."""
        if listed.is_odd:
            return None
        tails = [in_place(list(reversed(listed.items)), request, is_all=listed.is_all)]
        if listed.is_all:
            tails.append(in_place(listed.items, request, is_all=True))
        found = [what_became_of(tail, request, run_id, calls) for tail in tails if tail is not None]
        if len(found) == 1 and not isinstance(found[0], NotFound):
            return found[0]
        if not listed.is_all or not is_absent(listed.items, request, calls):
            return None
        if not listed.items:
            return NotFound()
        newest_id = listed.items[0].get("id")
        return NotFound(anchor=None if newest_id is None else str(newest_id)) if await reader.is_mirrored(listed) else None

    def _reader(self, conversation_id: str, thread: str) -> ListReader:
        return ListReader(partial(self._items.list, conversation_id), thread=thread, most_pages=_MOST_PAGES)


def _may_be_the_first(item: Json) -> bool:
    """Whether a conversation can begin with this item; most end with one of the model's."""
    return is_asked(item) or item.get("role") in {"system", "developer"}


def _reaches(anchor: str | None, items: Sequence[Json]) -> bool:
    """Whether reading newest first has come to the anchor."""
    return any(str(item.get("id")) == anchor for item in items) and not is_oldest_first(items, is_all=False)


def _in_order(listed: Listed, request: RunRequest, run_id: str | None, calls: Sequence[ToolCall]) -> Finding:
    """What became of the batch, from items that are known to come newest first."""
    ordered = list(reversed(listed.items))
    if listed.is_all or any(str(item.get("id")) == request.anchor for item in ordered):
        return what_became_of(tail_after(request.anchor, ordered), request, run_id, calls)
    return without_order(ordered, request, run_id, calls, is_all=False)
