"""Read the provider's lists, and tell whether a list was read to its end.

Servers sort, cut and page lists in ways of their own: they ignore `order`, `after` or `limit`, cap their pages, or say wrongly whether
there is more. What a list does not hold is absent only if the list's end is proven.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from assistant_queue.backends.streams import Json, fetch


class EndUnknown(Exception):
    """A list does not hold what was looked for, and it cannot be proven that it was read to its end."""


PAGE = 100
"""Source: the provider's published API description: lists take a limit of 1 to 100."""


@dataclass(frozen=True, slots=True)
class Listed:
    """What was read of a list.

    Attributes:
        items: Each object once, in the order in which they came.
        is_all: They are the whole list: said by the server in `newest`, proven in `whole`.
        is_odd: A page repeated what an earlier one had: cursors or the order mean nothing here.
    """

    items: Sequence[Json]
    is_all: bool
    is_odd: bool = False


@dataclass(frozen=True, slots=True)
class _Page:
    """One page; `has_more` is None if the server does not say."""

    items: Sequence[Json]
    has_more: bool | None


class ListReader:
    """Reads one list.

    1. `newest` reads as little as an honest server needs
    2. `is_mirrored` checks, by one request, that a short list was all of it
    3. `whole` reads everything, and finds out whether it was everything
    """

    def __init__(
        self, list_page: Callable[..., Any], *, thread: str, most_pages: int, limit: int = PAGE, query: Json | None = None
    ) -> None:
        """Set up, without a request.

        Args:
            list_page: The client's method, with what names the list bound.
            thread: Named in errors.
            most_pages: Pages after which reading is given up.
            limit: Objects of a page.
            query: Further parameters of every request.
        """
        self._list_page = list_page
        self._thread = thread
        self._most_pages = most_pages
        self._limit = limit
        self._query = query or {}

    async def newest(
        self, is_enough: Callable[[Sequence[Json]], bool] | None = None, *, order: str = "desc", believes_the_end: bool = True
    ) -> Listed:
        """Read from the newest object backwards, page by page, until it is enough or the list ends.

        Args:
            is_enough: Called with what was read so far, after each page.
            order: What is asked for; `asc` begins with the oldest.
            believes_the_end: A page that says that there is no more is the last one; else an empty one is.
        """
        return await self._read(is_enough, order=order, believes_the_end=believes_the_end)

    async def is_mirrored(self, listed: Listed) -> bool:
        """Whether the list asked for from its other end is the same objects the other way round.

        If it is, the server keeps to `order` and both ends were seen: these are all objects, whatever it says about further ones.
        """
        if len(listed.items) > self._limit:
            return False
        other_end = await self._page(order="asc")
        return _keys(other_end.items) == list(reversed(_keys(listed.items)))

    async def whole(self) -> Listed:
        """Read everything, twice: the end is proven by two equal readings that each ended with an empty page."""
        first = await self._read(None, believes_the_end=False)
        if first.is_odd:
            return await self._without_cursors(first)
        again = await self._read(None, believes_the_end=False) if first.items else first
        is_stable = _keys(first.items) == _keys(again.items) and not again.is_odd
        return Listed(first.items, is_all=first.is_all and again.is_all and is_stable, is_odd=not is_stable)

    async def _read(self, is_enough: Callable[[Sequence[Json]], bool] | None, *, believes_the_end: bool, order: str = "desc") -> Listed:
        seen: dict[str, Json] = {}
        after: str | None = None
        for _ in range(self._most_pages):
            page = await self._page(after=after, order=order)
            fresh = {key: item for key, item in zip(_keys(page.items), page.items, strict=True) if key not in seen}
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
        """What one page is worth on a server that gives it again whatever `after` says."""
        page, again = await self._page(), await self._page()
        keys = _keys(page.items)
        if keys != _keys(again.items):
            return Listed(first.items, is_all=False, is_odd=True)  # another order for every request
        other_end = _keys((await self._page(order="asc")).items)
        if other_end == keys[::-1] and len(keys) > 1:
            return Listed(page.items, is_all=True)  # `order` means something, and both ends are in the page
        one = await self._page(limit=1)
        # A server that knows no pages: it ignores the limit, too, and gives everything at once.
        knows_no_pages = len(one.items) == len(keys) and other_end == keys
        return Listed(page.items, is_all=knows_no_pages and page.has_more is False)

    async def _page(self, *, after: str | None = None, order: str = "desc", limit: int | None = None) -> _Page:
        options = {"order": order, "limit": limit or self._limit, **({} if after is None else {"after": after})}
        answer = await fetch(partial(self._list_page, **options), thread=self._thread)
        data, has_more = answer.get("data"), answer.get("has_more")
        items = [item for item in data if isinstance(item, Mapping)] if isinstance(data, list) else []
        return _Page([dict(item) for item in items], has_more if isinstance(has_more, bool) else None)


def _keys(items: Iterable[Json]) -> list[str]:
    """What tells the objects of a page apart: their ids; of several with one id, or of equal ones without any, also their number."""
    counts: Counter[str] = Counter()
    keys = []
    for item in items:
        key = json.dumps(item, sort_keys=True, default=str) if item.get("id") is None else str(item["id"])
        keys.append(f"{key} #{counts[key]}" if counts[key] else key)
        counts[key] += 1
    return keys
