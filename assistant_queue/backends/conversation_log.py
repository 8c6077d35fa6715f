"""What a conversation holds, and responses by their id: the reading side of the Responses backend."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from assistant_queue.backends.conversation_items import Tail, is_oldest_first, open_calls_of, tail_of
from assistant_queue.backends.streams import Json, fetch
from assistant_queue.core.runs import RunRequest
from assistant_queue.errors import RunVanished

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_PAGE = 100
"""Source: the provider's published API description: lists take a limit of 1 to 100."""

_MOST_PAGES = 50
"""Of a conversation that is read back. Chosen: beyond what a model can be shown."""


class ConversationLog:
    """Reads conversations and responses. Every method raises `BackendError`s of the call itself."""

    def __init__(self, client: AsyncOpenAI) -> None:
        self._items = client.conversations.items.with_streaming_response
        self._responses = client.responses.with_streaming_response

    async def last_id(self, conversation_id: str) -> str | None:
        """The id of the last item, None if there is none."""
        page = await fetch(partial(self._items.list, conversation_id, limit=1, order="desc"), thread=conversation_id)
        data = page.get("data") or []
        return str(data[0]["id"]) if data else None

    async def response(self, request: RunRequest, run_id: str) -> Json:
        """One response.

        Raises:
            RunVanished: The provider does not know it.
        """
        return await fetch(partial(self._responses.retrieve, run_id), thread=request.batch.thread_id, missing=RunVanished)

    async def tail(self, request: RunRequest) -> Tail:
        """What came after the request's anchor."""
        listed, is_all = await self._newest(request, until=request.anchor)
        return tail_of(listed, request.anchor, is_all=is_all)

    async def around_anchor(self, request: RunRequest) -> tuple[list[Json], list[Json]]:
        """All items up to the request's anchor, and those after it; oldest first. Without a known anchor all of them came before."""
        listed, is_all = await self._newest(request, until=None)
        items = list(tail_of(listed, None, is_all=is_all).items)
        places = [place for place, item in enumerate(items, 1) if item.get("id") == request.anchor]
        end = places[0] if places else 0 if request.anchor is None else len(items)
        return items[:end], items[end:]

    async def open_calls(self, request: RunRequest) -> list[str]:
        """The ids of all calls in the conversation that have no output, oldest first."""
        listed, _ = await self._newest(request, until=None)
        return [str(item.get("call_id")) for item in reversed(open_calls_of(listed))]

    async def _newest(self, request: RunRequest, *, until: str | None) -> tuple[list[Json], bool]:
        """Items from the newest backwards to `until`, or all; and whether they are all.

        Newest first is also what servers give that ignore `order`, and only what is new is read.
        """
        listed: dict[str, Json] = {}
        for _ in range(_MOST_PAGES):
            after: Json = {"after": next(reversed(listed))} if listed else {}
            list_page = partial(self._items.list, request.conversation_id, limit=_PAGE, order="desc", **after)
            page = await fetch(list_page, thread=request.batch.thread_id)
            fresh = {str(item["id"]): item for item in page.get("data") or [] if item.get("id") not in listed}
            listed.update(fresh)
            is_all = not page.get("has_more") or not fresh
            if is_all or (until in listed and not is_oldest_first(list(listed.values()), is_all=False)):
                return list(listed.values()), is_all
        return list(listed.values()), False
