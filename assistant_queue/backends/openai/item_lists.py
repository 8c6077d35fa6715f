"""Read the provider's lists, and determine whether a list was read to its end.

Servers differ in how they sort, cut and page lists: they ignore `order`, `after` or `limit`, cap
their pages, or send a wrong `has_more`. An object that was not listed is absent only if the list's
end is proven.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assistant_queue.backends.openai.content import objects_in
from assistant_queue.backends.openai.provider_channel import ProviderChannel
from assistant_queue.backends.openai.streams import Json, fetch


class EndUnknown(Exception):
    """Raised if an object was not found and the list's end could not be proven."""


PAGE = 100
"""Source: the provider's published API description: lists take a limit of 1 to 100."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Objects read from a list.

    Attributes:
        items: Each object once, in the order in which they came.
        is_all: They are the whole list: by the server's word in `newest`, proven in `whole`.
        is_odd: A page repeated objects of an earlier one: the server ignores cursors or the order.
            In `whole`: two readings were not in the same order.
    """

    items: Sequence[Json]
    is_all: bool
    is_odd: bool = False


@dataclass(frozen=True, slots=True)
class _Page:
    """One page; `has_more` is None if the server does not send it."""

    items: Sequence[Json]
    has_more: bool | None


class ListReader:
    """Read one list.

    1. `newest` reads no more than a conforming server requires
    2. `is_mirrored` checks, by one request, that a short list was read completely
    3. `whole` reads everything, and determines whether it was complete
    """

    def __init__(
        self,
        channel: ProviderChannel,
        path: str,
        *,
        thread: str,
        most_pages: int,
        limit: int = PAGE,
        query: Mapping[str, Any] | None = None,
    ) -> None:
        """Set up, without a request.

        Args:
            channel: Sends the requests.
            path: Of the list.
            thread: Named in errors.
            most_pages: Most pages to read.
            limit: Objects of a page.
            query: Further parameters of every request.
        """
        self._channel = channel
        self._path = path
        self._thread = thread
        self._most_pages = most_pages
        self._limit = limit
        self._query = query or {}

    async def newest(
        self,
        is_enough: Callable[[Sequence[Json]], bool] | None = None,
        *,
        order: str = "desc",
        believes_the_end: bool = True,
    ) -> Listed:
        """Read from the newest object backwards, page by page, until it is enough or the list ends.

        Args:
            is_enough: Called after each page with the objects read so far.
            order: Requested order; `asc` begins with the oldest.
            believes_the_end: Whether `has_more: false` marks the last page; else an empty one does.
        """
        return await self._read(is_enough, order=order, believes_the_end=believes_the_end)

    async def is_mirrored(self, listed: Listed) -> bool:
        """Ask for the list from its other end and return whether that is the same list reversed.

        If it is, the server honours `order` and both ends were seen: these are all objects,
        whatever `has_more` says. A single object proves nothing, as it is its own reverse; an
        empty list is taken at its word.
        """
        if len(listed.items) <= 1 or len(listed.items) > self._limit:
            return not listed.items
        other_end = await self._page(order="asc")
        return _keys(other_end.items) == list(reversed(_keys(listed.items)))

    async def whole(self) -> Listed:
        """Read everything twice; the end is proven by two equal readings up to an empty page."""
        first = await self._read(None, believes_the_end=False)
        if first.is_odd:
            return await self._without_cursors(first)
        again = await self._read(None, believes_the_end=False) if first.items else first
        is_stable = _keys(first.items) == _keys(again.items) and not again.is_odd
        return Listed(
            first.items, is_all=first.is_all and again.is_all and is_stable, is_odd=not is_stable
        )

    async def _read(
        self,
        is_enough: Callable[[Sequence[Json]], bool] | None,
        *,
        believes_the_end: bool,
        order: str = "desc",
    ) -> Listed:
        seen: dict[str, Json] = {}
        after: str | None = None
        for _ in range(self._most_pages):
            page = await self._page(after=after, order=order)
            fresh = {
                key: item
                for key, item in zip(_keys(page.items), page.items, strict=True)
                if key not in seen
            }
            seen.update(fresh)
            if len(fresh) < len(page.items):
                return Listed(list(seen.values()), is_all=False, is_odd=True)
            if not page.items or (believes_the_end and page.has_more is False):
                return Listed(list(seen.values()), is_all=True)
            last_id = page.items[-1].get("id")
            if last_id is None or (is_enough is not None and is_enough(list(seen.values()))):
                break
            after = str(last_id)
        return Listed(list(seen.values()), is_all=False)

    async def _without_cursors(self, first: Listed) -> Listed:
        """Determine whether one page is the whole list, on a server that ignores `after`."""
        page, again = await self._page(), await self._page()
        keys = _keys(page.items)
        if keys != _keys(again.items):
            return Listed(first.items, is_all=False, is_odd=True)  # another order for every request
        other_end = _keys((await self._page(order="asc")).items)
        if other_end == keys[::-1] and len(keys) > 1:
            # The server honours `order`, and both ends are on the page.
            return Listed(page.items, is_all=True)
        one = await self._page(limit=1)
        # A server without pages ignores the limit, too, and sends everything at once.
        knows_no_pages = len(one.items) == len(keys) and other_end == keys
        return Listed(page.items, is_all=knows_no_pages and page.has_more is False)

    async def _page(
        self, *, after: str | None = None, order: str = "desc", limit: int | None = None
    ) -> _Page:
        query = {**self._query, "order": order, "limit": limit or self._limit}
        if after is not None:
            query["after"] = after
        answer = await fetch(self._channel.read(self._path, query), thread=self._thread)
        has_more = answer.get("has_more")
        return _Page(
            objects_in(answer.get("data")), has_more if isinstance(has_more, bool) else None
        )


def _keys(items: Iterable[Json]) -> list[str]:
    """Return a key for each object of a page: its id, or its content if it has none.

    Repeated keys get a number.
    """
    counts: Counter[str] = Counter()
    keys = []
    for item in items:
        key = (
            json.dumps(item, sort_keys=True, default=str)
            if item.get("id") is None
            else str(item["id"])
        )
        keys.append(f"{key} #{counts[key]}" if counts[key] else key)
        counts[key] += 1
    return keys
