"""Read conversations and responses for the Responses backend."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from assistant_queue.backends.openai.content import objects_in
from assistant_queue.backends.openai.item_lists import Listed, ListReader
from assistant_queue.backends.openai.items import is_asked
from assistant_queue.backends.openai.provider_channel import ProviderChannel
from assistant_queue.backends.openai.sending import path_of
from assistant_queue.backends.openai.streams import Json, fetch
from assistant_queue.backends.responses.conversation_items import (
    is_oldest_first,
    tail_after,
    tail_of,
    what_became_of,
)
from assistant_queue.backends.responses.list_order import ListOrder, OrderTrial
from assistant_queue.backends.responses.unordered_items import without_order
from assistant_queue.core.runs import CannotAsk, Finding, NotFound, RunRequest
from assistant_queue.errors import RunVanished
from assistant_queue.models import ToolCall

_MOST_PAGES = 50
"""Pages read of one conversation. Chosen: 5,000 items are more than a model's window holds."""


class ConversationLog:
    """Read conversations and responses. Every method raises the `BackendError`s of its requests.

    Servers are asked for the newest items first, so that only new items are read. Neither the
    batch's absence nor its answer is reported without a proof:

    1. If all items were read and the outcome is the same in every order, the order does not matter.
    2. Otherwise the server's order is determined once, with a conversation created for that.
    3. A list in arbitrary order is read to its end, twice. An outcome that still depends on the
       order is reported as `CannotAsk`.
    """

    def __init__(self, channel: ProviderChannel) -> None:
        self._channel = channel
        self._trial = OrderTrial(channel)

    async def response(self, request: RunRequest, run_id: str) -> Json:
        """Retrieve one response.

        Raises:
            RunVanished: The provider does not know it.
        """
        return await fetch(
            self._channel.read(path_of("responses", run_id)),
            thread=request.batch.thread_id,
            missing=RunVanished,
        )

    # --- the conversation's end -------------------------------------------------------------------

    async def last_id(self, conversation_id: str) -> str | None:
        """Return the id of the last item, None if there is none."""
        last = await self._end(conversation_id, order="desc")
        if (
            last is None
            or self._trial.order is ListOrder.NEWEST_FIRST
            or not _may_be_the_first(last)
        ):
            return None if last is None else str(last["id"])
        if last["id"] == (await self._end(conversation_id, order="asc") or last)["id"]:
            # The same item at both ends: it is the only one, or `order` is ignored and it may be
            # the first.
            listed = await self._reader(conversation_id, conversation_id).whole()
            if len(listed.items) > 1:
                order = await self._trial.learn(conversation_id, thread=conversation_id)
                if order is ListOrder.OLDEST_FIRST and listed.is_all:
                    return str(listed.items[-1]["id"])
            return tail_of(listed.items, None, is_all=listed.is_all).anchor
        return str(last["id"])

    async def _end(self, conversation_id: str, **order: Any) -> Json | None:
        page = await fetch(
            self._channel.read(_items_of(conversation_id), {"limit": 1, **order}),
            thread=conversation_id,
        )
        return next(iter(objects_in(page.get("data"))), None)

    async def items(self, request: RunRequest) -> list[Json]:
        """Read all items, oldest first if the server lists them as asked."""
        listed = await self._reader(request.conversation_id, request.batch.thread_id).newest()
        return list(reversed(listed.items))

    async def in_order(self, request: RunRequest) -> tuple[list[Json], bool]:
        """Read all items, and return whether they are known to be oldest first.

        Of a conversation of more than 5,000 items they are the newest, if the server lists those
        first.
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

    # --- a batch ----------------------------------------------------------------------------------

    async def what_became_of(
        self, request: RunRequest, run_id: str | None, calls: Sequence[ToolCall]
    ) -> Finding:
        """Find the batch, or the outputs of `calls`, and the model's answer to them."""
        reader = self._reader(request.conversation_id, request.batch.thread_id)
        order = self._trial.order
        if order in {None, ListOrder.NEWEST_FIRST}:
            listed = await reader.newest(
                partial(_reaches, request.anchor), believes_the_end=self._trial.tells_the_end
            )
            if order is None:
                finding = await _in_every_order(reader, listed, request, run_id, calls)
                if finding is not None:
                    return finding
                order = await self._trial.learn(
                    request.conversation_id, thread=request.batch.thread_id
                )
            if order is ListOrder.NEWEST_FIRST and not listed.is_odd:
                return _in_order(listed, request, run_id, calls)
        whole = await reader.whole()
        if order is ListOrder.OLDEST_FIRST and whole.is_all:
            return what_became_of(tail_after(request.anchor, whole.items), request, run_id, calls)
        is_all = whole.is_all and self._trial.keeps_order
        return without_order(whole.items, request, run_id, calls, is_all=is_all)

    def _reader(self, conversation_id: str, thread: str) -> ListReader:
        return ListReader(
            self._channel, _items_of(conversation_id), thread=thread, most_pages=_MOST_PAGES
        )


def _items_of(conversation_id: str) -> str:
    return path_of("conversations", conversation_id, "items")


def _may_be_the_first(item: Json) -> bool:
    """Return whether a conversation can begin with this item; most end with the model's."""
    return is_asked(item) or item.get("role") in {"system", "developer"}


def _reaches(anchor: str | None, items: Sequence[Json]) -> bool:
    """Return whether the items, read newest first, include the anchor."""
    return any(str(item.get("id")) == anchor for item in items) and not is_oldest_first(
        items, is_all=False
    )


def _in_order(
    listed: Listed, request: RunRequest, run_id: str | None, calls: Sequence[ToolCall]
) -> Finding:
    """Determine the batch's outcome from items known to be newest first."""
    ordered = list(reversed(listed.items))
    if listed.is_all or any(str(item.get("id")) == request.anchor for item in ordered):
        return what_became_of(tail_after(request.anchor, ordered), request, run_id, calls)
    return without_order(ordered, request, run_id, calls, is_all=False)


async def _in_every_order(
    reader: ListReader,
    listed: Listed,
    request: RunRequest,
    run_id: str | None,
    calls: Sequence[ToolCall],
) -> Finding | None:
    """Determine the batch's outcome if no order of these items changes it; None otherwise.

    How well the items look ordered is no evidence. That they are all is proven by one request.
    """
    if listed.is_odd or not listed.is_all:
        return None
    finding = without_order(listed.items, request, run_id, calls, is_all=True)
    if isinstance(finding, CannotAsk) or not await reader.is_mirrored(listed):
        return None
    if not isinstance(finding, NotFound) or not listed.items:
        return finding
    # The server honours `order`, so its first item is the newest. If it sorts by something else, a
    # wrong anchor does no harm: then no finding depends on it.
    newest_id = listed.items[0].get("id")
    return NotFound(anchor=None if newest_id is None else str(newest_id))
